/// Files named by what they hold: frames, versions, whatever is too large for a row. A blob is
/// whole or not there, and what is read back has the hash it was asked by.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <utility>

#include "base/durable_file.h"
#include "base/mapped_file.h"
#include "base/sha256.h"
#include "base/status.h"

namespace tern {

/// A blob that comes piece by piece, of which there may be many at a time: between calls it holds
/// no descriptor. Destroyed before keep(), it leaves nothing.
class BlobWriter {
 public:
  /// Errors: kNoSpace, kIo.
  Status append(std::span<const std::byte> bytes);
  /// What was appended so far, and lasts longer than the writer. Errors: kIo.
  Result<MappedFile> map() const { return MappedFile::open(file_.temporary_path()); }
  /// On the disk, under its name, when it returns. Nothing is appended afterwards. Errors:
  /// kNoSpace, kIo.
  Result<Digest> keep();

 private:
  friend class BlobStore;
  BlobWriter(std::string folder, FileWriter file)
      : folder_(std::move(folder)), file_(std::move(file)) {}
  std::string folder_;
  FileWriter file_;
  Sha256 hash_;
};

/// Threads: safe, but for sweep() beside put().
class BlobStore {
 public:
  /// Makes the folder, and removes temporary files that a crash has left. Errors: kNoSpace, kIo.
  static Result<BlobStore> open(std::string folder);

  /// Errors: kNoSpace, kIo.
  Result<BlobWriter> begin() const;

  /// On the disk when it returns; a blob that is there already is kept. Errors: kNoSpace, kIo.
  Result<Digest> put(std::span<const std::byte> bytes) const;
  /// Errors: kNotFound; kCorrupt when the file holds something else; kIo. They name the file.
  Result<MappedFile> get(const Digest& digest) const;
  /// Removes blobs that `wanted` says no to. Errors: kIo.
  Status sweep(const std::function<bool(const Digest&)>& wanted) const;

  std::string path_of(const Digest& digest) const;

 private:
  explicit BlobStore(std::string folder) : folder_(std::move(folder)) {}
  std::string folder_;
};

}  // namespace tern
