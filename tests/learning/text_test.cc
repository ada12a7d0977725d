#include "learning/text.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "learning/deal.h"
#include "tests/learning/temp_file.h"

namespace tern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

DataConfig texts_in(const std::string& folder, uint32_t window, double test_fraction = 0.25) {
  return {.source = "text",
          .path = folder,
          .test_fraction = test_fraction,
          .window = window,
          .partition = "natural"};
}

std::string refusal(const DataConfig& config) {
  const auto loaded = load_text(config);
  return loaded ? "taken" : loaded.error().describe();
}

TEST(TextCharacters, AreAsciiAndOneForAllOthers) {
  EXPECT_THAT(text_characters(" !~"), ElementsAre(2, 3, 96));
  EXPECT_THAT(text_characters("a\tb"), ElementsAre(67, 2, 68));
  EXPECT_THAT(text_characters("a\nb\r\nc\rd"), ElementsAre(67, 1, 68, 1, 69, 0, 70));
  // Two, three and four bytes are one character each.
  EXPECT_THAT(text_characters("\xC3\xA9 \xE2\x80\x94 \xF0\x9F\x90\xA6"),
              ElementsAre(0, 2, 0, 2, 0));
  EXPECT_THAT(text_characters(std::string_view("\0\x7F", 2)), ElementsAre(0, 0));
  EXPECT_THAT(text_characters(""), SizeIs(0));
  EXPECT_THAT(text_class_names(), SizeIs(kTextClasses));
  EXPECT_EQ(text_class_names().at(text_characters("q")[0]), "q");
}

TEST(Text, EachFolderIsAClientAndTheEndOfEachTextIsForTesting) {
  const std::string folder = test_folder();
  std::filesystem::create_directories(folder + "/b");
  std::filesystem::create_directories(folder + "/a");
  std::filesystem::create_directories(folder + "/without_texts");
  write_test_file(folder, "README.md", "no text of a client");
  write_test_file(folder, "b/2.txt", "abcdefghijklmn");  // 4 examples of 3, "n" is dropped
  write_test_file(folder, "b/1.txt", "xyz");             // none: nothing follows the z
  write_test_file(folder, "a/1.txt", "0123");            // 1
  const auto loaded = load_text(texts_in(folder, 3));
  ASSERT_TRUE(loaded.has_value()) << loaded.error().describe();
  EXPECT_THAT(loaded->client_names, ElementsAre("a", "b"));
  EXPECT_THAT(loaded->shape.input, ElementsAre(3));
  EXPECT_EQ(loaded->shape.classes, kTextClasses);
  EXPECT_EQ(loaded->train.labels_each, 3U);
  EXPECT_THAT(loaded->train.client, ElementsAre(0, 1, 1, 1));
  EXPECT_THAT(loaded->test.client, ElementsAre(1));
  const auto text_of = [](auto numbers) {
    std::string text;
    for (const auto number : numbers) text += text_class_names().at(static_cast<size_t>(number));
    return text;
  };
  EXPECT_EQ(text_of(loaded->train.inputs), "012abcdefghi");
  EXPECT_EQ(text_of(loaded->train.labels), "123bcdefghij");
  EXPECT_EQ(text_of(loaded->test.inputs), "jkl");
  EXPECT_EQ(text_of(loaded->test.labels), "klm");
}

TEST(Text, WithoutFoldersEachTextIsAClient) {
  const std::string folder = test_folder();
  write_test_file(folder, "z.txt", "abcdefghi");
  write_test_file(folder, "m.txt", "abcdefghi");
  const auto loaded = load_text(texts_in(folder, 2, 0.2));
  ASSERT_TRUE(loaded.has_value()) << loaded.error().describe();
  EXPECT_THAT(loaded->client_names, ElementsAre("m", "z"));
}

