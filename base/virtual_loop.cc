#include "base/virtual_loop.h"

namespace tern {

Loop::TimerId VirtualLoop::call_at(TimePoint when, Callback callback) {
  const uint64_t id = ++asked_;
  const TimePoint at = std::max(when, now());
  due_.emplace(Place{at, false, id, id}, std::move(callback));
  timers_.emplace(id, at);
  return id;
}

void VirtualLoop::cancel(TimerId timer) {
  const auto found = timers_.find(timer);
  if (found == timers_.end()) return;
  due_.erase({found->second, false, timer, timer});
  timers_.erase(found);
}

void VirtualLoop::run(Work work, Callback done) {
  const uint64_t id = ++asked_;
  last_run_ = {now(), true, early_results_ ? early_order(id) : id, id};
  begin(last_run_, std::move(work), std::move(done));
}

void VirtualLoop::run_taking(Duration takes, Work work, Callback done) {
  const uint64_t id = ++asked_;
  begin({now() + std::max(takes, Duration{}), true, id, id}, std::move(work), std::move(done));
}

uint64_t VirtualLoop::early_order(uint64_t id) const {
  const auto open = results_.find(now());
  if (open == results_.end()) return id;
  const size_t overtaken = std::min(open->second / 4, kMostOvertaken);
  if (overtaken == 0) return id;
  const auto end = due_.lower_bound({now() + Duration(1), false, 0, 0});
  Place before = std::prev(end, static_cast<ptrdiff_t>(overtaken) + 1)->first;
  if (due_.contains(last_run_)) before = std::max(before, last_run_);
  return std::get<2>(before);
}

void VirtualLoop::begin(Place place, Work work, Callback done) {
  const auto [at, is_work, order, id] = place;
  due_.emplace(place, std::move(done));
  ++results_[at];
  {
    std::unique_lock lock(mutex_);
    // How long this waits changes no order.
    const size_t most = std::max(kMostOpen, 2 * pool_.size());
    wait(lock, kAny, [&] { return unfinished_.size() < most; });
    unfinished_.insert(id);
  }
  pool_.submit([this, id = id, what = std::move(work)](size_t worker) {
    what(worker);
    const std::lock_guard lock(mutex_);
    unfinished_.erase(id);
    // The loop's thread would take a core from a worker to see that it has to wait on.
    if (awaited_ == kAny || awaited_ == id) changed_.notify_one();
  });
}

template <typename Over>
void VirtualLoop::wait(std::unique_lock<std::mutex>& lock, uint64_t id, const Over& over) {
  awaited_ = id;
  changed_.wait(lock, over);
}

Status VirtualLoop::run_until(const std::function<bool()>& over) {
  while (!over()) {
    if (due_.empty())
      return error(Code::kInternal, "the simulation stands still: nothing is due any more");
    auto first = due_.extract(next());
    const auto [at, is_work, order, id] = first.key();
    clock_.advance_to(at);
    if (is_work) {
      if (const auto left = results_.find(at); --left->second == 0) results_.erase(left);
      std::unique_lock lock(mutex_);
      wait(lock, id, [&, work = id] { return !unfinished_.contains(work); });
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
  return due_.lower_bound({at, true, 0, 0});
}

void VirtualLoop::wait_for_work() {
  std::unique_lock lock(mutex_);
  wait(lock, kAny, [this] { return unfinished_.empty(); });
}

}  // namespace tern
