/// A loop on a virtual clock: time jumps from one event to the next, while work really runs on a
/// pool. What is due at one virtual time happens in the order in which it was asked for, but the
/// results of work come last, each after what the one before it has led to. So a run doesn't depend
/// on which worker was faster: where a result is due and the work isn't done, the loop waits. What
/// the results before that have led to runs beside it.
///
/// A large cohort's work would all be asked for before the first result is looked at, and what each
/// needs and has made would lie in memory together. So the loop waits for the workers where much
/// is unfinished, and where the first result may come before the last work has begun
/// (`early_results`), more than kMostOpen of them don't wait for the end of their time. There run()
/// keeps its order among its own, but not behind run_taking(): the last quarter of all results that
/// are open come after its own, so that workers can check and sum what others trained while one is
/// at the last training.
///
/// A callback that posts itself again until some work is done would never end here.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/loop.h"
#include "base/status.h"
#include "base/thread_pool.h"

namespace tern {

/// Threads: post() isn't for other threads here: nothing outside a simulation has news for it.
class VirtualLoop : public Loop {
 public:
  /// A constant: what happens first mustn't depend on the number of workers. More workers than
  /// this aren't all busy where results are early.
  static constexpr size_t kMostOpen = 256;
  /// Of the open results, so many at most come after those of run().
  static constexpr size_t kMostOvertaken = 32;

  explicit VirtualLoop(ThreadPool& pool, bool early_results = false)
      : pool_(pool), early_results_(early_results) {}
  /// Where a run goes on; before anything is asked for.
  void start_at(TimePoint now) { clock_.advance_to(now); }
  ~VirtualLoop() override { wait_for_work(); }

  TimePoint now() const override { return clock_.now(); }
  int64_t unix_seconds() const override {
    return std::chrono::duration_cast<std::chrono::seconds>(clock_.now()).count();
  }
  void post(Callback callback) override { call_at(now(), std::move(callback)); }
  TimerId call_at(TimePoint when, Callback callback) override;
  void cancel(TimerId timer) override;
  void run(Work work, Callback done) override;
  void run_taking(Duration takes, Work work, Callback done) override;

  /// Until `over` is true. Errors: kInternal when nothing is due any more.
  Status run_until(const std::function<bool()>& over);
  /// Returns when no work runs; what it would have called back is forgotten.
  void wait_for_work();

 private:
  /// Time, work to wait for?, order of asking of the one that it comes after or its own, its own.
  using Place = std::tuple<TimePoint, bool, uint64_t, uint64_t>;
  using Due = std::map<Place, Callback>;

  Due::iterator next();
  uint64_t early_order(uint64_t id) const;
  void begin(Place place, Work work, Callback done);
  template <typename Over>
  void wait(std::unique_lock<std::mutex>& lock, uint64_t id, const Over& over);

  ThreadPool& pool_;
  const bool early_results_;
  VirtualClock clock_;
  Due due_;
  std::map<TimePoint, size_t> results_;  // of work in due_, by time
  std::unordered_map<TimerId, TimePoint> timers_;
  uint64_t asked_ = 0;
  Place last_run_{};  // of run()

  static constexpr uint64_t kAny = 0;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  uint64_t awaited_ = kAny;                  // the work whose end the loop waits for, if it does
  std::unordered_set<uint64_t> unfinished_;  // work that runs or waits, by order of asking
};

}  // namespace tern
