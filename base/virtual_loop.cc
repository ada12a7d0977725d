#include "base/virtual_loop.h"

namespace tern {

Loop::TimerId VirtualLoop::call_at(TimePoint when, Callback callback) {
  const uint64_t id = ++asked_;
  const TimePoint at = std::max(when, now());
  due_.emplace(Place{at, false, id}, std::move(callback));
  timers_.emplace(id, at);
  return id;
}

void VirtualLoop::cancel(TimerId timer) {
  const auto found = timers_.find(timer);
  if (found == timers_.end()) return;
  due_.erase({found->second, false, timer});
  timers_.erase(found);
}

void VirtualLoop::run_taking(Duration takes, Work work, Callback done) {
  const uint64_t id = ++asked_;
  const TimePoint at = now() + std::max(takes, Duration{});
  due_.emplace(Place{at, true, id}, std::move(done));
  ++results_[at];
  {
    std::unique_lock lock(mutex_);
    // How long this waits changes no order.
    const size_t most = std::max(kMostOpen, 2 * pool_.size());
    changed_.wait(lock, [&] { return unfinished_.size() < most; });
    unfinished_.insert(id);
  }
  pool_.submit([this, id, what = std::move(work)](size_t worker) {
    what(worker);
    const std::lock_guard lock(mutex_);
    unfinished_.erase(id);
    changed_.notify_all();
  });
}

Status VirtualLoop::run_until(const std::function<bool()>& over) {
  while (!over()) {
    if (due_.empty())
      return error(Code::kInternal, "the simulation stands still: nothing is due any more");
    auto first = due_.extract(next());
    const auto [at, is_work, id] = first.key();
    clock_.advance_to(at);
    if (is_work) {
      if (const auto left = results_.find(at); --left->second == 0) results_.erase(left);
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&, work = id] { return !unfinished_.contains(work); });
    } else {
      timers_.erase(id);
    }
    first.mapped()();
  }
  return {};
}

VirtualLoop::Due::iterator VirtualLoop::next() {
  const auto first = due_.begin();
  if (!early_results_) return first;
  const TimePoint at = std::get<0>(first->first);
  const auto results = results_.find(at);
  if (results == results_.end() || results->second <= kMostOpen) return first;
  return due_.lower_bound({at, true, 0});
}

void VirtualLoop::wait_for_work() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return unfinished_.empty(); });
}

}  // namespace tern
