/// Reproducible randomness without state that travels: a counter-based generator keyed by what the
/// numbers are for. Paper: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"
/// (Philox4x32-10), unchanged. Two streams with different (seed, purpose, round, client, index) are
/// independent; the same five give the same numbers on every machine. Not for secrets: those come
/// from the system. Threads: a value, one per thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace tern {

/// What a stream of random numbers is for. Numbers are pinned: changing one changes every run.
enum class Purpose : uint32_t {
  kInitialize = 1,
  kPartition = 2,
  kSelect = 3,     ///< the cohort of a round
  kBatches = 4,    ///< order of a client's examples
  kSplit = 5,      ///< training and test examples of a client
  kFrameSeed = 6,  ///< the seed that a frame carries
  kRotate = 7,     ///< signs; index = chunk
  kRandK = 8,      ///< kept positions; index = chunk
  kRound = 9,      ///< stochastic rounding of values; index = chunk
  kScale = 10,     ///< stochastic rounding of scales; index = chunk
  kDropout = 11,
  kTest = 12,
  kTies = 13,        ///< order of answers that come at one virtual time
  kSubstitute = 14,  ///< who is asked in place of clients that aren't there
  kBackoff = 15,     ///< pauses before dialling again
  kLowRank = 16,     ///< where the power iteration begins; index = tensor
  kSketch = 17,      ///< cells and signs of a count sketch; index = row
  kUplink = 18,      ///< what a simulated client's link carries upwards
  kDownlink = 19,    ///< and downwards
  kSpeed = 20,       ///< how fast it trains
  kChoice = 21,      ///< among clients that a rule of selection prefers
};

using PhiloxBlock = std::array<uint32_t, 4>;
/// Ten rounds of Philox4x32.
PhiloxBlock philox(PhiloxBlock counter, std::array<uint32_t, 2> key);

/// The key of all streams of a seed and purpose. The blocks of a stream have the counters (0,
/// round, client, index), (1, round, client, index), ...
std::array<uint32_t, 2> rng_key(uint64_t seed, Purpose purpose);

class Rng {
 public:
  Rng(uint64_t seed, Purpose purpose, uint32_t round = 0, uint32_t client = 0, uint32_t index = 0);

  uint32_t next();
  uint64_t next64() {
    const uint64_t low = next();
    return low | uint64_t{next()} << 32;
  }
  /// Uniform in [0, bound), exactly (Lemire 2019); bound > 0.
  uint32_t below(uint32_t bound);
  /// Uniform in [0, 1): a multiple of 2^-53.
  double uniform() { return static_cast<double>(next64() >> 11) * 0x1p-53; }
  /// Standard normal by the polar method. For data and tests: uses log, so never where bytes of a
  /// frame depend on it.
  double normal();
  /// Fisher-Yates.
  template <typename T>
  void shuffle(std::span<T> items) {
    for (size_t i = items.size(); i > 1; --i)
      std::swap(items[i - 1], items[below(static_cast<uint32_t>(i))]);
  }

 private:
  std::array<uint32_t, 2> key_;
  PhiloxBlock counter_;
  PhiloxBlock block_{};
  unsigned used_ = 4;
};

/// A well-mixed 64-bit number from two: SplitMix64's finalizer over their combination.
uint64_t mix(uint64_t a, uint64_t b);

}  // namespace tern
