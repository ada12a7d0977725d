/// safetensors files from a hostile source, read by their own schema and against one of ours. No
/// input holds more memory than 16 times its header + 8 KiB; what has a schema is read, and read
/// again after it was written. Mutations start from real files; lengths are repaired after most of
/// them, so that the JSON header is reached.
#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/rng.h"
#include "base/safetensors.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_memory.h"

namespace {

using namespace tern;

constexpr size_t kMostRepaired = 4096;  // bytes of data that a repair puts in

/// What is held at once for a header of this length: buffers of the JSON reader, names and shapes.
constexpr int64_t most_held(uint64_t header_bytes) {
  return 16 * static_cast<int64_t>(header_bytes) + 8192;
}

const ParameterSchema& our_schema() {
  static const ParameterSchema schema =
      ParameterSchema::make({{"w", {2, 3}}, {"b", {2}, TensorKind::kBias}}).value();
  return schema;
}

/// The header of a file that is read, or nearly so.
std::string fresh_header(uint32_t seed) {
  Rng rng(seed, Purpose::kTest);
  constexpr std::string_view kNames[] = {"w", "b", "", "a", "\\u00e9", "layer.0.weight.of.a.model"};
  std::vector<std::string> tensors;
  uint64_t end = 0;
  for (uint32_t i = rng.below(5); i > 0; --i) {
    std::vector<uint64_t> shape(rng.below(4));
    uint64_t elements = 1;
    for (uint64_t& size : shape)
      elements *= size = rng.below(40) == 0 ? rng.next64() : rng.below(5);
    const uint64_t begin = end;
    end += 4 * elements;
    tensors.push_back(fmt::format(R"("{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                                  kNames[rng.below(std::size(kNames))],
                                  rng.below(16) == 0 ? "F16" : "F32", fmt::join(shape, ","), begin,
                                  end));
  }
  if (rng.below(4) == 0) tensors.push_back(R"("__metadata__":{"a":"b"})");
  if (!tensors.empty())
    std::rotate(tensors.begin(), tensors.begin() + rng.below(static_cast<uint32_t>(tensors.size())),
                tensors.end());
  return fmt::format("{{{}}}", fmt::join(tensors, ","));
}

const std::string& our_header() {
  static const std::string header = R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[24,32]},)"
                                    R"("w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})";
  return header;
}

/// The header's length before it, and behind it as many bytes as the largest end of a range says.
std::string repaired(std::string_view header) {
  uint64_t most = 0;
  constexpr std::string_view kKey = "\"data_offsets\":[";
  for (size_t at = header.find(kKey); at != std::string_view::npos;
       at = header.find(kKey, at + 1)) {
    const size_t comma = std::min(header.find(',', at + kKey.size()), header.size());
    uint64_t end = 0;
    for (const char c : header.substr(std::min(comma + 1, header.size()))) {
      if (c < '0' || c > '9') break;
      end = end * 10 + static_cast<uint64_t>(c - '0');
    }
    most = std::max(most, end);
  }
  std::string result(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(result.data(), &length, 8);
  result += header;
  if (most <= kMostRepaired) result.resize(result.size() + most, 'x');
  return result;
}

void check_refusal(const Status& status) {
  TERN_FUZZ_CHECK(status.code() == Code::kCorrupt || status.code() == Code::kInvalidArgument);
  TERN_FUZZ_CHECK(!status.message().empty());
  TERN_FUZZ_CHECK(status.message().size() <= 512);
  TERN_FUZZ_CHECK(std::all_of(status.message().begin(), status.message().end(), [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && c != 0x7F;
  }));
}

}  // namespace

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  const auto put = [&](const std::string& file) {
    if (file.size() > most) return;
    std::copy(file.begin(), file.end(), data);
    size = file.size();
  };
  if (size < 10 || seed % 64 == 0)
    put(repaired(seed / 64 % 8 == 0 ? our_header() : fresh_header(seed)));
  size = LLVMFuzzerMutate(data, size, most);
  if (seed % 4 != 1) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const size_t begin = std::min(text.find('{'), size);
    const size_t end = std::min(text.rfind('}'), size);
    if (begin < end) put(repaired(std::string(text.substr(begin, end + 1 - begin))));
  }
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  // Nothing beyond the file is a header.
  const uint64_t header_bytes =
      size < 8 ? 0 : std::min<uint64_t>(load<uint64_t>(file.data()), size - 8);

  std::vector<float> ours(our_schema().elements());
  Status status;
  FuzzMemory memory = memory_of([&] { status = from_safetensors(file, our_schema(), ours); });
  TERN_FUZZ_CHECK(memory.most_live <= most_held(header_bytes));
  if (!status.ok()) check_refusal(status);

  Result<ParameterSchema> schema = ParameterSchema();
  memory = memory_of([&] { schema = safetensors_schema(file); });
  TERN_FUZZ_CHECK(memory.most_live <= most_held(header_bytes));
  if (!schema) {
    check_refusal(schema.error());
    TERN_FUZZ_CHECK(!status.ok());
    return 0;
  }
  TERN_FUZZ_CHECK(8 + header_bytes + 4 * schema->elements() == size);
  std::vector<float> values(schema->elements());
  TERN_FUZZ_CHECK(from_safetensors(file, *schema, values).ok());
  if (!values.empty())
    TERN_FUZZ_CHECK(std::memcmp(values.data(), data + 8 + header_bytes, 4 * values.size()) == 0);

  const std::vector<std::byte> written = to_safetensors(*schema, values);
  const Result<ParameterSchema> again = safetensors_schema(written);
  TERN_FUZZ_CHECK(again);
  TERN_FUZZ_CHECK(again->hash() == schema->hash());
  std::vector<float> read(values.size());
  TERN_FUZZ_CHECK(from_safetensors(written, *again, read).ok());
  if (!values.empty())
    TERN_FUZZ_CHECK(std::memcmp(read.data(), values.data(), 4 * values.size()) == 0);
  return 0;
}
