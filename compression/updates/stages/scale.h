/// Scales of groups as they travel: bfloat16, finite and not negative.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "base/rng.h"
#include "base/status.h"

namespace tern {

inline constexpr size_t kScaleBytes = 2;
/// Groups whose largest magnitude is below this are sent as zeros: their scale's inverse would
/// overflow.
inline constexpr float kSmallestScaled = 0x1p-100f;
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

/// The key of the stochastic rounding of group g.
inline uint64_t rounding_key(uint64_t seed, uint32_t chunk, size_t group) {
  return mix(Rng(seed, Purpose::kRound, 0, 0, chunk).next64(), group);
}

}  // namespace tern
