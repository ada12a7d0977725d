/// Time as a value that is passed in: protocol logic never asks a global clock. Monotonic; zero is
/// the start of the run.
#pragma once

#include <chrono>

namespace tern {

using Duration = std::chrono::nanoseconds;

/// A point on the clock that drives a run: virtual in simulation, steady in the daemons.
using TimePoint = std::chrono::nanoseconds;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;
};

/// The machine's steady clock, from zero at construction. Threads: share freely.
class SteadyClock : public Clock {
 public:
  TimePoint now() const override {
    return std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now() - start_);
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Stands still until told. Threads: one.
class VirtualClock : public Clock {
 public:
  TimePoint now() const override { return now_; }
  void advance_to(TimePoint at) {
    if (at > now_) now_ = at;
  }

 private:
  TimePoint now_{};
};

inline double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace tern
