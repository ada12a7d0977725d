// A replica moves only to the version and the bits that the plan names; anything else leaves it as
// it was.
#include "client/replica.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compression/updates/frame.h"
#include "proto/parts.h"

namespace tern {
namespace {

constexpr size_t kElements = 5;
const ParameterSchema kFlatSchema = ParameterSchema::flat(kElements);
constexpr int kGrid = 20;

class ReplicaTest : public testing::Test {
 protected:
  CodecScratch scratch_;
  std::vector<float> zero_ = std::vector<float>(kElements, 0.5f);
  Replica replica_{kFlatSchema, zero_};

  Bytes frame(uint32_t base, std::vector<float> values, const char* spec = "float32") {
    const Codec codec = *Codec::parse(spec);
    Bytes bytes(codec.max_encoded_bytes(kFlatSchema));
    bytes.resize(*codec.encode({.base_version = base}, kFlatSchema, values, scratch_, bytes));
    return bytes;
  }
  static RoundPlan plan(uint32_t version, const std::vector<float>& expected) {
    return {.version = version,
            .model_sha256 = sha256(std::span<const float>(expected)),
            .grid_bits = kGrid};
  }
  static Bytes join(const Bytes& a, const Bytes& b) {
    Bytes both = a;
    both.insert(both.end(), b.begin(), b.end());
    return both;
  }
};

TEST_F(ReplicaTest, FollowsAChainOfDeltas) {
  const Bytes chain = join(frame(0, {1, 0, 0, 0, 0}), frame(1, {0, 0.25f, 0, 0, 0}));
  const std::vector<float> expected{1.5f, 0.75f, 0.5f, 0.5f, 0.5f};
  ASSERT_TRUE(replica_.apply(plan(2, expected), DownloadKind::kDeltas, chain, scratch_).ok());
  EXPECT_EQ(replica_.version(), 2u);
  EXPECT_THAT(replica_.parameters(), testing::ElementsAreArray(expected));
}

TEST_F(ReplicaTest, ASnapshotStartsFromVersionZeroWhateverItHolds) {
  ASSERT_TRUE(replica_
                  .apply(plan(1, {9.5f, .5f, .5f, .5f, .5f}), DownloadKind::kDeltas,
                         frame(0, {9, 0, 0, 0, 0}), scratch_)
                  .ok());
  const std::vector<float> expected{0.5f, 0.5f, 0.5f, 0.5f, 2.5f};
  ASSERT_TRUE(
      replica_
          .apply(plan(7, expected), DownloadKind::kSnapshot, frame(0, {0, 0, 0, 0, 2}), scratch_)
          .ok());
  EXPECT_EQ(replica_.version(), 7u);
  EXPECT_THAT(replica_.parameters(), testing::ElementsAreArray(expected));
}

TEST_F(ReplicaTest, RefusesWhatDoesNotLeadWhereThePlanSays) {
  const std::vector<float> good{1.5f, 0.5f, 0.5f, 0.5f, 0.5f};
  const Bytes delta = frame(0, {1, 0, 0, 0, 0});
  struct Case {
    RoundPlan plan;
    DownloadKind kind;
    Bytes transfer;
    const char* message;
  };
  Bytes damaged = delta;
  damaged.back() ^= std::byte{1};
  const Case cases[] = {
      {plan(2, good), DownloadKind::kDeltas, delta,
       "leads from version 1 to 2, this replica is at version 0"},
      {plan(1, zero_), DownloadKind::kDeltas, delta, "has SHA-256"},
      {plan(1, good), DownloadKind::kDeltas, frame(3, {1, 0, 0, 0, 0}),
       "a frame from version 3, the way to version 1 leads from version 0"},
      {plan(1, good), DownloadKind::kDeltas, join(delta, delta), "more than 1 frames"},
      {plan(1, good), DownloadKind::kDeltas, damaged, "checksum"},
      {plan(1, good),
       DownloadKind::kNothing,
       {},
       "nothing comes with a plan of version 1, this replica is at version 0"},
      {plan(1, good), DownloadKind::kSnapshot, frame(2, {1, 0, 0, 0, 0}),
       "a frame from version 2, the way to version 1 leads from version 0"},
      {plan(1, good), DownloadKind::kSnapshot, frame(0, {1, 0, 0, 0, 0}, "bfloat16"),
       "must be lossless"},
  };
  for (const Case& one : cases) {
    const Status status = replica_.apply(one.plan, one.kind, one.transfer, scratch_);
    ASSERT_FALSE(status.ok()) << one.message;
    EXPECT_THAT(status.message(), testing::HasSubstr(one.message));
    EXPECT_EQ(replica_.version(), 0u);
    EXPECT_THAT(replica_.parameters(), testing::ElementsAreArray(zero_));
  }
}

// ---- Keyframes

/// Versions 1 to 9, a keyframe each 3; version v is ahead of what it stands on by v at element 0.
class KeyframesTest : public ReplicaTest {
 protected:
  VersionTree tree_{.periods = {3}};

