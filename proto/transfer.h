/// Transfers under credit: a sender never has more than kCreditWindow bytes on the way that the
/// receiver hasn't taken in, so neither end queues more than that, however slow the other is.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/status.h"
#include "proto/messages.h"
#include "proto/parts.h"

namespace tern {

/// Frames are shared by all who download them.
using SharedFrame = std::shared_ptr<const Bytes>;

/// The sender's side. Threads: one at a time.
class OutgoingTransfer {
 public:
  OutgoingTransfer(TransferKind kind, TaskId task, std::vector<SharedFrame> frames);

  TaskId task() const { return task_; }
  uint64_t total_bytes() const { return cutter_.total_bytes(); }
  /// Of parts that were sent, headers included.
  uint64_t sent_bytes() const { return sent_; }
  bool done() const { return cutter_.done(); }
  /// A packet of the first part and, behind it, the message that announces the transfer. The part
  /// counts as sent. Before any pump().
  Bytes begin_with(std::span<const std::byte> message);
  void add_credit(uint64_t bytes) { credit_ = std::max(credit_, bytes); }
  /// Sends parts as far as the credit goes. Errors: that of the first `send` that fails; the next
  /// call goes on with the same part.
  Status pump(const std::function<Status(Bytes)>& send);

 private:
  TaskId task_;
  std::vector<SharedFrame> frames_;
  PartCutter cutter_;
  uint64_t sent_ = 0;
  uint64_t credit_ = kCreditWindow;
};

/// The receiver's side. Threads: one at a time.
class IncomingTransfer {
 public:
  IncomingTransfer(TransferKind kind, TaskId task, uint64_t max_bytes)
      : task_(task), assembler_(kind, task, max_bytes) {}

  TaskId task() const { return task_; }
  Status add(std::span<const std::byte> part) { return assembler_.add(part); }
  bool complete() const { return assembler_.complete(); }
  uint64_t received() const { return assembler_.received(); }
  /// What to tell the sender now, if anything.
  std::optional<Credit> credit_due();
  Bytes take() { return std::move(assembler_).take(); }

 private:
  TaskId task_;
  PartAssembler assembler_;
  uint64_t credit_ = kCreditWindow;
};

}  // namespace tern
