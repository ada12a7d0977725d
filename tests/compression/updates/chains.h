/// What the tests of this folder share: chains with their budgets, awkward sizes, inputs, and short
/// names for encoding and decoding. Inputs are made by exact IEEE operations, so that the frames'
/// bytes can be pinned.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <map>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "compression/updates/codec.h"
#include "compression/updates/frame.h"
#include "compression/updates/scratch.h"

namespace tern {

/// What a chain may cost: bits per element of a whole frame of 140,000 elements, and squared error
/// over squared norm, for one frame. Error feedback isn't applied here.
struct Budget {
  const char* spec;
  double bits;
  double gaussian;
  double heavy_tail;
};

// Measured, plus 2 % on bits and a tenth on errors. Small blocks, randk and few bits are as
// bad as they look: it is what a mean over clients, or error feedback, makes up for.
inline constexpr Budget kBudgets[] = {
    {"float32", 32.645, 0, 0},
    {"float16", 16.325, 4.7e-08, 4.7e-08},
    {"bfloat16", 16.325, 3e-06, 2.9e-06},
    {"int:2", 1.654, 1.9, 2.6},
    {"int:3", 3.081, 0.23, 0.74},
    {"int:4", 4.101, 0.043, 0.27},
    {"int:8", 8.181, 0.00013, 0.0049},
    {"int:11", 11.241, 2e-06, 0.00011},
    {"int:16", 16.341, 2e-09, 1.1e-07},
    {"ternary", 1.653, 1.9, 2.6},
    {"sign", 1.041, 0.39, 1.1},
    {"rotate:1024 | eden:1", 1.044, 0.63, 0.4},
    {"rotate:1024 | eden:2", 2.066, 0.15, 0.11},
    {"rotate:1024 | eden:3", 3.088, 0.039, 0.033},
    {"rotate:1024 | eden:4", 4.110, 0.01, 0.0091},
    {"rotate:1024 | eden:5", 5.132, 0.0027, 0.0024},
    {"rotate:1024 | eden:6", 6.154, 0.00069, 0.00062},
    {"rotate:1024 | eden:7", 7.176, 0.00018, 0.00016},
    {"rotate:1024 | eden:8", 8.198, 4.9e-05, 4.6e-05},
    {"rotate:2048 | eden:2", 2.066, 0.15, 0.11},
    {"rotate:65536 | eden:4", 4.320, 0.01, 0.01},
    {"rotate:1024 | int:8", 8.198, 0.00014, 6.2e-05},
    {"rotate:16 | int:4", 4.102, 0.046, 0.1},
    {"rotate:65536 | float16", 17.195, 4.6e-08, 4.6e-08},
    {"rotate:64 | sign", 1.041, 0.4, 0.76},
    {"rotate:1024 | ternary", 1.657, 1.9, 1.1},
    {"randk:0.1", 3.270, 9.7, 8.9},
    {"randk:1", 32.646, 0, 0},
    {"randk:1e-09", 0.006, 4.9e+04, 17},
    {"randk:0.9 | bfloat16", 14.693, 0.12, 0.11},
    {"randk:0.25 | ternary", 0.430, 9.3, 7.2},
    {"randk:0.5 | int:8", 4.102, 1.1, 1.1},
    {"rotate:1024 | randk:0.25", 8.182, 3.3, 3.3},
    {"rotate:1024 | randk:0.25 | eden:1", 0.277, 5.8, 4.9},
    {"rotate:65536 | randk:0.1 | int:4", 0.452, 9.7, 9.9},
    {"topk:0.01", 0.495, 1, 0.036},
    {"topk:1e-09 | rice", 0.006, 1.1, 1.1},
    {"topk:0.01 | rice", 0.415, 1, 0.036},
    {"topk:1 | rice", 32.646, 0, 0},
    {"topk:0.1 | float16", 2.658, 0.62, 0.0031},
    {"topk:0.05 | int:4 | rice", 0.506, 0.8, 0.42},
    {"topk:0.9 | sign | rice", 1.945, 0.33, 1.1},
    {"ef | topk:0.01 | ternary | rice", 0.099, 1, 0.67},
    {"ef | topk:0.02 | ternary", 0.353, 0.95, 0.79},
    {"ef | topk:0.01 | rice", 0.415, 1, 0.036},
    {"ef | topk:0.01", 0.496, 1, 0.036},
    {"ef | randk:0.1 | float16", 1.638, 0.99, 1},
    {"ef | randk:0.1", 3.270, 0.99, 1},
    {"ef | sign", 1.041, 0.39, 1.1},
    {"ef | rotate:1024 | eden:1", 1.044, 0.4, 0.28},
    {"ef | rotate:1024 | randk:0.1", 3.277, 0.99, 0.99},
    {"ef | rotate:1024 | randk:0.25 | eden:2", 0.533, 0.85, 0.85},
    {"small16:1024", 32.613, 5.9e-09, 7.2e-10},
    {"small16:64 | rotate:1024 | eden:1", 1.074, 0.63, 0.39},
    {"small16:2", 32.613, 5.9e-09, 7.2e-10},
    {"ef | small16:1024 | topk:0.01 | ternary | rice", 0.133, 1, 0.67},
    {"small16:1024 | topk-per-tensor:0.02 | rice", 0.836, 0.94, 0.018},
    {"topk-per-tensor:0.01 | rice", 0.415, 1, 0.036},
    {"ef | topk-per-tensor:0.05 | ternary | rice", 0.353, 0.81, 0.92},
    {"threshold:0.1 | rice", 3.049, 0.82, 0.004},
    {"threshold:0.001", 32.646, 2.3e-06, 7.5e-08},
    {"ef | threshold:0.05 | bfloat16", 6.295, 0.22, 0.0017},
    {"qsgd:4", 4.101, 6, 0.75},
    {"qsgd:127", 8.181, 0.012, 0.0074},
    {"qsgd:16 | rans", 1.467, 0.74, 0.14},
    {"ef | qsgd:64 | rans", 3.165, 0.046, 0.02},
    {"natural", 9.185, 0.09, 0.097},
    {"natural | rans", 4.222, 0.09, 0.097},
    {"randk:0.3 | natural", 2.760, 2.9, 3.2},
    {"int:4 | rans", 3.229, 0.043, 0.27},
    {"int:8 | rans", 7.527, 0.00013, 0.0049},
    {"ternary | rans", 1.077, 1.9, 2.6},
    {"rotate:1024 | eden:4 | rans", 3.877, 0.01, 0.0091},
    {"randk:0.25 | int:8 | rans", 1.977, 3.3, 3.5},
    {"topk:0.05 | int:8 | rice | rans", 0.656, 0.8, 0.0089},
    {"topk:0.05 | natural | rans", 0.996, 0.82, 0.098},
    {"float32 | zstd", 29.537, 0, 0},
    {"bfloat16 | zstd", 13.150, 3e-06, 2.9e-06},
    {"topk:0.1 | bfloat16 | rice | zstd", 1.744, 0.62, 0.0031},
    {"dct:2 | int:8", 8.180, 0.00013, 0.0043},
    {"dct:2 | topk:0.01 | ternary | rice", 0.099, 1, 0.53},
    {"topk:0.01 | cabac", 0.415, 1, 0.036},
    {"topk:0.9 | sign | cabac", 1.409, 0.33, 1.1},
    {"topk:0.05 | int:8 | cabac | rans", 0.656, 0.8, 0.0089},
    {"ef | topk:0.01 | ternary | cabac", 0.104, 1, 0.67},
    {"dct:2 | topk:0.01 | ternary | cabac", 0.104, 1, 0.53},
    {"ef | dct:2 | topk:0.05 | int:8 | rice", 0.709, 0.8, 0.016},
    {"small16:1024 | dct:2 | int:4 | rans", 3.272, 0.042, 0.28},
    {"dct:2 | rotate:1024 | randk-by-norm:0.1 | eden:1", 0.129, 17, 13},
    {"dct:2 | lowpass:0.5 | rotate:1024 | randk-by-norm:0.2 | eden:1", 0.173, 6.1, 4.6},
    {"dct:2 | lowpass:0.75 | int:4 | rans", 2.842, 0.173, 0.401},
    {"rotate:1024 | randk-by-norm:0.25", 8.031, 3.4, 2.5},
    {"randk-by-norm:0.1", 3.211, 10, 7.6},
    {"randk-by-norm:1 | float16", 16.333, 4.7e-08, 4.7e-08},
    {"randk-by-norm:0.3 | int:8 | rans", 2.302, 2.7, 2},
    {"ef | randk-by-norm:0.1 | bfloat16", 1.612, 0.99, 0.96},
    {"ef | small16:2 | dct:2 | rotate:1024 | randk-by-norm:0.5 | qsgd:64 | rans", 1.858, 0.57,
     0.42},
    {"principal:2 | rotate:1024 | eden:1", 1.493, 0.56, 0.37},
    {"principal:4 | dct:2 | lowpass:0.5 | rotate:1024 | randk-by-norm:0.2 | eden:1", 1.058, 4.35,
     2.82},
    {"small16:1024 | principal:32 | int:4 | rans", 3.759, 0.0355, 0.204},
    {"ef | principal:1 | topk:0.01 | ternary | cabac", 0.330, 0.956, 0.54},
    {"components:4x0.4 | rotate:1024 | eden:1", 1.553, 0.456, 0.281},
    {"components:4x1 | dct:2 | lowpass:0.5 | rotate:1024 | randk-by-norm:0.2 | eden:1", 0.424, 4.69,
     2.65},
    {"small16:1024 | components:40x0.1 | int:4 | rans", 3.754, 0.0315, 0.166},
    {"ef | small16:64 | components:6x0.5 | topk:0.01 | ternary | cabac", 0.816, 0.643, 0.269},
    {"lowrank:2", 3.586, 0.98, 0.95},
    {"lowrank:32 | bfloat16", 10.170, 0.42, 0.27},
    {"ef | small16:1024 | lowrank:4 | int:8 | rans", 1.660, 0.86, 0.82},
    {"ef | lowrank:2", 3.587, 0.98, 0.95},
    {"sketch:3x1000 | bfloat16", 0.354, 1.7, 2.2},
    {"ef | sketch:5x2000", 2.336, 1.1, 0.48},
    {"ef | small16:1024 | sketch:4x3000", 2.836, 1.1, 0.53},
    {"ef21 | topk:0.1 | rice", 3.755, 0.62, 0.0031},
    {"ef21 | topk:0.05 | ternary | rice", 0.353, 0.81, 0.92},
    {"ef21 | rotate:1024 | eden:2", 2.066, 0.13, 0.096},
    {"ef21 | lowrank:2", 3.587, 0.98, 0.95},
    {"dgc:0.9 | topk:0.01 | rice", 0.415, 1, 0.036},
    {"dgc:0.5 | randk:0.1 | float16", 1.638, 0.99, 1},
    {"dgc:0.9 | topk:1", 32.646, 0, 0},
};

inline void PrintTo(const Budget& budget, std::ostream* out) { *out << budget.spec; }

/// "ef | topk:0.01" becomes "ef_topk_0p01".
inline std::string spec_as_test_name(const testing::TestParamInfo<Budget>& info) {
  std::string name;
  for (const char c : std::string_view(info.param.spec)) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0)
      name += c;
    else if (c == '.')
      name += 'p';
    else if (c == '-')
      name += 'm';
    else if (c == ':' || c == '|')
      name += '_';
  }
  return name;
}

