#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

#include "learning/torch_evaluator.h"
#include "learning/torch_trainer.h"
#include "tests/learning/sample_data.h"

namespace tern {
namespace {

TEST(Evaluator, CutsTestDataIntoRunsOfAThousandInOrder) {
  const auto data = sample_data("logistic", {5}, 2001);
  const auto evaluator = *make_evaluator(data);
  ASSERT_EQ(evaluator->part_count(), 3U);
  const auto parameters = sample_parameters(data->schema);
  const auto classes = static_cast<size_t>(data->data.shape.classes);
  const auto features = static_cast<size_t>(data->data.shape.features());
  size_t example = 0;
  for (size_t part = 0; part < 3; ++part) {
    const auto result = evaluator->evaluate(parameters, part);
    ASSERT_TRUE(result.has_value()) << result.error().describe();
    ASSERT_EQ(result->predicted.size(), part < 2 ? 1000U : 1U);
    ASSERT_EQ(result->loss.size(), result->predicted.size());
    for (size_t i = 0; i < result->predicted.size(); ++i, ++example) {
      std::vector<double> scores(classes);
      double sum = 0;
      for (size_t c = 0; c < classes; ++c) {
        scores[c] = parameters[classes * features + c];
        for (size_t f = 0; f < features; ++f)
          scores[c] +=
              double{parameters[c * features + f]} * data->data.test.inputs[example * features + f];
        sum += std::exp(scores[c]);
      }
      ASSERT_GE(scores[result->predicted[i]],
                *std::max_element(scores.begin(), scores.end()) - 1e-5);
      ASSERT_NEAR(result->loss[i], std::log(sum) - scores[data->data.test.labels[example]], 1e-5);
    }
  }
  EXPECT_EQ(example, 2001U);
}

TEST(Evaluator, ATextHasALossForEachOfItsCharacters) {
  const auto data = sample_data("char-lstm", {5}, 30);
  const auto evaluator = *make_evaluator(data);
  const auto result = evaluator->evaluate(std::vector<float>(data->schema.elements()), 0);
  ASSERT_TRUE(result.has_value()) << result.error().describe();
  ASSERT_EQ(result->loss.size(), data->data.test.labels.size());
  EXPECT_EQ(result->predicted.size(), 30 * 12U);
  for (const float loss : result->loss) EXPECT_FLOAT_EQ(loss, std::log(9.0F));
}

TEST(Evaluator, TiesGoToTheLowerClass) {
  const auto data = sample_data("mlp-2nn", {5}, 10);
  const auto evaluator = *make_evaluator(data);
  const auto result = evaluator->evaluate(std::vector<float>(data->schema.elements()), 0);
  ASSERT_TRUE(result.has_value());
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(result->predicted[i], 0U);
    EXPECT_FLOAT_EQ(result->loss[i], std::log(5.0F));
  }
}

TEST(Evaluator, GivesTheSameBitsOnEveryThreadAndInstance) {
  for (const std::string& model : model_names()) {
    const auto data = sample_data(model, {5}, 300);
    const auto parameters = sample_parameters(data->schema);
    const auto expected = (*make_evaluator(data))->evaluate(parameters, 0);
    ASSERT_TRUE(expected.has_value());
    std::vector<Result<EvaluationPart>> results(2, error(Code::kInternal, "not run"));
    std::vector<std::thread> threads;
    for (auto& result : results)
      threads.emplace_back([&] { result = (*make_evaluator(data))->evaluate(parameters, 0); });
    for (std::thread& thread : threads) thread.join();
    for (const auto& result : results) {
      EXPECT_EQ(result->predicted, expected->predicted) << model;
      EXPECT_EQ(result->loss, expected->loss) << model;
    }
  }
}

TEST(Evaluator, SeesWhatTheTrainerLearned) {
  const auto data = sample_data("cnn", {200}, 200);
  const auto base = sample_parameters(data->schema);
  std::vector<float> trained(base.size());
  const TrainTask task{
      .plan = {.learning_rate = 0.05, .local_epochs = 10}, .seed = 1, .round = 1, .client = 0};
  ASSERT_TRUE((*make_trainer(data))->train(task, base, trained).has_value());
  for (size_t i = 0; i < base.size(); ++i) trained[i] += base[i];
  const auto evaluator = *make_evaluator(data);
  const auto correct = [&](const std::vector<float>& parameters) {
    const auto result = evaluator->evaluate(parameters, 0);
    size_t count = 0;
    for (size_t i = 0; i < result->predicted.size(); ++i)
      count += result->predicted[i] == data->data.test.labels[i];
    return count;
  };
  EXPECT_GT(correct(trained), 120U);
  EXPECT_LT(correct(base), 90U);
}

TEST(Evaluator, ReportsWrongLengthsPartsAndOutputs) {
  const auto data = sample_data("logistic", {5}, 10);
  const auto evaluator = *make_evaluator(data);
  auto parameters = sample_parameters(data->schema);
  EXPECT_EQ(evaluator->evaluate(parameters, 1).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(evaluator->evaluate(std::span(parameters).first(3), 0).error().code(),
            Code::kInvalidArgument);
  parameters[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(evaluator->evaluate(parameters, 0).error().code(), Code::kOutOfRange);
  EXPECT_EQ((*make_evaluator(sample_data("logistic", {5})))->part_count(), 0U);
}

}  // namespace
}  // namespace tern
