/// Files named by what they hold: frames, versions, whatever is too large for a row. A blob is
/// whole or not there, and what is read back has the hash it was asked by.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "base/status.h"

namespace tern {

class BlobStore {
 public:
  /// Makes the folder. Errors: kNoSpace, kIo.
  static Result<BlobStore> open(std::string folder);

  /// On the disk when it returns; a blob that is there already is kept. Errors: kNoSpace, kIo.
  Result<Digest> put(std::span<const std::byte> bytes);
  /// Errors: kNotFound; kCorrupt when the file holds something else; kIo. They name the file.
  Result<std::vector<std::byte>> get(const Digest& digest) const;
  /// Removes blobs that `wanted` says no to, and temporary files that a crash has left. Errors:
  /// kIo.
  Status sweep(const std::function<bool(const Digest&)>& wanted);

  std::string path_of(const Digest& digest) const;

 private:
  explicit BlobStore(std::string folder) : folder_(std::move(folder)) {}
  std::string folder_;
};

}  // namespace tern
