#include "learning/dataset.h"

#include <filesystem>

#include "config/vocabulary.h"
#include "learning/cifar.h"
#include "learning/csv.h"
#include "learning/idx.h"
#include "learning/leaf.h"
#include "learning/text.h"

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
  if (config.path.empty())
    return Status(Code::kInvalidArgument,
                  fmt::format("source \"{}\" needs data.path: {}", config.source,
                              find_key("data.path")->meaning),
                  {.file = {}, .line = 0, .key = "data.path"});
  if (config.source == "idx") return load_idx(config.path, config.standardize);
  if (config.source == "csv") return load_csv(config, seed);
  if (config.source == "cifar") return load_cifar(config.path, config.standardize);
  if (config.source == "leaf") return load_leaf(config.path, config.standardize);
  if (config.source == "text") return load_text(config);
  return Status(Code::kInvalidArgument,
                fmt::format("unknown source \"{}\"; known: {}", config.source,
                            fmt::join(find_key("data.source")->choices, ", ")),
                {.file = {}, .line = 0, .key = "data.source"});
}

}  // namespace tern
