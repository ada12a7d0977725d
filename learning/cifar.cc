#include "learning/cifar.h"

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "base/durable_file.h"
#include "learning/image_values.h"

namespace tern {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPixels = 3 * 32 * 32;

struct Kind {
  int64_t classes;
  size_t label_bytes;  ///< before the pixels; the last of them counts
  const char* names;   ///< file with a class in each line
};
constexpr Kind kTen{.classes = 10, .label_bytes = 1, .names = "batches.meta.txt"};
constexpr Kind kHundred{.classes = 100, .label_bytes = 2, .names = "fine_label_names.txt"};

struct Images {
  std::vector<uint8_t> pixels;
  std::vector<uint32_t> labels;
};

Status append_file(const fs::path& path, const Kind& kind, Images& images) {
  const auto damaged = [&](std::string message) {
    return Status(Code::kCorrupt, std::move(message), {.file = path.string()});
  };
  Result<std::vector<std::byte>> bytes = read_file(path.string());
  if (!bytes) return std::move(bytes).error().at({.file = path.string()});
  const size_t record = kind.label_bytes + kPixels;
  if (bytes->empty() || bytes->size() % record != 0)
    return damaged(fmt::format("{} bytes aren't records of {} ({} label{} and 3 x 32 x 32 pixels)",
                               bytes->size(), record, kind.label_bytes,
                               kind.label_bytes == 1 ? "" : "s"));
  for (size_t at = 0; at < bytes->size(); at += record) {
    const auto label = std::to_integer<uint32_t>((*bytes)[at + kind.label_bytes - 1]);
    if (label >= kind.classes)
      return damaged(
          fmt::format("image {} has the label {} of {} classes", at / record, label, kind.classes));
    images.labels.push_back(label);
  }
  const size_t before = images.pixels.size();
  images.pixels.resize(before + bytes->size() / record * kPixels);
  auto to = images.pixels.begin() + static_cast<ptrdiff_t>(before);
  for (size_t at = 0; at < bytes->size(); at += record, to += kPixels)
    std::transform(bytes->begin() + static_cast<ptrdiff_t>(at + kind.label_bytes),
                   bytes->begin() + static_cast<ptrdiff_t>(at + record), to,
                   [](std::byte pixel) { return std::to_integer<uint8_t>(pixel); });
  return {};
}

std::vector<std::string> class_names(const fs::path& folder, const Kind& kind) {
  std::vector<std::string> names;
  if (const auto text = read_file((folder / kind.names).string()); text) {
    std::string_view rest(reinterpret_cast<const char*>(text->data()), text->size());
    while (!rest.empty()) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      if (!line.empty() && line != "\r") names.emplace_back(line.substr(0, line.find('\r')));
    }
  }
  if (names.size() == static_cast<size_t>(kind.classes)) return names;
  names.clear();
  for (int64_t c = 0; c < kind.classes; ++c) names.push_back(std::to_string(c));
  return names;
}

}  // namespace

Result<DataBundle> load_cifar(const std::string& folder, bool standardize) {
  const fs::path root(folder);
  std::error_code ignored;
  std::vector<fs::path> train;
  for (int batch = 1; batch < 100; ++batch) {
    const fs::path path = root / fmt::format("data_batch_{}.bin", batch);
    if (!fs::exists(path, ignored)) continue;
    train.push_back(path);
    if (train.size() != static_cast<size_t>(batch))
      return Status(Code::kNotFound,
                    fmt::format("data_batch_{}.bin is missing, data_batch_{}.bin is there",
                                train.size(), batch),
                    {.file = folder, .key = "data.path"});
  }
  const bool hundred = train.empty() && fs::exists(root / "train.bin", ignored);
  if (hundred) train.push_back(root / "train.bin");
  if (train.empty())
    return Status(Code::kNotFound,
                  "neither data_batch_1.bin (CIFAR-10) nor train.bin (CIFAR-100) is here: the "
                  "binary version of the data is meant",
                  {.file = folder, .key = "data.path"});
  const Kind& kind = hundred ? kHundred : kTen;
  DataBundle bundle;
  bundle.shape = {.input = {3, 32, 32}, .classes = kind.classes};
  bundle.class_names = class_names(root, kind);
  Images images;
  for (const fs::path& path : train) TERN_CHECK_OK(append_file(path, kind, images));
  const auto values = pixel_values(images.pixels, standardize);
  bundle.train.inputs = to_values(images.pixels, values);
  bundle.train.labels = std::move(images.labels);
  images = {};
  TERN_CHECK_OK(append_file(root / (hundred ? "test.bin" : "test_batch.bin"), kind, images));
  bundle.test.inputs = to_values(images.pixels, values);
  bundle.test.labels = std::move(images.labels);
  return bundle;
}

}  // namespace tern
