#include "learning/leaf.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "learning/text.h"
#include "tests/learning/temp_file.h"

namespace tern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Leaf : public testing::Test {
 protected:
  Leaf() : folder_(test_folder()) {
    std::filesystem::create_directories(folder_ + "/train");
    std::filesystem::create_directories(folder_ + "/test");
  }
  void write(const std::string& name, const std::string& user_data) {
    write_test_file(folder_, name,
                    fmt::format(R"({{"users": [], "user_data": {{{}}}}})", user_data));
  }
  Result<DataBundle> load(bool standardize = false) { return load_leaf(folder_, standardize); }
  std::string refusal() {
    const auto loaded = load();
    return loaded ? "taken" : loaded.error().describe();
  }
  const std::string folder_;
};

TEST_F(Leaf, UsersAreTheClients) {
  write("train/b.json", R"("ann": {"x": [[1, 2]], "y": [1]})");
  write("train/a.json", R"("zoe": {"x": [[5, 6], [7, 8.5]], "y": [0, 2]})");
  write("test/a.json", R"("zoe": {"x": [[9, 9]], "y": [1]}, "ann": {"x": [], "y": []})");
  const auto loaded = load();
  ASSERT_TRUE(loaded.has_value()) << loaded.error().describe();
  EXPECT_THAT(loaded->client_names, ElementsAre("ann", "zoe"));
  EXPECT_THAT(loaded->train.client, ElementsAre(1, 1, 0));
  EXPECT_THAT(loaded->train.inputs, ElementsAre(5, 6, 7, 8.5F, 1, 2));
  EXPECT_THAT(loaded->train.labels, ElementsAre(0, 2, 1));
  EXPECT_THAT(loaded->test.client, ElementsAre(1));
  EXPECT_THAT(loaded->shape.input, ElementsAre(2));
  EXPECT_EQ(loaded->shape.classes, 3);
  const auto standardized = load(true);
  // By the training values: mean 29.5 / 6.
  double sum = 0;
  for (const float value : standardized->train.inputs) sum += value;
  EXPECT_NEAR(sum, 0, 1e-5);
  EXPECT_GT(standardized->test.inputs[0], 1);
}

TEST_F(Leaf, PixelsOfFemnistAreAnImage) {
  std::string pixels = "0.5";
  for (int i = 1; i < 784; ++i) pixels += ", 1.0";
  const std::string user = fmt::format(R"("f1": {{"x": [[{}]], "y": [61]}})", pixels);
  write("train/a.json", user);
  write("test/a.json", user);
  const auto loaded = load();
  ASSERT_TRUE(loaded.has_value()) << loaded.error().describe();
  EXPECT_THAT(loaded->shape.input, ElementsAre(1, 28, 28));
  EXPECT_EQ(loaded->shape.classes, 62);
}

TEST_F(Leaf, ATextOfShakespearePredictsEachOfItsCharacters) {
  write("train/a.json", R"("HAMLET": {"x": ["to be", "or no"], "y": [" ", "t"]})");
  write("test/a.json", R"("HAMLET": {"x": ["to be"], "y": ["!"]})");
  const auto loaded = load();
  ASSERT_TRUE(loaded.has_value()) << loaded.error().describe();
  EXPECT_THAT(loaded->shape.input, ElementsAre(5));
  EXPECT_EQ(loaded->shape.classes, kTextClasses);
  EXPECT_EQ(loaded->train.examples(), 2U);
  const auto labels = text_characters("o be r not");
  EXPECT_THAT(loaded->train.labels, testing::ElementsAreArray(labels));
  EXPECT_EQ(loaded->test.labels_each, 5U);
}

TEST_F(Leaf, NamesFileUserAndExampleOfWhatIsWrong) {
  EXPECT_THAT(refusal(), HasSubstr("train: data.path: there are no .json files"));
  const std::string good = R"("u": {"x": [[1]], "y": [1]})";
  write("train/a.json", good);
  const auto with = [&](const std::string& user_data) {
    write("test/a.json", user_data);
    return refusal();
  };
  EXPECT_EQ(with(good), "taken");
  EXPECT_THAT(with(R"("v": {"x": [[1]], "y": [1]})"),
              HasSubstr("user \"v\" has test examples but"));
  EXPECT_THAT(
      with(R"("u": {"x": [[1], [2]], "y": [1]})"),
      HasSubstr("test/a.json: user \"u\": \"x\" and \"y\" must be lists of the same length"));
  EXPECT_THAT(with(R"("u": {"x": [[1, 2]], "y": [1]})"),
              HasSubstr("user \"u\": example 0: 2 numbers where others have 1 numbers"));
  EXPECT_THAT(with(R"("u": {"x": [[null]], "y": [1]})"), HasSubstr("a list of finite numbers"));
  EXPECT_THAT(with(R"("u": {"x": [[1e300]], "y": [1]})"), HasSubstr("a list of finite numbers"));
  EXPECT_THAT(with(R"("u": {"x": [[1]], "y": [-1]})"), HasSubstr("must be a class"));
  EXPECT_THAT(with(R"("u": {"x": [[1]], "y": [0.5]})"), HasSubstr("must be a class"));
  EXPECT_THAT(with(R"("u": {"x": [[1]], "y": [2]})"),
              HasSubstr("has class 2, the training classes"));
  EXPECT_THAT(with(R"("u": {"x": ["ab"], "y": ["c"]})"), HasSubstr("2 characters where others"));
  EXPECT_THAT(with(R"("u": {"x": ["a"], "y": ["b"]})"), HasSubstr("fewer than 2"));
  EXPECT_THAT(with(R"("u": {"x": ["a"], "y": ["cd"]})"), HasSubstr("\"y\" has 2 characters"));
  write_test_file(folder_, "test/a.json", R"({"user_data": {"u")");
  EXPECT_THAT(refusal(), HasSubstr("isn't JSON, or is cut off"));
  write_test_file(folder_, "test/a.json", "[1]");
  EXPECT_THAT(refusal(), HasSubstr("has no \"user_data\""));
}

}  // namespace
}  // namespace tern