/// Around words, vectors, blocks of a rotation and chunks.
inline constexpr size_t kSizes[] = {0,    1,    3,    7,     8,     9,     15,
                                    16,   17,   31,   32,    33,    1000,  1023,
                                    1024, 1025, 4097, 65535, 65536, 65537, 140000};

enum class Input { kZeros, kConstant, kDenormal, kOneSpike, kHeavyTail, kGaussian, kNegativeZero };
inline constexpr Input kInputs[] = {Input::kZeros,       Input::kConstant,  Input::kDenormal,
                                    Input::kOneSpike,    Input::kHeavyTail, Input::kGaussian,
                                    Input::kNegativeZero};

/// Nearly a standard normal: the sum of twelve uniforms, less six.
inline float nearly_normal(Rng& rng) {
  uint64_t sum = 0;
  for (int i = 0; i < 12; ++i) sum += rng.next();
  return static_cast<float>(static_cast<double>(sum) * 0x1p-32 - 6);
}

/// One random value of an input, or of the others zero.
inline float random_value(Input input, Rng& rng) {
  switch (input) {
    case Input::kDenormal:
      return std::ldexp(static_cast<float>(static_cast<int32_t>(rng.next())), -160);
    case Input::kHeavyTail: {
      const float numerator = nearly_normal(rng);
      return 0.01f * numerator / (static_cast<float>(rng.below(1000) + 1) * 1e-3f);
    }
    case Input::kGaussian:
      return 0.05f * nearly_normal(rng);
    default:
      return 0;
  }
}

