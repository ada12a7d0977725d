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

/// A header with the numbers that it is told, and as much payload as it says.
Bytes forged(uint32_t index, uint32_t count, uint64_t transfer, uint64_t offset, uint32_t length) {
  Bytes part = split({random_bytes(1)}).at(0);
  store(part.data() + 16, index);
  store(part.data() + 20, count);
  store(part.data() + 24, transfer);
  store(part.data() + 32, offset);
  store(part.data() + 40, length);
  part.resize(kPartHeaderBytes + length);
  return part;
}

TEST(Parts, RefusesMoreThanAWholeTransfer) {
  PartAssembler assembler(TransferKind::kUpdate, 42, 1 << 20);
  ASSERT_TRUE(assembler.add(split({random_bytes(100)}).at(0)).ok());
  ASSERT_TRUE(assembler.complete());
  EXPECT_FALSE(assembler.add(forged(1, 1, 100, 100, 0)).ok()) << "a part of nothing";
  EXPECT_TRUE(assembler.complete());
  EXPECT_EQ(std::move(assembler).take(), random_bytes(100));
}

TEST(Parts, RefusesNumbersThatContradictEachOther) {
  constexpr uint64_t kMost = UINT64_MAX;
  const Bytes cases[] = {
      forged(0, 0, 0, 0, 0),
      forged(0, 1, 0, 0, 0),
      forged(0, 0, 100, 0, 100),
      forged(0, 2, 100, 0, 100),
      forged(0, 1, 100, 0, 99),
      forged(0, 1, 100, 1, 99),
      forged(0, 1, 100, 100, 0),
      forged(0, 0, kMost, 0, kPartBytes),
      forged(0, 1, kMost, kMost, 100),
      forged(0, UINT32_MAX, kMost, 0, kPartBytes),
      forged(0, 2, kPartBytes + 1, 0, kPartBytes - 1),
  };
  for (size_t i = 0; i < std::size(cases); ++i) {
    PartAssembler assembler(TransferKind::kUpdate, 42, kMost);  // a receiver that takes all
    EXPECT_FALSE(assembler.add(cases[i]).ok()) << i;
    EXPECT_FALSE(assembler.complete()) << i;
  }
}

}  // namespace
}  // namespace tern
