#include "compression/updates/accumulator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <thread>

#include "tests/compression/updates/chains.h"

namespace tern {
namespace {

using testing::HasSubstr;

FixedPointAccumulator make(size_t elements, double norm_bound, uint64_t weights) {
  return FixedPointAccumulator::make(elements,
                                     {.norm_bound = norm_bound, .largest_weights = weights})
      .value();
}

std::vector<float> mean_of(const FixedPointAccumulator& accumulator) {
  std::vector<float> mean(accumulator.elements(), -1.0f);
  accumulator.mean(mean);
  return mean;
}

TEST(Accumulator, HoldsTheExtremeOfItsBoundsInAnyOrderCloseToFloat64) {
  // The largest range there is, 2^52, reached by 1,000 updates of weight 65,535 whose whole norm
  // lies in one coordinate and, in the last ones, is spread.
  constexpr size_t kElements = 64;
  constexpr size_t kUpdates = 1000;
  constexpr uint32_t kWeight = 65535;
  constexpr uint64_t kWeights = uint64_t{kUpdates} * kWeight;
  const double bound = 0x1p52 / static_cast<double>(kWeights);
  Rng rng(1, Purpose::kTest, 21);
  std::vector<std::vector<float>> updates(kUpdates, std::vector<float>(kElements, 0.0f));
  for (auto& update : updates) {
    // float32 just below the bound.
    update[0] = std::nextafter(static_cast<float>(bound), 0.0f);
    update[1] = 0;
    if (&update >= &updates[kUpdates / 2]) {
      for (float& v : update) v = static_cast<float>(rng.normal());
      const double scale = bound * 0.999999 / std::sqrt(squared_norm(update));
      for (float& v : update) v = static_cast<float>(v * scale);
    }
  }
  std::vector<long double> exact(kElements, 0);
  for (const auto& update : updates)
    for (size_t i = 0; i < kElements; ++i)
      exact[i] += static_cast<long double>(update[i]) * kWeight;
  long double largest = 0;
  for (const long double v : exact) largest = std::max(largest, std::abs(v / kWeights));

  std::vector<size_t> order(kUpdates);
  std::iota(order.begin(), order.end(), size_t{0});
  std::vector<int64_t> first;
  for (int shuffle = 0; shuffle < 1000; ++shuffle) {
    FixedPointAccumulator accumulator = make(kElements, bound, kWeights);
    for (const size_t i : order) {
      ASSERT_TRUE(accumulator.admit(std::sqrt(squared_norm(updates[i])), kWeight).ok());
      accumulator.add_dense(0, updates[i], kWeight, 1);
    }
    if (shuffle == 0) {
      first.assign(accumulator.sums().begin(), accumulator.sums().end());
      const std::vector<float> mean = mean_of(accumulator);
      for (size_t i = 0; i < kElements; ++i)
        EXPECT_LE(std::abs(static_cast<double>(mean[i] - exact[i] / kWeights)),
                  static_cast<double>(largest) * 0x1p-20);
    }
    ASSERT_TRUE(std::ranges::equal(accumulator.sums(), first));
    rng.shuffle(std::span(order));
  }
}

TEST(Accumulator, DoesNotOverflowWhenEveryUpdateIsTheSameExtreme) {
  for (const float sign : {1.0f, -1.0f})
    for (const auto& [bound, weights] :
         {std::pair{1024.0, uint64_t{1}}, std::pair{1024.0, uint64_t{65535}},
          std::pair{1.0, uint64_t{1} << 52}, std::pair{1024.0, uint64_t{1} << 42},
          std::pair{1e-6, uint64_t{1000}}, std::pair{3.0, uint64_t{3}}}) {
      FixedPointAccumulator accumulator = make(3, bound, weights);
      auto x = static_cast<float>(bound);
      if (x > bound) x = std::nextafter(x, 0.0f);
      const std::vector<float> update = {sign * x, 0, 0};
      const std::vector<uint16_t> index = {2};
      uint64_t left = std::min<uint64_t>(weights, uint64_t{65535} * 100);
      // Far more weight than a test can add one by one: by doubling.
      FixedPointAccumulator part = make(3, bound, weights);
      const auto weight = static_cast<uint32_t>(std::min<uint64_t>(left, 65535));
      ASSERT_TRUE(part.admit(x, weight).ok());
      part.add_dense(0, update, weight, 1);
      part.add_sparse(0, index, std::span(update).first(1), weight, 1);
      while (accumulator.merge(part).ok()) {
        if (part.total_weight() <= weights / 4) {
          const FixedPointAccumulator same = part;
          ASSERT_TRUE(part.merge(same).ok());
        }
      }
      EXPECT_GE(accumulator.total_weight(), weights / 2);
      const std::vector<float> mean = mean_of(accumulator);
      EXPECT_EQ(mean[0], sign * x);
      EXPECT_EQ(mean[1], 0);
      EXPECT_EQ(mean[2], sign * x);
    }
}

TEST(Accumulator, TheScaleFollowsFromTheBounds) {
  EXPECT_EQ(make(1, 1024, 1).shift(), 52);
  EXPECT_EQ(make(1, 1024, 65535).shift(), 36);
  EXPECT_EQ(make(1, 1024, 65537).shift(), 35);
  EXPECT_EQ(make(1, 1, uint64_t{1} << 52).shift(), 10);
  EXPECT_EQ(make(1, 0.5, 1).shift(), 63);
}

TEST(Accumulator, RefusesBoundsThatLeaveNoRoom) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const AccumulatorBounds& bounds :
       {AccumulatorBounds{0, 1}, AccumulatorBounds{-1, 1}, AccumulatorBounds{1, 0},
        AccumulatorBounds{infinity, 1}, AccumulatorBounds{NAN, 1}, AccumulatorBounds{0x1p53, 1},
        AccumulatorBounds{1024, uint64_t{1} << 43}, AccumulatorBounds{1e-320, 1}}) {
    const auto made = FixedPointAccumulator::make(10, bounds);
    ASSERT_FALSE(made) << bounds.norm_bound;
    EXPECT_EQ(made.error().code(), Code::kInvalidArgument);
  }
}

