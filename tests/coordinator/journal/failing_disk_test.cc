// A disk that fails at any one write or sync: what was acknowledged is there afterwards, what
// wasn't is there whole or not at all, and the journal that saw it says so and takes nothing more.
// After a failed fsync nobody knows what the disk has (the kernel may drop the pages and report
// success at the next call), so going on as if nothing had happened would lose rows without a word.
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include "coordinator/journal/journal.h"

namespace {

enum class Fault { kError, kFull, kShortWrite };
struct Disk {
  std::atomic<bool> armed = false;
  std::atomic<int> calls_before = 0;  // that still succeed
  std::atomic<bool> failed = false;
  Fault fault = Fault::kError;

  /// Whether this call is the one to fail.
  bool fails() {
    if (!armed || calls_before-- != 0) return false;
    return failed = true;
  }
};
Disk disk;

long fail_write() {
  errno = disk.fault == Fault::kFull ? ENOSPC : EIO;
  return -1;
}

}  // namespace

// In place of the C library's, for SQLite as well.
extern "C" int fsync(int fd) {
  if (disk.fails()) return static_cast<int>(fail_write());
  return static_cast<int>(::syscall(SYS_fsync, fd));
}
extern "C" int fdatasync(int fd) {
  if (disk.fails()) return static_cast<int>(fail_write());
  return static_cast<int>(::syscall(SYS_fdatasync, fd));
}
extern "C" ssize_t write(int fd, const void* from, size_t bytes) {
  if (disk.fails()) {
    if (disk.fault != Fault::kShortWrite) return fail_write();
    bytes = (bytes + 1) / 2;
  }
  return ::syscall(SYS_write, fd, from, bytes);
}
extern "C" ssize_t pwrite(int fd, const void* from, size_t bytes, off_t at) {
  if (disk.fails()) {
    if (disk.fault != Fault::kShortWrite) return fail_write();
    bytes = (bytes + 1) / 2;
  }
  return ::syscall(SYS_pwrite64, fd, from, bytes, at);
}
extern "C" ssize_t pwrite64(int fd, const void* from, size_t bytes, off64_t at) {
  return pwrite(fd, from, bytes, at);
}

namespace tern {
namespace {

namespace fs = std::filesystem;

std::vector<std::byte> content(size_t i, size_t bytes) {
  return std::vector<std::byte>(bytes, static_cast<std::byte>(i + 1));
}

/// Appends rows, some with a blob, until one fails. Returns how many were acknowledged.
size_t append_until_it_fails(Journal& journal, size_t rows) {
  for (size_t i = 0; i < rows; ++i) {
    bool kept = false;
    if (i % 3 == 1) {
      kept = journal.blobs().put(content(i, 5000)).has_value();
    } else if (i % 3 == 2) {  // as long uploads come
      Result<BlobWriter> blob = journal.blobs().begin();
      kept = blob && blob->append(content(i, 3000)).ok() && blob->append(content(i, 2000)).ok() &&
             blob->keep();
    } else {
      kept = true;
    }
    if (!kept) return i;
    const std::vector<std::byte> body = content(i, 400);
    const std::vector<JournalRecord> record{
        {.kind = 1, .round = static_cast<uint32_t>(i), .body = body}};
    if (!journal.append(record)) {
      EXPECT_FALSE(journal.append(record)) << "what the disk has isn't known any more";
      return i;
    }
  }
  return rows;
}

TEST(FailingDisk, LosesNothingThatWasAcknowledgedWhicheverCallFails) {
  constexpr size_t kRows = 4;
  const std::string root = testing::TempDir() + "tern-failing-disk-" + std::to_string(::getpid());
  for (const Fault fault : {Fault::kError, Fault::kFull, Fault::kShortWrite}) {
    int stopped = 0;
    bool reached = true;
    for (int call = 0; reached; ++call) {
      ASSERT_LT(call, 2000) << "the run never ends without the fault";
      SCOPED_TRACE(testing::Message()
                   << "fault " << static_cast<int>(fault) << " at call " << call);
      fs::remove_all(root);
      size_t acknowledged = 0;
      {
        // One row from before, so that the journal is there.
        Journal journal = Journal::open(root).value();
        const std::vector<std::byte> first = content(99, 10);
        ASSERT_TRUE(
            journal.append(std::vector<JournalRecord>{{.kind = 7, .round = 0, .body = first}}));
        disk.fault = fault;
        disk.failed = false;
        disk.calls_before = call;
        disk.armed = true;
        acknowledged = append_until_it_fails(journal, kRows);
        disk.armed = false;
        reached = disk.failed;
      }
      EXPECT_TRUE(reached || acknowledged == kRows);
      stopped += acknowledged < kRows;
      Result<Journal> again = Journal::open(root);
      ASSERT_TRUE(again) << again.error().describe();
      size_t found = 0;
      ASSERT_TRUE(again
                      ->read(2,
                             [&](uint64_t row, const JournalRecord& record) -> Status {
                               EXPECT_EQ(row, found + 2);
                               EXPECT_EQ(record.round, found);
                               EXPECT_TRUE(std::ranges::equal(record.body, content(found, 400)));
                               if (found % 3 != 0) {
                                 const auto blob = again->blobs().get(
                                     sha256(std::span<const std::byte>(content(found, 5000))));
                                 EXPECT_TRUE(blob) << "row " << row << " without its blob";
                               }
                               ++found;
                               return {};
                             })
                      .ok());
      EXPECT_GE(found, acknowledged);
      EXPECT_LE(found, acknowledged + 1) << "the one that failed is there or not";
    }
    EXPECT_GT(stopped, 4) << "the faults were seen";
  }
  fs::remove_all(root);
}

}  // namespace
}  // namespace tern
