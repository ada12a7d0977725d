#include "learning/dataset.h"

#include <filesystem>

#include "learning/csv.h"
#include "learning/idx.h"

namespace tern {
namespace {

constexpr const char* kFashionMnistFolder = "/usr/share/datasets/fashion-mnist";

Result<DataBundle> load_fashion_mnist(const DataConfig& config) {
  const std::string folder = config.path.empty() ? kFashionMnistFolder : config.path;
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored))
    return Status(Code::kNotFound,
                  fmt::format("fashion-mnist isn't in {}; `apt-get install dataset-fashion-mnist` "
                              "puts it into {}, or "
                              "set data.path to the folder with the four IDX files",
                              folder, kFashionMnistFolder),
                  {.file = folder, .line = 0, .key = "data.path"});
  TERN_TRY(DataBundle bundle, load_idx(folder, config.standardize));
  if (bundle.shape.classes == 10)
    bundle.class_names = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                          "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
  return bundle;
}

}  // namespace

Result<DataBundle> load_data(const DataConfig& config, uint64_t seed) {
  if (config.source == "fashion-mnist") return load_fashion_mnist(config);
  if (config.source != "idx" && config.source != "csv")
    return Status(
        Code::kInvalidArgument,
        fmt::format("unknown source \"{}\"; known: fashion-mnist, idx, csv", config.source),
        {.file = {}, .line = 0, .key = "data.source"});
  if (config.path.empty())
    return Status(
        Code::kInvalidArgument,
        fmt::format("source \"{}\" needs data.path: {}", config.source,
                    config.source == "idx" ? "the folder with the four IDX files" : "the CSV file"),
        {.file = {}, .line = 0, .key = "data.path"});
  if (config.source == "idx") return load_idx(config.path, config.standardize);
  return load_csv(config, seed);
}

}  // namespace tern
