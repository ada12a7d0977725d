// What clients hold is what the coordinator publishes, bit for bit, by every way of getting there.
#include "coordinator/versions.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/rng.h"
#include "client/replica.h"
#include "compression/updates/frame.h"

namespace tern {
namespace {

class Versions : public testing::Test {
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
  /// A client that was once at the coordinator, or never.
  struct Client {
    Replica replica;
    uint64_t bytes = 0;
    uint32_t snapshots = 0;
  };
  Client newcomer() const { return {Replica(schema_, zero())}; }
  /// Its way to the newest version.
  void follow(VersionedModel& model, Client& client) {
    const Download download = *model.download(client.replica.version(), scratch_);
    Bytes transfer;
    for (const SharedFrame& frame : download.frames)
      transfer.insert(transfer.end(), frame->begin(), frame->end());
    const RoundPlan plan{.version = model.version(),
                         .model_sha256 = model.sha256(),
                         .versions = model.tree(),
                         .grid_bits = kGridBits};
    EXPECT_LE(transfer.size(), max_download_bytes(schema_));
    const Status status = client.replica.apply(plan, download.kind, transfer, scratch_);
    ASSERT_TRUE(status.ok()) << status.describe();
    EXPECT_THAT(client.replica.parameters(), testing::ElementsAreArray(model.parameters()));
    client.bytes += transfer.size();
    client.snapshots += download.kind == DownloadKind::kSnapshot;
  }
};

/// A plain chain of a codec.
class ChainOf : public Versions, public testing::WithParamInterface<const char*> {};

TEST_P(ChainOf, EveryReplicaEqualsThePublishedModelWhateverItMissed) {
  const Codec codec = *Codec::parse(GetParam());
  VersionedModel model(schema_, kSeed);
  Client every = newcomer(), third = newcomer();
  for (uint32_t round = 1; round <= 12; ++round) {
    ASSERT_TRUE(model.publish(step(round), codec, round, scratch_));
    follow(model, every);
    if (round % 3 == 0) follow(model, third);
    Client fresh = newcomer();
    follow(model, fresh);
  }
}

TEST_P(ChainOf, PublishedParametersLieOnTheGrid) {
  VersionedModel model(schema_, kSeed);
  for (uint32_t round = 1; round <= 3; ++round)
    ASSERT_TRUE(model.publish(step(round), *Codec::parse(GetParam()), round, scratch_));
  for (const float value : model.parameters()) {
    const double scaled = std::ldexp(value, kGridBits);
    ASSERT_EQ(scaled, std::nearbyint(scaled));
  }
}

TEST_P(ChainOf, ARestoredModelGoesOnWithTheSameBits) {
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

INSTANTIATE_TEST_SUITE_P(Codecs, ChainOf,
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

// ---- Keyframes

struct Tree {
  const char* name;
  VersionTree tree;
  bool dense_refinement = false, dense_keyframes = false;
};

class KeyframedVersions : public Versions, public testing::WithParamInterface<Tree> {
 protected:
  const VersionTree& tree() const { return GetParam().tree; }
  Codec codec(uint32_t version) const {
    const size_t level = tree().level(version);
    if (level == 0 ? GetParam().dense_refinement : GetParam().dense_keyframes)
      return *Codec::parse("float32");
    const char* sparse[] = {"ef | topk:0.01 | ternary | rice", "ef | topk:0.03 | ternary | rice",
                            "ef | topk:0.1 | ternary | rice"};
    return *Codec::parse(sparse[level]);
  }
  void publish(VersionedModel& model) {
    const uint32_t version = model.version() + 1;
    const Codec chain = version <= tree().root ? *Codec::parse("float32") : codec(version);
    ASSERT_TRUE(model.publish(step(version), chain, version, scratch_));
  }
};

TEST_P(KeyframedVersions, EveryReplicaEqualsThePublishedModelWhateverItMissed) {
  VersionedModel model(schema_, kSeed, tree());
  std::vector<Client> clients;
  clients.reserve(7);
  for (int i = 0; i < 7; ++i) clients.push_back(newcomer());
  for (uint32_t round = 1; round <= 40; ++round) {
    ASSERT_NO_FATAL_FAILURE(publish(model));
    for (size_t i = 0; i < clients.size(); ++i)  // each so many rounds
      if (round % (2 * i + 1) == 0) {
        ASSERT_NO_FATAL_FAILURE(follow(model, clients[i])) << i << " in " << round;
      }
    Client fresh = newcomer();
    ASSERT_NO_FATAL_FAILURE(follow(model, fresh)) << "in " << round;
  }
}

TEST_P(KeyframedVersions, WhatWasNotSentIsStillOwed) {
  VersionedModel model(schema_, kSeed, tree());
  std::vector<double> wanted(kElements);
  for (uint32_t round = 1; round <= 25; ++round) {
    const std::vector<float> s = step(round);
    for (size_t i = 0; i < kElements; ++i) wanted[i] += s[i];
    ASSERT_NO_FATAL_FAILURE(publish(model));
  }
  const std::vector<float> start = zero(), residual = *model.state().residual;
  ASSERT_EQ(residual.size(), kElements);
  for (size_t i = 0; i < kElements; ++i)
    ASSERT_NEAR(double{model.parameters()[i]} - start[i] + residual[i], wanted[i], 1e-6);
}

TEST_P(KeyframedVersions, ARestoredModelGoesOnWithTheSameBits) {
  for (const uint32_t stop : {1u, 4u, 5u, 12u, 13u}) {
    VersionedModel through(schema_, kSeed, tree()), restored(schema_, kSeed, tree());
    for (uint32_t round = 1; round <= stop; ++round) ASSERT_NO_FATAL_FAILURE(publish(through));
    Client old = newcomer(), rare = newcomer();
    follow(through, old);
    follow(through, rare);
    ASSERT_TRUE(restored.restore(through.state()).ok());
    for (uint32_t round = stop + 1; round <= stop + 8; ++round) {
      ASSERT_NO_FATAL_FAILURE(publish(through));
      ASSERT_NO_FATAL_FAILURE(publish(restored));
      ASSERT_EQ(restored.sha256(), through.sha256()) << stop << ' ' << round;
      ASSERT_NO_FATAL_FAILURE(follow(restored, old)) << stop << ' ' << round;
    }
    Client fresh = newcomer();
    for (Client* client : {&rare, &fresh}) ASSERT_NO_FATAL_FAILURE(follow(restored, *client));
  }
}

TEST_P(KeyframedVersions, AStateThatLacksAnyKeyframeIsRefused) {
  VersionedModel model(schema_, kSeed, tree());
  for (uint32_t round = 1; round <= 29; ++round) {
    ASSERT_NO_FATAL_FAILURE(publish(model));
    const VersionsState state = model.state();
    VersionedModel other(schema_, kSeed, tree());
    for (const auto& [version, base] : state.bases) {
      VersionsState without = state;
      without.bases.erase(version);
      const Status refused = other.restore(std::move(without));
      EXPECT_EQ(refused.code(), Code::kCorrupt) << round;
      EXPECT_THAT(refused.message(), testing::HasSubstr(fmt::format("without {}", version)));
    }
    EXPECT_TRUE(other.restore(state).ok()) << round;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Trees, KeyframedVersions,
    testing::Values(
        Tree{"Chain", {.periods = {4}}}, Tree{"FromTheRoot", {.periods = {4}, .chain = false}},
        Tree{"TwoLevels", {.periods = {4, 12}}},
        Tree{"TwoLevelsFromTheRoot", {.periods = {4, 12}, .chain = false}},
        Tree{"GivenModel", {.periods = {4}, .root = 1}},
        Tree{"GivenModelTwoLevels", {.periods = {4, 12}, .root = 1}},
        Tree{"GivenModelFromTheRoot", {.periods = {4}, .chain = false, .root = 1}},
        Tree{"GivenModelShort", {.periods = {2, 4}, .root = 1}},
        Tree{"GivenModelShortFromTheRoot", {.periods = {2}, .chain = false, .root = 1}},
        Tree{"DenseRefinements", {.periods = {4}}, true},
        // The longest download there is: a snapshot and a frame of each level.
        Tree{"AllDense", {.periods = {2, 4, 8, 16}, .chain = false, .root = 1}, true, true}),
    [](const auto& its) { return its.param.name; });

TEST_F(Versions, AClientSeenRarelyDownloadsFewerBytesWithKeyframes) {
  const Codec sparse = *Codec::parse("ef | topk:0.01 | ternary | rice"),
              keyframe = *Codec::parse("ef | topk:0.02 | ternary | rice");
  VersionedModel plain(schema_, kSeed), keyframed(schema_, kSeed, {.periods = {10}});
  Client of_plain = newcomer(), of_keyframed = newcomer();
  for (uint32_t round = 1; round <= 40; ++round) {
    ASSERT_TRUE(plain.publish(step(round), sparse, round, scratch_));
    ASSERT_TRUE(
        keyframed.publish(step(round), round % 10 == 0 ? keyframe : sparse, round, scratch_));
    if (round % 13 != 0) continue;
    follow(plain, of_plain);
    follow(keyframed, of_keyframed);
  }
  EXPECT_LT(3 * of_keyframed.bytes, of_plain.bytes);
  EXPECT_EQ(of_keyframed.snapshots, 0u);
}

}  // namespace
}  // namespace tern
