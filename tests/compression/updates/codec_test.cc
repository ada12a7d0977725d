#include "compression/updates/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compression/updates/chain.h"
#include "compression/updates/error_feedback.h"
#include "tests/compression/updates/chains.h"

namespace tern {
namespace {

using testing::HasSubstr;

std::string message_of(std::string_view spec) {
  const Result<Codec> codec = Codec::parse(spec);
  if (codec) return "accepted";
  EXPECT_EQ(codec.error().code(), Code::kInvalidArgument);
  return codec.error().message();
}

TEST(Codec, ParsesToItsOwnSpec) {
  EXPECT_EQ(codec_of("rotate|randk:0.25|eden:1").spec(), "rotate:1024 | randk:0.25 | eden:1");
  EXPECT_EQ(codec_of("ef|topk:0.01|ternary|rice").spec(), "ef | topk:0.01 | ternary | rice");
}

TEST(Codec, ErrorFeedbackStandsFirst) {
  EXPECT_THAT(message_of("topk:0.1 | ef"), HasSubstr("codec 'topk:0.1 | ef': 'ef' covers the whole "
                                                     "chain and stands first"));
  EXPECT_THAT(message_of("ef | ef | topk:0.1"), HasSubstr("stands first"));
}

TEST(Codec, ErrorFeedbackNeedsALoss) {
  EXPECT_THAT(message_of("ef"), HasSubstr("there is nothing here"));
  EXPECT_THAT(message_of("ef | float32 | zstd"), HasSubstr("leave 'float32' out"));
  EXPECT_THAT(message_of("ef | zstd"), HasSubstr("there is nothing here"));
}

TEST(Codec, ErrorFeedbackRefusesChainsThatLoseMoreThanTheyKeep) {
  for (const char* spec : {"ef | ternary", "ef | int:2", "ef | rotate | ternary",
                           "ef | rotate | int:2", "ef | randk:0.25 | ternary"})
    EXPECT_THAT(message_of(spec), HasSubstr("three levels at random lose more than they keep"));
  for (const char* spec :
       {"ef | int:3", "ef | topk:0.1 | ternary", "ef | topk:0.1 | int:2", "ternary"})
    EXPECT_EQ(message_of(spec), "accepted") << spec;
}

TEST(Codec, FamiliesComeInOrderAndOnce) {
  EXPECT_THAT(
      message_of("ternary | topk:0.1"),
      HasSubstr("'topk' (select) can't follow 'ternary' (quantize); the order is state, exempt, "
                "principal, basis, band, transform, select, quantize, index code, value code, with "
                "one of "
                "each at most"));
  EXPECT_THAT(message_of("topk:0.1 | randk:0.1"),
              HasSubstr("'randk' (select) can't follow 'topk' (select)"));
  EXPECT_THAT(message_of("rice | topk:0.1"), HasSubstr("'topk' (select) can't follow 'rice'"));
  EXPECT_THAT(message_of("int:4 | rotate"), HasSubstr("'rotate' (transform) can't follow 'int'"));
  EXPECT_THAT(message_of("int:4 | int:4"), HasSubstr("'int' (quantize) can't follow 'int'"));
}

TEST(Codec, RiceNeedsIndicesThatTravel) {
  EXPECT_THAT(message_of("ternary | rice"), HasSubstr("there is none"));
  EXPECT_THAT(message_of("rice"), HasSubstr("there is nothing here"));
  EXPECT_THAT(message_of("randk:0.1 | rice"), HasSubstr("the positions of 'randk' don't travel"));
  EXPECT_THAT(message_of("rotate | randk:0.1 | int:4 | rice"), HasSubstr("don't travel"));
}

TEST(Codec, ARotationGoesWithRandkNotTopk) {
  EXPECT_THAT(message_of("rotate | topk:0.1"), HasSubstr("use randk instead of topk"));
  EXPECT_THAT(message_of("rotate"), HasSubstr("a rotation alone saves nothing"));
  EXPECT_THAT(message_of("ef | rotate | zstd"), HasSubstr("a rotation alone saves nothing"));
}

TEST(Codec, ABasisGoesBeforeARotationOrASelectionAndReplacesNoFactors) {
  EXPECT_EQ(message_of("small16 | dct:28 | rotate | randk-by-norm:0.1 | eden:1"), "accepted");
  EXPECT_EQ(message_of("ef | dct:7 | topk:0.1 | ternary | rice"), "accepted");
  EXPECT_THAT(message_of("dct:28"), HasSubstr("after 'dct' a select or quantize stage is missing"));
  EXPECT_THAT(message_of("dct:28 | rotate | zstd"),
              HasSubstr("after 'dct' a select or quantize stage is missing"));
  EXPECT_THAT(message_of("dct:28 | lowrank:2"), HasSubstr("leave one out"));
  EXPECT_THAT(message_of("dct:28 | sketch:2x9 | int:8"), HasSubstr("leave one out"));
  EXPECT_THAT(message_of("dct:1 | int:8"), HasSubstr("takes a side from 2 to 32, not '1'"));
  EXPECT_THAT(message_of("dct | int:8"), HasSubstr("dct"));
  EXPECT_THAT(message_of("dgc | dct:28 | topk:0.1"), HasSubstr("'dgc'"));
}

TEST(Codec, ABandIsOfFrequenciesAndForSendersWithoutMemory) {
  EXPECT_EQ(message_of("small16 | dct:28 | lowpass:0.4 | rotate | randk-by-norm:0.1 | eden:1"),
            "accepted");
  EXPECT_EQ(message_of("dct:7 | lowpass:0.01 | topk:0.1 | ternary | cabac"), "accepted");
  EXPECT_THAT(message_of("lowpass:0.4 | int:8"), HasSubstr("put 'dct:SIDE' before it"));
  EXPECT_THAT(message_of("dct:28 | lowpass:0.4"),
              HasSubstr("after 'dct' a select or quantize stage is missing"));
  EXPECT_THAT(message_of("dct:28 | lowpass:1 | int:8"),
              HasSubstr("takes a fraction from 0.01 to 0.99, not '1'"));
  EXPECT_THAT(message_of("dct:28 | lowpass | int:8"), HasSubstr("such as 'lowpass:0.4'"));
  EXPECT_THAT(message_of("dct:28 | lowpass:0.4 | topk-per-tensor:0.1"), HasSubstr("use topk"));
  for (const char* state : {"ef", "ef21", "dgc"})
    EXPECT_THAT(message_of((std::string(state) + " | dct:28 | lowpass:0.4 | topk:0.1").c_str()),
                HasSubstr("would pile up what 'lowpass' never sends"));
  EXPECT_TRUE(codec_of("dct:28 | lowpass:0.4 | int:8").check_composition({}).ok());
  EXPECT_FALSE(codec_of("dct:28 | lowpass:0.4 | sign").check_composition({}).ok());
}

TEST(Codec, PrincipalComponentsLeaveARestThatTheChainCodes) {
  EXPECT_EQ(message_of("ef | small16 | principal:2 | dct:7 | topk:0.1 | ternary | cabac"),
            "accepted");
  EXPECT_EQ(message_of("principal:3 | dct:7 | lowpass:0.7 | rotate | randk-by-norm:0.1 | eden:1"),
            "accepted");
  EXPECT_THAT(message_of("principal:2"), HasSubstr("a select or quantize stage is missing, for "
                                                   "what it leaves"));
  EXPECT_THAT(message_of("principal:2 | rotate | zstd"), HasSubstr("stage is missing"));
  EXPECT_THAT(message_of("principal:2 | lowrank:2 | int:8"), HasSubstr("leave one out"));
  EXPECT_THAT(message_of("principal:2 | sketch:2x9 | int:8"), HasSubstr("leave one out"));
  EXPECT_THAT(message_of("dct:7 | principal:2 | int:8"), HasSubstr("can't follow 'dct' (basis)"));
  EXPECT_THAT(message_of("principal:33 | int:8"), HasSubstr("from 1 to 32, not '33'"));
  EXPECT_THAT(message_of("dgc | principal:2 | topk:0.1"), HasSubstr("'dgc' masks"));
  EXPECT_EQ(message_of("ef | small16 | components:2 | dct:7 | topk:0.1 | ternary | cabac"),
            "accepted");
  EXPECT_THAT(message_of("components:2x0.5"), HasSubstr("after 'components' a select or quantize"));
  EXPECT_THAT(message_of("principal:2 | components:2 | int:8"), HasSubstr("one of each at most"));
  EXPECT_THAT(message_of("components:2 | lowrank:2 | int:8"), HasSubstr("leave one out"));
  constexpr const char* kRange =
      "stage 'components' takes RANK or RANKxSTEP from 1x0.05 to 64x2, not '";
  for (const char* bad :
       {"65", "0x0.4", "0", "x0.4", "2x", "2x0.04", "2x2.1", "2xnan", "2x0.4x", "-2"})
    EXPECT_THAT(message_of((std::string("components:") + bad + " | int:8").c_str()),
                HasSubstr(kRange + std::string(bad) + "'"));
  EXPECT_THAT(message_of("components:2x0.401 | int:8"), HasSubstr("at most 2 decimal places"));
  EXPECT_THAT(message_of("components | int:8"), HasSubstr("such as 'components:"));
  // It neither adds a bias nor takes one away.
  EXPECT_TRUE(codec_of("principal:2 | rotate | eden:1").check_composition({}).ok());
  EXPECT_FALSE(codec_of("principal:2 | topk:0.1").check_composition({}).ok());
}

TEST(Codec, NormsAreThoseOfGroups) {
  EXPECT_EQ(message_of("rotate:1024 | randk-by-norm:0.1 | eden:1"), "accepted");
  EXPECT_EQ(message_of("randk-by-norm:0.1"), "accepted");
  for (const char* spec : {"rotate:512 | randk-by-norm:0.1", "rotate:8192 | randk-by-norm:0.1"})
    EXPECT_THAT(message_of(spec), HasSubstr("other blocks than those of 'rotate:1024' mix"))
        << spec;
  EXPECT_THAT(message_of("randk-by-norm:0.1 | rice"), HasSubstr("don't travel"));
}

TEST(Codec, EdenNeedsARotationThatFillsItsGroups) {
  for (const char* spec : {"eden:1", "ef | eden:4", "randk:0.1 | eden:1", "topk:0.1 | eden:2",
                           "topk:0.1 | eden:2 | rice", "rotate:16 | eden:1", "rotate:512 | eden:8",
                           "rotate:256 | randk:0.5 | eden:1"})
    EXPECT_THAT(message_of(spec), HasSubstr("put 'rotate:1024' or more before it")) << spec;
  for (const char* spec : {"rotate | eden:1", "rotate:65536 | eden:1"})
    EXPECT_EQ(message_of(spec), "accepted") << spec;
}

TEST(Codec, AnEmptyChainIsRefused) {
  EXPECT_FALSE(Codec::make({}));
  EXPECT_THAT(message_of(""), HasSubstr("a stage is missing"));
}

TEST(Codec, KnowsItsTraits) {
  struct Row {
    const char* spec;
    bool error_feedback, lossy;
    Bias bias;
    bool indexed, seeded;
  };
  for (const Row& row : {
           Row{"float32", false, false, Bias::kNone, false, false},
           Row{"float16", false, true, Bias::kRounding, false, false},
           Row{"randk:0.1 | bfloat16", false, true, Bias::kRounding, false, true},
           Row{"rotate | eden:1", false, true, Bias::kNone, false, false},
           Row{"rotate | randk:0.25 | eden:1", false, true, Bias::kNone, false, true},
           Row{"dct:28 | randk-by-norm:0.25", false, true, Bias::kNone, false, true},
           Row{"dct:28 | lowpass:0.3 | int:8", false, true, Bias::kBand, false, false},
           Row{"dct:28 | lowpass:0.3 | topk:0.1", false, true, Bias::kBiased, true, false},
           Row{"principal:2 | float16", false, true, Bias::kRounding, false, false},
           Row{"principal:2 | rotate | eden:1", false, true, Bias::kNone, false, false},
           Row{"components:2 | float16", false, true, Bias::kRounding, false, false},
           Row{"components:2 | rotate | eden:1", false, true, Bias::kNone, false, false},
           Row{"topk:0.1", false, true, Bias::kBiased, true, false},
           Row{"sign", false, true, Bias::kBiased, false, false},
           Row{"ef | topk:0.1 | ternary | rice", true, true, Bias::kBiased, true, false},
       }) {
    const Codec codec = codec_of(row.spec);
    EXPECT_EQ(codec.error_feedback(), row.error_feedback) << row.spec;
    EXPECT_EQ(codec.lossy(), row.lossy) << row.spec;
    EXPECT_EQ(codec.bias(), row.bias) << row.spec;
    EXPECT_EQ(codec.indexed(), row.indexed) << row.spec;
    EXPECT_EQ(codec.seeded(), row.seeded) << row.spec;
    EXPECT_EQ(codec.selects(), row.indexed || row.seeded) << row.spec;
  }
}

TEST(Codec, ABiasedChainNeedsErrorFeedbackOrAnOptOut) {
  for (const char* spec :
       {"topk:0.1", "topk:0.1 | ternary | rice", "sign", "rotate | sign", "randk:0.1 | sign"}) {
    const Codec codec = codec_of(spec);
    const Status refused = codec.check_composition({});
    EXPECT_EQ(refused.code(), Code::kInvalidArgument) << spec;
    EXPECT_THAT(refused.message(), HasSubstr("is biased: put 'ef' first"));
    EXPECT_THAT(refused.message(), HasSubstr("compression.allow_biased = true"));
    EXPECT_TRUE(codec.check_composition({.allow_biased = true}).ok()) << spec;
    EXPECT_TRUE(codec_of(std::string("ef | ") + spec).check_composition({}).ok()) << spec;
  }
  EXPECT_THAT(codec_of("topk:0.1 | sign").check_composition({}).message(), HasSubstr("'topk' is"));
  for (const char* spec :
       {"float32", "float16", "int:4", "ternary", "randk:0.1", "rotate | eden:1"})
    EXPECT_TRUE(codec_of(spec).check_composition({}).ok()) << spec;
}

// dct:28 for a model of 7 x 7 images would travel as if it weren't there, and its user would take
// the accuracy for that of frequencies. (64 x 49 would be 4 x 784 as well: only lengths are known.)
TEST(Codec, AStageThatChangesNothingIsRefused) {
  const ParameterSchema images =
      *ParameterSchema::make({{"weight", {512, 63 * 49}}, {"bias", {512}}});
  const ParameterSchema vectors =
      *ParameterSchema::make({{"scale", {64 * 49}}, {"shift", {64 * 49}}});
  EXPECT_TRUE(codec_of("dct:7 | int:8").check_schema(images).ok());
  EXPECT_TRUE(codec_of("lowrank:4").check_schema(images).ok());
  EXPECT_TRUE(codec_of("sketch:3x100").check_schema(vectors).ok());
  EXPECT_TRUE(codec_of("int:8").check_schema(vectors).ok());
  const auto refused = [](const char* spec, const ParameterSchema& schema) {
    return codec_of(spec).check_schema(schema).message();
  };
  EXPECT_THAT(refused("dct:28 | int:8", images),
              HasSubstr("codec 'dct:28 | int:8': no weight has rows of whole 28 x 28 images"));
  EXPECT_THAT(refused("ef | lowrank:4", vectors),
              HasSubstr("no weight is larger than its factors of rank 4"));
  EXPECT_TRUE(codec_of("principal:4 | dct:7 | int:8").check_schema(images).ok());
  EXPECT_THAT(refused("principal:4 | int:8", vectors),
              HasSubstr("no weight is larger than its 4 principal components"));
  EXPECT_THAT(refused("components:9 | int:8", vectors),
              HasSubstr("no weight is larger than its 9 principal components"));
  EXPECT_THAT(refused("principal:4 | dct:28 | int:8", images), HasSubstr("28 x 28"));
  // What small16 takes away is no work for what follows.
  EXPECT_THAT(refused("small16:2097152 | dct:7 | int:8", images), HasSubstr("7 x 7"));
}

TEST(Codec, TakesAnotherRateForAWarmUp) {
  const Codec codec = codec_of("ef | topk:0.01 | ternary | rice");
  EXPECT_EQ(codec.with_rate(0.25)->spec(), "ef | topk:0.25 | ternary | rice");
  EXPECT_EQ(codec.with_rate(1)->spec(), "ef | topk:1 | ternary | rice");
  EXPECT_EQ(codec_of("rotate | randk:0.5").with_rate(1e-9)->spec(), "rotate:1024 | randk:1e-09");
  EXPECT_EQ(codec.spec(), "ef | topk:0.01 | ternary | rice");
  for (const double rate : {0.0, -0.1, 1.1, 1.0 / 3, std::numeric_limits<double>::quiet_NaN(),
                            std::numeric_limits<double>::infinity()})
    EXPECT_EQ(codec.with_rate(rate).error().code(), Code::kInvalidArgument) << rate;
  EXPECT_THAT(codec_of("rotate | eden:1").with_rate(0.5).error().message(),
              HasSubstr("a warm-up needs a stage with a rate, topk or randk"));
}

TEST(Codec, RefusesValuesThatAreNotFiniteOrTooLarge) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CodecScratch scratch;
  for (const char* spec : {"float32", "rotate | eden:1", "ef | topk:0.01 | ternary | rice"})
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(),
          kInfinity, -kInfinity, 0x1.000002p100f})
      for (const size_t at : {size_t{0}, size_t{16}, size_t{99}}) {
        const Codec codec = codec_of(spec);
        std::vector<float> x(100, 0.5f);
        x[at] = bad;
        std::vector<std::byte> out(codec.max_encoded_bytes(schema_of(x.size())));
        const Result<size_t> bytes = codec.encode(kMeta, schema_of(x.size()), x, scratch, out);
        ASSERT_FALSE(bytes) << spec << ' ' << bad;
        EXPECT_EQ(bytes.error().code(), Code::kInvalidArgument);
        EXPECT_THAT(bytes.error().message(), HasSubstr("NaN, infinity or a magnitude beyond"));
      }
}

