// However many clients send long updates at once, what is on the way stays bounded, everybody gets
// a turn, whoever leaves gives back what it held, and whoever stalls holds nobody up.
#include "coordinator/transfers/credit_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "base/rng.h"

namespace tern {
namespace {

constexpr uint64_t kWindow = 100;

CreditPool::Limits limits(uint64_t most) {
  return {.most = most, .window = kWindow, .least = 25, .patience = std::chrono::milliseconds(100)};
}

class TestClock : public Clock {
 public:
  TimePoint now() const override { return time; }
  TimePoint time{};
};

/// An upload whose sender uses its credit at once.
struct Sender {
  uint64_t length = 0, sent = 0, stored = 0;
  uint64_t credit = 0;
  std::unique_ptr<CreditPool::Share> share;
};

TEST(CreditPool, BoundsWhatIsOnTheWayAndStarvesNobody) {
  constexpr uint64_t kMost = 1600;
  const TestClock clock;
  const auto pool = CreditPool::make(limits(kMost), clock);
  std::vector<Sender> senders(500);
  Rng rng(1, Purpose::kTest);
  for (Sender& sender : senders) {
    sender.length = 1 + rng.next64() % 1000;
    sender.share = pool->join([&sender](uint64_t credit) {
      ASSERT_GT(credit, sender.credit);
      sender.credit = credit;
    });
  }
  EXPECT_EQ(pool->on_the_way(), kMost);
  size_t done = 0;
  for (int step = 0; done < senders.size(); ++step) {
    ASSERT_LT(step, 200'000) << "somebody waits for ever";
    Sender& sender = senders[rng.next64() % senders.size()];
    if (!sender.share) continue;
    if (rng.next64() % 50 == 0) {  // its connection breaks
      sender.share.reset();
      ++done;
    } else if (sender.sent < std::min(sender.credit, sender.length)) {
      sender.sent = std::min(sender.credit, sender.length);
    } else if (sender.stored < sender.sent) {
      sender.stored += 1 + rng.next64() % (sender.sent - sender.stored);
      sender.share->stored(sender.stored);
      if (sender.stored == sender.length) {
        sender.share.reset();
        ++done;
      }
    }
    uint64_t on_the_way = 0;
    for (const Sender& each : senders)
      if (each.share) on_the_way += each.credit - std::min(each.credit, each.stored);
    ASSERT_EQ(pool->on_the_way(), on_the_way);
    ASSERT_LE(on_the_way, kMost);
  }
  EXPECT_EQ(pool->on_the_way(), 0u);
}

TEST(CreditPool, OneAloneHasAWindowAndServesInTheOrderOfTheLine) {
  const TestClock clock;
  const auto pool = CreditPool::make(limits(2 * kWindow), clock);
  std::vector<int> order;
  std::optional<uint64_t> first_credit;
  auto first = pool->join([&](uint64_t credit) { first_credit = credit; });
  EXPECT_EQ(first_credit, kWindow);
  auto second = pool->join([&](uint64_t) { order.push_back(2); });
  auto third = pool->join([&](uint64_t) { order.push_back(3); });
  auto fourth = pool->join([&](uint64_t) { order.push_back(4); });
  EXPECT_EQ(order, std::vector{2});
  // One that sends more than it was told takes nobody's part: it is behind the others again.
  first->stored(10 * kWindow);
  EXPECT_EQ(order, (std::vector{2, 3, 4}));
  EXPECT_EQ(first_credit, 10 * kWindow + 50) << "what the two others left, who had 25 each";
  EXPECT_EQ(pool->on_the_way(), 2 * kWindow);
}

TEST(CreditPool, WhoeverIsSlowHoldsNobodyUp) {
  using std::chrono::milliseconds;
  TestClock clock;
  const auto pool = CreditPool::make(limits(2 * kWindow), clock);
  std::array<std::unique_ptr<CreditPool::Share>, 2> first;
  for (auto& share : first) share = pool->join([](uint64_t) {});
  int told = 0;
  const auto waiting = pool->join([&](uint64_t) { ++told; });
  EXPECT_TRUE(pool->somebody_waits());
  clock.time += milliseconds(60);
  pool->look();
  EXPECT_EQ(told, 0);
  first[0]->received(1);
  clock.time += milliseconds(60);
  pool->look();
  EXPECT_EQ(told, 1) << "the one that said nothing isn't waited for";
  EXPECT_EQ(pool->on_the_way(), 2 * kWindow);
  // What comes of a slow one is counted, what it was promised isn't,
  clock.time += milliseconds(60);
  first[1]->received(10);
  EXPECT_EQ(pool->on_the_way(), 2 * kWindow + 10);
  // until it is fast.
  clock.time += milliseconds(60);
  first[1]->received(20);
  EXPECT_EQ(pool->on_the_way(), 3 * kWindow);
  first[1]->stored(20);
  EXPECT_EQ(pool->on_the_way(), 3 * kWindow - 20);
  for (auto& share : first) share.reset();
  EXPECT_EQ(pool->on_the_way(), kWindow);
}

TEST(CreditPool, DrippingIsNoProgress) {
  using std::chrono::milliseconds;
  TestClock clock;
  CreditPool::Limits with_steps = limits(2 * kWindow);
  with_steps.step = 20;
  const auto pool = CreditPool::make(with_steps, clock);
  const auto first = pool->join([](uint64_t) {}), second = pool->join([](uint64_t) {});
  int told = 0;
  const auto waiting = pool->join([&](uint64_t) { ++told; });
  for (uint64_t bytes = 1; bytes <= 5; ++bytes) {
    clock.time += milliseconds(30);
    first->stored(bytes);
    second->stored(20 * bytes);
    pool->look();
  }
  EXPECT_EQ(told, 1) << "150 ms for 5 bytes: it isn't waited for";
}

TEST(CreditPool, ShareIsSmallWhileOthersWait) {
  const TestClock clock;
  const auto pool = CreditPool::make(limits(2 * kWindow), clock);
  const auto first = pool->join([](uint64_t) {});
  const auto second = pool->join([](uint64_t) {});
  std::vector<uint64_t> third, fourth;
  const auto a = pool->join([&](uint64_t credit) { third.push_back(credit); });
  const auto b = pool->join([&](uint64_t credit) { fourth.push_back(credit); });
  first->stored(kWindow);
  EXPECT_EQ(third, std::vector<uint64_t>{25});
  EXPECT_EQ(fourth, std::vector<uint64_t>{25}) << "and behind it the first one waits again";
}

TEST(CreditPool, GivesNoMoreThanATransferIsLong) {
  const TestClock clock;
  const auto pool = CreditPool::make(limits(2 * kWindow), clock);
  std::vector<uint64_t> credits;
  const auto short_one = pool->join([&](uint64_t credit) { credits.push_back(credit); }, 130);
  short_one->stored(90);
  short_one->stored(120);
  EXPECT_EQ(credits, (std::vector<uint64_t>{100, 130}));
  EXPECT_EQ(pool->on_the_way(), 10u);
  EXPECT_FALSE(pool->somebody_waits());
}

TEST(CreditPool, SaysNothingOnceItIsClosed) {
  const TestClock clock;
  const auto pool = CreditPool::make(limits(kWindow), clock);
  int told = 0;
  auto first = pool->join([&](uint64_t) { ++told; });
  auto second = pool->join([&](uint64_t) { ++told; });
  pool->close();
  first.reset();
  EXPECT_EQ(told, 1);
}

}  // namespace
}  // namespace tern
