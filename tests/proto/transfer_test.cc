// Transfers under credit: bounded on the way, whole at the end, whatever the interleaving.
#include "proto/transfer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "base/rng.h"

namespace tern {
namespace {

constexpr TaskId kTransferTask = 42;
constexpr uint64_t kWholePart = kPartHeaderBytes + kPartBytes;

SharedFrame frame_of(size_t bytes, uint32_t stream) {
  Bytes frame(bytes);
  Rng rng(1, Purpose::kTest, stream);
  for (size_t at = 0; at < bytes; at += 1 + rng.below(64))
    frame[at] = static_cast<std::byte>(rng.next());
  return std::make_shared<const Bytes>(std::move(frame));
}

Bytes joined(const std::vector<SharedFrame>& frames) {
  Bytes all;
  for (const SharedFrame& frame : frames) all.insert(all.end(), frame->begin(), frame->end());
  return all;
}

/// Both ends and what is on its way between them.
struct Wire {
  explicit Wire(std::vector<SharedFrame> all)
      : frames(std::move(all)),
        sender(TransferKind::kDeltas, kTransferTask, frames),
        receiver(TransferKind::kDeltas, kTransferTask, joined(frames).size()) {}

  Status pump() {
    const Status status = sender.pump([this](Bytes part) -> Status {
      if (failures > 0) {
        --failures;
        return {Code::kOutOfRange, "the queue is full"};
      }
      on_the_way += part.size();
      sent += part.size();
      parts.push_back(std::move(part));
      return {};
    });
    EXPECT_LE(on_the_way, kCreditWindow);
    most_on_the_way = std::max(most_on_the_way, on_the_way);
    return status;
  }
  void deliver_part() {
    const Bytes part = std::move(parts.front());
    parts.pop_front();
    on_the_way -= part.size();
    ASSERT_TRUE(receiver.add(part).ok());
    if (const auto credit = receiver.credit_due()) credits.push_back(*credit);
  }
  void deliver_credit(size_t at = 0) {
    EXPECT_EQ(credits[at].task, kTransferTask);
    sender.add_credit(credits[at].bytes);
    credits.erase(credits.begin() + static_cast<ptrdiff_t>(at));
  }

