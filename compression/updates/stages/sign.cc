/// One bit a value, and the mean magnitude of each group in bfloat16: out = mean|x| * sign(x); zero
/// counts as positive. Biased.
///
/// - Error: (1 - ||x||_1^2 / (n ||x||^2)) ||x||^2.
/// - Layout: all scales, then one bit a value.
/// - Paper: Karimireddy et al. 2019, arXiv:1901.09847 (scaled sign under error feedback).
#include <bit>

#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/scale.h"
#include "compression/updates/stages/sign_bits.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

class Sign : public Quantizer {
 public:
  size_t bytes(size_t k, size_t g, bool) const override { return g * kScaleBytes + (k + 7) / 8; }

  void encode(const float* values, Groups groups, bool, const ChunkContext&, uint16_t* symbols,
              std::byte* out) const override {
    encode_signs(values, groups, symbols, out);
  }

  Status decode(const std::byte* in, Groups groups, bool, const ChunkContext&, uint16_t* symbols,
                float* values) const override {
    return decode_signs(in, groups, symbols, values);
  }
};

}  // namespace

void encode_signs(const float* values, Groups groups, uint16_t* symbols, std::byte* out) {
  size_t begin = 0;
  for (size_t g = 0; g < groups.size(); begin = groups[g++]) {
    const size_t n = groups[g] - begin;
    const double mean = n == 0 ? 0 : kernels().sum_abs(values + begin, n) / static_cast<double>(n);
    store(out + g * kScaleBytes, scale_nearest(static_cast<float>(mean)));
  }
  for (size_t i = 0; i < begin; ++i) symbols[i] = values[i] < 0 ? 1 : 0;
  kernels().pack(symbols, begin, 1, reinterpret_cast<uint8_t*>(out + groups.size() * kScaleBytes));
}

Status decode_signs(const std::byte* in, Groups groups, uint16_t* symbols, float* values) {
  const size_t k = groups.empty() ? 0 : groups.back();
  kernels().unpack(reinterpret_cast<const uint8_t*>(in + groups.size() * kScaleBytes), k, 1,
                   symbols);
  size_t begin = 0;
  for (size_t g = 0; g < groups.size(); begin = groups[g++]) {
    TERN_TRY(const float scale, read_scale(in + g * kScaleBytes));
    for (size_t i = begin; i < groups[g]; ++i) values[i] = symbols[i] != 0 ? -scale : scale;
  }
  return {};
}

std::shared_ptr<const Quantizer> make_sign() { return std::make_shared<Sign>(); }

}  // namespace tern
