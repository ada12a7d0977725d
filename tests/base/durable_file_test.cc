#include "base/durable_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <optional>
#include <thread>

namespace tern {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class DurableFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = fs::temp_directory_path() / "tern-durable-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ / name; }
  static std::string text_of(const std::string& file) {
    const std::vector<std::byte> content = read_file(file).value();
    return {reinterpret_cast<const char*>(content.data()), content.size()};
  }
  size_t files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), {}));
  }

  fs::path folder_;
};

TEST_F(DurableFile, ReadsBackWhatWasWritten) {
  for (size_t size : {0, 1, 4095, 4096, 4097, 1'000'000}) {
    const std::string content(size, 'x');
    ASSERT_TRUE(write_durably(path("a"), content).ok());
    EXPECT_EQ(text_of(path("a")), content);
  }
  EXPECT_EQ(files(), 1u);
}

TEST_F(DurableFile, ReplacesAFileWhole) {
  ASSERT_TRUE(write_durably(path("a"), "a long old content").ok());
  ASSERT_TRUE(write_durably(path("a"), "new").ok());
  EXPECT_EQ(text_of(path("a")), "new");
}

TEST_F(DurableFile, NewFilesFollowTheUmask) {
  const mode_t old = ::umask(027);
  const Status status = write_durably(path("a"), "x");
  ::umask(old);
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(fs::status(path("a")).permissions(), static_cast<fs::perms>(0640));
}

TEST_F(DurableFile, WritesInTheWorkingFolderToo) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_);
  const Status status = write_durably("plain", "x");
  fs::current_path(before);
  ASSERT_TRUE(status.ok()) << status.describe();
  EXPECT_EQ(text_of(path("plain")), "x");
}

TEST_F(DurableFile, AMissingFolderIsAnErrorThatNamesThePath) {
  const Status status = write_durably(path("none/a"), "x");
  EXPECT_EQ(status.code(), Code::kIo);
  EXPECT_THAT(status.message(), HasSubstr(path("none/a")));
}

TEST_F(DurableFile, AFailedRenameLeavesNoTemporaryFile) {
  fs::create_directory(path("taken"));
  EXPECT_EQ(write_durably(path("taken"), "x").code(), Code::kIo);
  EXPECT_EQ(files(), 1u);
}

TEST_F(DurableFile, AFailedWriteKeepsTheOldContentAndLeavesNoTemporaryFile) {
  ASSERT_TRUE(write_durably(path("a"), "old").ok());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 1000;
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status status = write_durably(path("a"), std::string(5000, 'x'));
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(status.code(), Code::kIo);
  EXPECT_EQ(text_of(path("a")), "old");
  EXPECT_EQ(files(), 1u);
}

TEST_F(DurableFile, AFullDiskIsNoSpace) {
  // A child with its own mounts makes a small disk; where that isn't permitted there is nothing to
  // test.
  constexpr int kNotPermitted = 77;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const bool mounted =
        (::unshare(CLONE_NEWNS) == 0 || ::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) &&
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
        ::mount("tern", folder_.c_str(), "tmpfs", 0, "size=64k") == 0;
    if (!mounted) ::_exit(kNotPermitted);
    const Status status = write_durably(path("a"), std::string(1 << 20, 'x'));
    const bool named = status.message().find(path("a")) != std::string::npos;
    ::_exit(status.code() == Code::kNoSpace && named && files() == 0 ? 0 : 1);
  }
  int result = 0;
  ASSERT_EQ(::waitpid(child, &result, 0), child);
  ASSERT_TRUE(WIFEXITED(result));
  if (WEXITSTATUS(result) == kNotPermitted) GTEST_SKIP() << "may not mount a file system";
  EXPECT_EQ(WEXITSTATUS(result), 0);
}

TEST(IoError, OnlyAFullDiskOrQuotaIsNoSpace) {
  EXPECT_EQ(io_error(ENOSPC, "cannot write", "f").code(), Code::kNoSpace);
  EXPECT_EQ(io_error(EDQUOT, "cannot write", "f").code(), Code::kNoSpace);
  EXPECT_EQ(io_error(EACCES, "cannot write", "f").code(), Code::kIo);
  EXPECT_EQ(io_error(EACCES, "cannot write", "f").message(), "cannot write f: Permission denied");
}