/// Random values in the order in which they are drawn, so that a short input begins a long one.
class RandomInput {
 public:
  RandomInput(Input input, uint32_t stream)
      : input_(input), rng_(11, Purpose::kTest, static_cast<uint32_t>(input), 0, stream) {}
  std::span<const float> first(size_t n) {
    while (drawn_.size() < n) drawn_.push_back(random_value(input_, rng_));
    return std::span(drawn_).first(n);
  }

 private:
  Input input_;
  Rng rng_;
  std::vector<float> drawn_;
};

/// Kept for the laws, which want the same for every chain: drawing them takes longer than coding.
inline std::vector<float> random_input(Input input, size_t n, uint32_t stream) {
  thread_local std::map<Input, RandomInput> kept;
  RandomInput another(input, stream);
  RandomInput& source = stream == 0 ? kept.try_emplace(input, input, 0).first->second : another;
  const std::span<const float> x = source.first(n);
  return {x.begin(), x.end()};
}

inline std::vector<float> make_input(Input input, size_t n, uint32_t stream = 0) {
  switch (input) {
    case Input::kConstant:
      return std::vector<float>(n, 0.7f);
    case Input::kNegativeZero:
      return std::vector<float>(n, -0.0f);
    case Input::kOneSpike: {
      std::vector<float> x(n, 0.0f);
      if (n > 0) x[n / 2] = -3.5f;
      return x;
    }
    case Input::kZeros:
      return std::vector<float>(n, 0.0f);
    default:
      return random_input(input, n, stream);
  }
}

