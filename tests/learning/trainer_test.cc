#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <bit>
#include <cmath>
#include <limits>
#include <thread>

#include "learning/models.h"
#include "learning/torch_trainer.h"
#include "learning/trained_model.h"
#include "tests/learning/sample_data.h"

namespace tern {
namespace {

using testing::HasSubstr;

using Dealt = std::vector<std::vector<uint32_t>>;

struct Trained {
  TrainReport report;
  std::vector<float> update;
};

Result<Trained> train(Trainer& trainer, const TrainTask& task, const std::vector<float>& base) {
  Trained trained;
  trained.update.resize(base.size());
  TERN_TRY(trained.report, trainer.train(task, base, trained.update));
  return trained;
}

Result<Trained> train(const std::shared_ptr<const LearningData>& data, const TrainTask& task) {
  TERN_TRY(const auto trainer, make_trainer(data));
  return train(*trainer, task, sample_parameters(data->schema));
}

/// As of real data.
TaskShape large_shape(std::string_view model) {
  if (predicts_characters(model)) return {.input = {80}, .classes = kTextClasses};
  return {.input = {1, 28, 28}, .classes = 10};
}

TrainTask task_of(TrainingPlan plan, uint32_t client = 0) {
  return {.plan = plan, .seed = 5, .round = 3, .client = client};
}

TEST(Trainer, OneStepIsSgdByHand) {
  // Softmax regression with one example: g_W = (p - onehot) x^T, g_b = p - onehot.
  const TaskShape shape{.input = {2}, .classes = 3};
  DataBundle bundle;
  bundle.shape = shape;
  bundle.train = {.inputs = {0.5F, -2.0F}, .labels = {1}, .client = {}};
  const auto data = *make_learning_data("logistic", bundle, Dealt{{0}});
  const std::vector<float> base = {0.1F, 0.2F, -0.3F, 0.4F, 0.5F, -0.6F, 0.01F, 0.02F, 0.03F};
  const auto trainer = *make_trainer(data);
  const auto trained =
      train(*trainer, task_of({.learning_rate = 0.1, .batch_size = 4, .local_epochs = 1}), base);
  ASSERT_TRUE(trained.has_value()) << trained.error().describe();
  double p[3];
  double sum = 0;
  for (int c = 0; c < 3; ++c)
    sum += p[c] = std::exp(0.5 * base[2 * c] - 2.0 * base[2 * c + 1] + base[6 + c]);
  for (int c = 0; c < 3; ++c) {
    const double delta = p[c] / sum - (c == 1 ? 1 : 0);
    EXPECT_NEAR(trained->update[2 * c], -0.1 * delta * 0.5, 1e-7);
    EXPECT_NEAR(trained->update[2 * c + 1], -0.1 * delta * -2.0, 1e-7);
    EXPECT_NEAR(trained->update[6 + c], -0.1 * delta, 1e-7);
  }
  EXPECT_NEAR(trained->report.mean_loss, -std::log(p[1] / sum), 1e-6);
  EXPECT_EQ(trained->report.examples, 1U);
  EXPECT_EQ(trained->report.steps, 1U);
  EXPECT_EQ(trained->report.samples_trained, 1U);
}

/// The same task with LibTorch's autograd and optimizer.
Trained reference(const LearningData& data, const TrainTask& task, const std::vector<float>& base) {
  torch::Tensor flat = torch::tensor(base);
  const auto model = *make_trained_model(data, flat);
  const std::vector<torch::Tensor>& parameters = model->parameters();
  torch::optim::SGD optimizer(parameters, torch::optim::SGDOptions(task.plan.learning_rate)
                                              .momentum(task.plan.momentum)
                                              .weight_decay(task.plan.weight_decay));
  const int64_t features = data.data.shape.features();
  const auto held = data.clients.of(task.client);
  Trained trained;
  for (uint32_t pass = 0;; ++pass) {
    const bool by_steps = task.plan.local_steps > 0;
    if (by_steps ? trained.report.steps == task.plan.local_steps : pass == task.plan.local_epochs)
      break;
    std::vector<uint32_t> order = held;
    Rng rng(task.seed, Purpose::kBatches, task.round, task.client, pass);
    rng.shuffle(std::span<uint32_t>(order));
    double loss_sum = 0;
    int batches = 0;
    for (size_t at = 0; at < order.size(); at += task.plan.batch_size, ++batches) {
      if (by_steps && trained.report.steps == task.plan.local_steps) break;
      std::vector<torch::Tensor> rows;
      std::vector<int64_t> labels;
      for (size_t i = at; i < std::min(order.size(), at + task.plan.batch_size); ++i) {
        rows.push_back(torch::from_blob(
            const_cast<float*>(data.data.train.inputs.data()) + order[i] * features, {features}));
        const uint32_t each = data.data.train.labels_each;
        for (size_t label = order[i] * each; label < (order[i] + 1) * each; ++label)
          labels.push_back(data.data.train.labels[label]);
      }
      optimizer.zero_grad();
      torch::Tensor loss = torch::nn::functional::cross_entropy(*model->forward(torch::stack(rows)),
                                                                torch::tensor(labels));
      loss.backward();
      optimizer.step();
      loss_sum += loss.item<double>();
      ++trained.report.steps;
      trained.report.samples_trained += rows.size();
    }
    trained.report.mean_loss = loss_sum / batches;
  }
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const torch::Tensor after = parameters[i].contiguous();
    for (int64_t j = 0; j < after.numel(); ++j)
      trained.update.push_back(after.data_ptr<float>()[j] -
                               base[data.schema.offset(i) + static_cast<size_t>(j)]);
  }
  return trained;
}

TEST(Trainer, AgreesWithAutogradAndTheOptimizerOfLibTorch) {
  for (const std::string& model : model_names())
    for (const TrainingPlan& plan :
         {TrainingPlan{.learning_rate = 0.05, .batch_size = 4, .local_epochs = 2},
          TrainingPlan{.learning_rate = 0.05, .momentum = 0.9, .batch_size = 4, .local_epochs = 2},
          TrainingPlan{
              .learning_rate = 0.05, .weight_decay = 0.1, .batch_size = 4, .local_epochs = 2},
          TrainingPlan{.learning_rate = 0.02,
          .momentum = 0.5,
          .weight_decay = 0.01,
          .batch_size = 3,
          .local_epochs = 0,
          .local_steps = 7}}) {
      SCOPED_TRACE(
          fmt::format("{}, momentum {}, decay {}", model, plan.momentum, plan.weight_decay));
      const auto data = sample_data(model, {0, 10});
      const auto base = sample_parameters(data->schema);
      const TrainTask task = task_of(plan, 1);
      const auto got = train(data, task);
      ASSERT_TRUE(got.has_value()) << got.error().describe();
      const Trained expected = reference(*data, task, base);
      double worst = 0;
      for (size_t i = 0; i < base.size(); ++i)
        worst = std::max<double>(worst, std::abs(got->update[i] - expected.update[i]));
      EXPECT_LT(worst, 1e-6);
      EXPECT_EQ(got->report.steps, expected.report.steps);
      EXPECT_EQ(got->report.samples_trained, expected.report.samples_trained);
      EXPECT_EQ(got->report.examples, 10U);
      EXPECT_NEAR(got->report.mean_loss, expected.report.mean_loss, 1e-5);
    }
}

TEST(Trainer, LearnsItsClientsExamples) {
  const auto data = sample_data("mlp-2nn", {60});
  const auto once = train(data, task_of({.learning_rate = 0.05, .local_epochs = 1}));
  const auto often = train(data, task_of({.learning_rate = 0.05, .local_epochs = 20}));
  EXPECT_LT(often->report.mean_loss, 0.2 * once->report.mean_loss);
}

TEST(Trainer, GivesTheSameBitsOnEveryThreadAndInstance) {
  for (const std::string& model : model_names()) {
    SCOPED_TRACE(model);
    const auto data = sample_data(model, {23, 17}, 0, large_shape(model));
    const auto base = sample_parameters(data->schema);
    const TrainTask task =
        task_of({.learning_rate = 0.05, .momentum = 0.9, .batch_size = 10, .local_epochs = 2});
    const TrainTask other = task_of({.learning_rate = 0.5, .batch_size = 3, .local_epochs = 1}, 1);
    const auto first = *make_trainer(data);
    const auto second = *make_trainer(data);
    const auto expected = train(*first, task, base);
    ASSERT_TRUE(expected.has_value()) << expected.error().describe();
    ASSERT_TRUE(train(*first, other, base).has_value());
    Result<Trained> repeated = train(*first, task, base);
    EXPECT_EQ(repeated->update, expected->update);

    std::vector<Result<Trained>> results(2, error(Code::kInternal, "not run"));
    std::thread a([&] { results[0] = train(*first, task, base); });
    std::thread b([&] {
      (void)train(*second, other, base);
      results[1] = train(*second, task, base);
    });
    a.join();
    b.join();
    for (const auto& result : results) {
      ASSERT_TRUE(result.has_value());
      EXPECT_EQ(result->update, expected->update);
      EXPECT_EQ(result->report.mean_loss, expected->report.mean_loss);
    }
  }
}

#ifdef __GLIBC__
TEST(Trainer, IgnoresWhatFreshMemoryHolds) {
  // All blocks come from one heap that is never given back, so that they hold what was written
  // before they were freed.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  const auto fill_free_memory = [](float value) {
    std::vector<torch::Tensor> blocks;  // of many sizes, to reach holes of all sizes
    for (int64_t size = 1 << 22; size >= 16; size /= 4)
      for (int64_t i = 0; i < std::min<int64_t>(200, (1 << 23) / size); ++i)
        blocks.push_back(torch::full({size}, value));
    blocks.clear();
    const torch::Tensor seen = torch::empty({1 << 20});
    return std::bit_cast<uint32_t>(seen.data_ptr<float>()[1 << 19]) ==
           std::bit_cast<uint32_t>(value);
  };
  for (const std::string& model : model_names()) {
    SCOPED_TRACE(model);
    const auto data = sample_data(model, {25}, 0, large_shape(model));
    const TrainTask task =
        task_of({.learning_rate = 0.05, .momentum = 0.9, .batch_size = 10, .local_epochs = 1});
    std::vector<std::vector<float>> updates;
    for (const float garbage : {0.0F, 3e38F, std::numeric_limits<float>::quiet_NaN()}) {
      if (!fill_free_memory(garbage)) GTEST_SKIP() << "this allocator clears its blocks";
      const auto trained = train(data, task);
      ASSERT_TRUE(trained.has_value()) << trained.error().describe();
      updates.push_back(trained->update);
    }
    EXPECT_EQ(updates[0], updates[1]);
    EXPECT_EQ(updates[0], updates[2]);
  }
  mallopt(M_MMAP_MAX, 65536);
}
#endif

