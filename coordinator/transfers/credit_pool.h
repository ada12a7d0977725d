/// How much all transfers may have on the way together. A long transfer goes as far as it was given
/// credit for, and is given more once what was on the way has come; when the pool is empty,
/// transfers wait in line, and each gets little at a time. So what a coordinator holds of them is
/// bounded, however many clients are busy at once.
///
/// That is meant for clients that are faster together than the coordinator. Whoever lets `patience`
/// pass without a step, with a slow link or on purpose, holds up nobody: what it was promised isn't
/// counted until two of its parts come closer together than that. What has come of it always is.
/// The bound is then `most` and, for each of those, a window.
/// Threads: one at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <set>
#include <utility>

#include "base/clock.h"

namespace tern {

class CreditPool : public std::enable_shared_from_this<CreditPool> {
 public:
  /// Tells how far a transfer may go: a total, from its first byte.
  using Grant = std::function<void(uint64_t credit)>;

  /// One transfer's part of the pool; gives back what it has when it is destroyed.
  class Share {
   public:
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    ~Share();
    /// So much of the transfer has come from its sender, in all.
    void received(uint64_t bytes);
    /// So much of it isn't in memory any more, in all; it was received, too.
    void stored(uint64_t bytes);
    /// Once it is known: no credit is given beyond it.
    void set_length(uint64_t bytes) { length_ = bytes; }
    uint64_t granted() const { return granted_; }
    /// Granted, and not here yet.
    uint64_t promised() const { return granted_ > received_ ? granted_ - received_ : 0; }

   private:
    friend class CreditPool;
    Share(std::shared_ptr<CreditPool> pool, Grant grant)
        : pool_(std::move(pool)), grant_(std::move(grant)) {}
    uint64_t on_the_way() const { return promised() + received_ - stored_; }
    uint64_t counted() const { return slow_ ? received_ - stored_ : on_the_way(); }
    /// Changes the share by `change`, and what the pool counts of it.
    template <typename F>
    void update(F change);

    const std::shared_ptr<CreditPool> pool_;
    const Grant grant_;
    uint64_t granted_ = 0, received_ = 0, stored_ = 0;  // stored_ <= received_
    uint64_t length_ = std::numeric_limits<uint64_t>::max();
    TimePoint since_{};       // it was given credit, or made a step,
    uint64_t step_from_ = 0;  // up to here
    bool in_line_ = false, slow_ = false;
  };

  struct Limits {
    uint64_t most = 0;    ///< on the way, of all
    uint64_t window = 0;  ///< on the way, of one; at most `most`
    uint64_t least = 0;   ///< that is given at a time, and no more while others wait
    uint64_t step = 1;    ///< less than that is no progress
    Duration patience{};  ///< between two steps of a transfer
  };
  /// `clock` outlives the pool's use.
  static std::shared_ptr<CreditPool> make(const Limits& limits, const Clock& clock);
  /// A new transfer. `grant` may be called at once, and in calls for other shares.
  std::unique_ptr<Share> join(Grant grant, uint64_t length = std::numeric_limits<uint64_t>::max());
  /// Looks for slow ones; for a timer, while somebody waits.
  void look();
  bool somebody_waits() const { return !line_.empty(); }
  /// Nothing is granted any more.
  void close() { closed_ = true; }

  /// As far as it is counted.
  uint64_t on_the_way() const { return on_the_way_; }

 private:
  CreditPool(const Limits& limits, const Clock& clock) : limits_(limits), clock_(clock) {}
  void wait(Share& share);
  void serve();

  const Limits limits_;
  const Clock& clock_;
  uint64_t on_the_way_ = 0;
  std::set<Share*> shares_;
  std::deque<Share*> line_;
  bool closed_ = false, serving_ = false;
};

}  // namespace tern
