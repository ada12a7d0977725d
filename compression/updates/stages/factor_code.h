/// The factors of components, which are whole multiples of a step: as integers, bit by bit with
/// probabilities that follow what was coded before.
///
/// - Layout: the step as bfloat16, then a range coder's bytes. Of each integer: whether it is above
///   0, above 1, ... above 14; the rest as Exp-Golomb code; its sign. A chunk stands alone.
/// - Context: how large the two values before it are, and those at the same place of the columns
///   before, newer ones more: a row or column that has changed much in one component has mostly
///   changed much in the next.
/// - Bits: about 7 % below the entropy of all integers of a chunk together, for what ten rounds
///   change in cnn's largest layer.
/// - Cost: 10 to 40 ns an integer on either side, as long as its bits.
/// - Paper: Wiedemann et al. 2019, arXiv:1907.11900 (DeepCABAC), whose contexts are the two weights
///   before.
/// - Threads: pure functions but for the scratch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "compression/updates/chunk_coder.h"
#include "compression/updates/scratch.h"

namespace tern {

inline constexpr int kLargestFactor = 1023;  ///< in steps

/// Where the columns of factors end in their stream: increasing, in elements.
using ColumnEnds = std::span<const size_t>;

/// Encodes the n multiples of `step` (a bfloat16) that begin at element `at` of their stream;
/// writes at most 4 bytes an element. All but the checksum of the entry is set.
ChunkEntry encode_factors(std::span<const float> x, size_t at, ColumnEnds ends, float step,
                          CodecScratch& scratch, std::byte* out);
/// Decodes hostile bytes for n elements from `at` on. Errors: kCorrupt.
Result<DecodedChunk> decode_factors(const ChunkEntry& entry, std::span<const std::byte> body,
                                    size_t at, size_t n, ColumnEnds ends, CodecScratch& scratch);

}  // namespace tern
