#include "coordinator/transfers/downloads.h"

#include <algorithm>
#include <chrono>

namespace tern {

namespace {

/// A part that finds the queue full is tried again after this.
constexpr Duration kRetrySending = std::chrono::milliseconds(20);

}  // namespace

void Downloads::start(uint32_t client, const Connection& to, const PlanMessage& message,
                      uint32_t round, TransferKind kind, std::vector<SharedFrame> frames) {
  end(client);
  if (frames.empty()) {
    send_(to, message, nullptr);
    return;
  }
  Download& download = downloads_[client];
  if (download.to != to) download = {.to = to};
  download.transfer.emplace(kind, message.task.task, std::move(frames));
  download.round = round;
  take_turn(client, download);
  if (!send_(to, message, &*download.transfer)) {
    download.share.reset();
    download.transfer.reset();
    return;
  }
  download.announced = true;
  pump(client, download);
}

void Downloads::received(uint32_t client, const Credit& credit) {
  const auto found = downloads_.find(client);
  if (found == downloads_.end()) return;
  Download& download = found->second;
  if (download.transfer && download.transfer->task() == credit.task) {
    download.transfer->add_credit(credit.bytes);
    pump(client, download);
  }
  if (!download.share || download.task != credit.task) return;
  uint64_t arrived = credit.bytes - std::min(credit.bytes, kCreditWindow);
  // It can't have what wasn't sent, whatever it says.
  if (download.transfer) arrived = std::min(arrived, download.transfer->sent_bytes());
  if (arrived < download.bytes)
    download.share->stored(arrived);
  else
    download.share.reset();
  credit_.watch();
}

void Downloads::end(uint32_t client) {
  if (const auto found = downloads_.find(client); found != downloads_.end())
    end(client, found->second);
}

void Downloads::forget(uint32_t client) {
  end(client);
  downloads_.erase(client);
}

bool Downloads::idle(uint32_t client) const {
  const auto found = downloads_.find(client);
  if (found == downloads_.end()) return true;
  const Download& download = found->second;
  return !download.transfer && !download.share && !download.retrying;
}

Downloads::Download* Downloads::of(uint32_t client, const Connection& to) {
  const auto found = downloads_.find(client);
  return found != downloads_.end() && found->second.to == to ? &found->second : nullptr;
}

/// One whose end is told waits for its turn.
void Downloads::take_turn(uint32_t client, Download& download) {
  download.announced = false;
  download.share.reset();
  download.task = download.transfer->task();
  download.bytes = download.transfer->total_bytes();
  if (download.bytes < kAcknowledgedBytes) return;
  download.transfer->allow(0);
  download.share = credit_.join(
      [this, client, to = download.to, task = download.task](uint64_t allowed) {
        Download* its = of(client, to);
        if (its == nullptr || !its->transfer || its->transfer->task() != task) return;
        its->transfer->allow(allowed);
        if (its->announced) pump(client, *its);
      },
      download.bytes);
}

void Downloads::pump(uint32_t client, Download& download) {
  const Status status = download.transfer->pump(
      [&](Bytes part) { return transport_.send(download.to, std::move(part)); });
  if (download.transfer->done()) return end(client, download);
  if (status.code() != Code::kOutOfRange || download.retrying) return;
  download.retrying = true;
  loop_.call_at(loop_.now() + kRetrySending, [this, client, to = download.to] {
    Download* its = of(client, to);
    if (its == nullptr) return;
    its->retrying = false;
    if (its->transfer) pump(client, *its);
  });
}

void Downloads::end(uint32_t client, Download& download) {
  if (!download.transfer) return;
  sink_.on({"download_sent",
            {{"round", int64_t{download.round}},
             {"client", int64_t{client}},
             {"bytes", static_cast<int64_t>(download.transfer->sent_bytes())},
             {"dense_bytes", dense_bytes_}}});
  download.transfer.reset();
}

}  // namespace tern
