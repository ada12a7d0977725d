/// Natural compression: x between 2^a and 2^(a+1) becomes one of the two, at random so that the
/// mean is x. Needs no scale.
///
/// - Error: (|x| - 2^a)(2^(a+1) - |x|) a value, at most x^2 / 8.
/// - Symbols: 2 * exponent + sign, 9 bits; exponent as in a float32, 0 for zero. `rans` makes about
///   3.5 bits of them.
/// - Paper: Horvath et al. 2022, arXiv:1905.10988. Deviation: magnitudes below 2^-126 become 0 or
///   2^-126 at random.
#include <bit>

#include "base/rng.h"
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/scale.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

class Natural : public Quantizer {
 public:
  uint32_t alphabet(bool) const override { return 2 * 255; }  // exponent 255 is infinity
  bool scaled() const override { return false; }

  void quantize(const float* values, Groups groups, bool, const ChunkContext& context,
                uint16_t* symbols, std::byte*) const override {
    // The kernel counts from the low half of the key on.
    const uint64_t key = RoundingKeys(context.seed, context.chunk).of_group(0);
    const uint32_t first =
        static_cast<uint32_t>(key) + context.group * static_cast<uint32_t>(kGroupElements);
    kernels().quantize_natural(values, groups.empty() ? 0 : groups.back(), key >> 32 << 32 | first,
                               symbols);
  }

  Status restore(const uint16_t* symbols, const std::byte*, Groups groups, bool,
                 float* values) const override {
    const size_t k = groups.empty() ? 0 : groups.back();
    for (size_t i = 0; i < k; ++i)
      values[i] =
          std::bit_cast<float>(uint32_t{symbols[i]} << 31 | uint32_t{symbols[i]} >> 1 << 23);
    return {};
  }
};

}  // namespace

std::unique_ptr<const Quantizer> make_natural() { return std::make_unique<Natural>(); }

}  // namespace tern
