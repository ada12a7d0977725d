/// Many small pieces of work of one kind, in batches.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "base/loop.h"

namespace tern {

/// Items that wait for workers. Each batch is a share of what waits, so that under load a thread is
/// woken for many items and not for each, and no worker is left with all of them. Items are done in
/// any order; `done` hears of them in that in which they were added, where the loop keeps the order
/// of its work. Threads: the loop's; `work` on workers.
template <typename Item>
class BatchedWork {
 public:
  BatchedWork(Loop& loop, size_t workers, std::function<void(size_t worker, const Item&)> work,
              std::function<void(const Item&)> done)
      : loop_(loop),
        most_(kBatchesEach * workers),
        work_(std::move(work)),
        done_(std::move(done)) {}

  void add(Item item) {
    waiting_.push_back(std::move(item));
    start();
  }

 private:
  /// Batches that are begun and not done, for each worker.
  static constexpr size_t kBatchesEach = 2;

  void start() {
    while (!waiting_.empty() && running_ < most_) {
      const size_t share = (waiting_.size() + most_ - 1) / most_;
      auto batch = std::make_shared<std::vector<Item>>(
          std::move_iterator(waiting_.begin()),
          std::move_iterator(waiting_.begin() + static_cast<ptrdiff_t>(share)));
      waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(share));
      ++running_;
      loop_.run(
          [this, batch](size_t worker) {
            for (const Item& item : *batch) work_(worker, item);
          },
          [this, batch] {
            --running_;
            for (const Item& item : *batch) done_(item);
            start();
          });
    }
  }

  Loop& loop_;
  const size_t most_;
  const std::function<void(size_t, const Item&)> work_;
  const std::function<void(const Item&)> done_;
  std::deque<Item> waiting_;
  size_t running_ = 0;
};

}  // namespace tern
