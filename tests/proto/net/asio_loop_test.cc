#include "proto/net/asio_loop.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

namespace tern {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct AsioLoopTest : testing::Test {
  bool run_until(const std::function<bool()>& done) { return loop.run_until(done, seconds(10)); }
  ThreadPool pool{2};
  AsioLoop loop{pool};
};

TEST_F(AsioLoopTest, PostsComeInOrderAndNeverFromWithin) {
  std::vector<int> order;
  bool inside = false;
  for (int i = 0; i < 100; ++i)
    loop.post([&, i] {
      EXPECT_FALSE(inside);
      inside = true;
      if (i < 10) loop.post([&, i] { order.push_back(1000 + i); });
      order.push_back(i);
      inside = false;
    });
  EXPECT_TRUE(order.empty());
  ASSERT_TRUE(run_until([&] { return order.size() == 110; }));
  for (int i = 0; i < 110; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i < 100 ? i : 900 + i);
}

TEST_F(AsioLoopTest, PostsFromOtherThreadsArriveAndStopEndsRun) {
  std::atomic<int> sent = 0;
  int heard = 0;
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) loop.post([&] { ++heard; });
      if (++sent == 4) loop.stop();
    });
  loop.run();  // idles rather than returns while there is nothing to do
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(heard, 4000);
  loop.stop();
  loop.run();  // a stop before run() counts for it
  bool ran = false;
  loop.post([&] {
    ran = true;
    loop.stop();
  });
  loop.run();
  EXPECT_TRUE(ran);
}

TEST_F(AsioLoopTest, TimersComeInOrderOfTheirTimes) {
  std::vector<int> order;
  const TimePoint now = loop.now();
  loop.call_at(now + milliseconds(20), [&] { order.push_back(3); });
  loop.call_at(now + milliseconds(10), [&] { order.push_back(1); });
  loop.call_at(now + milliseconds(10), [&] { order.push_back(2); });
  loop.call_at(now - seconds(5), [&] { order.push_back(0); });
  loop.call_at(TimePoint::max(), [&] { order.push_back(99); });
  ASSERT_TRUE(run_until([&] { return order.size() == 4; }));
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3}));
  EXPECT_GE(loop.now() - now, milliseconds(20));
}

TEST_F(AsioLoopTest, CancelledTimersDoNotComeEvenWhenDue) {
  std::vector<int> order;
  Loop::TimerId third = 0;
  const TimePoint at = loop.now() + milliseconds(5);
  const Loop::TimerId first = loop.call_at(at, [&] { order.push_back(1); });
  loop.call_at(at, [&] {
    order.push_back(2);
    loop.cancel(third);
  });
  third = loop.call_at(at, [&] { order.push_back(3); });
  bool end = false;
  loop.call_at(at + milliseconds(5), [&] { end = true; });
  loop.cancel(first);
  loop.cancel(first);
  loop.cancel(12345);
  loop.cancel(0);
  ASSERT_TRUE(run_until([&] { return end; }));
  EXPECT_EQ(order, std::vector<int>{2});
}

TEST_F(AsioLoopTest, TimerThatSetsItselfAgainLeavesRoomForOthers) {
  int ticks = 0;
  bool posted = false;
  std::function<void()> again = [&] {
    ++ticks;
    loop.call_at(loop.now(), again);
  };
  loop.call_at(loop.now(), again);
  loop.post([&] { loop.post([&] { posted = true; }); });
  ASSERT_TRUE(run_until([&] { return posted && ticks > 100; }));
}

TEST_F(AsioLoopTest, WorkRunsOnThePoolAndItsEndOnTheLoop) {
  const auto here = std::this_thread::get_id();
  std::atomic<int> worked = 0;
  int done = 0;
  for (int i = 0; i < 50; ++i)
    loop.run(
        [&](size_t worker) {
          EXPECT_LT(worker, 2u);
          EXPECT_NE(std::this_thread::get_id(), here);
          ++worked;
        },
        [&] {
          EXPECT_EQ(std::this_thread::get_id(), here);
          ++done;
        });
  ASSERT_TRUE(run_until([&] { return done == 50; }));
  EXPECT_EQ(worked, 50);
}

TEST(AsioLoop, WaitsForItsJobsWhenItGoes) {
  ThreadPool pool(1);
  std::atomic<bool> go = false;
  std::atomic<bool> worked = false;
  bool done = false;
  auto held = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = held;
  std::thread releaser;
  {
    AsioLoop loop(pool);
    loop.run(
        [&](size_t) {
          while (!go) std::this_thread::yield();
          worked = true;
        },
        [&done, held = std::move(held)] { done = true; });
    releaser = std::thread([&] { go = true; });
  }
  EXPECT_TRUE(worked);
  EXPECT_FALSE(done);
  EXPECT_TRUE(watch.expired());
  releaser.join();
}

TEST(AsioLoop, WhatItsCallbacksHoldMayCancelWhenItGoes) {
  ThreadPool pool(1);
  auto loop = std::make_unique<AsioLoop>(pool);
  struct Canceller {
    Loop& loop;
    Loop::TimerId timer = 0;
    ~Canceller() { loop.cancel(timer); }
  };
  auto one = std::make_shared<Canceller>(*loop);
  auto two = std::make_shared<Canceller>(*loop);
  one->timer = loop->call_at(seconds(100), [two] {});
  two->timer = loop->call_at(seconds(200), [] {});
  auto three = std::make_shared<Canceller>(*loop);
  three->timer = two->timer;
  loop->post([one, three] {});
  one.reset();
  two.reset();
  three.reset();
  loop.reset();
}

TEST_F(AsioLoopTest, UnixSecondsFollowTheSystemAndTheOffset) {
  const int64_t now =
      std::chrono::duration_cast<seconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  EXPECT_NEAR(static_cast<double>(loop.unix_seconds()), static_cast<double>(now), 2);
  loop.set_unix_offset(86'400);
  EXPECT_NEAR(static_cast<double>(loop.unix_seconds()), static_cast<double>(now + 86'400), 2);
}

}  // namespace
}  // namespace tern
