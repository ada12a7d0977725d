#include "config/model_card.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/sha256.h"

namespace tern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const TaskShape kFashion{{1, 28, 28}, 10};
TaskShape shape_for(std::string_view model) {
  return predicts_characters(model) ? TaskShape{{80}, kTextClasses} : kFashion;
}

std::vector<float> initialized(const ParameterSchema& schema, uint64_t seed, int grid_bits = 20) {
  std::vector<float> parameters(schema.elements());
  initialize_parameters(schema, seed, grid_bits, parameters);
  return parameters;
}

TEST(ModelCard, CountsParametersAsThePapersDo) {
  EXPECT_EQ(model_schema("logistic", kFashion).value().elements(), 7'850u);
  EXPECT_EQ(model_schema("mlp-2nn", kFashion).value().elements(), 199'210u);
  EXPECT_EQ(model_schema("cnn", kFashion).value().elements(), 1'663'370u);
}

TEST(ModelCard, NamesTensorsAsLibTorchModulesDo) {
  const auto names = [](std::string_view model) {
    std::vector<std::string> result;
    const ParameterSchema schema = model_schema(model, kFashion).value();
    for (const TensorSpec& tensor : schema.tensors())
      result.push_back(fmt::format("{} [{}]", tensor.name, fmt::join(tensor.shape, ",")));
    return result;
  };
  EXPECT_THAT(names("logistic"), ElementsAre("fc.weight [10,784]", "fc.bias [10]"));
  EXPECT_THAT(names("mlp-2nn"),
              ElementsAre("fc1.weight [200,784]", "fc1.bias [200]", "fc2.weight [200,200]",
                          "fc2.bias [200]", "fc3.weight [10,200]", "fc3.bias [10]"));
  EXPECT_THAT(names("cnn"),
              ElementsAre("conv1.weight [32,1,5,5]", "conv1.bias [32]", "conv2.weight [64,32,5,5]",
                          "conv2.bias [64]", "fc1.weight [512,3136]", "fc1.bias [512]",
                          "fc2.weight [10,512]", "fc2.bias [10]"));
}

TEST(ModelCard, KnowsWeightsFromBiases) {
  for (const std::string& model : model_names()) {
    const ParameterSchema schema = model_schema(model, shape_for(model)).value();
    for (const TensorSpec& tensor : schema.tensors())
      EXPECT_EQ(tensor.kind, tensor.name.find("norm") != std::string::npos   ? TensorKind::kNorm
                             : tensor.name.find("bias") != std::string::npos ? TensorKind::kBias
                                                                             : TensorKind::kWeight)
          << tensor.name;
  }
}

TEST(ModelCard, HasAsManyParametersAsItSays) {
  EXPECT_EQ(model_schema("mlp-2nn", kFashion)->elements(), 199'210U);
  EXPECT_EQ(model_schema("cnn", kFashion)->elements(), 1'663'370U);
  EXPECT_EQ(model_schema("resnet8-gn", {{3, 32, 32}, 10})->elements(), 77'850U);
  EXPECT_EQ(model_schema("char-lstm", {{80}, kTextClasses})->elements(), 88'305U);
  EXPECT_EQ(model_schema("char-gpt", {{80}, kTextClasses})->elements(), 117'729U);
}

TEST(ModelCard, CnnRoundsOddImagesDown) {
  const ParameterSchema schema = model_schema("cnn", {{3, 7, 9}, 2}).value();
  EXPECT_THAT(schema.tensors()[0].shape, ElementsAre(32, 3, 5, 5));
  EXPECT_THAT(schema.tensors()[4].shape, ElementsAre(512, 64 * 1 * 2));
}

TEST(ModelCard, RefusesUnknownModelsAndShapesItCannotTake) {
  const auto message = [](std::string_view model, const TaskShape& shape) {
    const Result<ParameterSchema> schema = model_schema(model, shape);
    if (schema) return std::string("accepted");
    EXPECT_EQ(schema.error().code(), Code::kInvalidArgument);
    return schema.error().message();
  };
  EXPECT_EQ(message("resnet", kFashion),
            "no model is called 'resnet'; there are logistic, mlp-2nn, cnn, resnet8-gn, char-lstm, "
            "char-gpt");
  EXPECT_THAT(message("resnet8-gn", {{784}, 10}), HasSubstr("resnet8-gn takes images"));
  EXPECT_THAT(message("char-lstm", kFashion), HasSubstr("takes texts of one dimension"));
  EXPECT_THAT(message("cnn", {{784}, 10}), HasSubstr("at least 4 x 4 pixels, not [784]"));
  EXPECT_THAT(message("cnn", {{1, 3, 28}, 10}), HasSubstr("not [1, 3, 28]"));
  EXPECT_EQ(message("cnn", {{1, 4, 4}, 10}), "accepted");
  EXPECT_THAT(message("logistic", {{0}, 10}), HasSubstr("the shape [0]"));
  EXPECT_THAT(message("logistic", {{-4}, 10}), HasSubstr("the shape [-4]"));
  EXPECT_THAT(message("logistic", {{4}, 1}), HasSubstr("at least 2 classes, not 1"));
  const int64_t huge = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(message("mlp-2nn", {{huge, huge}, 10}), HasSubstr("no model takes"));
  EXPECT_THAT(message("mlp-2nn", {{int64_t{1} << 40}, 10}), HasSubstr("more than 2^40"));
  EXPECT_THAT(message("cnn", {{1, huge, 4}, 10}), HasSubstr("no model takes"));
  EXPECT_THAT(message("logistic", {{1}, huge}), HasSubstr("more than 2^40"));
}

TEST(Initializer, GivesPinnedBits) {
  // The same on every machine: version 0 doesn't travel, so a change here breaks every deployed
  // run.
  const ParameterSchema schema = model_schema("logistic", {{4}, 3}).value();
  const std::vector<float> parameters = initialized(schema, 1);
  EXPECT_EQ(to_hex(sha256(std::span<const float>(parameters))),
            "8c856c364c1a298bbc06b6bf035eddd0797db785bcd60e93e87aca1cd679b0b0");
  const ParameterSchema cnn = model_schema("cnn", kFashion).value();
  EXPECT_EQ(to_hex(sha256(std::span<const float>(initialized(cnn, 7)))),
            "49afbf148a917d88e5d38ceaaa35bd889569be80306c90518b9486a7ffc15be7");
}

TEST(Initializer, StaysOnTheGridAndWithinTheBound) {
  for (const std::string& model : model_names())
    for (int grid_bits : {0, 8, 20, 24}) {
      const ParameterSchema schema = model_schema(model, shape_for(model)).value();
      const std::vector<float> parameters = initialized(schema, 3, grid_bits);
      double inputs = 0;
      for (size_t i = 0; i < schema.tensors().size(); ++i) {
        const TensorSpec& tensor = schema.tensors()[i];
        if (tensor.kind == TensorKind::kWeight)
          inputs = static_cast<double>(tensor.elements()) / static_cast<double>(tensor.shape[0]);
        if (tensor.kind == TensorKind::kNorm) inputs = 1;  // it scales by 1
        const double bound = 1 / std::sqrt(inputs) + std::ldexp(0.5, -grid_bits);
        for (size_t k = 0; k < tensor.elements(); ++k) {
          const float value = parameters[schema.offset(i) + k];
          ASSERT_LE(std::abs(value), bound) << tensor.name;
          const double steps = std::ldexp(double{value}, grid_bits);
          ASSERT_EQ(steps, std::floor(steps)) << tensor.name;
          ASSERT_FALSE(value == 0 && std::signbit(value)) << tensor.name;
        }
      }
    }
}

TEST(Initializer, NormalizationsBeginAsNone) {
  const ParameterSchema schema = model_schema("resnet8-gn", kFashion).value();
  const std::vector<float> parameters = initialized(schema, 3);
  for (size_t i = 0; i < schema.tensors().size(); ++i) {
    const TensorSpec& tensor = schema.tensors()[i];
    if (tensor.kind != TensorKind::kNorm) continue;
    for (size_t k = 0; k < tensor.elements(); ++k)
      EXPECT_EQ(parameters[schema.offset(i) + k], tensor.name.ends_with(".bias") ? 0.0F : 1.0F);
  }
}

TEST(Initializer, IsUniformWithTheRightSpread) {
  // Variance of a uniform in +-b is b^2/3; its estimate from n values has the relative deviation
  // sqrt(0.8/n). Six of them.
  const ParameterSchema schema = model_schema("mlp-2nn", kFashion).value();
  const std::vector<float> parameters = initialized(schema, 5);
  double sum = 0;
  double squares = 0;
  const double count = 200 * 784;
  for (size_t i = 0; i < 200 * 784; ++i) {
    sum += parameters[i];
    squares += double{parameters[i]} * parameters[i];
  }
  const double variance = 1.0 / 784 / 3;
  EXPECT_NEAR(sum / count, 0, 6 * std::sqrt(variance / count));
  EXPECT_NEAR(squares / count / variance, 1, 6 * std::sqrt(0.8 / count));
}

TEST(Initializer, SeedsAndTensorsDiffer) {
  const ParameterSchema schema = model_schema("mlp-2nn", {{200}, 200}).value();
  const std::vector<float> one = initialized(schema, 1);
  const std::vector<float> two = initialized(schema, 2);
  EXPECT_EQ(one, initialized(schema, 1));
  EXPECT_NE(one, two);
  // fc1.weight and fc2.weight have one shape, yet not one value for another.
  EXPECT_NE(std::memcmp(one.data(), one.data() + schema.offset(2), 200 * sizeof(float)), 0);
}

}  // namespace
}  // namespace tern
