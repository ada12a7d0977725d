#include "compression/updates/spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <set>

namespace tern {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

std::string message_of(std::string_view text) {
  const Result<std::vector<Stage>> parsed = parse_spec(text);
  if (parsed) return "accepted";
  EXPECT_EQ(parsed.error().code(), Code::kInvalidArgument);
  return parsed.error().message();
}

std::string canonical(std::string_view text) {
  const Result<std::vector<Stage>> parsed = parse_spec(text);
  return parsed ? print_spec(*parsed) : parsed.error().message();
}

/// Arguments worth trying for a row of the table, smallest and largest among them.
std::vector<uint32_t> arguments_of(const StageInfo& info) {
  switch (info.argument) {
    case Argument::kNone:
      return {0};
    case Argument::kPowerOfTwo: {
      std::vector<uint32_t> blocks;
      for (uint32_t block = info.smallest; block <= info.largest; block *= 2)
        blocks.push_back(block);
      return blocks;
    }
    case Argument::kBits:
    case Argument::kSide:
    case Argument::kRank:
    case Argument::kPercent:
    case Argument::kLevels: {
      std::vector<uint32_t> bits;
      for (uint32_t b = info.smallest; b <= info.largest; ++b) bits.push_back(b);
      return bits;
    }
    case Argument::kThreshold:
      return {info.smallest, std::bit_cast<uint32_t>(0.001f), std::bit_cast<uint32_t>(1.0f),
              0x3DCCCCCD,    0x00FFFFFF | info.smallest,      info.largest};
    case Argument::kTable:
      return {info.smallest, table_argument(5, 10000), table_argument(15, 1), info.largest};
    case Argument::kComponents: {
      std::vector<uint32_t> all;
      for (uint32_t step = components_step(info.smallest); step <= components_step(info.largest);
           ++step)
        for (const uint32_t rank : {1, 2, 16, 63, 64})
          all.push_back(components_argument(rank, step));
      return all;
    }
    case Argument::kRate:
      return {1, 2, 10, 999, 1000, 123'456'789, 250'000'000, 333'333'333, kRateOne - 1, kRateOne};
  }
  return {};
}

TEST(Spec, PrintingAndParsingAreInverseOverTheWholeTable) {
  for (const StageInfo& info : kStages)
    for (const uint32_t argument : arguments_of(info)) {
      const std::vector<Stage> stages = {{.info = &info, .argument = argument}};
      const std::string text = print_spec(stages);
      const Result<std::vector<Stage>> parsed = parse_spec(text);
      ASSERT_TRUE(parsed) << text << ": " << parsed.error().message();
      EXPECT_EQ(*parsed, stages) << text;
      EXPECT_EQ(print_spec(*parsed), text);
    }
}

TEST(Spec, EveryRateOfNineDecimalsIsExact) {
  // All rates below 1e-4 and a spread of the others.
  for (uint32_t rate = 1; rate <= kRateOne - 7919; rate += rate < 100'000 ? 1 : 7919'123) {
    const std::vector<Stage> stages = {{.info = find_stage("randk"), .argument = rate}};
    const Result<std::vector<Stage>> parsed = parse_spec(print_spec(stages));
    ASSERT_TRUE(parsed) << print_spec(stages);
    ASSERT_EQ(*parsed, stages);
  }
}

TEST(Spec, WritesSingleSpacesAndDefaults) {
  EXPECT_EQ(canonical("rotate|eden:1"), "rotate:1024 | eden:1");
  EXPECT_EQ(canonical("  ef|\ttopk : 0.010 | ternary|rice "), "ef | topk:0.01 | ternary | rice");
  EXPECT_EQ(canonical("topk:1e-2"), "topk:0.01");
  EXPECT_EQ(canonical("topk:1.0"), "topk:1");
  EXPECT_EQ(canonical("randk:0.000000001"), "randk:1e-09");
  EXPECT_EQ(canonical("components:16"), "components:16x0.4");
  EXPECT_EQ(canonical("components:3x0.50 | int:8"), "components:3x0.5 | int:8");
}

TEST(Spec, FindsStagesByNameAndById) {
  for (const StageInfo& info : kStages) {
    EXPECT_EQ(find_stage(info.name), &info);
    EXPECT_EQ(find_stage(info.id), &info);
    EXPECT_FALSE(info.summary.empty());
  }
  EXPECT_EQ(find_stage("gzip"), nullptr);
  EXPECT_EQ(find_stage(uint8_t{0}), nullptr);
}

TEST(Spec, IdsOnTheWireArePinned) {
  const auto id = [](std::string_view stage) { return find_stage(stage)->id; };
  constexpr std::pair<std::string_view, int> kPinned[] = {
      {"ef", 0x01},        {"ef21", 0x02},          {"dgc", 0x03},     {"dct", 0x0C},
      {"lowpass", 0x0D},   {"randk-by-norm", 0x24}, {"small16", 0x08}, {"rotate", 0x10},
      {"lowrank", 0x12},   {"sketch", 0x13},        {"topk", 0x20},    {"topk-per-tensor", 0x21},
      {"randk", 0x22},     {"threshold", 0x23},     {"float32", 0x30}, {"float16", 0x31},
      {"bfloat16", 0x32},  {"int", 0x33},           {"ternary", 0x34}, {"sign", 0x35},
      {"qsgd", 0x36},      {"natural", 0x37},       {"eden", 0x38},    {"rice", 0x50},
      {"cabac", 0x51},     {"rans", 0x60},          {"zstd", 0x61},    {"principal", 0x0A},
      {"components", 0x0B}};
  for (const auto& [stage, pinned] : kPinned) EXPECT_EQ(id(stage), pinned) << stage;
  EXPECT_EQ(kStages.size(), std::size(kPinned)) << "pin the new stage's id here";
}

TEST(Spec, AnUnknownStageIsToldWhereItIsAndWhatThereIs) {
  EXPECT_THAT(
      message_of("ef | topk:0.01 | gzip"),
      AllOf(StartsWith("codec 'ef | topk:0.01 | gzip', column 18: unknown stage 'gzip'"),
            HasSubstr(
                "known stages: ef, ef21, dgc, small16, principal, components, dct, lowpass, "
                "rotate, lowrank, "
                "sketch, topk, topk-per-tensor, randk, randk-by-norm, threshold, float32, float16, "
                "bfloat16, int, "
                "ternary, sign, qsgd, natural, eden, rice, cabac, rans, zstd")));
  EXPECT_THAT(message_of("TopK:0.1"), HasSubstr("unknown stage 'TopK'"));
  EXPECT_THAT(message_of("tern"), HasSubstr("column 1: unknown stage 'tern'"));
  EXPECT_THAT(message_of("fp16"), HasSubstr("unknown stage 'fp16'"));
  EXPECT_THAT(message_of("top k:0.1"), HasSubstr("unknown stage 'top k'"));
}

TEST(Spec, AMissingStageIsToldWhereItIs) {
  EXPECT_THAT(message_of(""), HasSubstr("column 1: a stage is missing"));
  EXPECT_THAT(message_of("   "), HasSubstr("a stage is missing"));
  EXPECT_THAT(message_of("|float32"), HasSubstr("column 1: a stage is missing"));
  EXPECT_THAT(message_of("float32|"), HasSubstr("column 9: a stage is missing"));
  EXPECT_THAT(message_of("ef||sign"), HasSubstr("column 4: a stage is missing"));
  EXPECT_THAT(message_of(":4"), HasSubstr("column 1: unknown stage ''"));
}

TEST(Spec, TheColumnIsThatOfTheStagesFirstLetter) {
  EXPECT_THAT(message_of("ef |    zip"), HasSubstr("column 9: unknown stage 'zip'"));
  EXPECT_THAT(message_of("ef |    int:1"), HasSubstr("column 9: "));
}

TEST(Spec, AnArgumentWhereNoneBelongsIsAnError) {
  for (const StageInfo& info : kStages) {
    if (info.argument != Argument::kNone) continue;
    EXPECT_THAT(message_of(std::string(info.name) + ":1"),
                HasSubstr(fmt::format("column 1: stage '{}' takes no argument", info.name)));
  }
}

TEST(Spec, AMissingArgumentIsAnErrorThatShowsOne) {
  EXPECT_THAT(message_of("topk"), HasSubstr("stage 'topk' needs an argument, such as 'topk:0.01'"));
  EXPECT_THAT(message_of("int"), HasSubstr("stage 'int' needs an argument, such as 'int:4'"));
  EXPECT_THAT(message_of("eden"), HasSubstr("stage 'eden' needs an argument, such as 'eden:4'"));
  EXPECT_THAT(message_of("topk:"), HasSubstr("takes a rate from 1e-09 to 1, not ''"));
}

TEST(Spec, BadArgumentsAreErrorsThatNameTheRange) {
  for (const char* text : {"int:1", "int:17", "int:-2", "int:+4", "int:4.0", "int:4x", "int:0x4",
                           "int: ", "int:4294967300"})
    EXPECT_THAT(message_of(text), HasSubstr("stage 'int' takes a number of bits from 2 to 16, not"))
        << text;
  for (const char* text : {"eden:0", "eden:9"})
    EXPECT_THAT(message_of(text), HasSubstr("takes a number of bits from 1 to 8")) << text;
  for (const char* text : {"rotate:8", "rotate:131072", "rotate:0", "rotate:1000", "rotate:2^10"})
    EXPECT_THAT(message_of(text),
                HasSubstr("stage 'rotate' takes a power of two from 16 to 65536, not"))
        << text;
  for (const char* text : {"topk:0", "topk:-0.1", "topk:1.1", "topk:nan", "topk:inf", "topk:1%",
                           "topk:0,1", "topk:1e400", "topk:-0", "topk:0.1:2"})
    EXPECT_THAT(message_of(text), HasSubstr("stage 'topk' takes a rate from 1e-09 to 1, not"))
        << text;
}

TEST(Spec, ARateHasAtMostNineDecimals) {
  EXPECT_EQ(canonical("topk:0.123456789"), "topk:0.123456789");
  for (const char* text : {"topk:0.1234567891", "topk:1e-10", "topk:0.3333333333"})
    EXPECT_THAT(message_of(text), HasSubstr("a rate has at most 9 decimal places")) << text;
}

TEST(Spec, ArgumentErrorsSayTheColumn) {
  EXPECT_THAT(message_of("rotate | int:99"),
              StartsWith("codec 'rotate | int:99', column 10: stage 'int'"));
}

}  // namespace
}  // namespace tern
