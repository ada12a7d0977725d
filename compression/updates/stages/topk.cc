/// Keeps the k = max(1, round(rate * n)) largest |x| of the whole update; ties go to the lower
/// index; zeros never travel.
///
/// - Shape: in n floats; out at most k positions and values.
/// - Units: rate in (0, 1], a multiple of 1e-9.
/// - Cost: O(n), three passes; the k-th magnitude is found exactly by two histograms over its bits,
///   never by a sort.
/// - Paper: Aji & Heafield 2017, arXiv:1704.05021; they estimate the threshold from a sample, this
///   one is exact.
#include <algorithm>
#include <bit>

#include "compression/updates/scratch.h"
#include "compression/updates/stages/stage.h"

namespace tern {

size_t kept_of(uint32_t rate, size_t n) {
  if (n == 0) return 0;
  // n <= 2^40 and rate <= 1e9 < 2^30: the product needs more than 64 bits.
  const auto product = static_cast<unsigned __int128>(n) * rate + kRateOne / 2;
  return std::max<size_t>(1, static_cast<size_t>(product / kRateOne));
}

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

class TopK : public Selector {
 public:
  explicit TopK(uint32_t rate) : rate_(rate) {}

  bool seeded() const override { return false; }
  size_t kept(size_t n) const override { return kept_of(rate_, n); }

  Cut prepare(std::span<const float> update, CodecScratch& scratch) const override {
    size_t k = kept(update.size());
    if (k == 0) return {};
    auto& histogram = scratch.histogram;
    std::ranges::fill(histogram, 0);
    for (const float x : update) ++histogram[magnitude(x) >> kLowBits];
    const auto high = static_cast<uint32_t>(bin_of_kth(histogram, k));
    std::ranges::fill(histogram, 0);
    for (const float x : update)
      if (magnitude(x) >> kLowBits == high) ++histogram[magnitude(x) & ((1u << kLowBits) - 1)];
    const auto low = static_cast<uint32_t>(bin_of_kth(histogram, k));
    const uint32_t cut = high << kLowBits | low;
    return {.magnitude = cut, .ties = cut == 0 ? 0 : k};
  }

  size_t select(const float* x, size_t n, const ChunkContext&, Cut& cut, uint16_t* index,
                float* values) const override {
    size_t count = 0;
    for (size_t i = 0; i < n; ++i) {
      const uint32_t m = magnitude(x[i]);
      if (m < cut.magnitude || (m == cut.magnitude && cut.ties == 0)) [[likely]]
        continue;
      if (m == cut.magnitude) --cut.ties;
      index[count] = static_cast<uint16_t>(i);
      values[count++] = x[i];
    }
    return count;
  }

  size_t positions(size_t, const ChunkContext&, uint16_t*) const override { return 0; }

 private:
  uint32_t rate_;
};

}  // namespace

std::shared_ptr<const Selector> make_topk(uint32_t rate) { return std::make_shared<TopK>(rate); }

}  // namespace tern
