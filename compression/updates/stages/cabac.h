/// Positions as bits of a bitmap, coded one by one with probabilities that follow what was coded
/// before (context-adaptive binary arithmetic coding). Where positions lie closer together in some
/// parts of a chunk than in others, it is well below the entropy of as many random ones: weights of
/// the same pixels, low frequencies after `dct`.
///
/// - Context: whether the position before is kept. Each has two probabilities, which move by 1/32
///   and 1/128 of their distance with every bit; their mean counts. Both begin at k/n.
/// - Bits: 3 to 26 % fewer than with `rice` in whole runs (docs/codecs.md); of random positions,
///   more.
/// - Cost: 2 to 4 ns for each element up to the last kept one, up to 8 where half are kept; `rice`
///   pays for kept ones alone.
/// - Paper: Marpe et al. 2003 (CABAC); Wiedemann et al. 2019, arXiv:1907.11900 (DeepCABAC) for
///   networks. The coder is a range coder (Martin 1979), so that carries need no bit stuffing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"

namespace tern {

// Threads: pure functions.

/// Codes k > 0 increasing positions below n in at most `most` bytes of `out`; returns how many, or
/// 0 where they don't suffice.
size_t encode_cabac(const uint16_t* index, size_t k, size_t n, std::byte* out, size_t most);
/// Reads k positions below n from the front of hostile bytes; `used` is how many bytes they took.
/// Errors: kCorrupt unless encode_cabac() writes these bytes for k such positions.
Status decode_cabac(std::span<const std::byte> in, size_t k, size_t n, uint16_t* index,
                    size_t& used);

}  // namespace tern
