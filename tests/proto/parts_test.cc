#include "proto/parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/rng.h"

namespace tern {
namespace {

Bytes random_bytes(size_t n, uint32_t stream = 0) {
  Bytes bytes(n);
  Rng rng(1, Purpose::kTest, stream);
  for (std::byte& b : bytes) b = static_cast<std::byte>(rng.next());
  return bytes;
}

std::vector<Bytes> split(const std::vector<Bytes>& frames) {
  const std::vector<std::span<const std::byte>> views(frames.begin(), frames.end());
  return split_into_parts(TransferKind::kUpdate, 42, views);
}

TEST(Parts, BringFramesOfEveryLengthBackWhole) {
  for (const size_t length :
       {size_t{1}, size_t{63}, kPartBytes - 1, kPartBytes, kPartBytes + 1, 3 * kPartBytes}) {
    const std::vector<Bytes> frames{random_bytes(length, 1), random_bytes(7, 2),
                                    random_bytes(length, 3)};
    Bytes whole;
    for (const Bytes& frame : frames) whole.insert(whole.end(), frame.begin(), frame.end());
    PartAssembler assembler(TransferKind::kUpdate, 42, whole.size());
    const auto parts = split(frames);
    EXPECT_EQ(parts.size(), (whole.size() + kPartBytes - 1) / kPartBytes);
    EXPECT_EQ(total_bytes(parts), whole.size() + parts.size() * kPartHeaderBytes);
    for (const Bytes& part : parts) {
      EXPECT_LE(part.size(), kPartHeaderBytes + kPartBytes);
      EXPECT_FALSE(assembler.complete());
      ASSERT_TRUE(assembler.add(part).ok());
    }
    ASSERT_TRUE(assembler.complete());
    EXPECT_EQ(std::move(assembler).take(), whole);
  }
}

TEST(Parts, SeveralSmallFramesShareOnePart) {
  EXPECT_EQ(split({random_bytes(100), random_bytes(200), random_bytes(300)}).size(), 1u);
  EXPECT_TRUE(split({}).empty());
}

TEST(Parts, RefusesEveryChangedHeaderByte) {
  // The payload is the frame's business (it has its own checksums); of the header nothing may
  // change unnoticed.
  const Bytes part = split({random_bytes(500)}).at(0);
  for (size_t at = 0; at < kPartHeaderBytes; ++at)
    for (int bit = 0; bit < 8; ++bit) {
      Bytes changed = part;
      changed[at] ^= static_cast<std::byte>(1 << bit);
      PartAssembler assembler(TransferKind::kUpdate, 42, 1000);
      EXPECT_FALSE(assembler.add(changed).ok()) << "byte " << at << " bit " << bit;
    }
}

TEST(Parts, RefusesEveryTruncationAndTrailingBytes) {
  const Bytes part = split({random_bytes(500)}).at(0);
  for (size_t length = 0; length < part.size(); ++length) {
    PartAssembler assembler(TransferKind::kUpdate, 42, 1000);
    EXPECT_FALSE(assembler.add(std::span(part).first(length)).ok()) << length;
  }
  Bytes longer = part;
  longer.push_back(std::byte{0});
  PartAssembler assembler(TransferKind::kUpdate, 42, 1000);
  EXPECT_FALSE(assembler.add(longer).ok());
}

TEST(Parts, RefusesPartsOutOfOrderTwiceOrOfAnotherTransfer) {
  const auto parts = split({random_bytes(2 * kPartBytes)});
  PartAssembler backwards(TransferKind::kUpdate, 42, 1 << 20);
  EXPECT_FALSE(backwards.add(parts[1]).ok());
  PartAssembler twice(TransferKind::kUpdate, 42, 1 << 20);
  ASSERT_TRUE(twice.add(parts[0]).ok());
  EXPECT_FALSE(twice.add(parts[0]).ok());
  PartAssembler other_task(TransferKind::kUpdate, 43, 1 << 20),
      other_kind(TransferKind::kDeltas, 42, 1 << 20);
  EXPECT_FALSE(other_task.add(parts[0]).ok());
  EXPECT_FALSE(other_kind.add(parts[0]).ok());
}

TEST(Parts, BoundsATransferByWhatTheReceiverAllows) {
  const auto parts = split({random_bytes(1000)});
  PartAssembler assembler(TransferKind::kUpdate, 42, 999);
  const Status status = assembler.add(parts[0]);
  EXPECT_EQ(status.code(), Code::kOutOfRange);
  EXPECT_THAT(status.message(), testing::HasSubstr("at most 999"));
}

TEST(TaskId, DiffersBetweenRunsRoundsAndClients) {
  EXPECT_NE(task_id(1, 1, 1), task_id(2, 1, 1));
  EXPECT_NE(task_id(1, 1, 1), task_id(1, 2, 1));
  EXPECT_NE(task_id(1, 1, 1), task_id(1, 1, 2));
  EXPECT_EQ(task_id(1, 2, 3), task_id(1, 2, 3));
}

}  // namespace
}  // namespace tern
