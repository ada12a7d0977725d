#include "learning/cifar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/learning/temp_file.h"

namespace tern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Records whose pixels all have one value.
std::string records(std::initializer_list<std::pair<std::string, char>> labels_and_pixels) {
  std::string bytes;
  for (const auto& [labels, pixel] : labels_and_pixels) bytes += labels + std::string(3072, pixel);
  return bytes;
}

std::string refusal(const std::string& folder) {
  const auto loaded = load_cifar(folder, true);
  return loaded ? "taken" : loaded.error().describe();
}

TEST(Cifar, ReadsAllBatchesOfTenClasses) {
  const std::string folder = test_folder();
  write_test_file(folder, "data_batch_1.bin", records({{"\3", 51}, {"\1", 102}}));
  write_test_file(folder, "data_batch_2.bin", records({{"\7", '\xFF'}}));
  write_test_file(folder, "test_batch.bin", records({{"\2", 0}}));
  write_test_file(folder, "batches.meta.txt",
                  "plane\r\ncar\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n");
  const auto loaded = load_cifar(folder, false);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().describe();
  EXPECT_THAT(loaded->shape.input, ElementsAre(3, 32, 32));
  EXPECT_EQ(loaded->shape.classes, 10);
  EXPECT_THAT(loaded->train.labels, ElementsAre(3, 1, 7));
  EXPECT_THAT(loaded->test.labels, ElementsAre(2));
  EXPECT_FLOAT_EQ(loaded->train.inputs.front(), 0.2F);
  EXPECT_FLOAT_EQ(loaded->train.inputs[3072], 0.4F);
  EXPECT_FLOAT_EQ(loaded->train.inputs.back(), 1);
  EXPECT_EQ(loaded->class_names[0], "plane");
  EXPECT_EQ(loaded->class_names[9], "truck");
  const auto standardized = load_cifar(folder, true);
  double sum = 0;
  for (const float value : standardized->train.inputs) sum += value;
  EXPECT_NEAR(sum / 9216, 0, 1e-6);
}

TEST(Cifar, TakesTheFineLabelsOfAHundredClasses) {
  const std::string folder = test_folder();
  write_test_file(folder, "train.bin", records({{"\1\x63", 9}, {"\2\5", 8}}));
  write_test_file(folder, "test.bin", records({{"\3\6", 7}}));
  const auto loaded = load_cifar(folder, true);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().describe();
  EXPECT_EQ(loaded->shape.classes, 100);
  EXPECT_THAT(loaded->train.labels, ElementsAre(99, 5));
  EXPECT_THAT(loaded->test.labels, ElementsAre(6));
  EXPECT_EQ(loaded->class_names[99], "99");
}

TEST(Cifar, NamesTheFileThatIsWrong) {
  const std::string folder = test_folder();
  EXPECT_THAT(refusal(folder), HasSubstr("neither data_batch_1.bin (CIFAR-10) nor train.bin"));
  write_test_file(folder, "data_batch_2.bin", records({{"\1", 1}}));
  EXPECT_THAT(refusal(folder), HasSubstr("data_batch_1.bin is missing, data_batch_2.bin is there"));
  write_test_file(folder, "data_batch_1.bin", records({{"\1", 1}}));
  EXPECT_THAT(refusal(folder), HasSubstr("test_batch.bin"));
  write_test_file(folder, "test_batch.bin", records({{"\12", 1}}));
  EXPECT_THAT(refusal(folder), HasSubstr("test_batch.bin: image 0 has the label 10 of 10 classes"));
  write_test_file(folder, "test_batch.bin", records({{"\1", 1}}) + "x");
  EXPECT_THAT(refusal(folder), HasSubstr("3074 bytes aren't records of 3073"));
  write_test_file(folder, "test_batch.bin", "");
  EXPECT_THAT(refusal(folder), HasSubstr("0 bytes aren't records"));
  write_test_file(folder, "test_batch.bin", records({{"\1", 1}}));
  EXPECT_EQ(refusal(folder), "taken");
}

}  // namespace
}  // namespace tern
