#include "coordinator/strategies/fedavg.h"

#include <gtest/gtest.h>

namespace tern {
namespace {

TEST(FedAvg, WeightsAreExampleCountsShiftedIntoSixteenBits) {
  EXPECT_EQ(fedavg_weight_shift(600), 0);
  EXPECT_EQ(fedavg_weight_shift(65535), 0);
  EXPECT_EQ(fedavg_weight_shift(65536), 1);
  EXPECT_EQ(fedavg_weight_shift(4'000'000'000u), 16);
  EXPECT_EQ(fedavg_weight(600, 0), 600u);
  EXPECT_EQ(fedavg_weight(4'000'000'000u, 16), 61035u);
  EXPECT_EQ(fedavg_weight(3, 16), 1u) << "nobody weighs nothing";
  EXPECT_EQ(fedavg_weight(4'000'000'000u, 0), 65535u)
      << "a client that lies weighs no more than the plan allows";
}

TEST(FedAvg, PlainStepIsTheMean) {
  ServerOptimizerState state;
  std::vector<float> mean{1, -2, 3};
  fedavg_step({}, state, mean);
  EXPECT_EQ(mean, (std::vector<float>{1, -2, 3}));
  EXPECT_TRUE(state.momentum.empty());
}

TEST(FedAvg, MomentumAndServerLearningRateFollowTheirRecurrence) {
  const StrategyConfig strategy{.server_learning_rate = 0.5, .server_momentum = 0.75};
  ServerOptimizerState state;
  std::vector<float> first{4}, second{8};
  fedavg_step(strategy, state, first);
  fedavg_step(strategy, state, second);
  EXPECT_EQ(first[0], 2.0f);
  EXPECT_EQ(second[0], 0.5f * (0.75f * 4 + 8));
}

}  // namespace
}  // namespace tern
