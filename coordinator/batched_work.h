/// Many small pieces of work of one kind, in batches.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "base/loop.h"

namespace tern {

/// Items for workers. What is added in one turn of the loop is done in a few batches: under load a
/// thread is woken for many items and not for each, and no worker gets all of them. How many
/// batches that are doesn't depend on the number of workers, so that on a virtual clock a run
/// doesn't, either. Items are done in any order; where the loop keeps the order of its work, `done`
/// hears of them in that in which they were added. Threads: the loop's; `work` on workers.
template <typename Item>
class BatchedWork {
 public:
  BatchedWork(Loop& loop, std::function<void(size_t worker, const Item&)> work,
              std::function<void(const Item&)> done)
      : loop_(loop), work_(std::move(work)), done_(std::move(done)) {}

  void add(Item item) {
    added_.push_back(std::move(item));
    if (added_.size() == 1) loop_.post([this] { start(); });
  }

 private:
  /// Of what is added in one turn: enough for the workers of a large machine.
  static constexpr size_t kMostBatches = 32;

  void start() {
    std::vector<Item> items = std::exchange(added_, {});
    const size_t batches = std::min(items.size(), kMostBatches);
    for (size_t i = 0; i < batches; ++i) {
      const auto at = [&](size_t batch) {
        return std::move_iterator(items.begin() +
                                  static_cast<ptrdiff_t>(batch * items.size() / batches));
      };
      auto batch = std::make_shared<std::vector<Item>>(at(i), at(i + 1));
      loop_.run(
          [this, batch](size_t worker) {
            for (const Item& item : *batch) work_(worker, item);
          },
          [this, batch] {
            for (const Item& item : *batch) done_(item);
          });
    }
  }

  Loop& loop_;
  const std::function<void(size_t, const Item&)> work_;
  const std::function<void(const Item&)> done_;
  std::vector<Item> added_;
};

}  // namespace tern
