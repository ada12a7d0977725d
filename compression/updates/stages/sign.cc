/// One bit a value, and the mean magnitude of each group in bfloat16: out = mean|x| * sign(x); zero
/// counts as positive. Biased.
///
/// - Error: (1 - ||x||_1^2 / (n ||x||^2)) ||x||^2.
/// - Paper: Karimireddy et al. 2019, arXiv:1901.09847 (scaled sign under error feedback).
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/scale.h"
#include "compression/updates/stages/sign_bits.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

class Sign : public Quantizer {
 public:
  uint32_t alphabet(bool) const override { return 2; }
  void quantize(const float* values, Groups groups, bool, const ChunkContext&, uint16_t* symbols,
                std::byte* scales) const override {
    quantize_signs(values, groups, symbols, scales);
  }
  Status restore(const uint16_t* symbols, const std::byte* scales, Groups groups, bool,
                 float* values) const override {
    return restore_signs(symbols, scales, groups, values);
  }
};

}  // namespace

void quantize_signs(const float* values, Groups groups, uint16_t* symbols, std::byte* scales) {
  size_t begin = 0;
  for (size_t g = 0; g < groups.size(); begin = groups[g++]) {
    const size_t n = groups[g] - begin;
    const double mean = n == 0 ? 0 : kernels().sum_abs(values + begin, n) / static_cast<double>(n);
    store(scales + g * kScaleBytes, scale_nearest(static_cast<float>(mean)));
  }
  kernels().quantize_signs(values, begin, symbols);
}

Status restore_signs(const uint16_t* symbols, const std::byte* scales, Groups groups,
                     float* values) {
  size_t begin = 0;
  for (size_t g = 0; g < groups.size(); begin = groups[g++]) {
    TERN_TRY(const float scale, read_scale(scales + g * kScaleBytes));
    kernels().lookup_signs(symbols + begin, groups[g] - begin, scale, values + begin);
  }
  return {};
}

std::unique_ptr<const Quantizer> make_sign() { return std::make_unique<Sign>(); }

}  // namespace tern
