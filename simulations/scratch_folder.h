/// Folders that are gone afterwards.
#pragma once

#include <string>
#include <utility>

#include "base/status.h"

namespace tern {

/// A new folder of this process alone, removed with what is in it when this object goes.
class ScratchFolder {
 public:
  /// PREFIX.XXXXXX. Errors: kIo.
  static Result<ScratchFolder> make(const std::string& prefix);
  ScratchFolder(ScratchFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ScratchFolder& operator=(ScratchFolder&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~ScratchFolder();
  const std::string& path() const { return path_; }

 private:
  explicit ScratchFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace tern
