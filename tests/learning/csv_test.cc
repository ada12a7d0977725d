#include "learning/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "tests/learning/temp_file.h"

namespace tern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Rows = std::vector<std::vector<std::string>>;

Result<Rows> rows_of(std::string_view text, std::vector<int>* lines = nullptr) {
  const std::string file = "f";
  CsvReader reader(text, file);
  Rows rows;
  std::vector<CsvReader::Cell> cells;
  for (;;) {
    TERN_TRY(const bool more, reader.next(cells));
    if (!more) return rows;
    rows.emplace_back();
    for (const auto& cell : cells) {
      rows.back().push_back(cell.text);
      if (lines) lines->push_back(cell.line);
    }
  }
}

TEST(CsvReader, FollowsRfc4180) {
  EXPECT_EQ(*rows_of("a,b\r\n1,2\r\n"), (Rows{{"a", "b"}, {"1", "2"}}));
  EXPECT_EQ(*rows_of("a,b\n1,2"), (Rows{{"a", "b"}, {"1", "2"}}));
  EXPECT_EQ(*rows_of("\"a,\"\"x\"\"\",\"\"\n,"), (Rows{{"a,\"x\"", ""}, {"", ""}}));
  EXPECT_EQ(*rows_of("\xEF\xBB\xBF\"a\",b\n"), (Rows{{"a", "b"}}));
  EXPECT_EQ(*rows_of("a\n\nb\n"), (Rows{{"a"}, {""}, {"b"}}));
  EXPECT_EQ(*rows_of(""), Rows{});
}

TEST(CsvReader, CountsLinesInsideQuotes) {
  std::vector<int> lines;
  EXPECT_EQ(*rows_of("a,\"two\r\nlines\",c\r\nd,\"\n\n\",f\ng", &lines),
            (Rows{{"a", "two\r\nlines", "c"}, {"d", "\n\n", "f"}, {"g"}}));
  EXPECT_THAT(lines, ElementsAre(1, 1, 2, 3, 3, 5, 6));
}

TEST(CsvReader, RefusesBrokenQuotesAndReturns) {
  const auto line_of = [](std::string_view text) {
    const auto rows = rows_of(text);
    EXPECT_FALSE(rows.has_value());
    EXPECT_EQ(rows.error().code(), Code::kCorrupt);
    return rows.error().where().line;
  };
  EXPECT_EQ(line_of("a\n\"b\n\n"), 2);
  EXPECT_EQ(line_of("a\nb\"c\n"), 2);
  EXPECT_EQ(line_of("a\n\"b\nc\" d\n"), 3);
  EXPECT_EQ(line_of("a\nb\rc\n"), 2);
}

class LoadCsv : public testing::Test {
 protected:
  LoadCsv() {
    config_.source = "csv";
    config_.label = "y";
    config_.test_fraction = 0;
    config_.standardize = false;
  }
  Result<DataBundle> load(const std::string& text, const std::string& test_text = "") {
    config_.path = write_test_file(folder_, "train.csv", text);
    config_.test_path = test_text.empty() ? "" : write_test_file(folder_, "test.csv", test_text);
    return load_data(config_, 7);
  }
  void expect_error(const std::string& text, int line, const std::string& message,
                    const std::string& test_text = "") {
    const auto loaded = load(text, test_text);
    ASSERT_FALSE(loaded.has_value()) << message;
    EXPECT_EQ(loaded.error().where().line, line) << loaded.error().describe();
    EXPECT_EQ(loaded.error().where().file, test_text.empty() ? config_.path : config_.test_path);
    EXPECT_THAT(loaded.error().message(), HasSubstr(message));
  }
  const std::string folder_ = test_folder();
  DataConfig config_;
};

TEST_F(LoadCsv, SortsNamesAsNumbersOrBytes) {
  config_.client = "who";
  auto data = load("x,y,who,z\n1,10,b,-2.5e-1\n 3 ,9,a,4\n5,-1,b,6\n");
  ASSERT_TRUE(data.has_value()) << data.error().describe();
  EXPECT_THAT(data->class_names, ElementsAre("-1", "9", "10"));
  EXPECT_THAT(data->client_names, ElementsAre("a", "b"));
  EXPECT_THAT(data->train.inputs, ElementsAre(1, -0.25, 3, 4, 5, 6));
  EXPECT_THAT(data->train.labels, ElementsAre(2, 1, 0));
  EXPECT_THAT(data->train.client, ElementsAre(1, 0, 1));
  EXPECT_THAT(data->shape.input, ElementsAre(2));
  EXPECT_EQ(data->test.examples(), 0U);
  data = load("x,y,who\n1,10,b\n3,9,a\n5,x,b\n");
  EXPECT_THAT(data->class_names, ElementsAre("10", "9", "x"));
}