inline constexpr FrameMeta kMeta{.base_version = 7, .round = 3, .seed = 42};

inline FrameMeta meta_with_seed(uint64_t seed) {
  FrameMeta meta = kMeta;
  meta.seed = seed;
  return meta;
}

/// A schema of n elements: from 16 on with two matrices, a bias and what is left; below, one
/// vector.
inline const ParameterSchema& schema_of(size_t n) {
  static std::map<size_t, ParameterSchema> schemas;
  const auto found = schemas.find(n);
  if (found != schemas.end()) return found->second;
  if (n < 16) return schemas.emplace(n, ParameterSchema::flat(n)).first->second;
  const auto side = static_cast<int64_t>(std::sqrt(static_cast<double>(n) / 2));
  auto rest = static_cast<int64_t>(n) - side * side;
  const int64_t bias = std::min(side, rest);
  rest -= bias;
  return schemas
      .emplace(n,
               ParameterSchema::make(
                   {{.name = "a.weight", .shape = {side, side}},
                    {.name = "a.bias", .shape = {bias}, .kind = TensorKind::kBias},
                    {.name = "b.weight", .shape = {10, rest / 30, 3}},
                    {.name = "norm", .shape = {rest - rest / 30 * 30}, .kind = TensorKind::kNorm}})
                   .value())
      .first->second;
}

