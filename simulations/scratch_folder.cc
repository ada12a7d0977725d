#include "simulations/scratch_folder.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "base/durable_file.h"

namespace tern {

Result<ScratchFolder> ScratchFolder::make(const std::string& prefix) {
  std::string path = prefix + ".XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return io_error(errno, "cannot make", path);
  return ScratchFolder(std::move(path));
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

}  // namespace tern
