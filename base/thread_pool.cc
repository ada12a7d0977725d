#include "base/thread_pool.h"

#include <algorithm>
#include <utility>

namespace tern {

ThreadPool::ThreadPool(size_t workers, Hooks hooks) : hooks_(std::move(hooks)) {
  workers = std::max<size_t>(1, workers);
  threads_.reserve(workers);
  for (size_t worker = 0; worker < workers; ++worker)
    threads_.emplace_back([this, worker] { run(worker); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ready_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::submit(Job job) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(job));
  }
  ready_.notify_one();
}

void ThreadPool::run(size_t worker) {
  std::unique_lock lock(mutex_);
  for (;;) {
    ready_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    {
      // The job dies before the lock is taken again: what it captured may be costly to destroy, or
      // may submit.
      const Job job = std::move(queue_.front());
      queue_.pop_front();
      ++busy_;
      lock.unlock();
      if (hooks_.job_begins) hooks_.job_begins(worker);
      job(worker);
    }
    if (hooks_.job_ended) hooks_.job_ended(worker);
    lock.lock();
    if (--busy_ == 0 && queue_.empty()) idle_.notify_all();
  }
}

void ThreadPool::wait_until_idle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return busy_ == 0 && queue_.empty(); });
}

}  // namespace tern