TEST_F(LoadCsv, ErrorsNameLineAndColumn) {
  expect_error("x,y\n1,a\n,b\n", 3, "column \"x\" is empty");
  expect_error("x,y\n1,a\n2,\n", 3, "column \"y\" is empty");
  expect_error("x,y\n\"1\n\",a\n", 2, "is not a number");
  expect_error("x,y\n1,\"a\nb\"\n1z,c\n", 4, "column \"x\" holds \"1z\"");
  for (const char* bad : {"nan", "inf", "-inf", "1e39", "1e400"})
    expect_error(std::string("x,y\n") + bad + ",a\n", 2, "no finite float32");
  expect_error("x,y\n1,a\n1,a,2\n", 3, "3 cells where the header has 2");
  expect_error("x,y\n1,a\n\n", 3, "1 cell where the header has 2");
  expect_error("x,y,x\n1,a,2\n", 1, "columns 1 and 3 are both named \"x\"");
  expect_error("x,,y\n1,2,a\n", 1, "column 2 has no name");
  expect_error("x,z\n1,2\n", 1, "no column \"y\"; the columns are: x, z");
  expect_error("y\n1\n", 1, "features");
  expect_error("x,y\n", 1, "no rows");
  expect_error("", 1, "empty");
}

TEST_F(LoadCsv, ReadsATestFileWithItsColumnsInAnyOrder) {
  const std::string train = "x,y,z\n1,a,2\n3,b,4\n";
  const auto data = load(train, "y,z,x\nb,20,10\n");
  ASSERT_TRUE(data.has_value()) << data.error().describe();
  EXPECT_THAT(data->test.inputs, ElementsAre(10, 20));
  EXPECT_THAT(data->test.labels, ElementsAre(1));
  EXPECT_EQ(data->train.examples(), 2U);
  expect_error(train, 3, "no training example has the label \"c\"", "x,y,z\n1,a,2\n1,c,2\n");
  expect_error(train, 1, "no column \"z\"", "x,y\n1,a\n");
  expect_error(train, 1, "column \"w\" is not in the training file", "x,y,z,w\n1,a,2,3\n");
  config_.client = "who";
  expect_error("x,y,who\n1,a,p\n", 2, "no training example has the client \"q\"",
               "x,y,who\n1,a,q\n");
}

TEST_F(LoadCsv, KeepsAShareOfEachClientForTesting) {
  config_.client = "who";
  config_.test_fraction = 0.25;
  std::string text = "x,y,who\n";
  const std::map<int, size_t> expected_test = {{1, 0}, {2, 0}, {3, 1},
                                               {6, 1}, {7, 2}, {10, 2}};  // round half down
  int x = 0;
  for (const auto& [examples, test] : expected_test)
    for (int i = 0; i < examples; ++i) text += fmt::format("{},{},{}\n", x++, i % 2, examples);
  const auto data = load(text);
  ASSERT_TRUE(data.has_value()) << data.error().describe();
  std::map<int, size_t> test;
  for (const uint32_t client : data->test.client) ++test[std::stoi(data->client_names[client])];
  for (const auto& [examples, count] : expected_test) EXPECT_EQ(test[examples], count) << examples;
  std::set<float> seen(data->train.inputs.begin(), data->train.inputs.end());
  seen.insert(data->test.inputs.begin(), data->test.inputs.end());
  EXPECT_EQ(seen.size(), static_cast<size_t>(x));
  EXPECT_TRUE(std::is_sorted(data->train.inputs.begin(), data->train.inputs.end()));

  const auto again = load_csv(config_, 7);
  EXPECT_EQ(again->test.inputs, data->test.inputs);
  EXPECT_NE(load_csv(config_, 8)->test.inputs, data->test.inputs);

  config_.test_fraction = 0.99;  // at least one stays for training
  const auto most = load(text);
  std::set<uint32_t> trained(most->train.client.begin(), most->train.client.end());
  EXPECT_EQ(trained.size(), expected_test.size());
}

TEST_F(LoadCsv, StandardizesEachColumnByTrainingRows) {
  config_.standardize = true;
  const auto data = load("x,c,y\n1,0.1,a\n2,0.1,b\n6,0.1,a\n", "x,c,y\n3,5,a\n5,0.1,b\n");
  ASSERT_TRUE(data.has_value()) << data.error().describe();
  const auto deviation = static_cast<float>(std::sqrt(14.0 / 3));
  EXPECT_FLOAT_EQ(data->train.inputs[0], -2 / deviation);
  EXPECT_FLOAT_EQ(data->test.inputs[2], 2 / deviation);
  for (const size_t constant : {1, 3, 5}) EXPECT_EQ(data->train.inputs[constant], 0);
  EXPECT_EQ(data->test.inputs[1], 0);
}

TEST_F(LoadCsv, KeepsThePrecisionOfLargeNumbersWithSmallDifferences) {
  config_.standardize = true;
  const auto data = load("t,y\n1700000001,a\n1700000002,b\n1700000003,a\n");
  ASSERT_TRUE(data.has_value());
  EXPECT_FLOAT_EQ(data->train.inputs[2], std::sqrt(1.5F));
  EXPECT_EQ(data->train.inputs[1], 0);
}

TEST_F(LoadCsv, SaysWhichFileIsMissing) {
  config_.path = folder_ + "/none.csv";
  const auto loaded = load_csv(config_, 1);
  EXPECT_EQ(loaded.error().code(), Code::kNotFound);
  EXPECT_EQ(loaded.error().where().file, config_.path);
}

}  // namespace
}  // namespace tern
