/// Exact selection by magnitude: the k-th largest |x| by two histograms over its bits, never by a
/// sort; then everything above it.
#pragma once

#include <span>
#include <vector>

#include "compression/updates/scratch.h"

namespace tern {

/// The cut that keeps exactly k of the values (fewer where zeros would be kept); ties go to the
/// lower index. Cost: O(n), two passes and 512 KB of histogram.
Cut find_cut(std::span<const float> values, size_t k, std::vector<uint32_t>& histogram);

/// Writes positions and values of a chunk that begins at element `at` of the stream that
/// scratch.cuts is for; returns how many. Consumes ties and cuts.
size_t select_above(const float* x, size_t n, size_t at, CodecScratch& scratch, uint16_t* index,
                    float* values);

}  // namespace tern