TEST(Accumulator, RefusesAnUpdateAboveTheNormBound) {
  FixedPointAccumulator accumulator = make(4, 2, 100);
  EXPECT_TRUE(accumulator.admit(2, 1).ok());
  for (const double norm :
       {std::nextafter(2.0, 3.0), 1e300, std::numeric_limits<double>::infinity(),
        std::numeric_limits<double>::quiet_NaN()}) {
    const Status refused = accumulator.admit(norm, 1);
    EXPECT_EQ(refused.code(), Code::kOutOfRange);
    EXPECT_THAT(refused.message(), HasSubstr("above the bound 2 (strategy.norm_bound)"));
  }
  EXPECT_EQ(accumulator.total_weight(), 1u);
}

TEST(Accumulator, TakesWeightsFrom1To65535UpToTheirSum) {
  FixedPointAccumulator accumulator = make(4, 2, 131070);
  EXPECT_EQ(accumulator.admit(1, 0).code(), Code::kOutOfRange);
  EXPECT_EQ(accumulator.admit(1, 65536).code(), Code::kOutOfRange);
  EXPECT_FALSE(accumulator.can_report());
  EXPECT_TRUE(accumulator.admit(1, 65535).ok());
  EXPECT_TRUE(accumulator.admit(1, 65534).ok());
  EXPECT_TRUE(accumulator.can_report());
  const Status refused = accumulator.admit(1, 2);
  EXPECT_EQ(refused.code(), Code::kOutOfRange);
  EXPECT_THAT(refused.message(), HasSubstr("add up to 131071, the plan allows 131070"));
  EXPECT_TRUE(accumulator.admit(1, 1).ok());
}

TEST(Accumulator, AWeightCountsAsThatManyUpdates) {
  const std::vector<float> x = make_input(Input::kHeavyTail, 100);
  const double norm = std::sqrt(squared_norm(x));
  FixedPointAccumulator once = make(100, 100, 1000);
  ASSERT_TRUE(once.admit(norm, 7).ok());
  once.add_dense(0, x, 7, 1);
  FixedPointAccumulator often = make(100, 100, 1000);
  for (int i = 0; i < 7; ++i) {
    ASSERT_TRUE(often.admit(norm, 1).ok());
    often.add_dense(0, x, 1, 1);
  }
  EXPECT_TRUE(std::ranges::equal(once.sums(), often.sums()));
  EXPECT_EQ(once.total_weight(), often.total_weight());
}

