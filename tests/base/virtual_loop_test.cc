// The order in which a simulation's events happen decides its run. It must not depend on how many
// workers there are or on which of them was faster, and what needn't wait for slow work mustn't.
#include "base/virtual_loop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <semaphore>
#include <string>
#include <utility>
#include <vector>

namespace tern {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Three pieces of work, each followed by another one. Where there is more than one worker, the
/// first is the last to be done.
std::vector<std::string> order_of_a_run(size_t workers) {
  ThreadPool pool(workers);
  VirtualLoop loop(pool);
  std::vector<std::string> order;
  std::binary_semaphore last_is_done(0);
  int left = 3;
  for (int i = 0; i < 3; ++i)
    loop.run(
        [&, i](size_t) {
          if (i == 0 && workers > 1) last_is_done.acquire();
          if (i == 2 && workers > 1) last_is_done.release();
        },
        [&, i] {
          order.push_back("trained " + std::to_string(i));
          loop.post([&, i] {
            order.push_back("sent " + std::to_string(i));
            loop.run([](size_t) {},
                     [&, i] {
                       order.push_back("checked " + std::to_string(i));
                       --left;
                     });
          });
        });
  loop.post([&] { order.push_back("said"); });
  EXPECT_TRUE(loop.run_until([&] { return left == 0; }).ok());
  return order;
}

TEST(VirtualLoop, TheOrderIsTheSameOnAnyNumberOfWorkers) {
  const std::vector<std::string> expected = {"said",      "trained 0", "sent 0", "trained 1",
                                             "sent 1",    "trained 2", "sent 2", "checked 0",
                                             "checked 1", "checked 2"};
  for (const size_t workers : {1, 2, 5}) EXPECT_EQ(order_of_a_run(workers), expected);
}

// Or the last one to train would keep every other worker from checking what the others sent.
TEST(VirtualLoop, WhatFollowsFromWorkRunsBesideTheRest) {
  ThreadPool pool(2);
  VirtualLoop loop(pool);
  std::binary_semaphore checked(0);
  bool over = false;
  loop.run([](size_t) {},
           [&] { loop.post([&] { loop.run([&](size_t) { checked.release(); }, [] {}); }); });
  loop.run([&](size_t) { EXPECT_TRUE(checked.try_acquire_for(seconds(30))); },
           [&] { over = true; });
  ASSERT_TRUE(loop.run_until([&] { return over; }).ok());
  loop.wait_for_work();
}

/// Clients that train, whose updates are checked and then summed; `train` does the training.
template <typename Train>
std::vector<std::string> order_of_a_round(size_t workers, int clients, const Train& train,
                                          const std::function<void(int)>& sum) {
  ThreadPool pool(workers);
  VirtualLoop loop(pool, /*early_results=*/true);
  std::vector<std::string> order;
  int left = clients;
  for (int i = 0; i < clients; ++i)
    loop.run_taking(
        {}, [&train, i](size_t) { train(i); },
        [&, i] {
          order.push_back("trained " + std::to_string(i));
          loop.run([](size_t) {},
                   [&, i] {
                     order.push_back("checked " + std::to_string(i));
                     loop.run([&, i](size_t) { sum(i); },
                              [&, i] {
                                order.push_back("summed " + std::to_string(i));
                                --left;
                              });
                   });
        });
  EXPECT_TRUE(loop.run_until([&] { return left == 0; }).ok());
  return order;
}

// With two workers and ten clients one of them often is at the last client while the other has
// nothing to train: checks and sums of the rest fill that time.
TEST(VirtualLoop, WhoTrainsLastDoesntKeepTheRestFromBeingSummed) {
  constexpr int kClients = 10;
  constexpr int kSummedMeanwhile = 8;  // all but those whose results come after
  std::counting_semaphore<> summed(0);
  const auto order = order_of_a_round(
      2, kClients,
      [&](int i) {
        if (i < kClients - 1) return;
        for (int j = 0; j < kSummedMeanwhile; ++j)
          EXPECT_TRUE(summed.try_acquire_for(seconds(30))) << j;
      },
      [&](int) { summed.release(); });
  EXPECT_EQ(std::ranges::find(order, "summed 0") - order.begin(), 2 * kSummedMeanwhile);
  EXPECT_EQ(order.back(), "summed 9");
}

TEST(VirtualLoop, WhatFollowsComesInTheSameOrderOnAnyNumberOfWorkers) {
  for (const int clients : {3, 10, 300}) {
    const auto nothing = [](int) {};
    const auto order = order_of_a_round(1, clients, nothing, nothing);
    for (const size_t workers : {2, 5})
      EXPECT_EQ(order_of_a_round(workers, clients, nothing, nothing), order);
    // Of each kind the clients come in turn: what is added up in floating point stays the same.
    for (const char* kind : {"trained ", "checked ", "summed "}) {
      std::vector<int> numbers;
      for (const std::string& event : order)
        if (event.starts_with(kind))
          numbers.push_back(std::stoi(event.substr(std::string(kind).size())));
      EXPECT_TRUE(std::ranges::is_sorted(numbers)) << kind << clients;
      EXPECT_EQ(numbers.size(), static_cast<size_t>(clients));
    }
  }
}

// A cohort of thousands: neither what their work needs nor what it made may be in memory for all of
// them at once, and where a result comes before other callbacks mustn't depend on the workers.
std::pair<std::vector<int>, size_t> order_of_a_crowd(size_t workers, std::chrono::seconds takes) {
  constexpr int kClients = 1000;
  ThreadPool pool(workers);
  VirtualLoop loop(pool, /*early_results=*/true);
  std::vector<int> order;
  size_t open = 0, most = 0;
  for (int i = 0; i < kClients; ++i)
    loop.post([&, i] {
      order.push_back(i);
      most = std::max(most, ++open);
      loop.run_taking(
          takes, [](size_t) {},
          [&, i] {
            --open;
            order.push_back(-i);
          });
    });
  EXPECT_TRUE(loop.run_until([&] { return order.size() == 2 * kClients; }).ok());
  return {order, most};
}

TEST(VirtualLoop, ACrowdsResultsDontWaitForTheLastToBegin) {
  const auto [order, most] = order_of_a_crowd(1, seconds(0));
  EXPECT_EQ(most, VirtualLoop::kMostOpen + 1);
  constexpr ptrdiff_t kResultsBefore300 = 300 - VirtualLoop::kMostOpen;
  EXPECT_EQ(std::ranges::find(order, 300) - order.begin(), 300 + kResultsBefore300);
  for (const size_t workers : {2, 5}) EXPECT_EQ(order_of_a_crowd(workers, seconds(0)).first, order);
}

TEST(VirtualLoop, ACrowdWhoseWorkTakesTimeEndsInItsOrder) {
  const auto [order, most] = order_of_a_crowd(1, seconds(1));
  EXPECT_EQ(most, 1000u);  // none of them has ended before all have begun
  EXPECT_EQ(order_of_a_crowd(3, seconds(1)).first, order);
}

// The loop would hand out tasks for the rest of the cohort while the workers are at the first.
TEST(VirtualLoop, TheLoopWaitsForWorkersThatAreFarBehind) {
  ThreadPool pool(1);
  VirtualLoop loop(pool);
  std::binary_semaphore too_many(0);
  size_t done = 0;
  for (size_t i = 0; i < 2 * VirtualLoop::kMostOpen; ++i)
    loop.post([&, i] {
      if (i == VirtualLoop::kMostOpen + 1) too_many.release();
      loop.run_taking(
          seconds(1),
          [&, i](size_t) {
            if (i > 0) return;
            EXPECT_FALSE(too_many.try_acquire_for(milliseconds(100)));
          },
          [&] { ++done; });
    });
  ASSERT_TRUE(loop.run_until([&] { return done == 2 * VirtualLoop::kMostOpen; }).ok());
}

TEST(VirtualLoop, TimeGoesOnOnlyWhenNothingElseIsDue) {
  ThreadPool pool(1);
  VirtualLoop loop(pool);
  const TimePoint start = loop.now();
  std::vector<std::string> order;
  loop.call_at(start + seconds(2), [&] { order.push_back("late"); });
  const auto cancelled = loop.call_at(start + seconds(1), [&] { order.push_back("cancelled"); });
  loop.run_taking(
      seconds(1), [](size_t) {},
      [&] {
        EXPECT_EQ(loop.now() - start, seconds(1));
        order.push_back("worked");
      });
  loop.cancel(cancelled);
  ASSERT_TRUE(loop.run_until([&] { return order.size() == 2; }).ok());
  EXPECT_EQ(order, (std::vector<std::string>{"worked", "late"}));
  EXPECT_EQ(loop.now() - start, seconds(2));
  EXPECT_EQ(loop.run_until([] { return false; }).code(), Code::kInternal);  // stands still
}

}  // namespace
}  // namespace tern
