/// Frames on the wire: a transfer (one or more frames, back to back) is cut into parts of at most
/// 256 KiB, each behind a 64-byte header, so that no message is large and memory before
/// authentication stays small. Header, little-endian: magic "TRNP", major, minor, kind, zero; task
/// (8); index, count (4+4); transfer bytes (8); offset (8); part bytes (4); zeros to 64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "proto/messages.h"

namespace tern {

inline constexpr size_t kPartHeaderBytes = 64;
inline constexpr size_t kPartBytes = 256 * 1024;

enum class TransferKind : uint8_t { kUpdate = 1, kDeltas = 2, kSnapshot = 3 };

using Bytes = std::vector<std::byte>;

/// The parts of a transfer, headers included. An empty transfer has no parts.
std::vector<Bytes> split_into_parts(TransferKind kind, TaskId task,
                                    std::span<const std::span<const std::byte>> frames);
size_t total_bytes(const std::vector<Bytes>& parts);

/// Puts a transfer together from hostile parts that must come in order.
class PartAssembler {
 public:
  /// `max_bytes` bounds the transfer; memory grows as bytes arrive, never to a size that a header
  /// claims.
  PartAssembler(TransferKind kind, TaskId task, size_t max_bytes)
      : kind_(kind), task_(task), max_bytes_(max_bytes) {}

  /// Errors: kCorrupt, kUnsupported, kOutOfRange (too long), kInvalidArgument (another task, kind
  /// or order). After an error the transfer is void.
  Status add(std::span<const std::byte> part);
  bool complete() const { return count_ > 0 && next_ == count_; }
  /// The transfer's bytes; call once, when complete.
  Bytes take() && { return std::move(bytes_); }

 private:
  TransferKind kind_;
  TaskId task_;
  size_t max_bytes_;
  uint32_t next_ = 0;
  uint32_t count_ = 0;
  uint64_t transfer_bytes_ = 0;
  Bytes bytes_;
};

}  // namespace tern
