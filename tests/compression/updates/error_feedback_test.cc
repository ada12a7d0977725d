#include "compression/updates/error_feedback.h"

#include <gtest/gtest.h>

#include "tests/compression/updates/chains.h"

namespace tern {
namespace {

class ErrorFeedback : public testing::Test {
 protected:
  PendingUpdate encode(const std::vector<float>& update, uint64_t seed = 1) {
    return encode_update(codec_, meta_with_seed(seed), update, residual_, scratch_).value();
  }
  const Codec codec_ = codec_of("ef | topk:0.25 | rice");
  CodecScratch scratch_;
  Residual residual_;
};

TEST_F(ErrorFeedback, WhatIsNotSentIsThePendingResidual) {
  const PendingUpdate pending = encode({4, 1, -2, 3});
  EXPECT_EQ(decode_frame(pending.frame, 4, scratch_), (std::vector<float>{4, 0, 0, 0}));
  EXPECT_EQ(pending.residual, (std::vector<float>{0, 1, -2, 3}));
  EXPECT_TRUE(residual_.empty());
}

TEST_F(ErrorFeedback, ACommittedResidualIsAddedToTheNextUpdate) {
  residual_.commit(encode({4, 1, -2, 3}));
  const PendingUpdate pending = encode({0, 1, -2, 0});
  EXPECT_EQ(decode_frame(pending.frame, 4, scratch_), (std::vector<float>{0, 0, -4, 0}));
  EXPECT_EQ(pending.residual, (std::vector<float>{0, 2, 0, 3}));
}

TEST_F(ErrorFeedback, ADroppedUpdateLeavesTheResidualAsItWas) {
  residual_.commit(encode({4, 1, -2, 3}));
  const std::vector<float> before(residual_.values().begin(), residual_.values().end());
  { const PendingUpdate dropped = encode({100, 100, 100, 100}); }
  EXPECT_TRUE(same_bits(residual_.values(), before));
  // The same update again gives the same bytes as if the dropped one had never been.
  EXPECT_EQ(encode({1, 2, 3, 4}).frame, encode({1, 2, 3, 4}).frame);
}

TEST_F(ErrorFeedback, BytesDependOnCodecMetaUpdateAndResidualAlone) {
  residual_.commit(encode(make_input(Input::kGaussian, 5000)));
  const std::vector<float> update = make_input(Input::kHeavyTail, 5000);
  const PendingUpdate once = encode(update);
  fill_with_garbage(scratch_);
  const PendingUpdate again = encode(update);
  EXPECT_EQ(once.frame, again.frame);
  EXPECT_EQ(once.residual, again.residual);
}

TEST_F(ErrorFeedback, AChainWithoutItHasNoResidual) {
  const std::vector<float> update = make_input(Input::kGaussian, 100);
  const Residual old(std::vector<float>(100, 5.0f));
  const PendingUpdate pending =
      encode_update(codec_of("int:4"), kMeta, update, old, scratch_).value();
  EXPECT_TRUE(pending.residual.empty());
  EXPECT_EQ(pending.frame, encode_frame(codec_of("int:4"), kMeta, update, scratch_));
}

TEST_F(ErrorFeedback, CommittingAnUpdateWithoutAResidualKeepsTheOldOne) {
  residual_ = Residual({1, 2});
  residual_.commit(
      encode_update(codec_of("int:4"), kMeta, std::vector<float>{1, 2}, residual_, scratch_)
          .value());
  EXPECT_TRUE(same_bits(residual_.values(), std::vector<float>{1, 2}));
}

TEST_F(ErrorFeedback, RefusesAResidualOfAnotherLength) {
  residual_ = Residual({1, 2, 3});
  const Result<PendingUpdate> pending =
      encode_update(codec_, kMeta, std::vector<float>{1, 2, 3, 4}, residual_, scratch_);
  ASSERT_FALSE(pending);
  EXPECT_EQ(pending.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(pending.error().message(), "a residual of 3 elements for an update of 4");
}

TEST_F(ErrorFeedback, RefusesAnUpdateThatIsNotFinite) {
  const Result<PendingUpdate> pending =
      encode_update(codec_, kMeta, std::vector<float>{1, NAN}, residual_, scratch_);
  ASSERT_FALSE(pending);
  EXPECT_EQ(pending.error().code(), Code::kInvalidArgument);
}

TEST_F(ErrorFeedback, TakesAnEmptyUpdate) {
  const PendingUpdate pending = encode({});
  EXPECT_TRUE(pending.residual.empty());
  EXPECT_TRUE(inspect(pending.frame, limits_for(0), scratch_));
}

TEST_F(ErrorFeedback, AgeHalvesOnceForEachFurtherStretchWithoutATask) {
  struct Row {
    uint32_t rounds, stale_after;
    float expected;
  };
  for (const Row& row : {Row{0, 50, 8}, Row{50, 50, 8}, Row{99, 50, 8}, Row{100, 50, 4},
                         Row{149, 50, 4}, Row{150, 50, 2}, Row{250, 50, 0.5f}, Row{3, 1, 2},
                         Row{1000, 0, 8}, Row{4'000'000'000, 1, 0}}) {
    Residual residual({8, -8});
    residual.age(row.rounds, row.stale_after);
    EXPECT_EQ(residual.values()[0], row.expected) << row.rounds << ' ' << row.stale_after;
    EXPECT_EQ(residual.values()[1], -row.expected);
  }
  Residual empty;
  empty.age(1000, 1);
  EXPECT_TRUE(empty.empty());
}

TEST_F(ErrorFeedback, KnowsTheResidualsNorm) {
  EXPECT_EQ(Residual({3, 0, -4}).norm(), 5);
  EXPECT_EQ(Residual().norm(), 0);
}

TEST_F(ErrorFeedback, KeepsTheResidualBoundedUnderEveryChain) {
  // A chain that lost more than it keeps would grow it by a factor each round.
  for (const Budget& budget : kBudgets) {
    const Codec codec = codec_of(budget.spec);
    if (!codec.error_feedback()) continue;
    constexpr size_t kElements = 3000;
    constexpr uint32_t kRounds = 200;
    const double of_update = std::sqrt(squared_norm(make_input(Input::kGaussian, kElements)));
    Residual residual;
    for (uint32_t round = 0; round < kRounds; ++round)
      residual.commit(encode_update(codec, meta_with_seed(round),
                                    make_input(Input::kGaussian, kElements, round), residual,
                                    scratch_)
                          .value());
    EXPECT_LT(residual.norm(), 6 * of_update) << budget.spec;
  }
}

TEST_F(ErrorFeedback, ConvergesToTheMeanUpdate) {
  // A constant update through 5 % sparse ternary: what has arrived after T rounds is T times the
  // update less a residual that stays bounded.
  const Codec codec = codec_of("ef | topk:0.05 | ternary | rice");
  const std::vector<float> update = make_input(Input::kGaussian, 2000);
  double norm_half_way = 0;
  for (int round = 0; round < 400; ++round) {
    residual_.commit(encode_update(codec, meta_with_seed(static_cast<uint64_t>(round)), update,
                                   residual_, scratch_)
                         .value());
    if (round == 199) norm_half_way = residual_.norm();
  }
  EXPECT_LT(residual_.norm(), 1.3 * norm_half_way);
  EXPECT_LT(residual_.norm(), 40 * std::sqrt(squared_norm(update)));
}

}  // namespace
}  // namespace tern
