/// Positions drawn from a frame's seed, for sender and receiver alike (wire_format.md section 2.6).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/rng.h"
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/stage.h"

namespace tern {

/// The words of Rng(seed, kRandK, 0, 0, chunk), drawn many at a time.
class PositionDraws {
 public:
  explicit PositionDraws(const ChunkContext& context)
      : key_(rng_key(context.seed, Purpose::kRandK)), counter_{0, 0, 0, context.chunk} {}

  /// As Rng::below; `reject_below` is -bound % bound.
  uint32_t below(uint32_t bound, uint32_t reject_below) {
    for (;;) {
      if (next_ == words_.size()) fill();
      const uint64_t product = uint64_t{words_[next_++]} * bound;
      if (static_cast<uint32_t>(product) >= reject_below) return product >> 32;
    }
  }

 private:
  static constexpr size_t kAtOnce = 256;

  void fill() {
    constexpr size_t kBlocks = kAtOnce / 4;
    kernels().random_blocks(counter_.data(), key_.data(), kBlocks, words_.data());
    counter_[0] += static_cast<uint32_t>(kBlocks);
    next_ = 0;
  }

  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, kAtOnce> words_;
  size_t next_ = kAtOnce;
};

/// A bit for each position of a chunk.
using PositionMarks = std::array<uint64_t, kChunkElements / 64>;

/// Marks k different positions of the n from `first` on, a multiple of 64; their bits and those
/// behind them up to a multiple of 64 are clear before.
inline void mark_positions(PositionDraws& draws, size_t first, size_t n, size_t k,
                           PositionMarks& marks) {
  // The smaller of the kept and the dropped set is drawn: at most 0.7 n draws instead of a coupon
  // collector's many.
  const bool draw_kept = k <= n / 2;
  size_t left = draw_kept ? k : n - k;
  const auto bound = static_cast<uint32_t>(n);
  const uint32_t reject_below = n == 0 ? 0 : -bound % bound;
  uint64_t* words = marks.data() + first / 64;
  while (left > 0) {
    const uint32_t at = draws.below(bound, reject_below);
    const uint64_t bit = uint64_t{1} << (at % 64);
    left -= (words[at / 64] & bit) == 0 ? 1 : 0;
    words[at / 64] |= bit;
  }
  if (draw_kept) return;
  for (size_t word = 0; word < (n + 63) / 64; ++word) words[word] = ~words[word];
  if (n % 64 != 0) words[n / 64] &= (uint64_t{1} << (n % 64)) - 1;
}

}  // namespace tern
