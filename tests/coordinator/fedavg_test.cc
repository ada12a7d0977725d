#include <gtest/gtest.h>

#include "coordinator/strategies/ef21.h"

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

TEST(FedAvg, EveryThirdModelIsTheMeanOfThree) {
  const StrategyConfig strategy{.server_learning_rate = 0.5, .server_average_every = 3};
  ServerOptimizerState state;
  float model = 1;           // where the steps lead
  std::vector<float> since;  // the models since the last average
  for (const float mean : {8.0f, -2.0f, 12.0f, 0.0f, 6.0f, -6.0f}) {
    std::vector<float> step{mean};
    fedavg_step(strategy, state, step);
    since.push_back((since.empty() ? model : since.back()) + 0.5f * mean);
    model += step[0];
    if (since.size() < 3) {
      EXPECT_EQ(model, since.back());
    } else {
      EXPECT_FLOAT_EQ(model, (since[0] + since[1] + since[2]) / 3);
      since.clear();
    }
  }
}

TEST(Ef21, TheStepIsTheWeightedMeanOverTheClientsThatTookPart) {
  ServerOptimizerState state;
  state.estimate_weights = {{4, 100}};
  std::vector<float> mean{8, -4};  // client 4 alone
  ef21_step(state, 100, mean);
  EXPECT_EQ(mean, (std::vector<float>{8, -4}));
  // Client 7 of weight 300 comes in; client 4 isn't asked, but its estimate still counts.
  state.estimate_weights[7] = 300;
  mean = {4, 0};
  ef21_step(state, 300, mean);
  EXPECT_EQ(mean, (std::vector<float>{(100 * 8 + 300 * 4) / 400.0f, -1}));
  // Nothing has changed for anybody: the step is the same again.
  mean = {0, 0};
  ef21_step(state, 400, mean);
  EXPECT_EQ(mean, (std::vector<float>{5, -1}));
}

}  // namespace
}  // namespace tern
