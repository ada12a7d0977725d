/// Scales of groups as they travel: bfloat16, finite and not negative.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "base/rng.h"
#include "base/status.h"

namespace tern {

inline constexpr size_t kScaleBytes = 2;
/// Groups whose largest magnitude is below this are sent as zeros: their scale's inverse times the
/// 2^31 of rounding in integers would overflow.
inline constexpr float kSmallestScaled = 0x1p-96f;
inline constexpr uint16_t kLargestScale = 0x7f7f;

inline uint16_t scale_nearest(float scale) {
  const uint32_t bits = std::bit_cast<uint32_t>(scale);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return static_cast<uint16_t>(rounded > kLargestScale ? kLargestScale : rounded);
}

/// The smallest bfloat16 that isn't below `scale`.
inline uint16_t scale_up(float scale) {
  const uint32_t rounded = (std::bit_cast<uint32_t>(scale) + 0xffff) >> 16;
  return static_cast<uint16_t>(rounded > kLargestScale ? kLargestScale : rounded);
}

/// One of the two neighbours, so that the expectation is `scale`; `random` is uniform in 0..65535.
inline uint16_t scale_unbiased(float scale, uint32_t random) {
  const uint32_t rounded = (std::bit_cast<uint32_t>(scale) + (random & 0xffff)) >> 16;
  return static_cast<uint16_t>(rounded > kLargestScale ? kLargestScale : rounded);
}

inline float scale_value(uint16_t scale) { return std::bit_cast<float>(uint32_t{scale} << 16); }

inline Result<float> read_scale(const std::byte* from) {
  const uint16_t bits = load<uint16_t>(from);
  if (bits > kLargestScale)
    return error(Code::kCorrupt, "a scale is negative or not finite (0x{:04x})", bits);
  return scale_value(bits);
}

/// The random words for the scales of a chunk's groups, from one of them on.
class ScaleWords {
 public:
  ScaleWords(uint64_t seed, uint32_t chunk, uint32_t group)
      : key_(rng_key(seed, Purpose::kScale)), chunk_(chunk), group_(group) {}

  uint32_t next() {
    const uint32_t used = group_ % 4;
    if (used == 0 || fresh_) block_ = philox({group_ / 4, 0, 0, chunk_}, key_);
    fresh_ = false;
    ++group_;
    return block_[used];
  }

 private:
  std::array<uint32_t, 2> key_;
  uint32_t chunk_;
  uint32_t group_;
  PhiloxBlock block_{};
  bool fresh_ = true;
};

/// The keys of the stochastic rounding of a chunk's groups.
class RoundingKeys {
 public:
  RoundingKeys(uint64_t seed, uint32_t chunk)
      : base_(Rng(seed, Purpose::kRound, 0, 0, chunk).next64()) {}
  uint64_t of_group(size_t group) const { return mix(base_, group); }

 private:
  uint64_t base_;
};

}  // namespace tern
