/// Values from {-mu, 0, +mu}.
///
/// - After topk: every kept value becomes mu * sign, mu the mean kept magnitude of the chunk, which
///   minimizes the error: ||x - C||^2 = ||x||^2 - ||top||_1^2 / k. Paper: Sattler et al. 2019,
///   arXiv:1903.02891 (STC); mu per chunk, not one for all.
/// - On dense or seeded values: +-max of the group with probability |x|/max, else 0; unbiased,
///   variance max * ||x||_1 - ||x||^2. Paper: Wen et al. 2017, arXiv:1705.07878 (TernGrad), without
///   clipping.
#include "compression/updates/stages/int_groups.h"
#include "compression/updates/stages/sign_bits.h"

namespace tern {

namespace {

constexpr int kLimit = 1;

class Ternary : public Quantizer {
 public:
  uint32_t alphabet(bool indexed) const override { return indexed ? 2 : 3; }

  void quantize(const float* values, Groups groups, bool indexed, const ChunkContext& context,
                uint16_t* symbols, std::byte* scales) const override {
    if (indexed) return quantize_signs(values, groups, symbols, scales);
    round_groups(values, groups, kLimit, FullScale::kMaximum, context, symbols, nullptr, scales);
  }

  Status restore(const uint16_t* symbols, const std::byte* scales, Groups groups, bool indexed,
                 float* values) const override {
    if (indexed) return restore_signs(symbols, scales, groups, values);
    return expand_groups(symbols, scales, groups, kLimit, values);
  }
};

}  // namespace

std::unique_ptr<const Quantizer> make_ternary() { return std::make_unique<Ternary>(); }

}  // namespace tern
