/// What frame_fuzz and stage_fuzz share: receivers' schemas, chains, real updates, and what holds
/// of every frame, whoever made it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/rng.h"
#include "compression/updates/chain.h"
#include "compression/updates/frame.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_memory.h"

namespace tern {

/// Every stage occurs, alone and among others; tables and blocks suit small schemas.
inline constexpr std::array kFuzzChains{
    "float32",
    "float32 | zstd",
    "float16",
    "bfloat16 | zstd",
    "int:4",
    "int:16",
    "int:8 | rans",
    "ternary",
    "ternary | rans",
    "sign",
    "qsgd:1000",
    "qsgd:16 | rans",
    "natural",
    "natural | rans",
    "rotate:1024 | eden:1",
    "rotate:2048 | eden:4 | rans",
    "rotate:65536 | eden:8",
    "rotate:16 | int:3",
    "rotate:64 | sign",
    "rotate:65536 | bfloat16",
    "randk:0.3",
    "randk:0.01 | float16",
    "randk:0.5 | ternary | rans",
    "rotate:1024 | randk:0.25 | eden:2",
    "rotate:16 | randk:1",
    "topk:0.1",
    "topk:0.9 | rice",
    "topk:0.05 | int:4 | rice",
    "topk:0.3 | bfloat16",
    "topk:0.2 | natural | rice | rans",
    "topk-per-tensor:0.2 | sign",
    "threshold:0.5 | sign | rice",
    "threshold:0.1 | qsgd:255 | rans",
    "dct:2 | topk:0.1 | ternary | rice",
    "dct:3 | int:4 | rans",
    "dct:2 | lowpass:0.5 | rotate:1024 | randk-by-norm:0.2 | eden:1",
    "small16:64 | dct:2 | rotate:1024 | randk-by-norm:0.2 | eden:1",
    "randk-by-norm:0.3",
    "randk-by-norm:0.1 | natural | rans",
    "principal:1 | int:4",
    "principal:3 | dct:2 | lowpass:0.5 | rotate:1024 | randk-by-norm:0.2 | eden:1",
    "ef | small16:64 | principal:2 | topk:0.1 | ternary | cabac",
    "lowrank:1",
    "lowrank:32 | int:8 | rans",
    "sketch:3x20",
    "sketch:4x50 | qsgd:64 | rans",
    "sketch:15x7 | float16",
    "small16:2",
    "small16:64 | sketch:1x10 | natural",
    "small16:1024 | lowrank:2 | bfloat16 | zstd",
    "ef | small16:64 | rotate:1024 | eden:3 | rans",
    "ef | small16:64 | rotate:1024 | randk:0.5 | int:5",
    "ef | topk:0.1 | ternary | rice",
    "ef | small16:256 | lowrank:2 | bfloat16 | zstd",
    "ef21 | topk-per-tensor:0.1 | int:8 | rice | rans",
    "dgc:0.9 | topk:0.2 | float16 | rice | zstd",
    "small16:64 | randk:0.3 | natural | rans",
    "topk:0.1 | cabac",
    "topk:0.3 | int:4 | cabac | rans",
    "components:1 | int:4",
    "components:3x1 | dct:2 | lowpass:0.5 | rotate:1024 | randk-by-norm:0.2 | eden:1",
    "ef | small16:64 | components:5x0.2 | topk:0.1 | ternary | cabac",
};

/// The codecs of kFuzzChains.
inline const std::vector<Codec>& fuzz_codecs() {
  static const std::vector<Codec> codecs = [] {
    std::vector<Codec> all;
    for (const char* spec : kFuzzChains) {
      Result<Codec> codec = Codec::parse(spec);
      TERN_FUZZ_CHECK(codec);
      all.push_back(*std::move(codec));
    }
    for (const StageInfo& info : kStages)
      TERN_FUZZ_CHECK(std::ranges::any_of(all, [&](const Codec& codec) {
        return std::ranges::any_of(codec.stages(),
                                   [&](const Stage& stage) { return stage.info == &info; });
      }));
    return all;
  }();
  return codecs;
}

/// A receiver of one schema. Its memory is used again, but for what depends on the schema and the
/// frames before: so each input costs what it costs alone.
class Receiver {
 public:
  /// All that the scratch has whatever the schema is, zstd's context, and room for a chain.
  static constexpr int64_t kFixedBytes = 2'000'000;

  explicit Receiver(ParameterSchema schema)
      : schema_(std::move(schema)),
        other_(ParameterSchema::make(
                   {{.name = "other", .shape = {static_cast<int64_t>(schema_.elements())}}})
                   .value()),
        accumulator_(FixedPointAccumulator::make(schema_.elements(),
                                                 {.norm_bound = kNormBound, .largest_weights = 3})
                         .value()),
        decoded_(schema_.elements()),
        other_way_(schema_.elements()) {
    fixed_ = memory_of([&] {
               scratch_.emplace();
               scratch_->zstd_decoder();
             }).live;
  }

