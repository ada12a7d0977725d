/// Stochastic rounding of groups of values to integers in -limit..limit: `int`, and `ternary` where
/// positions don't travel (limit 1).
#pragma once

#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/scale.h"
#include "compression/updates/stages/stage.h"

namespace tern {

/// Writes a scale for each group to `scales` and value + limit, 0..2*limit, to `symbols`. The scale
/// is the group's largest magnitude over limit, rounded up to bfloat16, so nothing is clipped.
inline void round_groups(const float* values, Groups groups, int limit, const ChunkContext& context,
                         uint16_t* symbols, std::byte* scales) {
  size_t begin = 0;
  for (size_t g = 0; g < groups.size(); begin = groups[g++]) {
    const float* x = values + begin;
    const size_t n = groups[g] - begin;
    const float largest = kernels().max_abs(x, n);
    const bool zero = largest < kSmallestScaled;
    const uint16_t scale = zero ? 0 : scale_up(largest / static_cast<float>(limit));
    store(scales + g * kScaleBytes, scale);
    kernels().quantize_int(x, n, zero ? 0.0f : 1.0f / scale_value(scale), limit,
                           rounding_key(context.seed, context.chunk, g), symbols + begin);
  }
}

/// The inverse. Errors: kCorrupt for a bad scale.
inline Status expand_groups(const std::byte* scales, const uint16_t* symbols, Groups groups,
                            int limit, float* values) {
  size_t begin = 0;
  for (size_t g = 0; g < groups.size(); begin = groups[g++]) {
    TERN_TRY(const float scale, read_scale(scales + g * kScaleBytes));
    kernels().dequantize_int(symbols + begin, groups[g] - begin, limit, scale, values + begin);
  }
  return {};
}

}  // namespace tern
