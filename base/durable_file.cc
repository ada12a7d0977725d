#include "base/durable_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

namespace tern {
namespace {

/// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

int open_retrying(const char* path, int flags, mode_t mode = 0) {
  int fd;
  do fd = ::open(path, flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR);
  return fd;
}

int fsync_retrying(int fd) {
  int result;
  do result = ::fsync(fd);
  while (result != 0 && errno == EINTR);
  return result;
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// A new name is durable only once its folder is.
Status sync_folder_of(const std::string& path) { return sync_folder(folder_of(path)); }

Result<Descriptor> open_to_read(const std::string& path, int flags = 0) {
  const int fd = open_retrying(path.c_str(), O_RDONLY | flags);
  if (fd >= 0) return Descriptor(fd);
  if (errno == ENOENT || errno == ENOTDIR) return error(Code::kNotFound, "{} does not exist", path);
  return io_error(errno, "cannot read", path);
}

Result<std::vector<std::byte>> read_all(const Descriptor& file, const struct stat& info,
                                        const std::string& path, size_t max_bytes) {
  const auto too_long = [&] {
    return error(Code::kOutOfRange, "{} is longer than {} bytes", path, max_bytes);
  };
  const size_t expected = S_ISREG(info.st_mode) ? static_cast<size_t>(info.st_size) : 0;
  if (expected > max_bytes) return too_long();

  // The size is only a hint: files of /proc say 0, and a file may grow while it is read. One byte
  // more than expected lets the usual file end without a second allocation.
  std::vector<std::byte> content(expected + 1);
  size_t length = 0;
  for (;;) {
    if (length == content.size()) content.resize(std::max<size_t>(4096, 2 * content.size()));
    const ssize_t count_read = ::read(file.get(), content.data() + length, content.size() - length);
    if (count_read < 0) {
      if (errno == EINTR) continue;
      return io_error(errno, "cannot read", path);
    }
    if (count_read == 0) break;
    length += static_cast<size_t>(count_read);
    if (length > max_bytes) return too_long();
  }
  content.resize(length);
  return content;
}

}  // namespace

Status io_error(int error_number, std::string_view action, std::string_view path) {
  const Code code = error_number == ENOSPC || error_number == EDQUOT ? Code::kNoSpace : Code::kIo;
  return error(code, "{} {}: {}", action, path, std::generic_category().message(error_number));
}

Result<FileWriter> FileWriter::open(const std::string& path, Access access) {
  // Not mkstemp: its files are for the owner alone, whatever the umask says.
  static std::atomic<unsigned> count{0};
  const mode_t mode = access == Access::kOwnerAlone ? 0600 : 0666;
  std::string temporary;
  int fd;
  do {
    temporary = fmt::format("{}.tmp-{}-{}", path, ::getpid(), count++);
    fd = open_retrying(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL, mode);
  } while (fd < 0 && errno == EEXIST);
  if (fd < 0) return io_error(errno, "cannot write", path);
  FileWriter writer(fd, path, std::move(temporary));
  // A umask can take rights from the owner, too.
  if (access == Access::kOwnerAlone && ::fchmod(fd, mode) != 0)
    return io_error(errno, "cannot write", path);
  return writer;
}

FileWriter::FileWriter(FileWriter&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})) {}

FileWriter::~FileWriter() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Status FileWriter::park() {
  // Network file systems may report a full disk only here.
  if (fd_ >= 0 && ::close(std::exchange(fd_, -1)) != 0 && errno != EINTR)
    return io_error(errno, "cannot write", path_);
  return {};
}

Status FileWriter::open_again() {
  if (fd_ < 0) fd_ = open_retrying(temporary_.c_str(), O_WRONLY | O_APPEND);
  return fd_ < 0 ? io_error(errno, "cannot write", path_) : Status();
}

Status FileWriter::append(std::span<const std::byte> content) {
  TERN_CHECK_OK(open_again());
  while (!content.empty()) {
    const ssize_t written = ::write(fd_, content.data(), content.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return io_error(errno, "cannot write", path_);
    }
    content = content.subspan(static_cast<size_t>(written));
  }
  return {};
}

Status FileWriter::sync() {
  TERN_CHECK_OK(open_again());
  if (fsync_retrying(fd_) != 0) return io_error(errno, "cannot write", path_);
  return park();
}

Status FileWriter::finish(const std::string& path) {
  TERN_CHECK_OK(sync());
  if (::rename(temporary_.c_str(), path.c_str()) != 0) return io_error(errno, "cannot write", path);
  temporary_.clear();
  return sync_folder_of(path);
}