  const ParameterSchema& schema() const { return schema_; }
  CodecScratch& scratch() { return *scratch_; }

  /// Reads a frame in every way and checks what has to hold; true when it was accepted.
  bool receive(std::span<const std::byte> frame);

 private:
  static constexpr double kNormBound = 0x1p20;

  void forget() {
    CodecScratch& scratch = *scratch_;
    for (auto* stream : {&scratch.main, &scratch.small, &scratch.stream, &scratch.estimates,
                         &scratch.factors, &scratch.component_factors, &scratch.directions})
      *stream = std::vector<float>();  // "= {}" would keep their memory
    scratch.component_chunks = Buffer<std::byte>();
    scratch.component_ends = std::vector<size_t>();
    scratch.layout = Layout();
    scratch.cuts = std::vector<Cut>();
    scratch.last_codec.reset();
  }
  void check_values(const CheckedFrame& checked);

  ParameterSchema schema_;
  ParameterSchema other_;  // of the same length
  std::optional<CodecScratch> scratch_;
  int64_t fixed_ = 0;
  FixedPointAccumulator accumulator_;
  std::vector<float> decoded_, other_way_;
};

/// The longest frame that a reader takes: raw values, or as many bytes again for a rotation's
/// padding or clumsy positions, raw factors of components, a table, scales and a header full of
/// fields.
inline size_t longest_frame(size_t elements) {
  return 255 + 24 * (elements / kChunkElements + 3) + 14 * elements;
}

inline bool Receiver::receive(std::span<const std::byte> frame) {
  forget();
  const size_t elements = schema_.elements();
  // The main stream, what dct makes of it, and factors of its components.
  const int64_t most_live = 3 * 4 * static_cast<int64_t>(elements) + kFixedBytes;
  std::optional<Result<CheckedFrame>> result;
  FuzzMemory memory =
      memory_of([&] { result.emplace(inspect(frame, schema_, {}, *scratch_)); }, {.live = fixed_});
  TERN_FUZZ_CHECK(memory.most_live <= most_live);
  if (!*result) {
    const Status refused = result->error();
    TERN_FUZZ_CHECK(refused.code() == Code::kCorrupt || refused.code() == Code::kUnsupported ||
                    refused.code() == Code::kInvalidArgument ||
                    refused.code() == Code::kOutOfRange);
    TERN_FUZZ_CHECK(!refused.message().empty());
    return false;
  }
  const CheckedFrame& checked = **result;
  TERN_FUZZ_CHECK(checked.elements() == elements);
  TERN_FUZZ_CHECK(checked.nonzeros() <= elements);
  TERN_FUZZ_CHECK(std::isfinite(checked.norm()) && checked.norm() >= 0);
  TERN_FUZZ_CHECK(checked.bytes().data() == frame.data());
  TERN_FUZZ_CHECK(frame.size() <= longest_frame(elements));

  std::ranges::fill(decoded_, std::numeric_limits<float>::quiet_NaN());
  bool ok = false;
  memory = memory_of([&] { ok = decode(checked, *scratch_, decoded_).ok(); }, memory);
  TERN_FUZZ_CHECK(ok);
  TERN_FUZZ_CHECK(memory.most_live <= most_live);
  check_values(checked);

  // The same frame again finds all the memory it needs, and has the same norm (the bound is
  // inclusive) and values.
  std::ranges::copy(decoded_, other_way_.begin());
  memory = memory_of([&] {
    const DecodeLimits exact{.max_bytes = frame.size(), .norm_bound = checked.norm()};
    const Result<CheckedFrame> again = inspect(frame, schema_, exact, *scratch_);
    ok = again && again->norm() == checked.norm() && again->nonzeros() == checked.nonzeros() &&
         subtract_decoded(*again, *scratch_, other_way_).ok();
  });
  TERN_FUZZ_CHECK(ok);
  TERN_FUZZ_CHECK(memory.allocated == 0);
  for (const float v : other_way_) TERN_FUZZ_CHECK(v == 0);

  // Tighter receivers, and those of another model, refuse it, whatever it is.
  TERN_FUZZ_CHECK(!inspect(frame, schema_, {.max_bytes = frame.size() - 1}, *scratch_));
  TERN_FUZZ_CHECK(!inspect(frame, other_, {}, *scratch_));
  const bool one_in_eight = load<uint32_t>(frame.data() + 44) % 8 == 0;  // it walks all values
  if (one_in_eight && checked.norm() > 0)
    TERN_FUZZ_CHECK(
        !inspect(frame, schema_, {.norm_bound = std::nextafter(checked.norm(), 0.0)}, *scratch_));
  return true;
}

/// Finite, of the norm that was promised, and the same by the other ways out.
inline void Receiver::check_values(const CheckedFrame& checked) {
  double squares = 0;
  for (const float v : decoded_) {
    TERN_FUZZ_CHECK(std::isfinite(v));
    squares += static_cast<double>(v) * static_cast<double>(v);
  }
  TERN_FUZZ_CHECK(std::abs(std::sqrt(squares) - checked.norm()) <= 1e-9 * checked.norm());

  accumulator_.clear();
  const Status added = decode_accumulate(checked, 3, 1, *scratch_, accumulator_);
  TERN_FUZZ_CHECK(added.ok() == (checked.norm() <= kNormBound));
  if (!added.ok()) return;
  accumulator_.mean(other_way_);
  for (size_t i = 0; i < decoded_.size(); ++i)
    TERN_FUZZ_CHECK(std::abs(other_way_[i] - decoded_[i]) <= 0x1p-20);
}

/// Small schemas, but for the choices from kFirstLarge on.
inline constexpr uint8_t kFirstLarge = 254;

inline Receiver& receiver_of(uint8_t choice) {
  static const auto with_tensors = [](std::vector<TensorSpec> tensors) {
    for (size_t i = 0; i < tensors.size(); ++i) tensors[i].name = std::string(i + 1, 't');
    return ParameterSchema::make(std::move(tensors)).value();
  };
  static std::vector<Receiver> small = [] {
    constexpr TensorKind kBias = TensorKind::kBias, kNorm = TensorKind::kNorm;
    std::vector<Receiver> all;
    for (const size_t elements : {0, 1, 9, 33, 300, 1025, 2500})
      all.emplace_back(ParameterSchema::flat(elements));
    const auto add = [&](std::vector<TensorSpec> tensors) {
      all.emplace_back(with_tensors(std::move(tensors)));
    };
    add({{"", {2, 2}}, {"", {2}, kBias}});
    add({{"", {17}, kBias}, {"", {5}, kNorm}});
    add({{"", {4, 3, 3, 3}},
         {"", {4}, kBias},
         {"", {4}, kNorm},
         {"", {10, 16}},
         {"", {10}, kBias}});
    add({{"", {20, 1}}, {"", {1, 20}}, {"", {300}}, {"", {11, 9}}});
    add({{"", {40, 30}},
         {"", {30}, kBias},
         {"", {}},
         {"", {0, 5}},
         {"", {5, 7}},
         {"", {3}, kNorm}});
    return all;
  }();
  static std::optional<Receiver> flat, tensors;
  if (choice < kFirstLarge) return small[choice % small.size()];
  if (choice == kFirstLarge) {
    if (!flat) flat.emplace(ParameterSchema::flat(kChunkElements + 1));
    return *flat;
  }
  if (!tensors)
    tensors.emplace(
        with_tensors({{"", {300, 220}},
                      {"", {220}, TensorKind::kBias},
                      {"", {static_cast<int64_t>(kChunkElements) + 3}, TensorKind::kNorm}}));
  return *tensors;
}

/// The schema of a mutated input: one in a thousand is large, for those cost a thousand times more.
inline uint8_t mutated_choice(uint8_t choice, uint32_t seed) {
  if (seed % 1024 == 7) return seed % 2048 == 7 ? kFirstLarge : kFirstLarge + 1;
  return choice < kFirstLarge ? choice : static_cast<uint8_t>(seed / 1024 % kFirstLarge);
}

/// A real frame of an update with zeros, ties and outliers.
inline std::vector<std::byte> real_frame(const Codec& codec, const ParameterSchema& schema,
                                         uint64_t frame_seed, Rng& rng) {
  static CodecScratch scratch;
  std::vector<float> x(schema.elements());
  const float scale = std::ldexp(1.0f, static_cast<int>(rng.below(16)) - 8);
  for (float& v : x) v = scale * static_cast<float>(rng.normal());
  const uint32_t kind = rng.below(8);
  if (kind == 0) std::fill_n(x.begin(), x.size() / 2, 0.0f);
  if (kind == 1) std::ranges::fill(x, scale);
  if (kind == 2)
    for (float& v : x) v *= std::ldexp(1.0f, static_cast<int>(rng.below(60)) - 30);
  if (kind == 3)
    for (float& v : x) v = rng.below(8) == 0 ? v : 0.0f;
  std::vector<std::byte> frame(codec.max_encoded_bytes(schema));
  const Result<size_t> bytes =
      codec.encode({.base_version = rng.next(), .round = rng.next(), .seed = frame_seed}, schema, x,
                   scratch, frame);
  TERN_FUZZ_CHECK(bytes);
  frame.resize(*bytes);
  return frame;
}

}  // namespace tern