TEST(Codec, CarriesTheLargestMagnitudesThroughEveryChain) {
  CodecScratch scratch;
  for (const Budget& budget : kBudgets) {
    const Codec codec = codec_of(budget.spec);
    for (const size_t n : {size_t{1}, size_t{1000}, size_t{65536}}) {
      std::vector<float> x(n, 0x1p100f);
      for (size_t i = 0; i < n; i += 3) x[i] = -0x1p100f;
      if (codec.chain().projection || codec.chain().principal)
        continue;  // sums of such magnitudes are refused
      const auto decoded = round_trip(codec, kMeta, x, scratch);  // fails unless it is finite
      EXPECT_EQ(decoded.size(), n);
    }
  }
}

TEST(Codec, RefusesABufferThatMayBeTooShort) {
  const Codec codec = codec_of("int:8");
  CodecScratch scratch;
  const std::vector<float> x(1000, 1.0f);
  std::vector<std::byte> out(codec.max_encoded_bytes(schema_of(x.size())) - 1);
  const Result<size_t> bytes = codec.encode(kMeta, schema_of(x.size()), x, scratch, out);
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code(), Code::kInvalidArgument);
}

TEST(Codec, TheBoundIsCloseToTheLongestFrame) {
  CodecScratch scratch;
  for (const Budget& budget : kBudgets) {
    const Codec codec = codec_of(budget.spec);
    const auto frame = encode_frame(codec, kMeta, make_input(Input::kGaussian, 65536), scratch);
    // How short a value code makes it or a grid, and how many are above a threshold, isn't known
    // before.
    const Principal* const principal = codec.chain().principal.get();
    if (codec.chain().value_code != ValueCode::kNone || (principal && principal->on_grid()) ||
        std::string_view(budget.spec).find("threshold") != std::string_view::npos)
      continue;
    // Counts are rounded down by a 32nd on average, and the last group may be padded.
    const bool counted = codec.chain().spreads() && !codec.indexed();
    const size_t rounded = counted ? frame.size() / 16 + 4 * kGroupElements : 0;
    // Rice is bounded by a bitmap of the chunk, which is far off when few are kept.
    const size_t bitmap = codec.indexed() ? 65536 / 8 : 0;
    EXPECT_LE(codec.max_encoded_bytes(schema_of(65536)), frame.size() + bitmap + rounded + 80)
        << budget.spec;
  }
}

