/// QSGD: x = norm * sign * level / s with stochastic rounding to one of s levels, unbiased. The
/// scale of a group is its Euclidean norm over s, rounded up to bfloat16.
///
/// - Error: (norm / s)^2 f (1-f) a value, f the fraction cut off; at most min(n / s^2, sqrt(n) / s)
///   of ||x||^2 for groups of n. The norm of 1,024 values is far above the largest of them, so that
///   few of the levels are used: `rans` is what makes it short.
/// - Symbols: q + s.
/// - Paper: Alistarh et al. 2017, arXiv:1610.02132; buckets are the groups, and `rans` stands for
///   their Elias code.
#include "compression/updates/stages/int_groups.h"

namespace tern {

std::unique_ptr<const Quantizer> make_qsgd(uint32_t levels) {
  return std::make_unique<GroupRounding>(static_cast<int>(levels), FullScale::kNorm);
}

}  // namespace tern
