/// Where the workers' time goes. Each worker books its own seconds, so that the stages of all
/// workers add up to workers x wall: idle time is measured between jobs, not inferred.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <string_view>
#include <vector>

namespace tern {

enum class WorkStage : size_t { kTrain, kEncode, kDecode, kAggregate, kEvaluate, kOther, kIdle };
inline constexpr std::array<std::string_view, 7> kWorkStageNames{
    "train", "encode", "decode", "aggregate", "evaluate", "other", "idle"};
using WorkSeconds = std::array<double, kWorkStageNames.size()>;

/// Threads: worker w calls with its own index only; totals() while no job runs.
class WorkClock {
 public:
  explicit WorkClock(size_t workers) : slots_(workers) { start(); }

  /// Begins a stretch of work: idle time before the first job counts from here.
  void start() {
    for (Slot& slot : slots_) slot.last = Time::now();
  }
  /// Books what has passed since the worker's last booking.
  void book(size_t worker, WorkStage stage) {
    const auto now = Time::now();
    slots_[worker].seconds[static_cast<size_t>(stage)] +=
        std::chrono::duration<double>(now - slots_[worker].last).count();
    slots_[worker].last = now;
  }
  /// Ends a stretch: the workers' time since their last job was idle.
  void stop() {
    for (size_t worker = 0; worker < slots_.size(); ++worker) book(worker, WorkStage::kIdle);
  }
  /// What is booked so far.
  WorkSeconds totals() const {
    WorkSeconds total{};
    for (const Slot& slot : slots_)
      for (size_t i = 0; i < total.size(); ++i) total[i] += slot.seconds[i];
    return total;
  }

 private:
  using Time = std::chrono::steady_clock;
  /// A cache line each: workers book often.
  struct alignas(128) Slot {
    Time::time_point last;
    WorkSeconds seconds{};
  };
  std::vector<Slot> slots_;
};

}  // namespace tern