TEST(Text, ManyShortTextsLeaveTheirShareForTestingToo) {
  const std::string folder = test_folder();
  std::filesystem::create_directories(folder + "/letters");
  for (int i = 0; i < 40; ++i)
    write_test_file(folder, fmt::format("letters/{}.txt", i), "abcdefg");  // 2 examples each
  const auto loaded = load_text(texts_in(folder, 3, 0.2));
  ASSERT_TRUE(loaded.has_value()) << loaded.error().describe();
  EXPECT_EQ(loaded->test.examples(), 16U);
  EXPECT_EQ(loaded->train.examples(), 64U);
  // However much is for testing, something is left to train on.
  EXPECT_EQ(load_text(texts_in(folder, 3, 0.999))->train.examples(), 1U);
  EXPECT_THAT(refusal(texts_in(folder, 3, 0.001)),
              HasSubstr("data.test_fraction: is 0.001: too little for a single test example"));
}

TEST(Text, ALinkToNowhereIsNoText) {
  const std::string folder = test_folder();
  for (const char* name : {"a", "b", "c"})
    write_test_file(folder, std::string(name) + ".txt", "abcdefghi");
  for (const char* lock : {".#a.txt", ".#b.txt", "z.txt"})
    std::filesystem::create_symlink("nowhere", folder + "/" + lock);
  const auto loaded = load_text(texts_in(folder, 2));
  ASSERT_TRUE(loaded.has_value()) << loaded.error().describe();
  EXPECT_THAT(loaded->client_names, ElementsAre("a", "b", "c"));
}

TEST(Text, RefusesFoldersThatItCantMakeClientsOf) {
  const std::string folder = test_folder();
  EXPECT_THAT(refusal(texts_in(folder + "/nowhere", 3)), HasSubstr("No such file"));
  EXPECT_THAT(refusal(texts_in(folder, 3)), HasSubstr("holds neither texts, NAME.txt, nor"));
  write_test_file(folder, "short.txt", "abc");
  EXPECT_THAT(refusal(texts_in(folder, 3)),
              HasSubstr("short: has no text of more than 3 characters to train on (data.window)"));
  write_test_file(folder, "long.txt", "abcdefghi");
  EXPECT_EQ(refusal(texts_in(folder, 2)), "taken");
  std::filesystem::create_directories(folder + "/inner");
  write_test_file(folder, "inner/1.txt", "abc");
  EXPECT_THAT(refusal(texts_in(folder, 2)),
              HasSubstr("holds texts, such as long.txt, beside folders with texts, such as inner"));
}

TEST(Text, IsDealtByClientOrAtRandomButNotByClass) {
  const std::string folder = test_folder();
  write_test_file(folder, "a.txt", std::string(41, 'x'));
  write_test_file(folder, "b.txt", std::string(81, 'y'));
  Scenario scenario;
  scenario.data = texts_in(folder, 4);
  const DataBundle data = load_text(scenario.data).value();
  const Deal natural = deal_examples(scenario, data).value();
  EXPECT_EQ(natural.train.examples(0), 8U);
  EXPECT_EQ(natural.test.examples(0), 2U);
  EXPECT_EQ(natural.train.examples(1), 15U);
  scenario.fleet.clients = 3;
  scenario.data.partition = "iid";
  const Deal iid = deal_examples(scenario, data).value();
  EXPECT_EQ(iid.train.total(), 23U);
  for (const char* by_class : {"shards:1", "dirichlet:1", "draw:5"}) {
    scenario.data.partition = by_class;
    const auto dealt = deal_examples(scenario, data);
    ASSERT_FALSE(dealt.has_value()) << by_class;
    EXPECT_THAT(dealt.error().message(), HasSubstr("deals by class, and a text has none"));
  }
}

TEST(Text, ADeviceKeepsItsShare) {
  const std::string folder = test_folder();
  write_test_file(folder, "a.txt", std::string(41, 'x'));
  write_test_file(folder, "b.txt", std::string(81, 'y'));
  const DataBundle data = load_text(texts_in(folder, 4)).value();
  const auto own = own_share({.name = "char-lstm"}, data, 1, {8, 9, 10}, {2});
  ASSERT_TRUE(own.has_value()) << own.error().describe();
  EXPECT_EQ((*own)->data.train.examples(), 3U);
  EXPECT_EQ((*own)->data.test.examples(), 1U);
  EXPECT_THAT((*own)->data.train.inputs, testing::Each(text_characters("y")[0]));
  EXPECT_THAT((*own)->data.train.inputs, SizeIs(12));
}

}  // namespace
}  // namespace tern