TEST(Trainer, WhatItTrainsDependsOnSeedRoundAndClient) {
  const auto data = sample_data("logistic", {20});
  const TrainTask task = task_of({.learning_rate = 0.1, .batch_size = 4, .local_epochs = 1});
  const auto expected = train(data, task);
  TrainTask other = task;
  other.round = 4;
  EXPECT_NE(train(data, other)->update, expected->update);
  other = task;
  other.seed = 6;
  EXPECT_NE(train(data, other)->update, expected->update);
}

TEST(Trainer, RefusesImpossibleTasks) {
  const auto data = sample_data("logistic", {20, 0});
  const auto code_of = [&](const TrainTask& task) {
    const auto trained = train(data, task);
    return trained ? Code::kOk : trained.error().code();
  };
  EXPECT_EQ(code_of(task_of({})), Code::kOk);
  EXPECT_EQ(code_of(task_of({}, 1)), Code::kInvalidArgument);
  EXPECT_THAT(train(data, task_of({}, 1)).error().message(),
              HasSubstr("training client 1 in round 3: the client has no examples"));
  EXPECT_EQ(code_of(task_of({}, 2)), Code::kInvalidArgument);
  EXPECT_EQ(code_of(task_of({.batch_size = 0})), Code::kInvalidArgument);
  EXPECT_EQ(code_of(task_of({.local_epochs = 0})), Code::kInvalidArgument);
  EXPECT_EQ(code_of(task_of({.local_epochs = 1, .local_steps = 1})), Code::kInvalidArgument);
  EXPECT_EQ(code_of(task_of({.learning_rate = std::nan("")})), Code::kInvalidArgument);
  const auto trainer = *make_trainer(data);
  std::vector<float> update(data->schema.elements() - 1);
  EXPECT_EQ(trainer->train(task_of({}), update, update).error().code(), Code::kInvalidArgument);
}

