/// Signed integers of b bits with stochastic rounding: q = floor(x/s) or the next one up, so that
/// E[s q] = x. The scale s of a group is its largest magnitude over 2^(b-1) - 1, rounded up to
/// bfloat16, so nothing is clipped.
///
/// - Error: s^2 f (1-f) a value, f the fraction cut off.
/// - Symbols: q + 2^(b-1) - 1.
/// - Paper: Alistarh et al. 2017, arXiv:1610.02132 (stochastic rounding), with the maximum in place
///   of the norm.
#include "compression/updates/stages/int_groups.h"

namespace tern {

std::unique_ptr<const Quantizer> make_int(uint32_t bits) {
  return std::make_unique<GroupRounding>((1 << (bits - 1)) - 1, FullScale::kMaximum);
}

}  // namespace tern
