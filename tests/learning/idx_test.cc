#include "learning/idx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>

#include "tests/learning/temp_file.h"

namespace tern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string idx(std::vector<uint32_t> shape, const std::string& values, char type = 8) {
  std::string bytes = {0, 0, type, static_cast<char>(shape.size())};
  for (const uint32_t size : shape)
    for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(size >> shift);
  return bytes + values;
}

std::string gzip(const std::string& text, const std::string& path) {
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(ReadIdx, ReadsPlainAndGzipByContent) {
  const std::string folder = test_folder();
  const std::string bytes = idx({2, 3}, "abcdef");
  const auto plain = read_idx(write_test_file(folder, "plain.gz", bytes), 2);
  ASSERT_TRUE(plain.has_value()) << plain.error().describe();
  gzip(bytes, folder + "/zipped");
  const auto zipped = read_idx(folder + "/zipped", 2);
  ASSERT_TRUE(zipped.has_value()) << zipped.error().describe();
  for (const auto& read : {*plain, *zipped}) {
    EXPECT_THAT(read.shape, ElementsAre(2, 3));
    EXPECT_THAT(read.values, ElementsAre('a', 'b', 'c', 'd', 'e', 'f'));
  }
}

TEST(ReadIdx, NamesFileAndExpectation) {
  const std::string folder = test_folder();
  const auto missing = read_idx(folder + "/none", 1);
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_EQ(missing.error().where().file, folder + "/none");
  const auto expect_corrupt = [&](const std::string& bytes, int dimensions,
                                  const std::string& message) {
    const std::string path = write_test_file(folder, "file", bytes);
    const auto read = read_idx(path, dimensions);
    ASSERT_FALSE(read.has_value());
    EXPECT_EQ(read.error().code(), Code::kCorrupt);
    EXPECT_EQ(read.error().where().file, path);
    EXPECT_THAT(read.error().message(), HasSubstr(message));
  };
  expect_corrupt("", 1, "0 bytes of 8");
  expect_corrupt(idx({5}, "").substr(0, 6), 1, "6 bytes of 8");
  expect_corrupt(idx({5}, "abcde"), 3, "3 dimensions (magic 0x00000803), found 0x00000801");
  expect_corrupt(idx({5}, "abcde", 0x0D), 1, "found 0x00000d01");
  expect_corrupt(idx({5}, "abcd"), 1, "promises 5 (5 bytes of values), but 4 follow");
  expect_corrupt(idx({5}, "abcdef"), 1, "but 6 follow");
  expect_corrupt(idx({5, 0}, ""), 2, "dimension 1 of the IDX header is 0");
}

TEST(ReadIdx, AllocatesNothingForAHeaderThatLies) {
  const std::string folder = test_folder();
  const uint32_t huge = 0xFFFFFFFF;
  for (const auto& shape : {std::vector<uint32_t>{huge, huge, huge},
                            std::vector<uint32_t>{1 << 20, 1 << 10, 1 << 10}}) {
    const std::string bytes = idx(shape, "abc");
    EXPECT_EQ(read_idx(write_test_file(folder, "plain", bytes), 3).error().code(), Code::kCorrupt);
    gzip(bytes, folder + "/zipped");
    EXPECT_THAT(read_idx(folder + "/zipped", 3).error().message(),
                HasSubstr("compressed bytes can hold"));
  }
}

TEST(ReadIdx, EveryCutAndFlipOfAGzipFileIsRefused) {
  const std::string folder = test_folder();
  const std::string bytes =
      gzip(idx({40}, std::string(20, 'x') + "0123456789abcdefghij"), folder + "/whole");
  for (size_t length = 0; length < bytes.size(); ++length) {
    const auto read = read_idx(write_test_file(folder, "cut", bytes.substr(0, length)), 1);
    ASSERT_FALSE(read.has_value()) << length;
    EXPECT_EQ(read.error().code(), Code::kCorrupt);
  }
  for (size_t at = 10; at < bytes.size();
       ++at) {  // the gzip header before it holds a time that nobody checks
    std::string flipped = bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    EXPECT_FALSE(read_idx(write_test_file(folder, "flipped", flipped), 1).has_value()) << at;
  }
}

class LoadIdx : public testing::Test {
 protected:
  void write(const std::string& train_labels, const std::string& test_labels) {
    write_test_file(folder_, "train-images-idx3-ubyte",
                    idx({2, 1, 2}, std::string("\x00\x33\x66\xFF", 4)));
    write_test_file(folder_, "train-labels-idx1-ubyte",
                    idx({static_cast<uint32_t>(train_labels.size())}, train_labels));
    gzip(idx({1, 1, 2}, std::string("\xFF\x00", 2)), folder_ + "/t10k-images-idx3-ubyte.gz");
    write_test_file(folder_, "t10k-labels-idx1-ubyte",
                    idx({static_cast<uint32_t>(test_labels.size())}, test_labels));
  }
  const std::string folder_ = test_folder();
};

TEST_F(LoadIdx, ScalesAndStandardizesByTrainingPixels) {
  write({0, 2}, {1});
  const auto raw = load_idx(folder_, false);
  ASSERT_TRUE(raw.has_value()) << raw.error().describe();
  EXPECT_THAT(raw->train.inputs, ElementsAre(0.0F, 0.2F, 0.4F, 1.0F));
  EXPECT_THAT(raw->train.labels, ElementsAre(0, 2));
  EXPECT_THAT(raw->test.inputs, ElementsAre(1.0F, 0.0F));
  EXPECT_THAT(raw->shape.input, ElementsAre(1, 1, 2));
  EXPECT_EQ(raw->shape.classes, 3);
  EXPECT_THAT(raw->class_names, ElementsAre("0", "1", "2"));

  const auto standard = load_idx(folder_, true);
  ASSERT_TRUE(standard.has_value());
  const double deviation = std::sqrt((0.4 * 0.4 + 0.2 * 0.2 + 0.6 * 0.6) / 4);
  EXPECT_FLOAT_EQ(standard->train.inputs[0], static_cast<float>(-0.4 / deviation));
  EXPECT_FLOAT_EQ(standard->test.inputs[0], static_cast<float>(0.6 / deviation));
}

TEST_F(LoadIdx, RefusesPartsThatDontMatch) {
  write({0, 2}, {3});
  EXPECT_THAT(load_idx(folder_, true).error().message(), HasSubstr("test example 0 has label 3"));
  write({0, 2, 1}, {1});
  EXPECT_THAT(load_idx(folder_, true).error().message(), HasSubstr("3 labels for the 2 images"));
  std::filesystem::remove(folder_ + "/t10k-labels-idx1-ubyte");
  write_test_file(folder_, "train-labels-idx1-ubyte", idx({2}, std::string("\x00\x01", 2)));
  EXPECT_EQ(load_idx(folder_, true).error().code(), Code::kNotFound);
}

TEST(LoadData, SaysHowToGetFashionMnist) {
  DataConfig config;
  config.source = "fashion-mnist";
  config.path = "/nowhere/at/all";
  const auto loaded = load_data(config, 1);
  EXPECT_EQ(loaded.error().code(), Code::kNotFound);
  EXPECT_THAT(loaded.error().message(), HasSubstr("apt-get install dataset-fashion-mnist"));
  config.source = "mnist";
  EXPECT_EQ(load_data(config, 1).error().where().key, "data.source");
}

TEST(LoadData, ReadsDebiansFashionMnist) {
  DataConfig config;
  config.source = "fashion-mnist";
  const auto loaded = load_data(config, 1);
  if (!loaded && loaded.error().code() == Code::kNotFound) GTEST_SKIP() << loaded.error().message();
  ASSERT_TRUE(loaded.has_value()) << loaded.error().describe();
  EXPECT_EQ(loaded->train.examples(), 60000U);
  EXPECT_EQ(loaded->test.examples(), 10000U);
  EXPECT_THAT(loaded->shape.input, ElementsAre(1, 28, 28));
  EXPECT_EQ(loaded->class_names[9], "Ankle boot");
  double sum = 0;
  double squares = 0;
  for (const float x : loaded->train.inputs) {
    sum += x;
    squares += double{x} * x;
  }
  const auto n = static_cast<double>(loaded->train.inputs.size());
  EXPECT_NEAR(sum / n, 0, 1e-6);
  EXPECT_NEAR(squares / n, 1, 1e-6);
}

}  // namespace
}  // namespace tern
