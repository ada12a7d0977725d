/// The credit that a coordinator's long transfers share, up and down, and a look at who makes no
/// progress while somebody waits.
/// Threads: the loop's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "base/loop.h"
#include "coordinator/transfers/credit_pool.h"
#include "proto/messages.h"

namespace tern {

class TransferCredit {
 public:
  explicit TransferCredit(Loop& loop) : loop_(loop), pool_(CreditPool::make(kOnTheWay, loop)) {}
  TransferCredit(const TransferCredit&) = delete;
  TransferCredit& operator=(const TransferCredit&) = delete;
  ~TransferCredit() { close(); }

  /// As CreditPool::join().
  std::unique_ptr<CreditPool::Share> join(CreditPool::Grant grant,
                                          uint64_t length = std::numeric_limits<uint64_t>::max()) {
    std::unique_ptr<CreditPool::Share> share = pool_->join(std::move(grant), length);
    watch();
    return share;
  }
  /// After whatever may leave somebody waiting.
  void watch() {
    if (watching_ || !pool_->somebody_waits()) return;
    watching_ = true;
    loop_.call_at(loop_.now() + kLookAgain, [this] {
      watching_ = false;
      if (closed_) return;
      pool_->look();
      watch();
    });
  }
  /// Nothing is granted any more.
  void close() {
    closed_ = true;
    pool_->close();
  }

 private:
  /// A client says what it has taken in at each half of a window, so less than that would never be
  /// told.
  static constexpr CreditPool::Limits kOnTheWay{.most = 6 * kCreditWindow,
                                                .window = kCreditWindow,
                                                .least = kCreditWindow / 2,
                                                .step = kPartBytes,
                                                .patience = std::chrono::milliseconds(100)};
  static constexpr Duration kLookAgain = std::chrono::milliseconds(50);

  Loop& loop_;
  const std::shared_ptr<CreditPool> pool_;
  bool watching_ = false, closed_ = false;
};

}  // namespace tern
