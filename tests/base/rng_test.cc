#include "base/rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <tuple>
#include <vector>

namespace tern {
namespace {

// Known answers of the Random123 library, kat_vectors, philox4x32 10.
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}),
            (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, RepeatsItselfForTheSameKey) {
  Rng a(7, Purpose::kTest, 1, 2, 3);
  Rng b(7, Purpose::kTest, 1, 2, 3);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.next(), b.next());
}

TEST(Rng, ReadsPhiloxBlocksOfACounterInOrder) {
  const uint64_t key = mix(7, static_cast<uint64_t>(Purpose::kTest));
  const std::array<uint32_t, 2> halves = {static_cast<uint32_t>(key),
                                          static_cast<uint32_t>(key >> 32)};
  Rng rng(7, Purpose::kTest, 1, 2, 3);
  for (uint32_t counter = 0; counter < 3; ++counter)
    for (uint32_t value : philox({counter, 1, 2, 3}, halves)) EXPECT_EQ(rng.next(), value);
}

TEST(Rng, EveryPartOfTheKeyGivesAnotherStream) {
  // First 128 bits of 5 x 12 x 4 x 4 x 4 streams: a collision by chance has probability below
  // 2^-100.
  std::set<std::tuple<uint64_t, uint64_t>> starts;
  size_t streams = 0;
  for (uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{1} << 32, ~uint64_t{0}})
    for (uint32_t purpose = 1; purpose <= 12; ++purpose)
      for (uint32_t round = 0; round < 4; ++round)
        for (uint32_t client = 0; client < 4; ++client)
          for (uint32_t index = 0; index < 4; ++index) {
            Rng rng(seed, static_cast<Purpose>(purpose), round, client, index);
            const uint64_t first = rng.next64();
            starts.emplace(first, rng.next64());
            ++streams;
          }
  EXPECT_EQ(starts.size(), streams);
}

TEST(Rng, NeighbouringStreamsAreUncorrelated) {
  // The mean product of n pairs of uniforms, centred, has deviation 1/(12 sqrt(n)): six of them,
  // one false alarm in 5e8.
  constexpr int kCount = 100'000;
  const auto correlation = [&](Rng a, Rng b) {
    double sum = 0;
    for (int i = 0; i < kCount; ++i) sum += (a.uniform() - 0.5) * (b.uniform() - 0.5);
    return std::abs(sum / kCount) * 12 * std::sqrt(kCount);
  };
  const Rng base(1, Purpose::kTest, 5, 5, 5);
  EXPECT_LT(correlation(base, Rng(2, Purpose::kTest, 5, 5, 5)), 6);
  EXPECT_LT(correlation(base, Rng(1, Purpose::kRound, 5, 5, 5)), 6);
  EXPECT_LT(correlation(base, Rng(1, Purpose::kTest, 6, 5, 5)), 6);
  EXPECT_LT(correlation(base, Rng(1, Purpose::kTest, 5, 6, 5)), 6);
  EXPECT_LT(correlation(base, Rng(1, Purpose::kTest, 5, 5, 6)), 6);
}

TEST(Rng, BelowStaysBelowAtEveryBound) {
  Rng rng(1, Purpose::kTest);
  for (uint32_t bound : {1u, 2u, 3u, 7u, 1000u, 0x80000000u, 0x80000001u, 0xFFFFFFFFu})
    for (int i = 0; i < 1000; ++i) ASSERT_LT(rng.below(bound), bound);
  EXPECT_EQ(rng.below(1), 0u);
}

TEST(Rng, BelowRejectsWhatWouldMakeItUneven) {
  // With bound 3 * 2^30 a multiply-shift without rejection would give every third value twice as
  // often: a share of 1/2 instead of 1/3. Deviation of the share 0.0011; six of them.
  constexpr int kCount = 200'000;
  Rng rng(3, Purpose::kTest);
  std::array<int, 3> counts{};
  for (int i = 0; i < kCount; ++i) ++counts[rng.below(0xC0000000u) % 3];
  for (int count : counts) EXPECT_NEAR(count / double{kCount}, 1.0 / 3, 0.0066);
}

TEST(Rng, BelowMatchesTheDefinitionOfExactSampling) {
  // Lemire's method keeps a draw x when the low half of x * bound is at least 2^32 mod bound.
  const uint32_t bound = 0xC0000001u;
  const uint64_t threshold = (uint64_t{1} << 32) % bound;
  Rng rng(9, Purpose::kTest);
  Rng raw(9, Purpose::kTest);
  int rejected = 0;
  for (int i = 0; i < 1000; ++i) {
    uint64_t product = uint64_t{raw.next()} * bound;
    while ((product & 0xFFFFFFFF) < threshold) {
      product = uint64_t{raw.next()} * bound;
      ++rejected;
    }
    ASSERT_EQ(rng.below(bound), product >> 32);
  }
  EXPECT_GT(rejected, 100);
}

TEST(Rng, UniformIsAMultipleOfTwoToTheMinus53InTheUnitInterval) {
  Rng rng(4, Purpose::kTest);
  double sum = 0;
  constexpr int kCount = 100'000;
  for (int i = 0; i < kCount; ++i) {
    const double value = rng.uniform();
    ASSERT_GE(value, 0);
    ASSERT_LT(value, 1);
    ASSERT_EQ(std::ldexp(value, 53), std::floor(std::ldexp(value, 53)));
    sum += value;
  }
  EXPECT_NEAR(sum / kCount, 0.5, 6 * 0.2887 / std::sqrt(kCount));
}

TEST(Rng, NormalHasMeanZeroAndVarianceOne) {
  Rng rng(5, Purpose::kTest);
  constexpr int kCount = 100'000;
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kCount; ++i) {
    const double value = rng.normal();
    sum += value;
    squares += value * value;
  }
  EXPECT_NEAR(sum / kCount, 0, 6 / std::sqrt(kCount));
  EXPECT_NEAR(squares / kCount, 1, 6 * std::sqrt(2.0 / kCount));
}

TEST(Rng, ShuffleGivesEveryOrderEquallyOften) {
  // 24 orders of four items, 1000 each expected; deviation 31, six of them.
  std::map<std::vector<int>, int> counts;
  Rng rng(6, Purpose::kTest);
  for (int i = 0; i < 24'000; ++i) {
    std::vector<int> items = {0, 1, 2, 3};
    rng.shuffle(std::span(items));
    ++counts[items];
  }
  EXPECT_EQ(counts.size(), 24u);
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, 1000, 190);
}

TEST(Rng, ShuffleTakesEmptyAndSingleLists) {
  Rng rng(6, Purpose::kTest);
  std::vector<int> items;
  rng.shuffle(std::span(items));
  items = {5};
  rng.shuffle(std::span(items));
  EXPECT_EQ(items, std::vector<int>{5});
  EXPECT_EQ(rng.next(), Rng(6, Purpose::kTest).next());  // neither drew a number
}

TEST(Mix, SeparatesItsArguments) {
  std::set<uint64_t> seen;
  for (uint64_t a = 0; a < 100; ++a)
    for (uint64_t b = 0; b < 100; ++b) seen.insert(mix(a, b));
  EXPECT_EQ(seen.size(), 10'000u);
}

}  // namespace
}  // namespace tern
