/// Values from {-mu, 0, +mu}.
///
/// - After topk: every kept value becomes mu * sign, mu the mean kept magnitude of the chunk, which
///   minimizes the error: ||x - C||^2 = ||x||^2 - ||top||_1^2 / k. Paper: Sattler et al. 2019,
///   arXiv:1903.02891 (STC); mu per chunk, not one for all.
/// - On dense or seeded values: +-max of the group with probability |x|/max, else 0; unbiased,
///   variance max * ||x||_1 - ||x||^2; five values to a byte. Paper: Wen et al. 2017,
///   arXiv:1705.07878 (TernGrad), without clipping.
#include <algorithm>

#include "compression/updates/stages/int_groups.h"
#include "compression/updates/stages/sign_bits.h"

namespace tern {

namespace {

constexpr size_t kPerByte = 5;  // 3^5 = 243
constexpr int kLimit = 1;

class Ternary : public Quantizer {
 public:
  size_t bytes(size_t k, size_t g, bool indexed) const override {
    return g * kScaleBytes + (indexed ? (k + 7) / 8 : (k + kPerByte - 1) / kPerByte);
  }

  void encode(const float* values, Groups groups, bool indexed, const ChunkContext& context,
              uint16_t* symbols, std::byte* out) const override {
    if (indexed) return encode_signs(values, groups, symbols, out);
    round_groups(values, groups, kLimit, context, symbols, out);
    const size_t k = groups.empty() ? 0 : groups.back();
    std::byte* to = out + groups.size() * kScaleBytes;
    for (size_t i = 0; i < k; i += kPerByte) {
      unsigned packed = 0;
      for (size_t j = std::min(i + kPerByte, k); j-- > i;) packed = packed * 3 + symbols[j];
      *to++ = static_cast<std::byte>(packed);
    }
  }

  Status decode(const std::byte* in, Groups groups, bool indexed, const ChunkContext&,
                uint16_t* symbols, float* values) const override {
    if (indexed) return decode_signs(in, groups, symbols, values);
    const size_t k = groups.empty() ? 0 : groups.back();
    const std::byte* from = in + groups.size() * kScaleBytes;
    for (size_t i = 0; i < k; i += kPerByte) {
      auto packed = static_cast<unsigned>(*from++);
      for (size_t j = i; j < std::min(i + kPerByte, k); ++j, packed /= 3)
        symbols[j] = static_cast<uint16_t>(packed % 3);
      if (packed != 0) return error(Code::kCorrupt, "a byte holds no five ternary values");
    }
    return expand_groups(in, symbols, groups, kLimit, values);
  }
};

}  // namespace

std::shared_ptr<const Quantizer> make_ternary() { return std::make_shared<Ternary>(); }

}  // namespace tern
