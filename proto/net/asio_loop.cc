#include "proto/net/asio_loop.h"

#include <algorithm>
#include <asio/post.hpp>

namespace tern {

AsioLoop::AsioLoop(ThreadPool& pool) : pool_(pool) {}

AsioLoop::~AsioLoop() {
  std::unique_lock lock(jobs_mutex_);
  jobs_done_.wait(lock, [this] { return jobs_ == 0; });
  // What they hold may call cancel() when it goes.
  const auto timers = std::exchange(timers_, {});
  time_of_.clear();
}

int64_t AsioLoop::unix_seconds() const {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::floor<std::chrono::seconds>(now).count() + unix_offset_;
}

void AsioLoop::post(Callback callback) { asio::post(context_, std::move(callback)); }

Loop::TimerId AsioLoop::call_at(TimePoint when, Callback callback) {
  const TimerId timer = ++last_timer_;
  time_of_.emplace(timer, when);
  const auto at = timers_.emplace(std::pair(when, timer), std::move(callback)).first;
  if (at == timers_.begin()) arm();
  return timer;
}

void AsioLoop::cancel(TimerId timer) {
  const auto at = time_of_.find(timer);
  if (at == time_of_.end()) return;
  timers_.erase({at->second, timer});
  time_of_.erase(at);  // timer_ may wake once in vain
}

void AsioLoop::arm() {
  if (timers_.empty()) return;
  // A day at most, so that a time like "never" cannot overflow; fire() arms again.
  const Duration wait = timers_.begin()->first.first - now();
  timer_.expires_after(std::clamp<Duration>(wait, Duration(0), std::chrono::hours(24)));
  timer_.async_wait([this](const asio::error_code& error) {
    if (!error) fire();
  });
}

void AsioLoop::fire() {
  const TimePoint due = now();
  const TimerId last = last_timer_;  // those that callbacks add have to wait for the next turn
  while (!timers_.empty() && timers_.begin()->first.first <= due &&
         timers_.begin()->first.second <= last) {
    auto timer = timers_.extract(timers_.begin());
    time_of_.erase(timer.key().second);
    timer.mapped()();
  }
  arm();
}

void AsioLoop::run(Work work, Callback done) {
  {
    const std::lock_guard lock(jobs_mutex_);
    ++jobs_;
  }
  pool_.submit([this, work = std::move(work), done = std::move(done)](size_t worker) mutable {
    work(worker);
    work = nullptr;
    post(std::move(done));  // dies on the loop's thread
    // Under the lock: the loop may be gone as soon as it is released.
    const std::lock_guard lock(jobs_mutex_);
    --jobs_;
    jobs_done_.notify_all();
  });
}

void AsioLoop::run() {
  context_.restart();
  context_.run();
}

void AsioLoop::stop() {
  post([this] { context_.stop(); });
}

bool AsioLoop::run_until(const std::function<bool()>& done, Duration at_most) {
  const auto deadline = std::chrono::steady_clock::now() + at_most;
  context_.restart();
  while (!done()) {
    if (context_.run_one_until(deadline) == 0) return done();
  }
  return true;
}

}  // namespace tern