  const std::vector<SharedFrame> frames;
  OutgoingTransfer sender;
  IncomingTransfer receiver;
  std::deque<Bytes> parts;
  std::deque<Credit> credits;
  int failures = 0;
  uint64_t on_the_way = 0, most_on_the_way = 0, sent = 0;
};

TEST(Transfer, BeginsWithItsMessageInOnePacket) {
  const Bytes message = to_packet(Credit{.task = kTransferTask, .bytes = 7});
  for (const size_t bytes : {size_t{1}, kPartBytes, 2 * kPartBytes + 5, 20 * kPartBytes}) {
    Wire wire({frame_of(bytes, 2)});
    const Bytes packet = wire.sender.begin_with(message);
    EXPECT_EQ(packet.size(),
              std::min<size_t>(bytes, kPartBytes) + kPartHeaderBytes + message.size());
    const PacketContent content = open_packet(packet);
    EXPECT_TRUE(std::ranges::equal(content.message, message));
    EXPECT_EQ(wire.sender.sent_bytes(), content.part.size());
    EXPECT_EQ(wire.sender.done(), bytes <= kPartBytes);
    wire.sent = wire.on_the_way = content.part.size();
    wire.parts.emplace_back(content.part.begin(), content.part.end());
    while (!wire.parts.empty()) {
      ASSERT_TRUE(wire.pump().ok());
      wire.deliver_part();
      while (!wire.credits.empty()) wire.deliver_credit();
      ASSERT_TRUE(wire.pump().ok());
    }
    ASSERT_TRUE(wire.receiver.complete());
    EXPECT_EQ(wire.receiver.take(), joined(wire.frames));
  }
  OutgoingTransfer nothing(TransferKind::kDeltas, kTransferTask, {});
  EXPECT_EQ(nothing.begin_with(message), message);
}

TEST(Transfer, SendsNoMoreThanAWindowAheadOfTheReceiver) {
  Wire wire({frame_of(20 * kPartBytes + 7, 1)});
  ASSERT_TRUE(wire.pump().ok());
  EXPECT_EQ(wire.sender.sent_bytes(), kCreditWindow) << "all that fits, at once";
  ASSERT_TRUE(wire.pump().ok());
  EXPECT_EQ(wire.sender.sent_bytes(), kCreditWindow) << "and no more without a word";
  int credits = 0;
  while (!wire.sender.done() || !wire.parts.empty()) {
    ASSERT_FALSE(wire.parts.empty() && wire.credits.empty()) << "stuck";
    if (!wire.parts.empty()) wire.deliver_part();
    for (; !wire.credits.empty(); ++credits) wire.deliver_credit();
    ASSERT_TRUE(wire.pump().ok());
  }
  EXPECT_TRUE(wire.receiver.complete());
  EXPECT_EQ(wire.most_on_the_way, kCreditWindow);
  EXPECT_LE(credits, 12) << "not one for each part";
}

TEST(Transfer, ALongUpdateWaitsForCredit) {
  const Bytes message = to_packet(Credit{.task = kTransferTask, .bytes = 7});
  const uint64_t window = kCreditWindow - 4 * kPartHeaderBytes;
  OutgoingTransfer at_once(TransferKind::kUpdate, kTransferTask, {frame_of(window, 1)});
  EXPECT_GT(at_once.begin_with(message).size(), message.size());
  OutgoingTransfer waits(TransferKind::kUpdate, kTransferTask, {frame_of(window + 1, 1)});
  EXPECT_EQ(waits.begin_with(message), message);
  uint64_t sent = 0;
  const auto send = [&](const Bytes& part) -> Status {
    sent += part.size();
    return {};
  };
  ASSERT_TRUE(waits.pump(send).ok());
  EXPECT_EQ(sent, 0u);
  waits.add_credit(kWholePart);
  ASSERT_TRUE(waits.pump(send).ok());
  EXPECT_EQ(sent, kWholePart);
}

TEST(Transfer, TheEndOfALongOneIsToldOnce) {
  for (const size_t bytes : {size_t{1000}, size_t{kAcknowledgedBytes}, 9 * kPartBytes + 1}) {
    Wire wire({frame_of(bytes, 1)});
    std::optional<Credit> last;
    while (!wire.receiver.complete()) {
      ASSERT_TRUE(wire.pump().ok());
      wire.deliver_part();
      while (!wire.credits.empty()) {
        last = wire.credits.front();
        wire.deliver_credit();
      }
    }
    const bool told = last && last->bytes == wire.receiver.total_bytes() + kCreditWindow;
    EXPECT_EQ(told, bytes >= kAcknowledgedBytes) << bytes;
    EXPECT_FALSE(wire.receiver.credit_due());
  }
}

TEST(Transfer, SendsNoMoreThanItIsAllowed) {
  Wire wire({frame_of(9 * kPartBytes, 1)});
  for (const uint64_t allowed : {uint64_t{0}, kWholePart, 3 * kWholePart}) {
    wire.sender.allow(allowed);
    ASSERT_TRUE(wire.pump().ok());
    EXPECT_EQ(wire.sender.sent_bytes(), allowed);
  }
}

TEST(Transfer, ASmallOneNeedsNoCredit) {
  Wire wire({frame_of(1000, 1), frame_of(2000, 2)});
  ASSERT_TRUE(wire.pump().ok());
  EXPECT_TRUE(wire.sender.done());
  ASSERT_EQ(wire.parts.size(), 1u);
  wire.deliver_part();
  EXPECT_TRUE(wire.credits.empty());
  ASSERT_TRUE(wire.receiver.complete());
  EXPECT_EQ(wire.receiver.take(), joined(wire.frames));
}

TEST(Transfer, GoesOnWithTheSamePartAfterASendThatFailed) {
  // Frames that end within parts, so that taking a part back has something to get wrong.
  Wire wire({frame_of(3, 1), frame_of(kPartBytes, 2), frame_of(0, 3), frame_of(kPartBytes + 9, 4),
             frame_of(1, 5)});
  for (int round = 0; !wire.sender.done(); ++round) {
    wire.failures = 1 + round % 3;
    const uint64_t before = wire.sender.sent_bytes();
    while (wire.failures > 0) {
      EXPECT_EQ(wire.pump().code(), Code::kOutOfRange);
      EXPECT_EQ(wire.sender.sent_bytes(), before) << "what wasn't sent isn't counted";
    }
    // One part gets through, then the queue is full again.
    bool first = true;
    const Status status = wire.sender.pump([&](Bytes part) -> Status {
      if (!std::exchange(first, false)) return {Code::kOutOfRange, "the queue is full"};
      wire.sent += part.size();
      wire.parts.push_back(std::move(part));
      return {};
    });
    EXPECT_EQ(status.ok(), wire.sender.done());
  }
  while (!wire.parts.empty()) wire.deliver_part();
  ASSERT_TRUE(wire.receiver.complete());
  EXPECT_EQ(wire.sent, wire.sender.total_bytes());
  EXPECT_EQ(wire.receiver.take(), joined(wire.frames));
}

TEST(Transfer, CompletesUnderAnyInterleavingOfPartsCreditsAndFailures) {
  for (uint32_t run = 0; run < 60; ++run) {
    Rng rng(9, Purpose::kTest, run);
    std::vector<SharedFrame> frames;
    const uint32_t count = 1 + rng.below(6);
    for (uint32_t i = 0; i < count; ++i) {
      const size_t around = rng.below(5) * kPartBytes;
      frames.push_back(frame_of(around + rng.below(3), run * 10 + i));
    }
    if (joined(frames).empty()) frames.push_back(frame_of(1, 0));
    Wire wire(std::move(frames));
    for (int step = 0; !wire.receiver.complete(); ++step) {
      ASSERT_LT(step, 10'000) << "run " << run;
      switch (rng.below(4)) {
        case 0:
          (void)wire.pump();
          break;
        case 1:
          if (!wire.parts.empty()) wire.deliver_part();
          break;
        case 2:  // credits may overtake each other, and come twice
          if (!wire.credits.empty()) {
            const auto at = rng.below(static_cast<uint32_t>(wire.credits.size()));
            wire.sender.add_credit(wire.credits[at].bytes);
            wire.deliver_credit(at);
          }
          break;
        default:
          wire.failures = static_cast<int>(rng.below(3));
      }
    }
    EXPECT_TRUE(wire.sender.done());
    EXPECT_EQ(wire.sent, wire.sender.total_bytes());
    EXPECT_EQ(wire.sender.sent_bytes(), wire.sender.total_bytes());
    EXPECT_EQ(wire.receiver.received(), wire.sender.total_bytes());
    EXPECT_FALSE(wire.receiver.credit_due()) << "nothing more is wanted";
    EXPECT_EQ(wire.receiver.take(), joined(wire.frames));
  }
}

TEST(Transfer, AnOldOrSmallerCreditTakesNothingBack) {
  Wire wire({frame_of(20 * kPartBytes, 1)});
  wire.sender.add_credit(6 * kWholePart);
  wire.sender.add_credit(0);
  wire.sender.add_credit(5 * kWholePart);
  (void)wire.sender.pump([](const Bytes&) -> Status { return {}; });
  EXPECT_EQ(wire.sender.sent_bytes(), 6 * kWholePart);
}

TEST(Transfer, NothingIsDoneAtOnceAndNeverWhole) {
  Wire wire({});
  EXPECT_TRUE(wire.sender.done());
  EXPECT_TRUE(wire.pump().ok());
  EXPECT_EQ(wire.sender.total_bytes(), 0u);
  EXPECT_FALSE(wire.receiver.complete());
}

TEST(Transfer, TheFramesLiveAsLongAsTheTransfer) {
  auto frame = frame_of(2 * kPartBytes, 1);
  const Bytes copy = *frame;
  OutgoingTransfer sender(TransferKind::kUpdate, kTransferTask, {std::move(frame)});
  OutgoingTransfer moved = std::move(sender);
  IncomingTransfer receiver(TransferKind::kUpdate, kTransferTask, copy.size());
  ASSERT_TRUE(moved.pump([&](Bytes part) { return receiver.add(part); }).ok());
  EXPECT_EQ(receiver.take(), copy);
}

}  // namespace
}  // namespace tern
