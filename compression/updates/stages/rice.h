/// Positions as Golomb-Rice coded gaps, in two planes without a gap between them: the low b bits of
/// all gaps; then the quotients in unary, each as so many zeros and a one. Same size as the usual
/// interleaved code, and both planes are read by whole words. b is chosen for each chunk by exact
/// cost.
///
/// - Bits: k(b+1) + sum(gap >> b), within 1.5 % of the entropy of random positions.
/// - Paper: Rice & Plaunt 1971; Golomb 1966. Sattler et al. 2019, arXiv:1903.02891, for gradients,
///   with one parameter for all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"

namespace tern {

inline constexpr int kLargestRice = 15;

struct RicePlan {
  uint8_t parameter = 1;
  size_t bytes = 0;
};

/// Writes the k > 0 gaps of increasing positions to `gaps` and finds the parameter (1 to 15) that
/// makes them shortest.
RicePlan plan_rice(const uint16_t* index, size_t k, uint16_t* gaps);
/// Writes plan.bytes bytes. Overwrites the gaps.
void encode_rice(uint16_t* gaps, size_t k, const RicePlan& plan, std::byte* out);
/// Reads k positions below n from the front of hostile bytes; `used` is how many bytes they took.
/// Errors: kCorrupt unless there are k increasing positions below n, padded with zeros.
Status decode_rice(std::span<const std::byte> in, size_t k, size_t n, int parameter, uint16_t* gaps,
                   uint16_t* index, size_t& used);

}  // namespace tern
