#include "learning/models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <array>
#include <limits>

#include "learning/blas.h"
#include "learning/pooling.h"
#include "learning/trained_model.h"
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

struct Block : torch::nn::Module {
  Block(int64_t in, int64_t out)
      : conv1(register_module("conv1", convolution(in, out, 3, in == out ? 1 : 2))),
        norm1(register_module("norm1", torch::nn::GroupNorm(8, out))),
        conv2(register_module("conv2", convolution(out, out, 3, 1))),
        norm2(register_module("norm2", torch::nn::GroupNorm(8, out))) {
    if (in != out) shortcut = register_module("shortcut", convolution(in, out, 1, 2));
  }
  static torch::nn::Conv2d convolution(int64_t in, int64_t out, int64_t kernel, int64_t stride) {
    return torch::nn::Conv2d(
        torch::nn::Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    const torch::Tensor y = norm2(conv2(torch::relu(norm1(conv1(x)))));
    return torch::relu(y + (shortcut ? shortcut(x) : x));
  }
  torch::nn::Conv2d conv1;
  torch::nn::GroupNorm norm1;
  torch::nn::Conv2d conv2;
  torch::nn::GroupNorm norm2;
  torch::nn::Conv2d shortcut{nullptr};
};

struct ResNet8 : torch::nn::Module {
  explicit ResNet8(const TaskShape& s)
      : conv(register_module("conv", Block::convolution(s.input[0], 16, 3, 1))),
        norm(register_module("norm", torch::nn::GroupNorm(8, 16))),
        block1(register_module("block1", std::make_shared<Block>(16, 16))),
        block2(register_module("block2", std::make_shared<Block>(16, 32))),
        block3(register_module("block3", std::make_shared<Block>(32, 64))),
        fc(register_module("fc", torch::nn::Linear(64, s.classes))) {}
  torch::Tensor forward(torch::Tensor x) {
    x = torch::relu(norm(conv(x)));
    x = block3->forward(block2->forward(block1->forward(x)));
    return fc(torch::adaptive_avg_pool2d(x, {1, 1}).flatten(1));
  }
  torch::nn::Conv2d conv;
  torch::nn::GroupNorm norm;
  std::shared_ptr<Block> block1, block2, block3;
  torch::nn::Linear fc;
};

/// torch::nn::LSTM has a second bias, which stays 0.
struct CharLstm : torch::nn::Module {
  explicit CharLstm(const TaskShape& s)
      : embedding(register_module("embedding", torch::nn::Embedding(s.classes, 16))),
        lstm(register_module("lstm",
                             torch::nn::LSTM(torch::nn::LSTMOptions(16, 128).batch_first(true)))),
        fc(register_module("fc", torch::nn::Linear(128, s.classes))) {
    lstm->named_parameters()["bias_hh_l0"].zero_();
  }
  torch::Tensor forward(const torch::Tensor& x) {
    const torch::Tensor hidden = std::get<0>(lstm(embedding(x.to(torch::kLong))));
    return fc(hidden).flatten(0, 1);
  }
  torch::nn::Embedding embedding;
  torch::nn::LSTM lstm;
  torch::nn::Linear fc;
};

struct Attention : torch::nn::Module {
  Attention()
      : in(register_module("in", torch::nn::Linear(64, 192))),
        out(register_module("out", torch::nn::Linear(64, 64))) {}
  /// Position by position and head by head, as a definition.
  torch::Tensor forward(const torch::Tensor& x) {
    const torch::Tensor qkv = in(x);
    torch::Tensor result = torch::zeros_like(x);
    for (int64_t head = 0; head < 4; ++head) {
      const auto part = [&](int64_t which) { return qkv.narrow(2, 64 * which + 16 * head, 16); };
      for (int64_t t = 0; t < x.size(1); ++t) {
        const torch::Tensor seen = part(1).narrow(1, 0, t + 1);
        const torch::Tensor weights =
            torch::softmax((seen * part(0).narrow(1, t, 1)).sum(2) / 4, 1);
        result.narrow(2, 16 * head, 16)
            .select(1, t)
            .copy_((weights.unsqueeze(2) * part(2).narrow(1, 0, t + 1)).sum(1));
      }
    }
    return out(result);
  }
  torch::nn::Linear in, out;
};

struct GptBlock : torch::nn::Module {
  GptBlock() {
    register_module("norm1", norm1);
    attention = register_module("attention", std::make_shared<Attention>());
    register_module("norm2", norm2);
    mlp->push_back("in", torch::nn::Linear(64, 256));
    mlp->push_back("gelu", torch::nn::GELU());
    mlp->push_back("out", torch::nn::Linear(256, 64));
    register_module("mlp", mlp);
  }
  torch::Tensor forward(torch::Tensor x) {
    x = x + attention->forward(norm1(x));
    return x + mlp->forward(norm2(x));
  }
  torch::nn::LayerNorm norm1{torch::nn::LayerNormOptions({64})};
  std::shared_ptr<Attention> attention;
  torch::nn::LayerNorm norm2{torch::nn::LayerNormOptions({64})};
  torch::nn::Sequential mlp;
};

struct CharGpt : torch::nn::Module {
  explicit CharGpt(const TaskShape& s)
      : token(register_module("token", torch::nn::Embedding(s.classes, 64))),
        position(register_module("position", torch::nn::Embedding(s.input[0], 64))),
        block1(register_module("block1", std::make_shared<GptBlock>())),
        block2(register_module("block2", std::make_shared<GptBlock>())),
        norm(register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({64})))),
        fc(register_module("fc", torch::nn::Linear(64, s.classes))) {}
  torch::Tensor forward(const torch::Tensor& x) {
    const torch::Tensor embedded =
        token(x.to(torch::kLong)) + position(torch::arange(x.size(1), torch::kLong));
    return fc(norm(block2->forward(block1->forward(embedded)))).flatten(0, 1);
  }
  torch::nn::Embedding token, position;
  std::shared_ptr<GptBlock> block1, block2;
  torch::nn::LayerNorm norm;
  torch::nn::Linear fc;
};

