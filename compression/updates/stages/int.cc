/// Signed integers of b bits with stochastic rounding: q = floor(x/s) or the next one up, so that
/// E[s q] = x. The scale of a group is its largest magnitude over 2^(b-1) - 1, rounded up to
/// bfloat16, so nothing is clipped.
///
/// - Error: s^2 f (1-f) a value, f the fraction cut off.
/// - Layout: all scales, then b bits a value, q + 2^(b-1) - 1.
/// - Paper: Alistarh et al. 2017, arXiv:1610.02132 (stochastic rounding), with the maximum in place
///   of the norm.
#include "compression/updates/stages/int_groups.h"

namespace tern {

namespace {

class Int : public Quantizer {
 public:
  explicit Int(int bits) : bits_(bits), limit_((1 << (bits - 1)) - 1) {}

  size_t bytes(size_t k, size_t g, bool) const override {
    return g * kScaleBytes + (k * static_cast<size_t>(bits_) + 7) / 8;
  }

  void encode(const float* values, Groups groups, bool, const ChunkContext& context,
              uint16_t* symbols, std::byte* out) const override {
    round_groups(values, groups, limit_, context, symbols, out);
    kernels().pack(symbols, groups.empty() ? 0 : groups.back(), bits_,
                   reinterpret_cast<uint8_t*>(out + groups.size() * kScaleBytes));
  }

  Status decode(const std::byte* in, Groups groups, bool, const ChunkContext&, uint16_t* symbols,
                float* values) const override {
    const size_t k = groups.empty() ? 0 : groups.back();
    kernels().unpack(reinterpret_cast<const uint8_t*>(in + groups.size() * kScaleBytes), k, bits_,
                     symbols);
    return expand_groups(in, symbols, groups, limit_, values);
  }

 private:
  int bits_;
  int limit_;
};

}  // namespace

std::shared_ptr<const Quantizer> make_int(uint32_t bits) {
  return std::make_shared<Int>(static_cast<int>(bits));
}

}  // namespace tern
