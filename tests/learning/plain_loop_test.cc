#include "tests/bench/plain_loop.h"

#include <gtest/gtest.h>

#include "learning/torch_trainer.h"
#include "tests/learning/sample_data.h"

namespace tern {
namespace {

TEST(PlainLoop, TrainsAsWellAsTheTrainer) {
  for (const char* model : {"logistic", "mlp-2nn", "cnn", "resnet8-gn", "char-lstm"})
    for (const double momentum : {0.0, 0.5}) {
      SCOPED_TRACE(fmt::format("{}, momentum {}", model, momentum));
      const auto data = sample_data(model, {7, 40});
      const auto base = sample_parameters(data->schema);
      const TrainingPlan plan{.learning_rate = 0.02,
                              .momentum = momentum,
                              .weight_decay = 0.01,
                              .batch_size = 40,
                              .local_epochs = 10};
      const auto plain = run_plain_loop(*data, plan, base, 2, 1);
      ASSERT_TRUE(plain.has_value()) << plain.error().describe();
      EXPECT_EQ(plain->samples_trained, 470U);
      EXPECT_GT(plain->samples_per_second, 0);
      // One batch holds all examples: the shuffles can't matter.
      std::vector<float> update(base.size());
      const auto report =
          (*make_trainer(data))
              ->train({.plan = plan, .seed = 1, .round = 1, .client = 1}, base, update);
      EXPECT_NEAR(plain->final_loss, report->mean_loss, 1e-4);
    }
}

TEST(PlainLoop, StopsAfterLocalSteps) {
  const auto data = sample_data("logistic", {7});
  const auto base = sample_parameters(data->schema);
  const auto plain =
      run_plain_loop(*data, {.batch_size = 5, .local_epochs = 0, .local_steps = 3}, base, 1, 1);
  ASSERT_TRUE(plain.has_value());
  EXPECT_EQ(plain->samples_trained, 12U);
}

TEST(PlainLoop, RefusesWhatItCantTrain) {
  const auto data = sample_data("logistic", {7, 0});
  const auto base = sample_parameters(data->schema);
  EXPECT_FALSE(run_plain_loop(*data, {}, base, 0, 1).has_value());
  EXPECT_FALSE(run_plain_loop(*data, {}, base, 2, 1).has_value());
  EXPECT_FALSE(run_plain_loop(*data, {}, base, 3, 1).has_value());
  EXPECT_FALSE(run_plain_loop(*data, {}, std::span(base).first(3), 1, 1).has_value());
}

}  // namespace
}  // namespace tern
