/// Exact selection by magnitude: the k-th largest |x| by histograms over its bits, never by a sort;
/// then everything above it. Where k is a small part, a sample tells which values can be among the
/// largest, and the rest is looked at once.
#pragma once

#include <span>
#include <vector>

#include "compression/updates/input_stream.h"
#include "compression/updates/scratch.h"

namespace tern {

/// Bits of magnitudes.
struct Magnitudes {
  uint32_t least = 0;
  uint32_t most = 0x7fffffff;
};

/// The cut that keeps exactly k of the values (fewer where zeros would be kept); ties go to the
/// lower index. At least k of the values, and their largest, are in `range`. Cost: O(n), three
/// passes.
Cut find_cut(std::span<const float> values, size_t k, std::vector<uint32_t>& histogram,
             Magnitudes range = {});

/// The same for a whole stream, in one pass where k is at most an eighth of it; sets scratch.cuts
/// and, then, scratch.found.
void cut_stream(InputStream& stream, size_t k, CodecScratch& scratch);

/// Writes positions and values of a chunk that begins at element `at` of the stream that
/// scratch.cuts is for; returns how many. Consumes ties and cuts.
size_t select_above(const float* x, size_t n, size_t at, CodecScratch& scratch, uint16_t* index,
                    float* values);

}  // namespace tern
