/// .npy files from a hostile source. No input costs more than 4 KiB of memory; what is read is
/// exactly what its shape says, and is read again after it was written. Mutations start from real
/// files; lengths are repaired after most of them, so that dictionary and shape are reached.
#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/npy.h"
#include "base/rng.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_memory.h"

namespace {

using namespace tern;

constexpr uint64_t kMostAllocated = 4096;
constexpr size_t kMostRepaired = 4096;  // bytes of data that a repair puts in

/// A file that is read, or nearly so.
std::string fresh_file(uint32_t seed) {
  Rng rng(seed, Purpose::kTest);
  const auto one_of = [&](const auto&... choice) {
    const std::string_view all[] = {choice...};
    return all[rng.below(sizeof...(choice))];
  };
  std::string shape = "(";
  const uint32_t rank = rng.below(5);
  for (uint32_t i = 0; i < rank; ++i) {
    if (i > 0) shape += one_of(", ", ",", " , ");
    shape += rng.below(8) == 0 ? "1099511627776" : fmt::to_string(rng.below(6));
  }
  shape += rank == 1 ? ",)" : one_of(")", ")", ",)", " )");
  std::vector<std::string> items = {
      fmt::format("'descr': {}", one_of("'<f4'", "'<f4'", "'<f4'", "'<f4'", "\"<f4\"", "'>f4'",
                                        "'<f8'", "[('x', '<f4')]", "'|O'")),
      fmt::format("\"fortran_order\": {}", one_of("False", "False", "False", "True")),
      fmt::format("'shape' :{}", shape)};
  std::rotate(items.begin(), items.begin() + rng.below(3), items.end());
  return fmt::format("{{{}}}{}\n", fmt::join(items, one_of(", ", ",", "\n,\t")),
                     std::string(rng.below(70), ' '));
}

/// Puts a magic, a version and the header's length before the dictionary, which ends at the first
/// newline after a brace, and as many bytes behind it as its shape needs.
std::string repaired(std::string_view file, uint32_t seed) {
  const size_t begin = std::min(file.find('{'), file.size());
  const size_t end = std::min(file.find('\n', std::max(begin, file.rfind('}'))), file.size());
  const std::string_view header = file.substr(begin, end - begin);
  const uint32_t version = 1 + seed % 3;
  std::string result = "\x93NUMPY";
  result += static_cast<char>(version);
  result += '\0';
  for (uint32_t byte = 0; byte < (version == 1 ? 2u : 4u); ++byte)
    result += static_cast<char>(header.size() >> 8 * byte & 0xFF);
  result += header;
  uint64_t elements = 1;
  const size_t open = std::min(header.find('('), header.size());
  for (size_t at = open; at < header.size() && header[at] != ')'; ++at) {
    uint64_t size = 0;
    const size_t first = at;
    while (at < header.size() && header[at] >= '0' && header[at] <= '9')
      size = size * 10 + static_cast<uint64_t>(header[at++] - '0');
    if (at > first) elements *= size;
    if (at == header.size() || header[at] == ')') break;
  }
  if (elements <= kMostRepaired / 4) result.resize(result.size() + 4 * elements, 'x');
  return result;
}

}  // namespace

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  const auto put = [&](const std::string& file) {
    if (file.size() > most) return;
    std::copy(file.begin(), file.end(), data);
    size = file.size();
  };
  if (size < 12 || seed % 64 == 0) put(repaired(fresh_file(seed), seed / 64));
  size = LLVMFuzzerMutate(data, size, most);
  if (seed % 4 != 1) put(repaired({reinterpret_cast<const char*>(data), size}, seed / 4));
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  Result<NpyArray> array = NpyArray();
  const FuzzMemory memory = memory_of([&] { array = parse_npy(file); });
  TERN_FUZZ_CHECK(memory.allocated <= kMostAllocated);
  if (!array) {
    const Status& status = array.error();
    TERN_FUZZ_CHECK(status.code() == Code::kCorrupt || status.code() == Code::kUnsupported);
    TERN_FUZZ_CHECK(!status.message().empty());
    TERN_FUZZ_CHECK(std::all_of(status.message().begin(), status.message().end(),
                                [](char c) { return c >= 0x20 && c < 0x7F; }));
    return 0;
  }
  uint64_t product = 1;
  for (const int64_t dimension : array->shape) {
    TERN_FUZZ_CHECK(dimension >= 0);
    product *= static_cast<uint64_t>(dimension);
  }
  TERN_FUZZ_CHECK(array->elements == product);
  TERN_FUZZ_CHECK(array->data.size() == 4 * array->elements);
  TERN_FUZZ_CHECK(array->data.size() < size);
  TERN_FUZZ_CHECK(array->data.data() + array->data.size() == file.data() + size);

  const Result<std::vector<std::byte>> written = to_npy(array->shape, array->values());
  TERN_FUZZ_CHECK(written);
  const Result<NpyArray> again = parse_npy(*written);
  TERN_FUZZ_CHECK(again);
  TERN_FUZZ_CHECK(again->shape == array->shape);
  TERN_FUZZ_CHECK(std::ranges::equal(again->data, array->data));
  return 0;
}