TEST_F(DurableFile, ConcurrentWritersLeaveOneWholeFile) {
  std::vector<std::thread> writers;
  for (char c : {'a', 'b', 'c', 'd'})
    writers.emplace_back([this, c] {
      for (int i = 0; i < 20; ++i) EXPECT_TRUE(write_durably(path("f"), std::string(3000, c)).ok());
    });
  for (std::thread& writer : writers) writer.join();
  const std::string content = text_of(path("f"));
  EXPECT_EQ(content, std::string(3000, content.at(0)));
  EXPECT_EQ(files(), 1u);
}

TEST_F(DurableFile, ReadingTellsMissingFromUnreadable) {
  EXPECT_EQ(read_file(path("none")).error().code(), Code::kNotFound);
  EXPECT_THAT(read_file(path("none")).error().message(), HasSubstr(path("none")));
  EXPECT_EQ(read_file(folder_).error().code(), Code::kIo);
}

TEST_F(DurableFile, ReadingStopsAtTheLimit) {
  ASSERT_TRUE(write_durably(path("a"), "12345").ok());
  EXPECT_EQ(read_file(path("a"), 5).value().size(), 5u);
  EXPECT_EQ(read_file(path("a"), 4).error().code(), Code::kOutOfRange);
  EXPECT_EQ(read_file("/dev/zero", 10'000).error().code(), Code::kOutOfRange);
}

TEST_F(DurableFile, ReadsFilesThatDoNotTellTheirSize) {
  if (!fs::exists("/proc/self/status")) GTEST_SKIP() << "no /proc";
  EXPECT_GT(read_file("/proc/self/status").value().size(), 0u);
}

TEST_F(DurableFile, ASecretIsForItsOwnerAloneWhateverTheUmask) {
  for (const mode_t mask : {0, 022, 0777}) {
    const mode_t old = ::umask(mask);
    const Status status = write_new_secret(path(fmt::format("s{:o}", mask)), "hush");
    ::umask(old);
    ASSERT_TRUE(status.ok()) << status.describe();
    EXPECT_EQ(fs::status(path(fmt::format("s{:o}", mask))).permissions(),
              static_cast<fs::perms>(0600));
  }
  EXPECT_EQ(text_of(path("s22")), "hush");
  EXPECT_EQ(files(), 3u);
}

TEST_F(DurableFile, ASecretNeverOverwrites) {
  ASSERT_TRUE(write_new_secret(path("s"), "first").ok());
  fs::create_directory(path("folder"));
  fs::create_symlink(path("nowhere"), path("link"));
  for (const char* name : {"s", "folder", "link"}) {
    const Status status = write_new_secret(path(name), "second");
    EXPECT_EQ(status.code(), Code::kInUse);
    EXPECT_THAT(status.message(), HasSubstr(path(name) + " already exists; "));
  }
  EXPECT_EQ(text_of(path("s")), "first");
  EXPECT_FALSE(fs::exists(path("nowhere")));
  EXPECT_EQ(files(), 3u);
}

TEST_F(DurableFile, ASecretThatCannotBeWrittenLeavesNothing) {
  EXPECT_EQ(write_new_secret(path("none/s"), "x").code(), Code::kIo);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 1000;
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status status = write_new_secret(path("s"), std::string(5000, 'x'));
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(status.code(), Code::kIo);
  EXPECT_EQ(files(), 0u);
}

TEST_F(DurableFile, OfSeveralWritersOfASecretOneSucceeds) {
  std::atomic<int> written{0}, taken{0};
  std::vector<std::thread> writers;
  for (char c : {'a', 'b', 'c', 'd'})
    writers.emplace_back([&, c] {
      const Status status = write_new_secret(path("s"), std::string(3000, c));
      if (status.ok()) ++written;
      if (status.code() == Code::kInUse) ++taken;
    });
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(written, 1);
  EXPECT_EQ(taken, 3);
  EXPECT_EQ(text_of(path("s")), std::string(3000, text_of(path("s")).at(0)));
  EXPECT_EQ(files(), 1u);
}

TEST_F(DurableFile, ASecretIsReadOnlyWhereNobodyElseCanReadOrWriteIt) {
  ASSERT_TRUE(write_new_secret(path("s"), "hush").ok());
  EXPECT_EQ(read_secret(path("s"), 4).value(), read_file(path("s")).value());
  EXPECT_EQ(read_secret(path("s"), 3).error().code(), Code::kOutOfRange);
  for (const unsigned mode : {0644u, 0640u, 0620u, 0604u, 0602u, 0660u, 0666u, 04777u}) {
    fs::permissions(path("s"), static_cast<fs::perms>(mode));
    const auto secret = read_secret(path("s"), 100);
    ASSERT_FALSE(secret) << mode;
    EXPECT_EQ(secret.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(secret.error().message(),
                HasSubstr(fmt::format("{} by others (mode {:04o}); chmod 600 it",
                                      (mode & 044) != 0 ? "readable" : "writable", mode)));
  }
  for (const unsigned mode : {0600u, 0400u, 0700u, 0711u}) {
    fs::permissions(path("s"), static_cast<fs::perms>(mode));
    EXPECT_TRUE(read_secret(path("s"), 100)) << mode;
  }
}

TEST_F(DurableFile, ASecretBehindALinkIsJudgedByTheFile) {
  ASSERT_TRUE(write_new_secret(path("s"), "hush").ok());
  fs::create_symlink(path("s"), path("link"));
  EXPECT_TRUE(read_secret(path("link"), 100));
  fs::permissions(path("s"), static_cast<fs::perms>(0644));
  EXPECT_EQ(read_secret(path("link"), 100).error().code(), Code::kInvalidArgument);
}

TEST_F(DurableFile, OnlyARegularFileHoldsASecret) {
  EXPECT_EQ(read_secret(path("none"), 100).error().code(), Code::kNotFound);
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  fs::create_directory(path("folder"));
  fs::permissions(path("folder"), static_cast<fs::perms>(0700));
  for (const std::string& file : {path("pipe"), path("folder"), std::string("/dev/null")}) {
    const auto secret = read_secret(file, 100);  // a pipe isn't waited for
    ASSERT_FALSE(secret) << file;
    EXPECT_EQ(secret.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(secret.error().message(), HasSubstr("is not a file"));
  }
}

TEST_F(DurableFile, AnotherUsersFileHoldsNoSecretOfOurs) {
  ASSERT_TRUE(write_new_secret(path("s"), "hush").ok());
  if (::chown(path("s").c_str(), 12345, static_cast<gid_t>(-1)) != 0)
    GTEST_SKIP() << "may not give a file away";
  const auto secret = read_secret(path("s"), 100);
  ASSERT_FALSE(secret);
  EXPECT_EQ(secret.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(secret.error().message(), HasSubstr("belongs to user 12345"));
}

TEST_F(DurableFile, AFolderCanBeLockedOnce) {
  std::optional<FolderLock> lock = FolderLock::acquire(path("state/deep")).value();
  const Result<FolderLock> second = FolderLock::acquire(path("state/deep"));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kInUse);
  EXPECT_THAT(second.error().message(), HasSubstr(path("state/deep")));

  FolderLock moved = std::move(*lock);
  lock.reset();
  EXPECT_FALSE(FolderLock::acquire(path("state/deep")));
  { const FolderLock gone = std::move(moved); }
  EXPECT_TRUE(FolderLock::acquire(path("state/deep")));
}

TEST_F(DurableFile, AFileIsNoFolderToLock) {
  ASSERT_TRUE(write_durably(path("a"), "x").ok());
  EXPECT_EQ(FolderLock::acquire(path("a")).error().code(), Code::kIo);
}

}  // namespace
}  // namespace tern
