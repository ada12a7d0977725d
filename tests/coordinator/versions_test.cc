// What clients hold is what the coordinator publishes, bit for bit, by every way of getting there.
#include "coordinator/versions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/rng.h"
#include "compression/updates/frame.h"

namespace tern {
namespace {

class Versions : public testing::TestWithParam<const char*> {
 protected:
  static constexpr size_t kElements = 70'000;  // two chunks
  static constexpr uint64_t kSeed = 5;

  ParameterSchema schema_ = *ParameterSchema::make({{"w", {700, 100}, TensorKind::kWeight}});
  CodecScratch scratch_;

  std::vector<float> zero() const {
    std::vector<float> values(kElements);
    initialize_parameters(schema_, kSeed, kGridBits, values);
    return values;
  }
  static std::vector<float> step(uint32_t round) {
    std::vector<float> values(kElements);
    Rng rng(2, Purpose::kTest, round);
    for (float& value : values) value = static_cast<float>(0.01 * rng.normal());
    return values;
  }
  /// A client's way from version `held` with `parameters` to the newest one.
  void follow(VersionedModel& model, uint32_t held, std::vector<float>& parameters) {
    const Download download = *model.download(held, scratch_);
    if (download.kind == DownloadKind::kSnapshot) parameters = zero();
    for (const SharedFrame& frame : download.frames) {
      const auto checked = inspect(*frame, schema_, {}, scratch_);
      ASSERT_TRUE(checked) << checked.error().describe();
      ASSERT_TRUE(apply_delta(*checked, kGridBits, scratch_, parameters).ok());
    }
    EXPECT_EQ(sha256(std::span<const float>(parameters)), model.sha256());
  }
};

TEST_P(Versions, EveryReplicaEqualsThePublishedModelWhateverItMissed) {
  const Codec codec = *Codec::parse(GetParam());
  VersionedModel model(schema_, kSeed);
  std::vector<float> every = zero(), third = zero();
  uint32_t every_held = 0, third_held = 0;
  for (uint32_t round = 1; round <= 12; ++round) {
    ASSERT_TRUE(model.publish(step(round), codec, round, scratch_));
    follow(model, every_held, every);
    every_held = model.version();
    if (round % 3 == 0) {
      follow(model, third_held, third);
      third_held = model.version();
    }
    std::vector<float> fresh = zero();
    follow(model, 0, fresh);
  }
}

TEST_P(Versions, PublishedParametersLieOnTheGrid) {
  VersionedModel model(schema_, kSeed);
  for (uint32_t round = 1; round <= 3; ++round)
    ASSERT_TRUE(model.publish(step(round), *Codec::parse(GetParam()), round, scratch_));
  for (const float value : model.parameters()) {
    const double scaled = std::ldexp(value, kGridBits);
    ASSERT_EQ(scaled, std::nearbyint(scaled));
  }
}

TEST_P(Versions, ARestoredModelGoesOnWithTheSameBits) {
  const Codec codec = *Codec::parse(GetParam());
  VersionedModel through(schema_, kSeed);
  for (uint32_t round = 1; round <= 4; ++round)
    ASSERT_TRUE(through.publish(step(round), codec, round, scratch_));
  VersionedModel restored(schema_, kSeed);
  ASSERT_TRUE(restored.restore(through.state()).ok());
  EXPECT_EQ(restored.sha256(), through.sha256());
  ASSERT_TRUE(through.publish(step(5), codec, 5, scratch_));
  ASSERT_TRUE(restored.publish(step(5), codec, 5, scratch_));
  EXPECT_EQ(restored.sha256(), through.sha256());
  EXPECT_EQ(*restored.download(2, scratch_)->frames.at(0),
            *through.download(2, scratch_)->frames.at(0));
}

INSTANTIATE_TEST_SUITE_P(Codecs, Versions,
                         testing::Values("float32", "ef | topk:0.01 | ternary | rice",
                                         "rotate:1024 | eden:4", "ef | rotate:1024 | eden:1",
                                         "bfloat16"));

TEST_F(Versions, ErrorFeedbackOwesExactlyWhatWasNotSent) {
  const Codec codec = *Codec::parse("ef | topk:0.05 | ternary | rice");
  VersionedModel model(schema_, kSeed);
  std::vector<double> wanted(kElements);
  for (uint32_t round = 1; round <= 10; ++round) {
    const std::vector<float> s = step(round);
    for (size_t i = 0; i < kElements; ++i) wanted[i] += s[i];
    ASSERT_TRUE(model.publish(s, codec, round, scratch_));
  }
  const std::vector<float> start = zero(), residual = *model.state().residual;
  ASSERT_EQ(residual.size(), kElements);
  for (size_t i = 0; i < kElements; ++i)
    ASSERT_NEAR(double{model.parameters()[i]} - start[i] + residual[i], wanted[i], 1e-6);
}

TEST_F(Versions, SendsTheShorterOfChainAndSnapshot) {
  const Codec dense = *Codec::parse("float32"),
              sparse = *Codec::parse("ef | topk:0.01 | ternary | rice");
  VersionedModel model(schema_, kSeed);
  ASSERT_TRUE(model.publish(step(1), dense, 1, scratch_));
  ASSERT_TRUE(model.publish(step(2), dense, 2, scratch_));
  EXPECT_EQ(model.download(2, scratch_)->kind, DownloadKind::kNothing);
  EXPECT_EQ(model.download(1, scratch_)->kind, DownloadKind::kDeltas);
  EXPECT_EQ(model.download(0, scratch_)->kind, DownloadKind::kSnapshot)
      << "two dense deltas are longer";
  for (uint32_t round = 3; round <= 12; ++round)
    ASSERT_TRUE(model.publish(step(round), sparse, round, scratch_));
  const Download chain = *model.download(2, scratch_);
  EXPECT_EQ(chain.kind, DownloadKind::kDeltas);
  EXPECT_EQ(chain.frames.size(), 10u);
  EXPECT_FALSE(model.download(13, scratch_)) << "a version that was never published";
}

TEST(RoundToGrid, GivesMultiplesWithoutMinusZeroAndRefusesTheRest) {
  std::vector<float> values{-0.0f, -1e-9f, 0.1f, 15.5f};
  ASSERT_TRUE(round_to_grid(values).ok());
  EXPECT_FALSE(std::signbit(values[0]));
  EXPECT_FALSE(std::signbit(values[1]));
  EXPECT_EQ(values[2], static_cast<float>(std::ldexp(104858, -20)));
  EXPECT_EQ(values[3], 15.5f);
  for (const float bad : {16.0f, -16.0f, std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> one{0, bad};
    const Status status = round_to_grid(one);
    EXPECT_EQ(status.code(), Code::kOutOfRange);
    EXPECT_THAT(status.message(), testing::HasSubstr("parameter 1 is"));
  }
}

TEST_F(Versions, ADivergingModelIsNotPublished) {
  VersionedModel model(schema_, kSeed);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float value : {17.0f, 40.0f, 1e30f, nan}) {
    std::vector<float> step(kElements, 0.0f);
    step[123] = value;
    const auto published = model.publish(step, *Codec::parse("float32"), 1, scratch_);
    ASSERT_FALSE(published) << value;
    EXPECT_EQ(published.error().code(), Code::kOutOfRange);
    EXPECT_THAT(published.error().message(), testing::HasSubstr("training diverges"));
  }
  EXPECT_EQ(model.version(), 0u);
}

}  // namespace
}  // namespace tern
