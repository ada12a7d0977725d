/// The daemons' event loop: real time, one thread, and a pool for what takes long.
#pragma once

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <condition_variable>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "base/loop.h"
#include "base/thread_pool.h"

namespace tern {

/// Callbacks that are posted come in the order of their posts; timers in the order of their times,
/// then of their calls. Zero of the clock is the loop's construction.
/// Threads: post() and stop() from anywhere, the rest on the thread that runs the loop, which may
/// be another one before and after. `pool` outlives the loop, and the loop everything that uses it.
class AsioLoop : public Loop {
 public:
  explicit AsioLoop(ThreadPool& pool);
  /// Waits for the jobs that run() gave to the pool; what they would have called back is dropped,
  /// as are posts and timers.
  ~AsioLoop() override;
  AsioLoop(const AsioLoop&) = delete;
  AsioLoop& operator=(const AsioLoop&) = delete;

  TimePoint now() const override { return clock_.now(); }
  /// The system's clock plus the offset.
  int64_t unix_seconds() const override;
  void post(Callback callback) override;
  TimerId call_at(TimePoint when, Callback callback) override;
  void cancel(TimerId timer) override;
  void run(Work work, Callback done) override;

  /// Runs the loop until stop(); may be called again after it.
  void run();
  /// run() returns when it has called what was posted before. Called before run(), it counts for
  /// the next one.
  void stop();
  /// Runs the loop until `done()`, which is asked after each callback, or until `at_most` has
  /// passed. Returns done().
  bool run_until(const std::function<bool()>& done, Duration at_most);

  void set_unix_offset(int64_t seconds) { unix_offset_ = seconds; }
  /// For sockets, signals and what else Asio watches.
  asio::io_context& context() { return context_; }

 private:
  void arm();
  void fire();

  ThreadPool& pool_;
  SteadyClock clock_;
  int64_t unix_offset_ = 0;
  std::map<std::pair<TimePoint, TimerId>, Callback> timers_;
  std::unordered_map<TimerId, TimePoint> time_of_;
  TimerId last_timer_ = 0;
  // After the timers: what callbacks hold may cancel some when it goes.
  asio::io_context context_{1};  // the hint: one thread runs it
  asio::executor_work_guard<asio::io_context::executor_type> work_{context_.get_executor()};

  asio::steady_timer timer_{context_};  // set to the first of timers_

  std::mutex jobs_mutex_;
  std::condition_variable jobs_done_;
  size_t jobs_ = 0;
};

}  // namespace tern
