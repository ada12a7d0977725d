// Models of the user's own: they train as PyTorch would, their bits depend on nothing that came
// before, and what they can't do is said.
#include <gmock/gmock.h>

#include <fstream>
#include <numeric>

#include "learning/script_file.h"
#include "learning/torch_evaluator.h"
#include "learning/torch_trainer.h"
#include "tests/learning/sample_data.h"
#include "tests/learning/script_file_maker.h"

namespace tern {
namespace {

using testing::HasSubstr;

const TaskShape kShape{.input = {1, 8, 8}, .classes = 5};

std::string script_path(const std::string& file_name) {
  return testing::TempDir() + "tern-" + std::to_string(getpid()) + "-" + file_name;
}

std::shared_ptr<const LearningData> script_data(const std::string& script) {
  DataBundle data;
  data.shape = kShape;
  data.train = sample_examples(kShape, 60, 1);
  data.test = sample_examples(kShape, 120, 2);
  std::vector<std::vector<uint32_t>> clients(2);
  for (uint32_t i = 0; i < 60; ++i) clients[i < 37 ? 0 : 1].push_back(i);
  auto made = make_learning_data(ModelConfig{.name = "torchscript", .script = script},
                                 std::move(data), std::move(clients));
  EXPECT_TRUE(made) << made.error().describe();
  return *made;
}

std::vector<float> trained(Trainer& trainer, const TrainingPlan& plan, uint32_t client,
                           const std::vector<float>& base) {
  std::vector<float> update(base.size());
  const auto report =
      trainer.train({.plan = plan, .seed = 5, .round = 2, .client = client}, base, update);
  EXPECT_TRUE(report) << report.error().describe();
  return update;
}

TEST(Script, TrainsAsPlainPyTorchDoes) {
  const std::string path = script_path("net.pt");
  make_script_file(path, 64, 5);
  const auto data = script_data(path);
  const ScriptFile file = *read_script(path);
  EXPECT_EQ(file.schema.hash(), data->schema.hash());
  EXPECT_EQ(file.parameters.size(), 8u * 64 + 8 + 5 * 8 + 5);
  const auto trainer = *make_trainer(data);
  for (const TrainingPlan& plan :
       {TrainingPlan{.learning_rate = 0.1},
        TrainingPlan{.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 0.01}}) {
    const std::vector<float> update = trained(*trainer, plan, 0, file.parameters);
    // The same by modules of torch::nn and torch::optim, on the same batches.
    torch::nn::Sequential net(torch::nn::Flatten(), torch::nn::Linear(64, 8), torch::nn::ReLU(),
                              torch::nn::Linear(8, 5));
    size_t at = 0;
    for (at::Tensor& parameter : net->parameters()) {
      const torch::NoGradGuard no_grad;
      parameter.copy_(
          torch::from_blob(const_cast<float*>(file.parameters.data()) + at, parameter.sizes()));
      at += static_cast<size_t>(parameter.numel());
    }
    torch::optim::SGD sgd(net->parameters(), torch::optim::SGDOptions(plan.learning_rate)
                                                 .momentum(plan.momentum)
                                                 .weight_decay(plan.weight_decay));
    std::vector<uint32_t> order = data->clients.of(0);
    Rng rng(5, Purpose::kBatches, 2, 0, 0);
    rng.shuffle(std::span<uint32_t>(order));
    for (size_t first = 0; first < order.size(); first += plan.batch_size) {
      std::vector<float> inputs;
      std::vector<int64_t> labels;
      for (size_t i = first; i < std::min<size_t>(first + plan.batch_size, order.size()); ++i) {
        const auto* row = data->data.train.inputs.data() + size_t{order[i]} * 64;
        inputs.insert(inputs.end(), row, row + 64);
        labels.push_back(data->data.train.labels[order[i]]);
      }
      const auto n = static_cast<int64_t>(labels.size());
      sgd.zero_grad();
      torch::nn::functional::cross_entropy(
          net->forward(torch::from_blob(inputs.data(), {n, 1, 8, 8})), torch::tensor(labels))
          .backward();
      sgd.step();
    }
    at = 0;
    for (const at::Tensor& parameter : net->parameters()) {
      const at::Tensor values = parameter.detach().contiguous();
      for (int64_t i = 0; i < values.numel(); ++i, ++at)
        EXPECT_NEAR(values.data_ptr<float>()[i] - file.parameters[at], update[at], 1e-5) << at;
    }
  }
}

TEST(Script, BitsDependOnTheTaskAlone) {
  const std::string path = script_path("bits.pt");
  make_script_file(path, 64, 5);
  const auto data = script_data(path);
  const std::vector<float> base = read_script(path)->parameters;
  const TrainingPlan plan{.local_epochs = 3};
  const auto used = *make_trainer(data), fresh = *make_trainer(data);
  const std::vector<float> first = trained(*used, plan, 1, base);
  for (int i = 0; i < 3; ++i) (void)trained(*used, plan, 0, base);
  EXPECT_EQ(trained(*used, plan, 1, base), first);
  EXPECT_EQ(trained(*fresh, plan, 1, base), first);
  const auto evaluator = *make_evaluator(data);
  const auto once = *evaluator->evaluate(base, 0);
  EXPECT_EQ(once.loss.size(), 120u);
  EXPECT_EQ(evaluator->evaluate(base, 0)->loss, once.loss);
  std::vector<float> moved = base;
  for (size_t i = 0; i < moved.size(); ++i) moved[i] += first[i];
  EXPECT_NE(evaluator->evaluate(moved, 0)->loss, once.loss);
}

TEST(Script, SaysWhatIsWrong) {
  EXPECT_EQ(read_script("/nowhere/net.pt").error().code(), Code::kNotFound);
  const std::string path = script_path("wrong.pt");
  std::ofstream(path) << "no archive";
  EXPECT_EQ(read_script(path).error().code(), Code::kCorrupt);
  EXPECT_THAT(read_script(path).error().describe(), HasSubstr("torch.jit.script"));
  make_script_file(path, 64, 5, "", "running_mean");
  EXPECT_THAT(read_script(path).error().describe(), HasSubstr("GroupNorm"));

  // Nobody could repeat such runs: the generator and the module are there for all clients.
  const std::string scores = "    return torch.addmm(self.b2, h, self.w2.t())\n";
  const auto refused_for = [&](const std::string& first_lines, const char* reason) {
    make_script_file(path, 64, 5, first_lines + scores);
    const auto file = read_script(path);
    ASSERT_FALSE(file) << first_lines;
    EXPECT_THAT(file.error().describe(), HasSubstr(reason));
  };
  const std::string hidden = "torch.addmm(self.b1, x.flatten(1), self.w1.t())";
  refused_for("    h = torch.dropout(" + hidden + ", 0.5, True)\n", "aten::dropout");
  refused_for("    h = torch.rand_like(" + hidden + ")\n", "aten::rand_like");
  refused_for("    h = " + hidden + "\n    if h.size(0) > 3:\n        h = h + torch.randn(8)\n",
              "aten::randn");
  refused_for("    h = " + hidden + "\n    self.b1 = h[0]\n", "changes b1");
  make_script_file(path, 64, 5, "    h = torch.dropout(" + hidden + ", 0.5, False)\n" + scores);
  EXPECT_TRUE(read_script(path)) << "dropout that is off does no harm";

  make_script_file(path, 64, 5, "    return x.flatten(1)\n");
  const auto wide = script_data(path);
  const auto trainer = make_trainer(wide);
  ASSERT_FALSE(trainer);
  EXPECT_THAT(trainer.error().describe(), HasSubstr("[2, 5], not Float [2, 64]"));

  // The file has changed since the data were made.
  make_script_file(path, 64, 5);
  const auto data = script_data(path);
  make_script_file(path, 64, 7);
  const auto other = make_trainer(data);
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error().describe(), HasSubstr("w2"));
}

// A first layer that works in place is common; the test data are everybody's.
TEST(Script, InputsThatItChangesAreACopy) {
  const std::string path = script_path("in_place.pt");
  make_script_file(path, 64, 5,
                   "    x.mul_(2)\n"
                   "    h = torch.relu(torch.addmm(self.b1, x.flatten(1), self.w1.t()))\n"
                   "    return torch.addmm(self.b2, h, self.w2.t())\n");
  const auto data = script_data(path);
  const std::vector<float> inputs = data->data.test.inputs;
  const auto evaluator = *make_evaluator(data);
  const std::vector<float> base = read_script(path)->parameters;
  const auto first = *evaluator->evaluate(base, 0);
  EXPECT_EQ(evaluator->evaluate(base, 0)->loss, first.loss);
  EXPECT_EQ(data->data.test.inputs, inputs);
}

// A script that throws, or asks for what isn't there, ends the task and not the program.
TEST(Script, AnExceptionIsAnError) {
  const std::string path = script_path("throws.pt");
  make_script_file(path, 64, 5, "    return torch.addmm(self.b1, x, self.w1)\n");
  const auto data = script_data(path);
  EXPECT_FALSE(make_trainer(data));
  EXPECT_FALSE(make_evaluator(data));
}

TEST(Script, OfTextsGivesScoresForEachCharacter) {
  const TaskShape shape{.input = {12}, .classes = 9};
  const auto data_of = [&](const std::string& script) {
    DataBundle data{.train = sample_texts(shape, 40, 1), .test = sample_texts(shape, 10, 2)};
    data.shape = shape;
    std::vector<std::vector<uint32_t>> clients(1, std::vector<uint32_t>(40));
    std::iota(clients[0].begin(), clients[0].end(), 0u);
    return make_learning_data(ModelConfig{.name = "torchscript", .script = script}, std::move(data),
                              std::move(clients))
        .value();
  };
  const std::string path = script_path("texts.pt");
  make_script_file(path, 9, 9,
                   "    h = torch.relu(torch.embedding(self.w1.t(), x.long()) + self.b1)\n"
                   "    return torch.matmul(h, self.w2.t()) + self.b2\n");
  const auto data = data_of(path);
  const auto trainer = make_trainer(data);
  ASSERT_TRUE(trainer) << trainer.error().describe();
  std::vector<float> parameters = read_script(path)->parameters;
  const auto loss = [&] {
    const EvaluationPart part = *(*make_evaluator(data))->evaluate(parameters, 0);
    EXPECT_EQ(part.loss.size(), 10 * 12U);
    return std::accumulate(part.loss.begin(), part.loss.end(), 0.0) / 120;
  };
  const double before = loss();
  const std::vector<float> update = trained(
      **trainer, {.learning_rate = 0.5, .batch_size = 8, .local_epochs = 30}, 0, parameters);
  for (size_t i = 0; i < parameters.size(); ++i) parameters[i] += update[i];
  EXPECT_LT(loss(), 0.7 * before) << "most characters follow from the one before";

  const std::string flat = script_path("one_for_a_text.pt");
  make_script_file(flat, 12, 9);
  EXPECT_THAT(make_trainer(data_of(flat)).error().message(),
              HasSubstr("must give float32 scores of the shape [2, 12, 9]"));
}

}  // namespace
}  // namespace tern