template <typename Module>
void expect_same_forward(const std::string& model, const TaskShape& shape) {
  SCOPED_TRACE(model);
  make_math_serial();
  const torch::NoGradGuard no_grad;
  const auto data = sample_data(model, {9}, 0, shape);
  const ParameterSchema& schema = data->schema;
  std::vector<float> values = sample_parameters(schema);
  const torch::Tensor flat = torch::from_blob(values.data(), {static_cast<int64_t>(values.size())});
  const auto views = parameter_views(schema, flat);
  const auto trained = make_trained_model(*data, flat);
  ASSERT_TRUE(trained.has_value()) << trained.error().describe();
  Module module(shape);
  std::vector<std::pair<std::string, torch::Tensor>> named;
  for (const auto& parameter : module.named_parameters())
    if (parameter.key() != "lstm.bias_hh_l0")
      named.emplace_back(parameter.key(), parameter.value());
  ASSERT_EQ(named.size(), views.size());
  for (size_t i = 0; i < views.size(); ++i) {
    EXPECT_EQ(named[i].first, schema.tensors()[i].name);
    ASSERT_EQ(named[i].second.sizes(), views[i].sizes());
    named[i].second.copy_(views[i]);
  }
  const torch::Tensor inputs =
      torch::from_blob(const_cast<float*>(data->data.train.inputs.data()), {9, shape.features()});
  std::vector<int64_t> image = {9};
  image.insert(image.end(), shape.input.begin(), shape.input.end());
  const torch::Tensor expected = module.forward(inputs.view(image));
  const torch::Tensor got = *(*trained)->forward(inputs);
  EXPECT_EQ(got.sizes(), expected.sizes());
  EXPECT_LT((got - expected).abs().max().item<float>(), 1e-5F);
}

TEST(Models, AgreeWithModulesOnTheSameWeights) {
  expect_same_forward<Logistic>("logistic", {.input = {13}, .classes = 3});
  expect_same_forward<Mlp>("mlp-2nn", {.input = {13}, .classes = 3});
  expect_same_forward<Mlp>("mlp-2nn", {.input = {1, 28, 28}, .classes = 10});
  expect_same_forward<Cnn>("cnn", {.input = {1, 28, 28}, .classes = 10});
  expect_same_forward<Cnn>("cnn", {.input = {3, 9, 14}, .classes = 4});
  expect_same_forward<ResNet8>("resnet8-gn", {.input = {3, 32, 32}, .classes = 10});
  expect_same_forward<ResNet8>("resnet8-gn", {.input = {1, 9, 14}, .classes = 4});
  expect_same_forward<CharLstm>("char-lstm", {.input = {80}, .classes = 97});
  expect_same_forward<CharGpt>("char-gpt", {.input = {80}, .classes = 97});
  expect_same_forward<CharGpt>("char-gpt", {.input = {3}, .classes = 5});
}

bool same_bits(const torch::Tensor& a, const torch::Tensor& b) {
  return torch::equal(a.detach().view(torch::kInt), b.detach().view(torch::kInt));
}

// Ties, zeros of both signs, infinities and NaN included: a model must not change with who pools.
TEST(Models, PoolingHasTheBitsOfLibTorchs) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  const std::array<float, 8> values = {-1, -0.0F, 0, 0.5F, 0.5F, 2, kInf, kNaN};
  torch::manual_seed(3);
  for (const auto& [height, width] : {std::pair{28, 28}, {14, 14}, {7, 9}, {2, 3}}) {
    const auto make = [&](const torch::Tensor& from) {
      return from.detach().clone().requires_grad_(true);
    };
    const std::vector<int64_t> sizes = {3, 5, height, width};
    torch::Tensor special = torch::empty(sizes);
    for (int64_t i = 0; i < special.numel(); ++i)
      special.data_ptr<float>()[i] = values[torch::randint(8, {1}).item<int64_t>()];
    for (const torch::Tensor& input : {torch::randn(sizes), special}) {
      const torch::Tensor ours = make(input), theirs = make(input);
      const torch::Tensor y = pool_and_rectify(ours);
      const torch::Tensor expected = torch::relu(torch::max_pool2d(theirs, 2));
      EXPECT_TRUE(same_bits(y, expected)) << height << "x" << width;
      torch::Tensor gradient = torch::randn(expected.sizes());
      gradient.view(-1)[0] = -0.0F;
      y.backward(gradient);
      expected.backward(gradient);
      EXPECT_TRUE(same_bits(ours.grad(), theirs.grad())) << height << "x" << width;
      const torch::NoGradGuard no_grad;
      EXPECT_TRUE(same_bits(pool_and_rectify(input), expected));
    }
  }
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
