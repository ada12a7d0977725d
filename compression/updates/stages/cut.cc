#include "compression/updates/stages/cut.h"

#include <algorithm>
#include <bit>

namespace tern {

namespace {

constexpr uint32_t kMagnitude = 0x7fffffff;
constexpr int kLowBits = 15;  // 31 bits of magnitude = 16 of the first histogram + 15 of the second

uint32_t magnitude(float x) { return std::bit_cast<uint32_t>(x) & kMagnitude; }

/// Walks a histogram from the top until `k` values are above or in a bin; takes those above it off
/// k.
size_t bin_of_kth(const std::vector<uint32_t>& histogram, size_t& k) {
  size_t bin = histogram.size() - 1;
  while (bin > 0 && histogram[bin] < k) k -= histogram[bin--];
  return bin;
}

}  // namespace

Cut find_cut(std::span<const float> values, size_t k, std::vector<uint32_t>& histogram) {
  if (k == 0) return {};
  std::ranges::fill(histogram, 0);
  for (const float x : values) ++histogram[magnitude(x) >> kLowBits];
  const auto high = static_cast<uint32_t>(bin_of_kth(histogram, k));
  std::ranges::fill(histogram, 0);
  for (const float x : values)
    if (magnitude(x) >> kLowBits == high) ++histogram[magnitude(x) & ((1u << kLowBits) - 1)];
  const auto low = static_cast<uint32_t>(bin_of_kth(histogram, k));
  const uint32_t cut = high << kLowBits | low;
  return {.end = 0, .magnitude = cut, .ties = cut == 0 ? 0 : k};
}

size_t select_above(const float* x, size_t n, size_t at, CodecScratch& scratch, uint16_t* index,
                    float* values) {
  size_t count = 0;
  for (size_t i = 0; i < n;) {
    while (scratch.cuts[scratch.cut].end <= at + i) ++scratch.cut;
    Cut& cut = scratch.cuts[scratch.cut];
    for (const size_t end = std::min(n, cut.end - at); i < end; ++i) {
      const uint32_t m = magnitude(x[i]);
      if (m < cut.magnitude || (m == cut.magnitude && cut.ties == 0)) [[likely]]
        continue;
      if (m == cut.magnitude) --cut.ties;
      index[count] = static_cast<uint16_t>(i);
      values[count++] = x[i];
    }
  }
  return count;
}

}  // namespace tern
