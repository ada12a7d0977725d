#include "learning/models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "learning/blas.h"
#include "tests/learning/sample_data.h"

namespace tern {
namespace {

/// The models as a PyTorch user writes them.
struct Logistic : torch::nn::Module {
  explicit Logistic(const TaskShape& s)
      : fc(register_module("fc", torch::nn::Linear(s.features(), s.classes))) {}
  torch::Tensor forward(const torch::Tensor& x) { return fc(x.flatten(1)); }
  torch::nn::Linear fc;
};

struct Mlp : torch::nn::Module {
  explicit Mlp(const TaskShape& s)
      : fc1(register_module("fc1", torch::nn::Linear(s.features(), 200))),
        fc2(register_module("fc2", torch::nn::Linear(200, 200))),
        fc3(register_module("fc3", torch::nn::Linear(200, s.classes))) {}
  torch::Tensor forward(const torch::Tensor& x) {
    return fc3(torch::relu(fc2(torch::relu(fc1(x.flatten(1))))));
  }
  torch::nn::Linear fc1, fc2, fc3;
};

struct Cnn : torch::nn::Module {
  explicit Cnn(const TaskShape& s)
      : conv1(register_module(
            "conv1", torch::nn::Conv2d(torch::nn::Conv2dOptions(s.input[0], 32, 5).padding(2)))),
        conv2(register_module("conv2",
                              torch::nn::Conv2d(torch::nn::Conv2dOptions(32, 64, 5).padding(2)))),
        fc1(register_module("fc1",
                            torch::nn::Linear(64 * (s.input[1] / 4) * (s.input[2] / 4), 512))),
        fc2(register_module("fc2", torch::nn::Linear(512, s.classes))) {}
  torch::Tensor forward(torch::Tensor x) {
    x = torch::max_pool2d(torch::relu(conv1(x)), 2);
    x = torch::max_pool2d(torch::relu(conv2(x)), 2);
    return fc2(torch::relu(fc1(x.flatten(1))));
  }
  torch::nn::Conv2d conv1, conv2;
  torch::nn::Linear fc1, fc2;
};

template <typename Module>
void expect_same_forward(const std::string& model, const TaskShape& shape) {
  SCOPED_TRACE(model);
  make_math_serial();
  const torch::NoGradGuard no_grad;
  const auto schema = model_schema(model, shape);
  ASSERT_TRUE(schema.has_value()) << schema.error().describe();
  const auto network = Network::make(*schema, shape);
  ASSERT_TRUE(network.has_value()) << network.error().describe();
  std::vector<float> values = sample_parameters(*schema);
  const auto views = parameter_views(
      *schema, torch::from_blob(values.data(), {static_cast<int64_t>(values.size())}));
  Module module(shape);
  const auto named = module.named_parameters();
  ASSERT_EQ(named.size(), views.size());
  for (size_t i = 0; i < views.size(); ++i) {
    EXPECT_EQ(named[i].key(), schema->tensors()[i].name);
    ASSERT_EQ(named[i].value().sizes(), views[i].sizes());
    named[i].value().copy_(views[i]);
  }
  const Dataset data = sample_examples(shape, 9, 3);
  const torch::Tensor inputs =
      torch::from_blob(const_cast<float*>(data.inputs.data()), {9, shape.features()});
  std::vector<int64_t> image = {9};
  image.insert(image.end(), shape.input.begin(), shape.input.end());
  const torch::Tensor expected = module.forward(inputs.view(image));
  const torch::Tensor got = network->forward(views, inputs);
  EXPECT_EQ(got.sizes(), expected.sizes());
  EXPECT_LT((got - expected).abs().max().item<float>(), 1e-5F);
}

TEST(Models, AgreeWithModulesOnTheSameWeights) {
  expect_same_forward<Logistic>("logistic", {.input = {13}, .classes = 3});
  expect_same_forward<Mlp>("mlp-2nn", {.input = {13}, .classes = 3});
  expect_same_forward<Mlp>("mlp-2nn", {.input = {1, 28, 28}, .classes = 10});
  expect_same_forward<Cnn>("cnn", {.input = {1, 28, 28}, .classes = 10});
  expect_same_forward<Cnn>("cnn", {.input = {3, 9, 14}, .classes = 4});
}

TEST(Models, ViewsShareTheFlatVector) {
  const auto schema = model_schema("mlp-2nn", {.input = {4}, .classes = 3});
  torch::Tensor flat = torch::arange(static_cast<int64_t>(schema->elements()), torch::kFloat);
  const auto views = parameter_views(*schema, flat);
  for (size_t i = 0; i < views.size(); ++i)
    EXPECT_EQ(views[i].data_ptr<float>(), flat.data_ptr<float>() + schema->offset(i));
}

TEST(Models, RefuseASchemaThatIsNoStackOfLayers) {
  const TaskShape shape{.input = {4}, .classes = 3};
  const auto make = [&](std::vector<TensorSpec> tensors) {
    return Network::make(*ParameterSchema::make(std::move(tensors)), shape);
  };
  const TensorSpec weight{"w", {3, 4}, TensorKind::kWeight};
  const TensorSpec bias{"b", {3}, TensorKind::kBias};
  EXPECT_TRUE(make({weight, bias}).has_value());
  EXPECT_EQ(make({weight}).error().code(), Code::kUnsupported);
  EXPECT_EQ(make({bias, weight}).error().code(), Code::kUnsupported);
  EXPECT_EQ(make({{"w", {3, 5}, TensorKind::kWeight}, bias}).error().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(
      make({{"w", {2, 4}, TensorKind::kWeight}, {"b", {2}, TensorKind::kBias}}).error().code(),
      Code::kInvalidArgument);
  EXPECT_EQ(make({}).error().code(), Code::kInvalidArgument);
}

TEST(Blas, SaysWhatItIs) {
  const bool openblas = make_math_serial();
  EXPECT_EQ(make_math_serial(), openblas);
  EXPECT_EQ(at::get_num_threads(), 1);
  EXPECT_EQ(openblas, blas_description().starts_with("OpenBLAS ")) << blas_description();
  EXPECT_EQ(libtorch_version().substr(0, 1).find_first_of("12"), 0U);
}

}  // namespace
}  // namespace tern
