/// Random chains, schemas and updates, for tests that look where no list of chains does.
#pragma once

#include <algorithm>
#include <bit>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "compression/updates/codec.h"
#include "tests/compression/updates/chains.h"

namespace tern {

struct RandomCase {
  Codec codec;
  FrameMeta meta;
  ParameterSchema schema;
  std::vector<float> x;
};

inline bool one_in(Rng& rng, uint32_t n) { return rng.below(n) == 0; }

/// From 0 to the largest, mostly small.
inline uint32_t mostly_small(Rng& rng, uint32_t largest) {
  return rng.below(1 + std::min(largest, ~uint32_t{0} >> rng.below(32)));
}

inline uint32_t random_argument(const StageInfo& info, Rng& rng) {
  switch (info.argument) {
    case Argument::kPowerOfTwo:
      return info.smallest << rng.below(static_cast<uint32_t>(std::countr_zero(info.largest) -
                                                              std::countr_zero(info.smallest) + 1));
    case Argument::kRate:
      if (one_in(rng, 6)) return info.largest;
      if (one_in(rng, 2)) return 1 + rng.below(info.largest);
      return 1 + mostly_small(rng, info.largest - 1);
    case Argument::kThreshold:  // around the inputs' magnitudes, half of them
      if (one_in(rng, 2)) return std::bit_cast<uint32_t>(0.05f) + rng.below(1u << 25);
      return info.smallest + rng.below(info.largest - info.smallest + 1);
    case Argument::kTable:
      return table_argument(1 + rng.below(15), 1 + mostly_small(rng, (1u << kTableColumnBits) - 2));
    case Argument::kComponents:
      return components_argument(
          1 + mostly_small(rng, components_rank(info.largest) - 1),
          components_step(info.smallest) +
              rng.below(components_step(info.largest) - components_step(info.smallest) + 1));
    default:
      if (info.largest == 0) return 0;
      return one_in(rng, 2) ? info.smallest + rng.below(info.largest - info.smallest + 1)
                            : info.smallest + mostly_small(rng, info.largest - info.smallest);
  }
}

/// Stages of the table, one of a family at most, until they compose.
inline Codec compose(Rng& rng) {
  constexpr uint32_t kPercent[] = {20, 30, 25, 35, 35, 35, 70, 35, 40, 30};  // of each family
  static_assert(std::size(kPercent) == static_cast<size_t>(Family::kValueCode) + 1);
  for (;;) {
    std::vector<Stage> stages;
    for (uint32_t family = 0; family < std::size(kPercent); ++family) {
      if (rng.below(100) >= kPercent[family]) continue;
      uint32_t skip = rng.below(16);
      for (size_t i = 0;; i = (i + 1) % kStages.size())
        if (kStages[i].family == static_cast<Family>(family) && skip-- == 0) {
          stages.push_back({.info = &kStages[i], .argument = random_argument(kStages[i], rng)});
          break;
        }
    }
    Result<Codec> codec = Codec::make(std::move(stages));
    if (codec) return *std::move(codec);
  }
}

inline ParameterSchema random_schema(Rng& rng) {
  // Mostly up to some hundreds of elements, now and then more than a chunk.
  const uint32_t size = one_in(rng, 20'000) ? 150'000 : one_in(rng, 200) ? 6000 : 300;
  std::vector<TensorSpec> tensors;
  uint32_t left = rng.below(size + 1);
  const uint32_t count = rng.below(5);
  for (uint32_t i = 0; i < count; ++i) {
    TensorSpec tensor{.name = std::string(1, static_cast<char>('a' + i)),
                      .kind = static_cast<TensorKind>(one_in(rng, 2) ? 0 : rng.below(3))};
    const uint32_t elements = i + 1 == count ? left : mostly_small(rng, left);
    switch (rng.below(4)) {
      case 0:
        tensor.shape = {elements};
        break;
      case 1: {
        const auto columns = 1 + mostly_small(rng, elements);
        tensor.shape = {elements / columns, columns};
        break;
      }
      case 2: {
        const auto side = static_cast<int64_t>(std::sqrt(static_cast<double>(elements)));
        tensor.shape = {side, side};
        break;
      }
      default:
        if (elements >= 12) tensor.shape = {elements / 12, 3, 2, 2};
    }
    const auto used = static_cast<uint32_t>(tensor.elements());
    left -= std::min(left, used);
    tensors.push_back(std::move(tensor));
  }
  return ParameterSchema::make(std::move(tensors)).value();
}

inline std::vector<float> random_update(Rng& rng, size_t n) {
  std::vector<float> x(n);
  const uint32_t kind = rng.below(8);
  const uint32_t zeros = one_in(rng, 3) ? rng.below(101) : 0;  // percent
  const float constant = 0.05f * nearly_normal(rng);
  const int exponent = static_cast<int>(rng.below(250)) - 149;
  for (float& v : x) {
    if (zeros > 0 && rng.below(100) < zeros) {
      v = one_in(rng, 50) ? -0.0f : 0.0f;
      continue;
    }
    const uint32_t word = rng.next();
    switch (kind) {
      case 0:  // any float32 up to 2^100
        v = std::bit_cast<float>(word % 0x71800001 | (word & 1) << 31);
        break;
      case 1:  // one magnitude, two signs
        v = (word & 1) != 0 ? constant : -constant;
        break;
      case 2:  // the ends of the range
        v = (word & 2) != 0 ? 0x1p100f : (word & 4) != 0 ? 0x1p-149f : 1.0f;
        v = (word & 1) != 0 ? v : -v;
        break;
      case 3:  // all of one order, whichever
        v = std::ldexp(static_cast<float>(static_cast<int32_t>(word)) * 0x1p-31f, exponent);
        break;
      case 4:  // heavy tail
        v = 0.01f * static_cast<float>(static_cast<int32_t>(word)) * 0x1p-28f /
            (static_cast<float>(rng.below(1000) + 1) * 1e-3f);
        break;
      default:  // a triangle, which is normal enough
        v = 0.1f * (static_cast<float>(word >> 16) - static_cast<float>(word & 0xFFFF)) * 0x1p-16f;
    }
  }
  return x;
}

inline RandomCase random_case(Rng& rng) {
  static const std::vector<Codec> listed = [] {
    std::vector<Codec> codecs;
    for (const Budget& budget : kBudgets) codecs.push_back(codec_of(budget.spec));
    return codecs;
  }();
  Codec codec =
      one_in(rng, 3) ? listed[rng.below(static_cast<uint32_t>(listed.size()))] : compose(rng);
  const FrameMeta meta{.base_version = rng.next(), .round = rng.next(), .seed = rng.next64()};
  ParameterSchema schema = random_schema(rng);
  std::vector<float> x = random_update(rng, schema.elements());
  return {std::move(codec), meta, std::move(schema), std::move(x)};
}

}  // namespace tern
