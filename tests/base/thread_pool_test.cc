#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <memory>

namespace tern {
namespace {

TEST(ThreadPool, RunsEveryJobBeforeItIsGone) {
  std::atomic<int> done = 0;
  {
    ThreadPool pool(3);
    for (int i = 0; i < 1000; ++i) pool.submit([&](size_t) { ++done; });
  }
  EXPECT_EQ(done, 1000);
}

TEST(ThreadPool, RunsWhatJobsSubmitEvenWhileItStops) {
  std::atomic<int> done = 0;
  {
    ThreadPool pool(2);
    pool.submit([&](size_t) {
      for (int i = 0; i < 10; ++i)
        pool.submit([&](size_t) {
          ++done;
          pool.submit([&](size_t) { ++done; });
        });
    });
  }
  EXPECT_EQ(done, 20);
}

TEST(ThreadPool, OneWorkerKeepsTheOrder) {
  std::vector<int> order;
  {
    ThreadPool pool(1);
    for (int i = 0; i < 100; ++i) pool.submit([&order, i](size_t) { order.push_back(i); });
  }
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(ThreadPool, WorkersRunTogetherAndKnowTheirIndex) {
  constexpr size_t kWorkers = 4;
  std::vector<int> jobs_of(kWorkers);  // each worker writes its own item: no lock
  {
    ThreadPool pool(kWorkers);
    EXPECT_EQ(pool.size(), kWorkers);
    std::latch together(kWorkers);
    for (size_t i = 0; i < kWorkers; ++i)
      pool.submit([&](size_t worker) {
        together.arrive_and_wait();  // passes only when all four run at once
        ++jobs_of[worker];
      });
    together.wait();
  }
  EXPECT_EQ(jobs_of, std::vector<int>(kWorkers, 1));
}

TEST(ThreadPool, HasAtLeastOneWorker) {
  std::atomic<bool> ran = false;
  {
    ThreadPool pool(0);
    EXPECT_EQ(pool.size(), 1u);
    pool.submit([&](size_t worker) { ran = worker == 0; });
  }
  EXPECT_TRUE(ran);
}

TEST(ThreadPool, DropsWhatAJobHoldsWhenTheJobIsDone) {
  ThreadPool pool(1);
  auto held = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = held;
  pool.submit([held = std::move(held)](size_t) {});
  std::latch next(1);
  pool.submit([&](size_t) { next.count_down(); });
  next.wait();
  EXPECT_TRUE(watch.expired());
}

TEST(ThreadPool, HooksEncloseEachJobAndAllItHeld) {
  struct Held {
    std::atomic<int>* gone;
    ~Held() { ++*gone; }
  };
  std::atomic<int> begun = 0, gone = 0, ended = 0, workers = 0;
  {
    ThreadPool pool(2, {.job_begins = [&](size_t worker) { ++begun, workers |= 1 << worker; },
                        .job_ended = [&](size_t) { EXPECT_GE(gone, ++ended); }});
    for (int i = 0; i < 100; ++i)
      pool.submit([&, held = std::make_shared<Held>(&gone)](size_t) { EXPECT_GT(begun, ended); });
  }
  EXPECT_EQ(begun, 100);
  EXPECT_EQ(ended, 100);
  EXPECT_EQ(workers & ~3, 0);
}

}  // namespace
}  // namespace tern
