/// Files that are either whole or not there.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace tern {

/// What a failed system call means: kNoSpace for a full disk (ENOSPC) or quota (EDQUOT), kIo for
/// everything else. The message says "ACTION PATH: reason".
Status io_error(int error_number, std::string_view action, std::string_view path);

enum class Access {
  kByUmask,
  kOwnerAlone  ///< mode 0600, whatever the umask
};

/// Writes a temporary file beside `path`, fsyncs it, renames it over `path` and fsyncs the folder:
/// a reader, also after a crash or a power cut, sees the old content or the new. On an error the
/// temporary file is removed; only a crash can leave one (PATH.tmp-PID-N). Errors: kNoSpace, kIo;
/// they name the path. Blocks for the disk. Threads: safe; of two writers of one path the last to
/// rename wins.
Status write_durably(const std::string& path, std::span<const std::byte> content,
                     Access access = Access::kByUmask);
Status write_durably(const std::string& path, std::string_view content);

/// A file that is written piece by piece and gets its name at the end: write_durably for what isn't
/// in memory at once. Destroyed before that, it leaves nothing; a crash leaves PATH.tmp-PID-N.
class FileWriter {
 public:
  /// A temporary file beside `path`, which says where and what messages are about. Errors:
  /// kNoSpace, kIo.
  static Result<FileWriter> open(const std::string& path, Access access = Access::kByUmask);
  FileWriter(FileWriter&& other) noexcept;
  FileWriter& operator=(FileWriter&&) = delete;
  ~FileWriter();

  /// Errors: kNoSpace, kIo.
  Status append(std::span<const std::byte> content);
  /// Holds no descriptor until the next call. Errors: kIo, kNoSpace.
  Status park();
  /// Of the file, until finish().
  const std::string& temporary_path() const { return temporary_; }
  /// As write_durably, under the name `path` in the same folder. Nothing follows it. Errors:
  /// kNoSpace, kIo.
  Status finish(const std::string& path);

 private:
  friend Status write_new_secret(const std::string& path, std::string_view content);
  FileWriter(int fd, std::string path, std::string temporary)
      : fd_(fd), path_(std::move(path)), temporary_(std::move(temporary)) {}
  Status open_again();
  /// On the disk, and closed.
  Status sync();

  int fd_ = -1;
  std::string path_, temporary_;
};

/// Makes a folder and those above it that aren't there, each known to its parent when this returns.
/// Errors: kNoSpace, kIo.
Status make_folder_durably(const std::string& folder);
/// Names that were made, changed or removed in the folder are on the disk when it returns. Errors:
/// kIo.
Status sync_folder(const std::string& folder);

/// The whole file. Errors: kNotFound, kIo, kOutOfRange when it is longer than `max_bytes`.
Result<std::vector<std::byte>> read_file(const std::string& path,
                                         size_t max_bytes = size_t{1} << 40);

/// Writes a file of mode 0600, whatever the umask, that was not there before: a temporary file,
/// fsynced, that gets its name by link(2), which refuses a name that is taken (a symbolic link,
/// too) and never shows half a file, as O_EXCL on the name itself would after a crash. On an error
/// nothing is left; only a crash can leave the temporary file (PATH.tmp-PID-N, 0600 as well).
/// Errors: kInUse when PATH exists, kNoSpace, kIo. Blocks for the disk. Threads: safe; of two
/// writers one succeeds.
Status write_new_secret(const std::string& path, std::string_view content);

/// The whole file, if it can hold a secret: a regular file of this program's effective user or of
/// root that nobody else can read or write. What is checked is the file that was opened; a symbolic
/// link is followed. Errors: kInvalidArgument when it isn't such a file, and those of read_file.
/// The caller wipes the bytes.
Result<std::vector<std::byte>> read_secret(const std::string& path, size_t max_bytes);

/// An exclusive lock on a folder, held until destroyed or the process ends (flock on FOLDER/.lock).
/// The file stays: removing it would let two processes lock two files of the same name.
class FolderLock {
 public:
  /// Makes the folder, and those above it, if they aren't there. Errors: kInUse when it is held, by
  /// another process or by this one; kNoSpace; kIo.
  static Result<FolderLock> acquire(const std::string& folder);
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&& other) noexcept;
  ~FolderLock();

 private:
  explicit FolderLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

}  // namespace tern