inline Result<CheckedFrame> inspect_frame(std::span<const std::byte> frame, size_t elements,
                                          CodecScratch& scratch, const DecodeLimits& limits = {}) {
  return inspect(frame, schema_of(elements), limits, scratch);
}

inline Codec codec_of(std::string_view spec) { return Codec::parse(spec).value(); }

/// The frame of x, encoded in a buffer of exactly the promised bound that was filled with `fill`.
inline std::vector<std::byte> encode_frame(const Codec& codec, const FrameMeta& meta,
                                           std::span<const float> x, CodecScratch& scratch,
                                           std::byte fill = std::byte{0}) {
  const ParameterSchema& schema = schema_of(x.size());
  std::vector<std::byte> frame(codec.max_encoded_bytes(schema), fill);
  const Result<size_t> bytes = codec.encode(meta, schema, x, scratch, frame);
  if (!bytes) {
    ADD_FAILURE() << bytes.error().message();
    return {};
  }
  EXPECT_LE(*bytes, frame.size());
  frame.resize(*bytes);
  return frame;
}

inline std::vector<float> decode_frame(std::span<const std::byte> frame, size_t elements,
                                       CodecScratch& scratch) {
  std::vector<float> x(elements, -1.0f);
  const Result<CheckedFrame> checked = inspect_frame(frame, elements, scratch);
  if (!checked) {
    ADD_FAILURE() << checked.error().message();
    return x;
  }
  const Status decoded = decode(*checked, scratch, x);
  EXPECT_TRUE(decoded.ok()) << decoded.message();
  return x;
}

/// Encoded and decoded by one who shares nothing but the bytes.
inline std::vector<float> round_trip(const Codec& codec, const FrameMeta& meta,
                                     std::span<const float> x, CodecScratch& scratch) {
  return decode_frame(encode_frame(codec, meta, x, scratch), x.size(), scratch);
}

inline double squared_norm(std::span<const float> x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  return sum;
}

inline double squared_distance(std::span<const float> x, std::span<const float> y) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double difference = static_cast<double>(x[i]) - static_cast<double>(y[i]);
    sum += difference * difference;
  }
  return sum;
}

/// Squared error over squared norm.
inline double nmse(std::span<const float> x, std::span<const float> decoded) {
  return squared_distance(x, decoded) / squared_norm(x);
}

inline bool same_bits(std::span<const float> x, std::span<const float> y) {
  return x.size() == y.size() &&
         (x.empty() || std::memcmp(x.data(), y.data(), x.size_bytes()) == 0);
}

/// Leaves nothing in a scratch that a codec could mistake for its own.
/// Every byte of what a codec may have left behind; as floats about 10^30 and -10^30.
inline void fill_with_garbage(CodecScratch& scratch) {
  constexpr int kLarge = 0x71, kNegative = 0xF1;
  const auto fill = [](auto& memory, int byte) {
    const std::span<std::byte> bytes = std::as_writable_bytes(std::span(memory));
    if (!bytes.empty()) std::memset(bytes.data(), byte, bytes.size());
  };
  fill(scratch.chunk, kNegative);
  fill(scratch.values, kLarge);
  fill(scratch.index, 0xA5);
  fill(scratch.symbols, 0xA5);
  fill(scratch.groups, 0xA5);
  fill(scratch.histogram, 0xA5);
  fill(scratch.plain, kNegative);
  fill(scratch.coded, 0xA5);
  fill(scratch.main, kLarge);
  fill(scratch.small, kLarge);
  fill(scratch.stream, kLarge);
  fill(scratch.factors, kLarge);
  fill(scratch.component_factors, kLarge);
  fill(scratch.directions, kLarge);
  fill(scratch.component_chunks, 0xA5);
  fill(scratch.component_ends, 0xA5);
  fill(scratch.estimates, kLarge);
}

}  // namespace tern