TEST(Accumulator, TheMeanIsWeightedAndScaled) {
  FixedPointAccumulator accumulator = make(2, 10, 4);
  ASSERT_TRUE(accumulator.admit(1, 1).ok());
  accumulator.add_dense(0, std::vector<float>{1, -1}, 1, 1);
  ASSERT_TRUE(accumulator.admit(5, 3).ok());
  accumulator.add_dense(0, std::vector<float>{3, 5}, 3, 0.5);
  EXPECT_EQ(mean_of(accumulator), (std::vector<float>{(1 + 4.5f) / 4, (-1 + 7.5f) / 4}));
}

TEST(Accumulator, AnEmptyOneReportsZeros) {
  EXPECT_EQ(mean_of(make(3, 1, 1)), (std::vector<float>{0, 0, 0}));
  EXPECT_EQ(mean_of(make(0, 1, 1)), std::vector<float>());
}

TEST(Accumulator, SparseAndDenseValuesAddToTheSameSum) {
  FixedPointAccumulator sparse = make(70000, 10, 10);
  FixedPointAccumulator dense = make(70000, 10, 10);
  const std::vector<uint16_t> index = {0, 5, 4463};
  const std::vector<float> values = {1.5f, -2.25f, 1e-5f};
  sparse.add_sparse(65536, index, values, 3, 0.7);
  std::vector<float> x(4464, 0.0f);
  for (size_t i = 0; i < index.size(); ++i) x[index[i]] = values[i];
  dense.add_dense(65536, x, 3, 0.7);
  EXPECT_TRUE(std::ranges::equal(sparse.sums(), dense.sums()));
}

TEST(Accumulator, MergingPartsGivesTheSumOfAll) {
  FixedPointAccumulator all = make(50, 100, 1000);
  FixedPointAccumulator parts[3] = {make(50, 100, 1000), make(50, 100, 1000), make(50, 100, 1000)};
  for (uint32_t i = 0; i < 30; ++i) {
    const std::vector<float> x = make_input(Input::kGaussian, 50, i);
    for (FixedPointAccumulator* to : {&all, &parts[i % 3]}) {
      ASSERT_TRUE(to->admit(std::sqrt(squared_norm(x)), i + 1).ok());
      to->add_dense(0, x, i + 1, 0.9);
    }
  }
  ASSERT_TRUE(parts[2].merge(parts[0]).ok());
  ASSERT_TRUE(parts[2].merge(parts[1]).ok());
  EXPECT_TRUE(std::ranges::equal(parts[2].sums(), all.sums()));
  EXPECT_EQ(parts[2].total_weight(), all.total_weight());
  EXPECT_TRUE(same_bits(mean_of(parts[2]), mean_of(all)));
}

TEST(Accumulator, TakesUpdatesFromSeveralThreadsAtOnce) {
  // Pieces that begin anywhere lie in two blocks of locks; a race would lose some of the sums.
  constexpr size_t kLong = 300'000, kPiece = 65'536;
  constexpr uint32_t kUpdates = 24;
  const std::vector<float> values(kPiece, 0.5f);
  std::vector<uint16_t> index(kPiece);
  std::iota(index.begin(), index.end(), uint16_t{0});
  const auto add_all = [&](FixedPointAccumulator& sum, uint32_t first, uint32_t step) {
    for (uint32_t update = first; update < kUpdates; update += step) {
      ASSERT_TRUE(sum.admit(1, 1 + update).ok());
      for (size_t at = 0; at + kPiece <= kLong; at += 40'000 + update) {
        sum.add_dense(at, values, 1 + update, 1);
        sum.add_sparse(at, index, values, 1 + update, 0.5);
      }
    }
  };
  FixedPointAccumulator alone = make(kLong, 1, 1000), together = make(kLong, 1, 1000);
  add_all(alone, 0, 1);
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (uint32_t t = 0; t < 4; ++t) threads.emplace_back([&, t] { add_all(together, t, 4); });
  }
  EXPECT_TRUE(std::ranges::equal(together.sums(), alone.sums()));
  EXPECT_EQ(together.total_weight(), alone.total_weight());
}