  float at(uint32_t version) const {
    return version == 0 ? 0.5f : at(tree_.parent(version)) + static_cast<float>(version);
  }
  RoundPlan plan_of(uint32_t version) const {
    RoundPlan made = plan(version, {at(version), 0.5f, 0.5f, 0.5f, 0.5f});
    made.versions = tree_;
    return made;
  }
  Bytes frame_of(uint32_t version) {
    return frame(tree_.parent(version), {static_cast<float>(version), 0, 0, 0, 0});
  }
  Status go(uint32_t version, const std::vector<uint32_t>& frames) {
    Bytes all;
    for (const uint32_t one : frames) all = join(all, frame_of(one));
    return replica_.apply(plan_of(version), DownloadKind::kDeltas, all, scratch_);
  }
  std::vector<uint32_t> held() const {
    std::vector<uint32_t> versions;
    for (const auto& [version, model] : replica_.models()) versions.push_back(version);
    return versions;
  }
};

TEST_F(KeyframesTest, TakesTheKeyframesItMissedAndOneRefinement) {
  ASSERT_TRUE(go(2, {2}).ok());
  EXPECT_THAT(held(), testing::ElementsAre(2));
  ASSERT_TRUE(go(7, {3, 6, 7}).ok());
  EXPECT_EQ(replica_.parameters()[0], 0.5f + 3 + 6 + 7);
  EXPECT_THAT(held(), testing::ElementsAre(6, 7)) << "3 is of no use any more";
  ASSERT_TRUE(go(8, {8}).ok()) << "another refinement of the same keyframe";
  EXPECT_EQ(replica_.parameters()[0], 0.5f + 3 + 6 + 8);
  EXPECT_THAT(held(), testing::ElementsAre(6, 8));
}

TEST_F(KeyframesTest, KeyframesFromTheRootAreOneFrameAway) {
  tree_ = {.periods = {3}, .chain = false, .root = 1};
  ASSERT_TRUE(go(1, {1}).ok());
  ASSERT_TRUE(go(5, {3, 5}).ok());
  ASSERT_TRUE(go(8, {6, 8}).ok());
  EXPECT_EQ(replica_.parameters()[0], 0.5f + 1 + 6 + 8);
  EXPECT_THAT(held(), testing::ElementsAre(1, 6, 8));
}

TEST_F(KeyframesTest, ASnapshotIsOfTheKeyframeAndFramesLeadOnFromThere) {
  const Bytes snapshot = frame(0, {9, 0, 0, 0, 0});  // 3 + 6: version 6
  ASSERT_TRUE(
      replica_.apply(plan_of(8), DownloadKind::kSnapshot, join(snapshot, frame_of(8)), scratch_)
          .ok());
  EXPECT_THAT(held(), testing::ElementsAre(6, 8));
  ASSERT_TRUE(go(9, {9}).ok()) << "the next keyframe follows that of the snapshot";
  const Status alone = replica_.apply(plan_of(11), DownloadKind::kSnapshot, snapshot, scratch_);
  EXPECT_THAT(alone.message(), testing::HasSubstr("a snapshot of version 9 and 0 frames"));
}

TEST_F(KeyframesTest, AWayThatBeginsWhereItIsNotIsRefused) {
  ASSERT_TRUE(go(2, {2}).ok());
  EXPECT_THAT(go(8, {6, 8}).message(), testing::HasSubstr("leads from version 3 to 8"));
  EXPECT_THAT(held(), testing::ElementsAre(2));
}

}  // namespace
}  // namespace tern
