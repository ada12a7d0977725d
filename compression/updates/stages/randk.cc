/// Keeps k = max(1, round(rate * n)) positions of each chunk, drawn without replacement from the
/// frame's seed, so that no indices travel. n counts a rotation's padding.
///
/// - Bias: none, values are scaled by n/k; under error feedback they aren't, since the residual
///   brings back the rest.
/// - Error: variance (n/k - 1)||x||^2.
/// - Paper: Konecny et al. 2016, arXiv:1610.05492 (random mask); Stich et al. 2018,
///   arXiv:1809.07599 (rand-k).
#include <array>

#include "base/rng.h"
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

/// The words of Rng(seed, kRandK, 0, 0, chunk), many at a time.
class Words {
 public:
  static constexpr size_t kAtOnce = 256;

  explicit Words(const ChunkContext& context)
      : key_(rng_key(context.seed, Purpose::kRandK)), counter_{0, 0, 0, context.chunk} {}

  const std::array<uint32_t, kAtOnce>& next() {
    constexpr size_t kBlocks = kAtOnce / 4;
    kernels().random_blocks(counter_.data(), key_.data(), kBlocks, words_.data());
    counter_[0] += static_cast<uint32_t>(kBlocks);
    return words_;
  }

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, kAtOnce> words_;
};

using Marks = std::array<uint64_t, kChunkElements / 64>;

/// Marks `left` different positions below n, each as Rng::below draws it.
void draw_marks(const ChunkContext& context, uint32_t n, size_t left, Marks& marks) {
  if (left == 0) return;
  const uint32_t reject_below = -n % n;
  Words words(context);
  while (left > 0)
    for (const uint32_t word : words.next()) {
      const uint64_t product = uint64_t{word} * n;
      if (static_cast<uint32_t>(product) < reject_below) continue;
      const uint64_t at = product >> 32, bit = uint64_t{1} << (at % 64);
      uint64_t& marked = marks[at / 64];
      left -= (marked & bit) == 0 ? 1 : 0;
      marked |= bit;
      if (left == 0) return;
    }
}

class RandK : public Selector {
 public:
  explicit RandK(uint32_t rate) : rate_(rate) {}

  bool seeded() const override { return true; }
  size_t kept(size_t n) const override { return kept_of(rate_, n); }
  size_t most_kept(const Layout&) const override { return 0; }
  void prepare(InputStream&, const Layout&, CodecScratch&) const override {}

  size_t select(const float* x, size_t n, size_t, const ChunkContext& context, CodecScratch&,
                uint16_t* index, float* values) const override {
    const size_t k = positions(n, context, index);
    const float scale =
        context.error_feedback ? 1.0f : static_cast<float>(n) / static_cast<float>(k);
    for (size_t i = 0; i < k; ++i) values[i] = x[index[i]] * scale;
    return k;
  }

  size_t positions(size_t n, const ChunkContext& context, uint16_t* index) const override {
    const size_t k = kept(n);
    // Mark the smaller of the kept and the dropped set: at most 0.7 n draws instead of a coupon
    // collector's many.
    const bool mark_kept = k <= n / 2;
    Marks marks{};
    draw_marks(context, static_cast<uint32_t>(n), mark_kept ? k : n - k, marks);
    const size_t words_used = (n + 63) / 64;
    if (!mark_kept) {
      for (size_t word = 0; word < words_used; ++word) marks[word] = ~marks[word];
      if (n % 64 != 0) marks[n / 64] &= (uint64_t{1} << (n % 64)) - 1;
    }
    kernels().list_bits(marks.data(), words_used, k, index);
    return k;
  }

 private:
  uint32_t rate_;
};

}  // namespace

std::unique_ptr<const Selector> make_randk(uint32_t rate) { return std::make_unique<RandK>(rate); }

}  // namespace tern
