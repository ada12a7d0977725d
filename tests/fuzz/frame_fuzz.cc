/// Frames from a hostile sender. The first byte of an input chooses the receiver's schema, the rest
/// is the frame. Mutations start from real frames, and checksums are repaired after most of them,
/// so that what lies behind the checksums is reached.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "compression/updates/frame.h"
#include "tests/compression/updates/forged_frame.h"
#include "tests/fuzz/fuzz_check.h"

namespace {

using namespace tern;

constexpr size_t kSchemas[] = {0, 1, 9, 33, 300, 1025, 2500, 65537};
constexpr uint64_t kSchemaHash = 77;

size_t elements_of(uint8_t choice) { return kSchemas[choice % std::size(kSchemas)]; }

constexpr const char* kSpecs[] = {
    "float32",
    "float16",
    "bfloat16",
    "int:4",
    "int:16",
    "ternary",
    "sign",
    "rotate | eden:1",
    "rotate | eden:5",
    "rotate:16 | int:3",
    "rotate:65536 | bfloat16",
    "randk:0.3",
    "randk:0.01 | float16",
    "rotate | randk:0.25 | eden:2",
    "randk:0.5 | ternary",
    "topk:0.1",
    "topk:0.2 | rice",
    "topk:0.9 | rice",
    "topk:0.05 | int:4 | rice",
    "topk:0.3 | float16",
    "ef | topk:0.1 | ternary | rice",
    "ef | topk:0.5 | sign",
    "ef | rotate | eden:3",
    "ef | randk:0.2 | float16",
};

CodecScratch& scratch() {
  static CodecScratch memory;
  return memory;
}

/// Schema choice and a frame of a random chain.
std::vector<uint8_t> real_frame(uint32_t seed) {
  Rng rng(seed, Purpose::kTest);
  const auto choice = static_cast<uint8_t>(rng.next());
  const Codec codec = Codec::parse(kSpecs[rng.below(std::size(kSpecs))]).value();
  std::vector<float> x(elements_of(choice));
  for (float& v : x) v = static_cast<float>(rng.normal());
  if (rng.below(4) == 0) std::fill(x.begin(), x.begin() + static_cast<ptrdiff_t>(x.size() / 2), 0);
  std::vector<std::byte> frame(codec.max_encoded_bytes(x.size()));
  const FrameMeta meta{.schema_hash = kSchemaHash, .seed = rng.next64()};
  frame.resize(codec.encode(meta, x, scratch(), frame).value());
  std::vector<uint8_t> input = {choice};
  for (const std::byte byte : frame) input.push_back(static_cast<uint8_t>(byte));
  return input;
}

}  // namespace

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most,
                                          unsigned int seed) {
  if (size < 50 || seed % 64 == 0) {
    const std::vector<uint8_t> fresh = real_frame(seed);
    if (fresh.size() <= most) {
      std::memcpy(data, fresh.data(), fresh.size());
      size = fresh.size();
    }
  }
  size = LLVMFuzzerMutate(data, size, most);
  if (size > 1 && seed % 16 != 1)
    repair_frame(std::as_writable_bytes(std::span(data + 1, size - 1)), elements_of(data[0]),
                 kSchemaHash);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t elements = elements_of(data[0]);
  const auto frame = std::as_bytes(std::span(data + 1, size - 1));
  const DecodeLimits limits{.schema_hash = kSchemaHash, .elements = elements};
  const Result<CheckedFrame> checked = inspect(frame, limits, scratch());
  if (!checked) {
    TERN_FUZZ_CHECK(checked.error().code() != Code::kOk);
    TERN_FUZZ_CHECK(checked.error().code() != Code::kInternal);
    TERN_FUZZ_CHECK(!checked.error().message().empty());
    return 0;
  }
  TERN_FUZZ_CHECK(checked->elements() == elements);
  TERN_FUZZ_CHECK(checked->nonzeros() <= elements);
  TERN_FUZZ_CHECK(std::isfinite(checked->norm()));
  TERN_FUZZ_CHECK(frame.size() <= checked->codec().max_encoded_bytes(elements) ||
                  checked->codec().indexed());

  std::vector<float> decoded(elements, std::numeric_limits<float>::quiet_NaN());
  TERN_FUZZ_CHECK(decode(*checked, scratch(), decoded).ok());
  double squares = 0;
  for (const float v : decoded) {
    TERN_FUZZ_CHECK(std::isfinite(v));
    squares += static_cast<double>(v) * static_cast<double>(v);
  }
  TERN_FUZZ_CHECK(std::abs(std::sqrt(squares) - checked->norm()) <= 1e-9 * checked->norm());

  // The same values again by the other ways out.
  std::vector<float> rest = decoded;
  TERN_FUZZ_CHECK(subtract_decoded(*checked, scratch(), rest).ok());
  for (const float v : rest) TERN_FUZZ_CHECK(v == 0);
  constexpr double kNormBound = 0x1p20;
  const AccumulatorBounds bounds{.norm_bound = kNormBound, .largest_weights = 3};
  auto accumulator = FixedPointAccumulator::make(elements, bounds).value();
  const Status added = decode_accumulate(*checked, 3, 1, scratch(), accumulator);
  TERN_FUZZ_CHECK(added.ok() == (checked->norm() <= kNormBound));
  if (added.ok()) {
    std::vector<float> mean(elements);
    accumulator.mean(mean);
    for (size_t i = 0; i < elements; ++i)
      TERN_FUZZ_CHECK(std::abs(mean[i] - decoded[i]) <= 0x1p-20);
  }
  // A tighter receiver refuses it, whatever it is.
  DecodeLimits tight = limits;
  tight.max_bytes = frame.size() - 1;
  TERN_FUZZ_CHECK(!inspect(frame, tight, scratch()));
  return 0;
}
