#include "base/parameter_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tern {
namespace {

using testing::HasSubstr;

TEST(ParameterSchema, LaysTensorsOutInOrder) {
  const ParameterSchema schema = ParameterSchema::make({{"w", {3, 4}, TensorKind::kWeight},
                                                        {"empty", {0, 9}, TensorKind::kWeight},
                                                        {"scalar", {}, TensorKind::kNorm},
                                                        {"b", {3}, TensorKind::kBias}})
                                     .value();
  EXPECT_EQ(schema.elements(), 16u);
  EXPECT_EQ(schema.offset(0), 0u);
  EXPECT_EQ(schema.offset(1), 12u);
  EXPECT_EQ(schema.offset(2), 12u);
  EXPECT_EQ(schema.offset(3), 13u);
}

TEST(ParameterSchema, AnEmptyOneHasNoElements) {
  EXPECT_EQ(ParameterSchema::make({}).value().elements(), 0u);
}

TEST(ParameterSchema, HashDependsOnNamesShapesKindsAndOrder) {
  const auto hash = [](std::vector<TensorSpec> tensors) {
    return ParameterSchema::make(std::move(tensors)).value().hash();
  };
  const uint64_t base = hash({{"ab", {2, 3}, TensorKind::kWeight}, {"c", {6}, TensorKind::kBias}});
  EXPECT_EQ(base, hash({{"ab", {2, 3}, TensorKind::kWeight}, {"c", {6}, TensorKind::kBias}}));
  EXPECT_NE(base, hash({{"a", {2, 3}, TensorKind::kWeight}, {"bc", {6}, TensorKind::kBias}}));
  EXPECT_NE(base, hash({{"ab", {3, 2}, TensorKind::kWeight}, {"c", {6}, TensorKind::kBias}}));
  EXPECT_NE(base, hash({{"ab", {6}, TensorKind::kWeight}, {"c", {6}, TensorKind::kBias}}));
  EXPECT_NE(base, hash({{"ab", {2, 3}, TensorKind::kWeight}, {"c", {6}, TensorKind::kNorm}}));
  EXPECT_NE(base, hash({{"c", {6}, TensorKind::kBias}, {"ab", {2, 3}, TensorKind::kWeight}}));
  EXPECT_NE(base, hash({{"ab", {2, 3}, TensorKind::kWeight}}));
}

TEST(ParameterSchema, HashIsPinned) {
  // It travels in every frame: another value here means that old frames are refused.
  const ParameterSchema schema =
      ParameterSchema::make(
          {{"fc.weight", {10, 784}, TensorKind::kWeight}, {"fc.bias", {10}, TensorKind::kBias}})
          .value();
  EXPECT_EQ(schema.hash(), 0x57e95c71aaef9d26u);
}

TEST(ParameterSchema, RefusesBadNamesAndSizes) {
  const auto message = [](std::vector<TensorSpec> tensors) {
    const Result<ParameterSchema> schema = ParameterSchema::make(std::move(tensors));
    EXPECT_FALSE(schema);
    if (schema) return std::string();
    EXPECT_EQ(schema.error().code(), Code::kInvalidArgument);
    return schema.error().message();
  };
  EXPECT_THAT(message({{"", {1}}}), HasSubstr("no name"));
  EXPECT_THAT(message({{"a", {1}}, {"a", {2}}}), HasSubstr("named 'a'"));
  EXPECT_THAT(message({{"a", {3, -1}}}), HasSubstr("'a' has the negative dimension -1"));
  EXPECT_THAT(message({{"a", {int64_t{1} << 40, 2}}}), HasSubstr("'a' has more than 2^40"));
  EXPECT_THAT(message({{"a", {int64_t{1} << 32, int64_t{1} << 32}}}), HasSubstr("2^40"));
  EXPECT_THAT(message({{"a", {int64_t{1} << 40}}, {"b", {1}}}),
              HasSubstr("2^40 elements together"));
}

TEST(ParameterSchema, TakesTheLargestAllowedSize) {
  EXPECT_EQ(ParameterSchema::make({{"a", {int64_t{1} << 40}}}).value().elements(),
            uint64_t{1} << 40);
}

}  // namespace
}  // namespace tern
