#include "proto/transfer.h"

#include <utility>

namespace tern {

namespace {

std::vector<std::span<const std::byte>> views(const std::vector<SharedFrame>& frames) {
  std::vector<std::span<const std::byte>> spans;
  spans.reserve(frames.size());
  for (const SharedFrame& frame : frames) spans.emplace_back(*frame);
  return spans;
}

}  // namespace

OutgoingTransfer::OutgoingTransfer(TransferKind kind, TaskId task, std::vector<SharedFrame> frames)
    : task_(task),
      frames_(std::move(frames)),
      cutter_(kind, task, views(frames_)),
      credit_(kind == TransferKind::kUpdate && total_bytes() > kCreditWindow ? 0 : kCreditWindow) {}

Bytes OutgoingTransfer::begin_with(std::span<const std::byte> message) {
  if (done() || next_end() > std::min(credit_, allowed_))
    return Bytes(message.begin(), message.end());
  sent_ += cutter_.next_bytes();
  Bytes packet = cutter_.next(message.size());
  packet.insert(packet.end(), message.begin(), message.end());
  return packet;
}

Status OutgoingTransfer::pump(const std::function<Status(Bytes)>& send) {
  while (!done() && next_end() <= std::min(credit_, allowed_)) {
    const size_t bytes = cutter_.next_bytes();
    if (Status status = send(cutter_.next()); !status.ok()) {
      cutter_.undo();
      return status;
    }
    sent_ += bytes;
  }
  return {};
}

std::optional<Credit> IncomingTransfer::credit_due() {
  if (complete()) {
    if (total_bytes() < kAcknowledgedBytes || std::exchange(acknowledged_, true))
      return std::nullopt;
  } else if (assembler_.received() + kCreditWindow / 2 < credit_) {
    return std::nullopt;
  }
  credit_ = assembler_.received() + kCreditWindow;
  return Credit{task_, credit_};
}

}  // namespace tern
