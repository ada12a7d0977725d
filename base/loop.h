/// What protocol logic needs of the outside: time, timers, a thread of its own and workers for what
/// takes long. The daemons give it an event loop in real time, simulations a virtual clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "base/clock.h"

namespace tern {

/// Threads: everything but post() is called on the loop's thread, and every callback comes there,
/// one at a time, never from within a call into the loop. Callbacks must not throw.
class Loop : public Clock {
 public:
  using Callback = std::function<void()>;
  using Work = std::function<void(size_t worker)>;
  using TimerId = uint64_t;  ///< never 0

  /// Seconds since 1970 for expiry dates; virtual in simulations.
  virtual int64_t unix_seconds() const = 0;
  /// Calls back soon. Threads: from anywhere.
  virtual void post(Callback callback) = 0;
  virtual TimerId call_at(TimePoint when, Callback callback) = 0;
  /// The callback won't come. Unknown ids are ignored.
  virtual void cancel(TimerId timer) = 0;
  /// Runs `work` on a worker of the pool, then `done` on the loop's thread.
  virtual void run(Work work, Callback done) = 0;
  /// The same; on a virtual clock `done` comes so much later. In real time work takes what it
  /// takes.
  virtual void run_taking(Duration, Work work, Callback done) {
    run(std::move(work), std::move(done));
  }
};

}  // namespace tern
