/// Transfers under credit: a sender never has more than kCreditWindow bytes on the way that the
/// receiver hasn't taken in, so neither end queues more than that, however slow the other is. An
/// update that is longer than that begins with its message alone and waits for credit: a
/// coordinator bounds what all its clients have on the way together.
#pragma once

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "base/status.h"
#include "proto/messages.h"
#include "proto/parts.h"

namespace tern {

/// Of shorter transfers the sender doesn't need to know when they have come.
inline constexpr uint64_t kAcknowledgedBytes = 32 * 1024;

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
  /// A packet of the first part, if there is credit for it, and behind it the message that
  /// announces the transfer. The part counts as sent. Before any pump().
  Bytes begin_with(std::span<const std::byte> message);
  void add_credit(uint64_t bytes) { credit_ = std::max(credit_, bytes); }
  /// Sends no more than `bytes` in all, whatever the credit, until the next call.
  void allow(uint64_t bytes) { allowed_ = bytes; }
  /// Sends parts as far as the credit goes. Errors: that of the first `send` that fails; the next
  /// call goes on with the same part.
  Status pump(const std::function<Status(Bytes)>& send);

 private:
  TaskId task_;
  std::vector<SharedFrame> frames_;
  PartCutter cutter_;
  uint64_t sent_ = 0;
  uint64_t next_end() const { return sent_ + cutter_.next_bytes(); }
  uint64_t credit_;
  uint64_t allowed_ = std::numeric_limits<uint64_t>::max();
};

/// The receiver's side. Threads: one at a time.
class IncomingTransfer {
 public:
  IncomingTransfer(TransferKind kind, TaskId task, uint64_t max_bytes)
      : task_(task), assembler_(kind, task, max_bytes) {}

  TaskId task() const { return task_; }
  Status add(std::span<const std::byte> part) { return assembler_.add(part); }
  bool complete() const { return assembler_.complete(); }
  uint32_t parts() const { return assembler_.parts(); }
  uint64_t total_bytes() const { return assembler_.total_bytes(); }
  uint64_t received() const { return assembler_.received(); }
  /// What to tell the sender now, if anything: that it may go on or, of a transfer of
  /// kAcknowledgedBytes and more, that all of it is here, as credit for a window more than that.
  std::optional<Credit> credit_due();
  std::vector<Bytes> take_parts() { return assembler_.take_parts(); }
  Bytes take() { return std::move(assembler_).take(); }

 private:
  TaskId task_;
  PartAssembler assembler_;
  uint64_t credit_ = kCreditWindow;
  bool acknowledged_ = false;
};

}  // namespace tern
