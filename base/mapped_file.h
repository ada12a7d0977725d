/// A file's bytes as memory, read by the system as they are touched. For files that nobody changes:
/// one that becomes shorter, or a disk that fails, ends the process at the next touch.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/status.h"

namespace tern {

/// Threads: safe.
class MappedFile {
 public:
  /// Errors: kNotFound, kIo.
  static Result<MappedFile> open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }
  /// Lets go of the memory behind the bytes; they stay readable.
  void release() const;

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

}  // namespace tern