TEST(Accumulator, TakingTheMeanLeavesNothing) {
  // On both sides of the length from which memory is given back, and off its pages.
  for (const size_t length :
       {size_t{10}, size_t{131'072}, size_t{131'073}, size_t{4'194'304}, size_t{4'300'003}}) {
    FixedPointAccumulator sum = make(length, 100, 1000);
    std::vector<float> values(length);
    for (size_t i = 0; i < length; ++i) values[i] = static_cast<float>(i % 97) - 48;
    for (int round = 0; round < 2; ++round) {
      ASSERT_TRUE(sum.admit(1, 3).ok());
      for (size_t at = 0; at < length; at += 50'000)
        sum.add_dense(at, std::span(values).subspan(at, std::min<size_t>(50'000, length - at)), 3,
                      1);
      const std::vector<float> mean = mean_of(sum);
      const std::vector<float> taken = sum.take_mean();
      EXPECT_TRUE(same_bits(taken, mean));
      EXPECT_TRUE(same_bits(taken, values));
      EXPECT_TRUE(std::ranges::all_of(sum.sums(), [](int64_t value) { return value == 0; }));
      EXPECT_EQ(sum.total_weight(), 0u);
    }
  }
}

TEST(Accumulator, RefusesToMergeWhatDoesNotFit) {
  FixedPointAccumulator accumulator = make(10, 1, 10);
  EXPECT_EQ(accumulator.merge(make(11, 1, 10)).code(), Code::kInvalidArgument);
  EXPECT_EQ(accumulator.merge(make(10, 1, 1000)).code(), Code::kInvalidArgument);
  FixedPointAccumulator full = make(10, 1, 10);
  ASSERT_TRUE(full.admit(1, 10).ok());
  ASSERT_TRUE(accumulator.admit(1, 1).ok());
  EXPECT_EQ(accumulator.merge(full).code(), Code::kOutOfRange);
  EXPECT_EQ(accumulator.total_weight(), 1u);
}

TEST(Accumulator, ClearKeepsTheBounds) {
  FixedPointAccumulator accumulator = make(2, 1, 10);
  ASSERT_TRUE(accumulator.admit(1, 10).ok());
  accumulator.add_dense(0, std::vector<float>{1, 0}, 10, 1);
  accumulator.clear();
  EXPECT_FALSE(accumulator.can_report());
  EXPECT_EQ(mean_of(accumulator), (std::vector<float>{0, 0}));
  EXPECT_TRUE(accumulator.admit(1, 10).ok());
  EXPECT_EQ(accumulator.admit(2, 1).code(), Code::kOutOfRange);
}

class DecodeAccumulate : public testing::Test {
 protected:
  CodecScratch scratch_;
  std::vector<std::byte> frame_ =
      encode_frame(codec_of("float32"), kMeta, std::vector<float>{3, 0, -4}, scratch_);
  CheckedFrame checked_ = inspect_frame(frame_, 3, scratch_).value();
};

TEST_F(DecodeAccumulate, BooksTheWeightAndAddsTheValues) {
  FixedPointAccumulator accumulator = make(3, 5, 10);
  ASSERT_TRUE(decode_accumulate(checked_, 2, 0.5, scratch_, accumulator).ok());
  EXPECT_EQ(accumulator.total_weight(), 2u);
  EXPECT_EQ(mean_of(accumulator), (std::vector<float>{1.5f, 0, -2}));
}

TEST_F(DecodeAccumulate, RefusesWhatTheBoundsForbidAndAddsNothing) {
  FixedPointAccumulator tight = make(3, 4.999, 10);
  EXPECT_EQ(decode_accumulate(checked_, 1, 1, scratch_, tight).code(), Code::kOutOfRange);
  FixedPointAccumulator accumulator = make(3, 5, 10);
  EXPECT_EQ(decode_accumulate(checked_, 11, 1, scratch_, accumulator).code(), Code::kOutOfRange);
  EXPECT_EQ(decode_accumulate(checked_, 0, 1, scratch_, accumulator).code(), Code::kOutOfRange);
  for (const double factor : {-0.1, 1.000001, std::numeric_limits<double>::quiet_NaN()})
    EXPECT_EQ(decode_accumulate(checked_, 1, factor, scratch_, accumulator).code(),
              Code::kInvalidArgument);
  FixedPointAccumulator other = make(4, 5, 10);
  EXPECT_EQ(decode_accumulate(checked_, 1, 1, scratch_, other).code(), Code::kInvalidArgument);
  for (const auto* sums : {&tight, &accumulator, &other}) {
    EXPECT_EQ(sums->total_weight(), 0u);
    for (const int64_t sum : sums->sums()) EXPECT_EQ(sum, 0);
  }
}

}  // namespace
}  // namespace tern