TEST(Trainer, LearnsToPredictCharacters) {
  for (const auto& [model, rate] : {std::pair("char-lstm", 0.3), {"char-gpt", 0.05}}) {
    const auto data = sample_data(model, {60});
    const auto trained = train(
        data,
        task_of({.learning_rate = rate, .momentum = 0.9, .batch_size = 10, .local_epochs = 25}));
    ASSERT_TRUE(trained.has_value()) << trained.error().describe();
    // Four of five count up: 0.2 * ln(9 * 5) + 0.8 * ln(1 / 0.8) or so is the least.
    EXPECT_LT(trained->report.mean_loss, 1.1) << model;
    EXPECT_EQ(trained->report.samples_trained, 25 * 60U);
  }
}

TEST(Trainer, StopsWhenTrainingDiverges) {
  for (const char* model : {"logistic", "mlp-2nn", "char-lstm"}) {
    const auto data = sample_data(model, {20});
    const auto diverged =
        train(data, task_of({.learning_rate = 1e38, .batch_size = 4, .local_epochs = 3}));
    ASSERT_FALSE(diverged.has_value());
    EXPECT_EQ(diverged.error().code(), Code::kOutOfRange) << diverged.error().describe();
    std::vector<float> base = sample_parameters(data->schema);
    base[7] = std::numeric_limits<float>::quiet_NaN();
    const auto trainer = *make_trainer(data);
    EXPECT_EQ(train(*trainer, task_of({}), base).error().code(), Code::kOutOfRange);
  }
}