Status write_durably(const std::string& path, std::span<const std::byte> content, Access access) {
  TERN_TRY(FileWriter file, FileWriter::open(path, access));
  TERN_CHECK_OK(file.append(content));
  return file.finish(path);
}

Status write_durably(const std::string& path, std::string_view content) {
  return write_durably(path, std::as_bytes(std::span(content.data(), content.size())));
}

Status write_new_secret(const std::string& path, std::string_view content) {
  TERN_TRY(FileWriter file, FileWriter::open(path, Access::kOwnerAlone));
  TERN_CHECK_OK(file.append(std::as_bytes(std::span(content.data(), content.size()))));
  TERN_CHECK_OK(file.sync());
  if (::link(file.temporary_.c_str(), path.c_str()) != 0) {
    if (errno == EEXIST)
      return error(Code::kInUse,
                   "{} already exists; a secret is never overwritten: choose another name", path);
    return io_error(errno, "cannot write", path);
  }
  ::unlink(file.temporary_.c_str());
  file.temporary_.clear();
  Status status = sync_folder_of(path);
  if (!status.ok()) ::unlink(path.c_str());
  return status;
}

Result<std::vector<std::byte>> read_file(const std::string& path, size_t max_bytes) {
  TERN_TRY(const Descriptor file, open_to_read(path));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return io_error(errno, "cannot read", path);
  return read_all(file, info, path, max_bytes);
}

Result<std::vector<std::byte>> read_secret(const std::string& path, size_t max_bytes) {
  // Without O_NONBLOCK a pipe would be waited for.
  TERN_TRY(const Descriptor file, open_to_read(path, O_NONBLOCK | O_NOCTTY));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return io_error(errno, "cannot read", path);
  if (!S_ISREG(info.st_mode)) return error(Code::kInvalidArgument, "{} is not a file", path);
  if (info.st_uid != 0 && info.st_uid != ::geteuid())
    return error(Code::kInvalidArgument,
                 "{} belongs to user {}, but this program runs as user {}: a secret has to be its "
                 "user's own, or root's",
                 path, info.st_uid, ::geteuid());
  if ((info.st_mode & (S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH)) != 0)
    return error(Code::kInvalidArgument, "{} is {} by others (mode {:04o}); chmod 600 it", path,
                 (info.st_mode & (S_IRGRP | S_IROTH)) != 0 ? "readable" : "writable",
                 info.st_mode & 07777);
  return read_all(file, info, path, max_bytes);
}

Status sync_folder(const std::string& folder) {
  Descriptor directory(open_retrying(folder.c_str(), O_RDONLY | O_DIRECTORY));
  if (directory.get() < 0) return io_error(errno, "cannot sync the folder", folder);
  // EINVAL: a file system that has no such call for folders and orders its renames itself.
  if (fsync_retrying(directory.get()) != 0 && errno != EINVAL)
    return io_error(errno, "cannot sync the folder", folder);
  return {};
}

Status make_folder_durably(const std::string& folder) {
  const auto made = [&](const std::error_code& failure) {
    return failure ? io_error(failure.value(), "cannot make the folder", folder) : Status();
  };
  std::error_code failure;
  const std::filesystem::path path = std::filesystem::absolute(folder, failure).lexically_normal();
  TERN_CHECK_OK(made(failure));
  std::filesystem::path there;
  for (const auto& step : path) {
    const std::filesystem::path parent = there;
    there /= step;
    const bool is_new = std::filesystem::create_directory(there, failure);
    TERN_CHECK_OK(made(failure));
    if (is_new) TERN_CHECK_OK(sync_folder(parent.string()));
  }
  return {};
}

Result<FolderLock> FolderLock::acquire(const std::string& folder) {
  TERN_CHECK_OK(make_folder_durably(folder));
  const std::string path = folder + "/.lock";
  Descriptor file(open_retrying(path.c_str(), O_RDWR | O_CREAT, 0666));
  if (file.get() < 0) return io_error(errno, "cannot lock", folder);
  int result;
  do result = ::flock(file.get(), LOCK_EX | LOCK_NB);
  while (result != 0 && errno == EINTR);
  if (result != 0) {
    if (errno == EWOULDBLOCK)
      return error(Code::kInUse, "{} is in use: another process holds its lock", folder);
    return io_error(errno, "cannot lock", folder);
  }
  return FolderLock(file.release());
}

FolderLock::FolderLock(FolderLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

FolderLock& FolderLock::operator=(FolderLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FolderLock::~FolderLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace tern