TEST(Codec, BytesDependOnTheSeedOnlyWhereSomethingIsRandom) {
  CodecScratch scratch;
  const std::vector<float> x = make_input(Input::kGaussian, 5000);
  for (const auto& [spec, random] :
       {std::pair{"float32", false}, std::pair{"topk:0.1 | ternary | rice", false},
        std::pair{"sign", false}, std::pair{"int:4", true}, std::pair{"ternary", true},
        std::pair{"rotate | eden:4", true}, std::pair{"randk:0.1", true}}) {
    const auto a = round_trip(codec_of(spec), meta_with_seed(1), x, scratch);
    const auto b = round_trip(codec_of(spec), meta_with_seed(2), x, scratch);
    EXPECT_EQ(!same_bits(a, b), random) << spec;
  }
}

TEST(Codec, RandomnessDiffersBetweenChunksAndGroups) {
  CodecScratch scratch;
  const std::vector<float> x = make_input(Input::kConstant, 2 * kChunkElements);
  const auto decoded = round_trip(codec_of("int:2"), kMeta, x, scratch);
  const std::span<const float> all(decoded);
  EXPECT_FALSE(same_bits(all.first(kChunkElements), all.last(kChunkElements)));
  EXPECT_FALSE(same_bits(all.first(kGroupElements), all.subspan(kGroupElements, kGroupElements)));
  const auto masked = round_trip(codec_of("randk:0.5"), kMeta, x, scratch);
  EXPECT_FALSE(same_bits(std::span<const float>(masked).first(kChunkElements),
                         std::span<const float>(masked).last(kChunkElements)));
}

