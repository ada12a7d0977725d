/// Frames on the wire: a transfer (one or more frames, back to back) is cut into parts of at most
/// 256 KiB, each behind a 64-byte header, so that no message is large and memory before
/// authentication stays small. Header, little-endian: magic "TRNP", major, minor, kind, zero; task
/// (8); index, count (4+4); transfer bytes (8); offset (8); part bytes (4); zeros to 64.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/status.h"

namespace tern {

/// Identifies one client's work in one round of one run; at most one update per task is counted.
using TaskId = uint64_t;
using Bytes = std::vector<std::byte>;

inline constexpr size_t kPartHeaderBytes = 64;
inline constexpr size_t kPartBytes = 256 * 1024;

enum class TransferKind : uint8_t { kUpdate = 1, kDeltas = 2, kSnapshot = 3 };

/// Cuts a transfer into parts, one at a time: of a large model only the part at hand is copied.
class PartCutter {
 public:
  /// The frames' bytes outlive the cutter. An empty transfer has no parts.
  PartCutter(TransferKind kind, TaskId task, std::vector<std::span<const std::byte>> frames);

  uint32_t count() const { return count_; }
  /// Of the whole transfer, headers included.
  uint64_t total_bytes() const { return bytes_ + uint64_t{count_} * kPartHeaderBytes; }
  bool done() const { return index_ == count_; }
  /// Length of the next part, header included; not when done.
  size_t next_bytes() const {
    return kPartHeaderBytes +
           std::min<uint64_t>(kPartBytes, bytes_ - uint64_t{index_} * kPartBytes);
  }
  /// The next part, with `room` to append so many bytes; not when done.
  Bytes next(size_t room = 0);
  /// Takes the last next() back: it will come again.
  void undo();

 private:
  TransferKind kind_;
  TaskId task_;
  std::vector<std::span<const std::byte>> frames_;
  uint64_t bytes_ = 0;
  uint32_t count_ = 0;
  uint32_t index_ = 0;
  size_t frame_ = 0, at_ = 0;  // what comes next
  size_t frame_before_ = 0, at_before_ = 0;
};

/// All of a transfer's parts at once.
std::vector<Bytes> split_into_parts(TransferKind kind, TaskId task,
                                    std::span<const std::span<const std::byte>> frames);
size_t total_bytes(const std::vector<Bytes>& parts);

/// Whether a packet begins with a part: by its magic alone.
bool is_part(std::span<const std::byte> packet);
/// How long a part is, as its header claims; what is too short for a header is all there is.
size_t claimed_length(std::span<const std::byte> part);

/// What a part says of itself, before it is checked: whose it is.
struct PartLabel {
  TransferKind kind{};
  TaskId task = 0;
  uint32_t index = 0;
};
/// Nothing for what is too short to be a part.
std::optional<PartLabel> label_of(std::span<const std::byte> part);

/// Puts a transfer together from hostile parts that must come in order.
class PartAssembler {
 public:
  /// `max_bytes` bounds the transfer; memory is what has arrived, never a size that a header
  /// claims.
  PartAssembler(TransferKind kind, TaskId task, size_t max_bytes)
      : kind_(kind), task_(task), max_bytes_(max_bytes) {}

  /// Errors: kCorrupt, kUnsupported, kOutOfRange (too long), kInvalidArgument (another task, kind
  /// or order). After an error the transfer is void.
  Status add(std::span<const std::byte> part);
  bool complete() const { return count_ > 0 && next_ == count_; }
  /// Received so far, headers included.
  uint64_t received() const { return held_ + uint64_t{next_} * kPartHeaderBytes; }
  /// Of the whole transfer; 0 before its first part.
  uint32_t parts() const { return count_; }
  /// Of the whole transfer, headers included; 0 before its first part.
  uint64_t total_bytes() const { return transfer_bytes_ + uint64_t{count_} * kPartHeaderBytes; }
  /// The payloads that have come since the last call, in order: for who doesn't keep them here.
  std::vector<Bytes> take_parts() { return std::exchange(parts_, {}); }
  /// The transfer's bytes; call once, when complete. Cost: a copy of them where they came in
  /// several parts.
  Bytes take() &&;

 private:
  TransferKind kind_;
  TaskId task_;
  size_t max_bytes_;
  uint32_t next_ = 0;
  uint32_t count_ = 0;
  uint64_t transfer_bytes_ = 0;
  uint64_t held_ = 0;         // bytes of all payloads
  std::vector<Bytes> parts_;  // payloads
};

}  // namespace tern