TEST(LearningData, RefusesWhatDoesntFit) {
  const DataBundle good{.train = sample_examples({.input = {2}, .classes = 3}, 4, 1),
                        .test = {},
                        .shape = {.input = {2}, .classes = 3},
                        .class_names = {},
                        .client_names = {}};
  EXPECT_TRUE(make_learning_data("logistic", good, Dealt{{0, 3}}).has_value());
  EXPECT_FALSE(make_learning_data("logistic", good, Dealt{{0, 4}}).has_value());
  EXPECT_FALSE(make_learning_data("nonsense", good, Dealt{{0}}).has_value());
  EXPECT_FALSE(make_learning_data("cnn", good, Dealt{{0}}).has_value());
  DataBundle bad = good;
  bad.train.inputs.pop_back();
  EXPECT_FALSE(make_learning_data("logistic", bad, Dealt{{0}}).has_value());
  bad = good;
  bad.train.labels[1] = 3;
  EXPECT_FALSE(make_learning_data("logistic", bad, Dealt{{0}}).has_value());
}

TEST(LearningData, TextsAreForModelsOfTextsAndNothingElse) {
  const TaskShape shape{.input = {4}, .classes = 9};
  const DataBundle texts{.train = sample_texts(shape, 3, 1), .test = {}, .shape = shape},
      classes{.train = sample_examples(shape, 3, 1), .test = {}, .shape = shape};
  const auto message = [](const char* model, const DataBundle& data) {
    const auto made = make_learning_data(model, data, Dealt{{0}});
    return made ? std::string("taken") : made.error().message();
  };
  EXPECT_EQ(message("char-lstm", texts), "taken");
  EXPECT_EQ(message("logistic", classes), "taken");
  EXPECT_THAT(message("logistic", texts), HasSubstr("for texts there are char-lstm and char-gpt"));
  EXPECT_THAT(message("char-gpt", classes), HasSubstr("predicts the next character of texts"));
  // An embedding has no row for what isn't a character.
  for (const float wrong : {-1.0F, 9.0F, 0.5F, std::nanf("")}) {
    DataBundle bad = texts;
    bad.train.inputs[2] = wrong;
    EXPECT_THAT(message("char-lstm", bad), HasSubstr("isn't the number of a character"));
  }
}

}  // namespace
}  // namespace tern
