/// Stochastic rounding of groups of values to integers in -limit..limit, with the largest magnitude
/// of each group at the limit: `int`, and `ternary` where positions don't travel (limit 1). With
/// the norm there instead: `qsgd`.
#pragma once

#include <algorithm>
#include <cmath>

#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/scale.h"
#include "compression/updates/stages/stage.h"

namespace tern {

enum class FullScale : uint8_t { kMaximum, kNorm };

/// Writes a scale for each group to `scales` and value + limit, 0..2*limit, to `symbols`, or packed
/// where there is room for that. The scale is the group's full scale over limit, rounded up to
/// bfloat16, so nothing is clipped.
inline void round_groups(const float* values, Groups groups, int limit, FullScale full,
                         const ChunkContext& context, uint16_t* symbols, std::byte* packed,
                         std::byte* scales) {
  const RoundingKeys keys(context.seed, context.chunk);
  const bool asks = !groups.empty() && context.ahead.size() == groups.back();
  size_t begin = 0;
  for (size_t g = 0; g < groups.size(); begin = groups[g++]) {
    const float* x = values + begin;
    const size_t n = groups[g] - begin;
    const float largest = full == FullScale::kNorm
                              ? static_cast<float>(std::sqrt(kernels().sum_squares(x, n)))
                          : context.maxima != nullptr ? context.maxima[g]
                                                      : kernels().max_abs(x, n);
    const bool zero = largest < kSmallestScaled;
    const uint16_t scale = zero ? 0 : scale_up(largest / static_cast<float>(limit));
    store(scales + g * kScaleBytes, scale);
    kernels().quantize_int(x, n, zero ? 0.0f : 1.0f / scale_value(scale), limit,
                           keys.of_group(context.group + g),
                           asks ? context.ahead.data() + begin : x, symbols + begin,
                           packed_at(packed, 2 * static_cast<uint32_t>(limit) + 1, begin));
  }
}

/// The inverse. Errors: kCorrupt for a bad scale.
inline Status expand_groups(const uint16_t* symbols, const std::byte* scales, Groups groups,
                            int limit, float* values) {
  size_t begin = 0;
  for (size_t g = 0; g < groups.size(); begin = groups[g++]) {
    TERN_TRY(const float scale, read_scale(scales + g * kScaleBytes));
    kernels().dequantize_int(symbols + begin, groups[g] - begin, limit, scale, values + begin);
  }
  return {};
}

/// A quantizer that is these two functions.
class GroupRounding : public Quantizer {
 public:
  GroupRounding(int limit, FullScale full) : limit_(limit), full_(full) {}

  uint32_t alphabet(bool) const override { return 2 * static_cast<uint32_t>(limit_) + 1; }
  void quantize(const float* values, Groups groups, bool, const ChunkContext& context,
                uint16_t* symbols, std::byte* scales) const override {
    round_groups(values, groups, limit_, full_, context, symbols, nullptr, scales);
  }
  void quantize_packed(const float* values, Groups groups, const ChunkContext& context,
                       uint16_t* symbols, std::byte* packed, std::byte* scales) const override {
    if (limit_ == 1)  // three symbols, which no kernel packs
      return Quantizer::quantize_packed(values, groups, context, symbols, packed, scales);
    round_groups(values, groups, limit_, full_, context, symbols, packed, scales);
  }
  Status restore(const uint16_t* symbols, const std::byte* scales, Groups groups, bool,
                 float* values) const override {
    return expand_groups(symbols, scales, groups, limit_, values);
  }

  Status restore_packed(const std::byte* packed, uint16_t* symbols, const std::byte* scales,
                        Groups groups, float* values) const override {
    if (limit_ == 1) return Quantizer::restore_packed(packed, symbols, scales, groups, values);
    TERN_CHECK_OK(check_padding(packed, groups.back(), alphabet(false)));
    uint32_t largest = 0;
    size_t begin = 0;
    for (size_t g = 0; g < groups.size(); begin = groups[g++]) {
      TERN_TRY(const float scale, read_scale(scales + g * kScaleBytes));
      const uint32_t own = kernels().unpack_int(packed_at(packed, alphabet(false), begin), symbols,
                                                groups[g] - begin, limit_, scale, values + begin);
      largest = std::max(largest, own);
    }
    return check_symbol(largest, alphabet(false));
  }

 private:
  int limit_;
  FullScale full_;
};

}  // namespace tern
