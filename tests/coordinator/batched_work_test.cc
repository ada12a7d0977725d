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
        loop, workers, [&](size_t, const size_t& item) { ++worked[item]; },
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

/// Keeps what is to be run, and by whom it would be done, until it is asked for.
class HeldLoop : public Loop {
 public:
  TimePoint now() const override { return {}; }
  int64_t unix_seconds() const override { return 0; }
  void post(Callback) override {}
  TimerId call_at(TimePoint, Callback) override { return 0; }
  void cancel(TimerId) override {}
  void run(Work work, Callback done) override {
    held.emplace_back(std::move(work), std::move(done));
  }
  std::vector<std::pair<Work, Callback>> held;
};

TEST(BatchedWork, LeavesNoWorkerWithAllThatWaits) {
  HeldLoop loop;
  std::vector<size_t> sizes;
  size_t worked = 0;
  BatchedWork<int> work(
      loop, 2, [&](size_t, const int&) { ++worked; }, [](const int&) {});
  for (int i = 0; i < 34; ++i) work.add(i);
  while (!loop.held.empty()) {
    auto [job, done] = std::move(loop.held.front());
    loop.held.erase(loop.held.begin());
    const size_t before = worked;
    job(0);
    sizes.push_back(worked - before);
    done();
  }
  EXPECT_EQ(worked, 34u);
  // The first ones found nobody at work; of the 30 others a share each.
  EXPECT_LE(*std::ranges::max_element(sizes), 8u);
  EXPECT_LT(sizes.size(), 34u);  // and yet not one by one
}

}  // namespace
}  // namespace tern
