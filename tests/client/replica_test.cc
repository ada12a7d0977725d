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
const ParameterSchema kSchema = ParameterSchema::flat(kElements);
constexpr int kGrid = 20;

class ReplicaTest : public testing::Test {
 protected:
  CodecScratch scratch_;
  std::vector<float> zero_ = std::vector<float>(kElements, 0.5f);
  Replica replica_{kSchema, zero_};

  Bytes frame(uint32_t base, std::vector<float> values, const char* spec = "float32") {
    const Codec codec = *Codec::parse(spec);
    Bytes bytes(codec.max_encoded_bytes(kSchema));
    bytes.resize(*codec.encode({.base_version = base}, kSchema, values, scratch_, bytes));
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
      {plan(2, good), DownloadKind::kDeltas, delta, "leads to version 1, the plan wants 2"},
      {plan(1, zero_), DownloadKind::kDeltas, delta, "has SHA-256"},
      {plan(1, good), DownloadKind::kDeltas, frame(3, {1, 0, 0, 0, 0}), "a delta from version 3"},
      {plan(1, good), DownloadKind::kDeltas, join(delta, delta), "more than 1 frames"},
      {plan(1, good), DownloadKind::kDeltas, damaged, "checksum"},
      {plan(1, good), DownloadKind::kNothing, {}, "leads to version 0"},
      {plan(1, good), DownloadKind::kSnapshot, frame(2, {1, 0, 0, 0, 0}), "relative to version 0"},
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

}  // namespace
}  // namespace tern
