/// A fixed set of worker threads with one queue.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tern {

/// Jobs start in the order of submission. A job gets the index of its worker, 0 <= index < size(),
/// so that it can use memory that belongs to that worker alone. Jobs must not throw. The destructor
/// runs what is queued, also what those jobs submit, then joins. Threads: submit from anywhere,
/// also from a job.
class ThreadPool {
 public:
  using Job = std::function<void(size_t worker)>;

  /// For accounting. Called by the worker around each job; the job is gone, with all it held, when
  /// `job_ended` is called. Either may be empty; they must not throw.
  struct Hooks {
    std::function<void(size_t worker)> job_begins;
    std::function<void(size_t worker)> job_ended;
  };

  /// At least one worker, also when `workers` is 0.
  explicit ThreadPool(size_t workers) : ThreadPool(workers, Hooks()) {}
  ThreadPool(size_t workers, Hooks hooks);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  size_t size() const { return threads_.size(); }
  void submit(Job job);
  /// Returns when no job runs or waits and the last hook has returned. Not from a job.
  void wait_until_idle();

 private:
  void run(size_t worker);

  const Hooks hooks_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::condition_variable idle_;
  size_t busy_ = 0;
  std::deque<Job> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tern
