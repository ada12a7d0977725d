/// Keeps k = max(1, round(rate * n)) positions of each chunk, drawn without replacement from the
/// frame's seed, so that no indices travel. n counts a rotation's padding.
///
/// - Bias: none, values are scaled by n/k; under error feedback they aren't, since the residual
///   brings back the rest.
/// - Error: variance (n/k - 1)||x||^2.
/// - Paper: Konecny et al. 2016, arXiv:1610.05492 (random mask); Stich et al. 2018,
///   arXiv:1809.07599 (rand-k).
#include <array>
#include <bit>

#include "base/rng.h"
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

/// The numbers of Rng(seed, kRandK, 0, 0, chunk), drawn many at a time.
class Words {
 public:
  explicit Words(const ChunkContext& context)
      : key_(rng_key(context.seed, Purpose::kRandK)), counter_{0, 0, 0, context.chunk} {}

  /// As Rng::below.
  uint32_t below(uint32_t bound) {
    uint64_t product = uint64_t{next()} * bound;
    if (static_cast<uint32_t>(product) < bound) {
      const uint32_t reject_below = -bound % bound;
      while (static_cast<uint32_t>(product) < reject_below) product = uint64_t{next()} * bound;
    }
    return static_cast<uint32_t>(product >> 32);
  }

 private:
  uint32_t next() {
    if (used_ == words_.size()) {
      const size_t blocks = words_.size() / 4;
      kernels().random_blocks(counter_.data(), key_.data(), blocks, words_.data());
      counter_[0] += static_cast<uint32_t>(blocks);
      used_ = 0;
    }
    return words_[used_++];
  }

  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 256> words_;
  size_t used_ = 256;
};

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
    std::array<uint64_t, kChunkElements / 64> marks{};
    Words words(context);
    for (size_t left = mark_kept ? k : n - k; left > 0;) {
      const uint32_t at = words.below(static_cast<uint32_t>(n));
      const uint64_t bit = uint64_t{1} << (at % 64);
      left -= (marks[at / 64] & bit) == 0 ? 1 : 0;
      marks[at / 64] |= bit;
    }
    size_t count = 0;
    for (size_t word = 0; word < (n + 63) / 64; ++word) {
      uint64_t bits = mark_kept ? marks[word] : ~marks[word];
      if (!mark_kept && n - word * 64 < 64) bits &= (uint64_t{1} << (n - word * 64)) - 1;
      for (; bits != 0; bits &= bits - 1)
        index[count++] =
            static_cast<uint16_t>(word * 64 + static_cast<size_t>(std::countr_zero(bits)));
    }
    return count;
  }

 private:
  uint32_t rate_;
};

}  // namespace

std::unique_ptr<const Selector> make_randk(uint32_t rate) { return std::make_unique<RandK>(rate); }

}  // namespace tern
