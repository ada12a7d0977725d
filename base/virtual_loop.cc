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
  due_.emplace(Place{now() + std::max(takes, Duration{}), true, id}, std::move(done));
  {
    const std::lock_guard lock(mutex_);
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
    auto first = due_.extract(due_.begin());
    const auto [at, is_work, id] = first.key();
    clock_.advance_to(at);
    if (is_work) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&, work = id] { return !unfinished_.contains(work); });
    } else {
      timers_.erase(id);
    }
    first.mapped()();
  }
  return {};
}

void VirtualLoop::wait_for_work() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return unfinished_.empty(); });
}

}  // namespace tern
