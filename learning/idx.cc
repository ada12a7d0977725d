#include "learning/idx.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "learning/image_values.h"

namespace tern {
namespace {

constexpr uint8_t kUnsignedByte = 0x08;
/// Deflate turns one byte into at most 1032; a larger claim is a lie about the length.
constexpr uint64_t kMaxInflation = 1032;

struct GzClose {
  void operator()(gzFile file) const { gzclose_r(file); }
};
using GzReader = std::unique_ptr<gzFile_s, GzClose>;

Status corrupt(const std::string& path, std::string message) {
  return Status(Code::kCorrupt, std::move(message), {.file = path, .line = 0, .key = {}});
}

/// Reads up to `n` bytes; fewer only at the end of the file.
Result<size_t> read_some(gzFile file, const std::string& path, uint8_t* out, size_t n) {
  const int got = gzread(file, out, static_cast<unsigned>(n));
  int code = Z_OK;
  const char* what = gzerror(file, &code);
  if (code == Z_ERRNO)
    return Status(Code::kIo, fmt::format("can't read: {}", std::strerror(errno)),
                  {.file = path, .line = 0, .key = {}});
  if (code == Z_BUF_ERROR) return corrupt(path, "the gzip data end too early: the file is cut off");
  if (got < 0) return corrupt(path, fmt::format("damaged gzip data: {}", what));
  return static_cast<size_t>(got);
}

}  // namespace

Result<IdxBytes> read_idx(const std::string& path, int dimensions) {
  std::error_code failed;
  const uint64_t file_bytes = std::filesystem::file_size(path, failed);
  if (failed)
    return Status(failed == std::errc::no_such_file_or_directory ? Code::kNotFound : Code::kIo,
                  fmt::format("can't open: {}", failed.message()),
                  {.file = path, .line = 0, .key = {}});
  GzReader file(gzopen(path.c_str(), "rb"));
  if (!file)
    return Status(Code::kIo, fmt::format("can't open: {}", std::strerror(errno)),
                  {.file = path, .line = 0, .key = {}});
  gzbuffer(file.get(), 1 << 17);

  std::array<uint8_t, 4 + 4 * 255> header;
  const size_t header_bytes = 4 + 4 * static_cast<size_t>(dimensions);
  TERN_TRY(const size_t header_read, read_some(file.get(), path, header.data(), header_bytes));
  const auto big_endian = [&](size_t at) {
    return uint32_t{header[at]} << 24 | uint32_t{header[at + 1]} << 16 |
           uint32_t{header[at + 2]} << 8 | header[at + 3];
  };
  const uint32_t expected_magic = uint32_t{kUnsignedByte} << 8 | static_cast<uint32_t>(dimensions);
  if (header_read >= 4 && big_endian(0) != expected_magic)
    return corrupt(
        path, fmt::format("expected an IDX file of unsigned bytes with {} dimension{} (magic "
                          "0x{:08x}), found 0x{:08x}",
                          dimensions, dimensions == 1 ? "" : "s", expected_magic, big_endian(0)));
  if (header_read < header_bytes)
    return corrupt(
        path, fmt::format("ends inside the IDX header: {} bytes of {}", header_read, header_bytes));

  IdxBytes result;
  uint64_t expected = 1;
  for (int i = 0; i < dimensions; ++i) {
    const uint32_t size = big_endian(4 + 4 * static_cast<size_t>(i));
    if (size == 0) return corrupt(path, fmt::format("dimension {} of the IDX header is 0", i));
    if (__builtin_mul_overflow(expected, uint64_t{size}, &expected)) expected = UINT64_MAX;
    result.shape.push_back(size);
  }
  const bool plain = gzdirect(file.get()) != 0;
  const std::string claim = fmt::format("the IDX header promises {} ({} bytes of values)",
                                        fmt::join(result.shape, " x "), expected);
  if (plain && file_bytes - header_bytes != expected)
    return corrupt(path, fmt::format("{}, but {} follow it", claim, file_bytes - header_bytes));
  if (!plain && expected / kMaxInflation > file_bytes)
    return corrupt(path,
                   fmt::format("{}, more than {} compressed bytes can hold", claim, file_bytes));

  // Grows with what is really there: a gzip file may still promise a thousand times what it holds.
  constexpr uint64_t kStep = uint64_t{1} << 24;
  while (result.values.size() < expected) {
    const size_t have = result.values.size();
    const size_t want =
        static_cast<size_t>(std::min(expected - have, std::max<uint64_t>(kStep, have)));
    result.values.resize(have + want);
    size_t got = 0;
    while (got < want) {
      TERN_TRY(const size_t n, read_some(file.get(), path, result.values.data() + have + got,
                                         std::min<size_t>(want - got, kStep)));
      if (n == 0) return corrupt(path, fmt::format("{}, but only {} follow it", claim, have + got));
      got += n;
    }
  }
  uint8_t beyond = 0;
  TERN_TRY(const size_t rest, read_some(file.get(), path, &beyond, 1));
  if (rest != 0) return corrupt(path, fmt::format("{}, but more bytes follow it", claim));
  return result;
}

namespace {

/// `name`, or `name`.gz, in the folder.
Result<std::string> find_file(const std::string& folder, const std::string& name) {
  for (const char* ending : {"", ".gz"}) {
    const std::string path = (std::filesystem::path(folder) / (name + ending)).string();
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored)) return path;
  }
  return Status(
      Code::kNotFound,
      fmt::format("neither {0} nor {0}.gz is here; an idx folder holds train-images-idx3-ubyte, "
                  "train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, "
                  "plain or .gz",
                  name),
      {.file = folder, .line = 0, .key = "data.path"});
}

