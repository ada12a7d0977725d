// No update may be left behind in a queue, whatever arrives while others are at work, and none of
// the workers may get all of them.
#include "coordinator/batched_work.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "base/virtual_loop.h"

namespace tern {
namespace {

TEST(BatchedWork, DoesEveryItemOnceAndSaysSoInOrder) {
  for (const size_t workers : {1, 3}) {
    ThreadPool pool(workers);
    VirtualLoop loop(pool);
    constexpr size_t kItems = 100;
    std::vector<int> worked(kItems, 0);
    std::vector<size_t> done;
    BatchedWork<size_t> work(
        loop, [&](size_t, const size_t& item) { ++worked[item]; },
        [&](const size_t& item) { done.push_back(item); });
    // Half at once, the others while those are at work.
    for (size_t i = 0; i < kItems / 2; ++i) work.add(i);
    for (size_t i = kItems / 2; i < kItems; ++i) loop.post([&, i] { work.add(i); });
    ASSERT_TRUE(loop.run_until([&] { return done.size() == kItems; }).ok());
    EXPECT_EQ(worked, std::vector<int>(kItems, 1));
    std::vector<size_t> expected(kItems);
    std::iota(expected.begin(), expected.end(), size_t{0});
    EXPECT_EQ(done, expected);
  }
}

/// Keeps what is to be run until the test runs it.
class HeldLoop : public Loop {
 public:
  TimePoint now() const override { return {}; }
  int64_t unix_seconds() const override { return 0; }
  void post(Callback callback) override { posted.push_back(std::move(callback)); }
  TimerId call_at(TimePoint, Callback) override { return 0; }
  void cancel(TimerId) override {}
  void run(Work work, Callback) override { held.push_back(std::move(work)); }
  std::vector<Callback> posted;
  std::vector<Work> held;
};

TEST(BatchedWork, LeavesNoWorkerWithAllThatCame) {
  for (const size_t items : {1, 7, 32, 33, 1000}) {
    HeldLoop loop;
    size_t worked = 0, most = 0;
    BatchedWork<int> work(
        loop, [&](size_t, const int&) { ++worked; }, [](const int&) {});
    for (size_t i = 0; i < items; ++i) work.add(0);
    ASSERT_EQ(loop.posted.size(), 1u);
    loop.posted.front()();
    for (const auto& job : loop.held) {
      const size_t before = worked;
      job(0);
      most = std::max(most, worked - before);
    }
    EXPECT_EQ(worked, items);
    EXPECT_LE(most, (items + 31) / 32);
    EXPECT_LE(loop.held.size(), 32u);
  }
}

}  // namespace
}  // namespace tern