TEST(Codec, KeptIsRoundedToTheNearestAndAtLeastOne) {
  EXPECT_EQ(kept_of(kRateOne / 100, 0), 0u);
  EXPECT_EQ(kept_of(1, 1), 1u);
  EXPECT_EQ(kept_of(kRateOne / 100, 49), 1u);
  EXPECT_EQ(kept_of(kRateOne / 100, 149), 1u);
  EXPECT_EQ(kept_of(kRateOne / 100, 150), 2u);
  EXPECT_EQ(kept_of(kRateOne, 65536), 65536u);
  EXPECT_EQ(kept_of(kRateOne, size_t{1} << 40), size_t{1} << 40);
  EXPECT_EQ(kept_of(kRateOne - 1, size_t{1} << 40), (size_t{1} << 40) - 1100);
}

TEST(Codec, IsSharedByCopies) {
  const Codec codec = codec_of("rotate | eden:4");
  const Codec copy = codec;  // NOLINT(performance-unnecessary-copy-initialization)
  CodecScratch scratch;
  const std::vector<float> x = make_input(Input::kGaussian, 100);
  EXPECT_EQ(encode_frame(codec, kMeta, x, scratch), encode_frame(copy, kMeta, x, scratch));
}

TEST(TopK, KeepsExactlyTheLargestMagnitudesAtEveryRate) {
  CodecScratch scratch;
  std::vector<float> x = make_input(Input::kHeavyTail, 1000);
  for (size_t i = 0; i < x.size(); i += 4) x[i] = x[(i + 500) % x.size()];  // ties
  for (const uint32_t k : {1u, 2u, 10u, 499u, 500u, 999u, 1000u}) {
    const Codec codec = codec_of(fmt::format("topk:{}", k / 1000.0));
    const auto decoded = round_trip(codec, kMeta, x, scratch);
    std::vector<size_t> order(x.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::sort(order, [&](size_t a, size_t b) {
      return std::pair(-std::abs(x[a]), a) < std::pair(-std::abs(x[b]), b);
    });
    for (size_t rank = 0; rank < order.size(); ++rank)
      ASSERT_EQ(decoded[order[rank]], rank < k ? x[order[rank]] : 0.0f) << k;
  }
}

TEST(TopK, NeverSendsZeros) {
  CodecScratch scratch;
  std::vector<float> x(1000, 0.0f);
  x[3] = 1;
  x[900] = -0.0f;
  const auto frame = encode_frame(codec_of("topk:0.5"), kMeta, x, scratch);
  const Result<CheckedFrame> checked = inspect_frame(frame, x.size(), scratch);
  ASSERT_TRUE(checked);
  EXPECT_EQ(checked->nonzeros(), 1u);
}

TEST(TopK, ChoosesOverTheWholeUpdateNotEachChunk) {
  CodecScratch scratch;
  std::vector<float> x(2 * kChunkElements, 0.5f);
  for (size_t i = 0; i < 1000; ++i) x[kChunkElements + 7 * i] = 1;
  const std::string spec = fmt::format("topk:{}", 0.007629394);  // 1,000 of 131,072
  const auto decoded = round_trip(codec_of(spec), kMeta, x, scratch);
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(decoded[i], x[i] == 1 ? 1.0f : 0.0f);
}

// Threads may share the work of a large update; its frame and what is left of it stay the same.
TEST(Codec, ManyThreadsWriteTheSameFrame) {
  const size_t n = 17 * kChunkElements + 12345;
  std::vector<float> x(n);
  Rng rng(3, Purpose::kTest);
  for (size_t i = 0; i < n; ++i)
    x[i] = i / kChunkElements == 5 ? 0 : static_cast<float>(rng.normal());
  ThreadPool pool(2);
  for (const char* spec : {"rotate:1024 | eden:4", "int:8", "ef | sign", "float32",
                           "qsgd:16 | rans", "rotate:1024 | randk:0.25 | eden:1", "bfloat16 | zstd",
                           "ef | topk:0.01", "principal:2 | rotate:1024 | eden:1",
                           "ef | principal:1 | topk:0.01", "components:2 | rotate:1024 | eden:1"}) {
    const Codec codec = Codec::parse(spec).value();
    SenderMemory memory;
    memory.residual.assign(n, 0.25f);
    CodecScratch alone, shared;
    shared.use(pool);
    const PendingUpdate one =
        encode_update(codec, {.seed = 9}, schema_of(n), x, memory, alone).value();
    const PendingUpdate many =
        encode_update(codec, {.seed = 9}, schema_of(n), x, memory, shared).value();
    EXPECT_EQ(one.frame, many.frame) << spec;
    EXPECT_EQ(one.next.residual, many.next.residual) << spec;
    std::vector<float> bad = x;
    bad[n - 1] = NAN;
    EXPECT_EQ(encode_update(codec, {.seed = 9}, schema_of(n), bad, memory, shared).error().code(),
              Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace tern