struct IdxPart {
  IdxBytes images;
  IdxBytes labels;
};

Result<IdxPart> read_part(const std::string& folder, const std::string& prefix) {
  TERN_TRY(const std::string image_path, find_file(folder, prefix + "-images-idx3-ubyte"));
  TERN_TRY(const std::string label_path, find_file(folder, prefix + "-labels-idx1-ubyte"));
  IdxPart part;
  TERN_TRY(part.labels, read_idx(label_path, 1));
  TERN_TRY(part.images, read_idx(image_path, 3));
  if (part.images.shape[0] != part.labels.shape[0])
    return Status(Code::kInvalidArgument,
                  fmt::format("{} labels for the {} images of {}", part.labels.shape[0],
                              part.images.shape[0], image_path),
                  {.file = label_path, .line = 0, .key = {}});
  return part;
}

Dataset to_dataset(const IdxPart& part, const std::array<float, 256>& values) {
  Dataset data;
  data.labels.assign(part.labels.values.begin(), part.labels.values.end());
  data.inputs = to_values(part.images.values, values);
  return data;
}

}  // namespace

Result<DataBundle> load_idx(const std::string& folder, bool standardize) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored))
    return Status(Code::kNotFound, "not a folder", {.file = folder, .line = 0, .key = "data.path"});
  DataBundle bundle;
  TERN_TRY(IdxPart train, read_part(folder, "train"));
  const auto values = pixel_values(train.images.values, standardize);
  const uint8_t last_class =
      *std::max_element(train.labels.values.begin(), train.labels.values.end());
  bundle.shape = {{1, train.images.shape[1], train.images.shape[2]}, last_class + 1};
  for (int c = 0; c <= last_class; ++c) bundle.class_names.push_back(std::to_string(c));
  bundle.train = to_dataset(train, values);
  const std::vector<uint32_t> train_shape = train.images.shape;
  train = {};  // 47 MB that needn't lie beside the test part

  TERN_TRY(const IdxPart test, read_part(folder, "t10k"));
  if (test.images.shape[1] != train_shape[1] || test.images.shape[2] != train_shape[2])
    return Status(
        Code::kInvalidArgument,
        fmt::format("test images are {} x {}, training images {} x {}", test.images.shape[1],
                    test.images.shape[2], train_shape[1], train_shape[2]),
        {.file = folder, .line = 0, .key = {}});
  const auto unknown = std::find_if(test.labels.values.begin(), test.labels.values.end(),
                                    [&](uint8_t label) { return label > last_class; });
  if (unknown != test.labels.values.end())
    return Status(Code::kInvalidArgument,
                  fmt::format("test example {} has label {}, but the training labels end at {}",
                              unknown - test.labels.values.begin(), *unknown, last_class),
                  {.file = folder, .line = 0, .key = {}});
  bundle.test = to_dataset(test, values);
  return bundle;
}

}  // namespace tern
