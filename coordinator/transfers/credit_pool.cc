#include "coordinator/transfers/credit_pool.h"

#include <algorithm>
#include <utility>

namespace tern {

std::shared_ptr<CreditPool> CreditPool::make(const Limits& limits, const Clock& clock) {
  return std::shared_ptr<CreditPool>(new CreditPool(limits, clock));
}

std::unique_ptr<CreditPool::Share> CreditPool::join(Grant grant, uint64_t length) {
  std::unique_ptr<Share> share(new Share(shared_from_this(), std::move(grant)));
  share->length_ = length;
  shares_.insert(share.get());
  wait(*share);
  return share;
}

CreditPool::Share::~Share() {
  pool_->shares_.erase(this);
  if (in_line_) std::erase(pool_->line_, this);
  pool_->on_the_way_ -= counted();
  pool_->serve();
}

template <typename F>
void CreditPool::Share::update(F change) {
  pool_->on_the_way_ -= counted();
  change();
  pool_->on_the_way_ += counted();
}

void CreditPool::Share::received(uint64_t bytes) {
  if (bytes <= received_) return;
  const TimePoint now = pool_->clock_.now();
  update([&] {
    received_ = bytes;
    if (bytes < length_ && bytes - step_from_ < pool_->limits_.step) return;
    slow_ = slow_ && now - since_ >= pool_->limits_.patience;
    since_ = now;
    step_from_ = bytes;
  });
}

void CreditPool::Share::stored(uint64_t bytes) {
  received(bytes);
  update([&] { stored_ = std::max(stored_, bytes); });
  if (std::max(granted_, received_) < length_ && on_the_way() <= pool_->limits_.window / 2)
    pool_->wait(*this);
  else
    pool_->serve();
}

void CreditPool::look() {
  const TimePoint now = clock_.now();
  for (Share* share : shares_)
    if (share->promised() > 0 && now - share->since_ >= limits_.patience)
      share->update([&] { share->slow_ = true; });
  serve();
}

void CreditPool::wait(Share& share) {
  if (!std::exchange(share.in_line_, true)) line_.push_back(&share);
  serve();
}

void CreditPool::serve() {
  // A grant may end transfers, which comes back here.
  if (serving_) return;
  serving_ = true;
  while (!closed_ && !line_.empty()) {
    Share& first = *line_.front();
    const uint64_t from = std::max(first.granted_, first.received_);
    const uint64_t wanted =
        from >= first.length_
            ? 0
            : std::min(limits_.window - std::min(limits_.window, first.on_the_way()),
                       first.length_ - from);
    const uint64_t least = std::min(wanted, limits_.least);
    const uint64_t room = limits_.most - std::min(limits_.most, on_the_way_);
    if (room < least) break;
    line_.pop_front();
    first.in_line_ = false;
    if (wanted == 0) continue;
    first.update([&] {
      first.granted_ = from + (line_.empty() ? std::min(wanted, room) : least);
      // One that was slow before has its time from when it sent something.
      if (!first.slow_) first.since_ = clock_.now();
    });
    const Grant grant = first.grant_;  // it may end the share
    grant(first.granted_);
  }
  serving_ = false;
}

}  // namespace tern
