#include "proto/parts.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/rng.h"

namespace tern {

namespace {

constexpr uint32_t kMagic = 0x504E5254;  // "TRNP"
constexpr uint8_t kMajor = 1, kMinor = 0;
constexpr size_t kMajorAt = 4, kMinorAt = 5, kKindAt = 6, kTaskAt = 8, kIndexAt = 16, kCountAt = 20,
                 kTransferAt = 24;
constexpr size_t kOffsetAt = 32, kBytesAt = 40, kHeaderEnd = 44;

}  // namespace

TaskId task_id(uint64_t run_seed, uint32_t round, uint32_t client) {
  return mix(run_seed, uint64_t{round} << 32 | client);
}

std::vector<Bytes> split_into_parts(TransferKind kind, TaskId task,
                                    std::span<const std::span<const std::byte>> frames) {
  size_t total = 0;
  for (const auto& frame : frames) total += frame.size();
  const size_t count = (total + kPartBytes - 1) / kPartBytes;
  std::vector<Bytes> parts(count);
  size_t frame = 0, at = 0;  // what comes next
  for (size_t index = 0; index < count; ++index) {
    const size_t offset = index * kPartBytes;
    const size_t length = std::min(kPartBytes, total - offset);
    Bytes& part = parts[index];
    part.reserve(kPartHeaderBytes + length);
    part.resize(kPartHeaderBytes);
    store(part.data(), kMagic);
    store(part.data() + kMajorAt, kMajor);
    store(part.data() + kMinorAt, kMinor);
    store(part.data() + kKindAt, kind);
    store(part.data() + kTaskAt, task);
    store(part.data() + kIndexAt, static_cast<uint32_t>(index));
    store(part.data() + kCountAt, static_cast<uint32_t>(count));
    store(part.data() + kTransferAt, uint64_t{total});
    store(part.data() + kOffsetAt, uint64_t{offset});
    store(part.data() + kBytesAt, static_cast<uint32_t>(length));
    while (part.size() < kPartHeaderBytes + length) {
      const size_t take =
          std::min(frames[frame].size() - at, kPartHeaderBytes + length - part.size());
      const auto from = frames[frame].subspan(at, take);
      part.insert(part.end(), from.begin(), from.end());
      at += take;
      if (at == frames[frame].size()) {
        ++frame;
        at = 0;
      }
    }
  }
  return parts;
}

size_t total_bytes(const std::vector<Bytes>& parts) {
  size_t total = 0;
  for (const Bytes& part : parts) total += part.size();
  return total;
}

Status PartAssembler::add(std::span<const std::byte> part) {
  if (part.size() < kPartHeaderBytes || part.size() > kPartHeaderBytes + kPartBytes ||
      load<uint32_t>(part.data()) != kMagic)
    return error(Code::kCorrupt, "not a part ({} bytes)", part.size());
  const uint8_t major = load<uint8_t>(part.data() + kMajorAt),
                minor = load<uint8_t>(part.data() + kMinorAt);
  if (major != kMajor || minor > kMinor)
    return error(Code::kUnsupported, "part format {}.{}, this reader knows {}.{}", major, minor,
                 kMajor, kMinor);
  const auto rest = part.subspan(kHeaderEnd, kPartHeaderBytes - kHeaderEnd);
  if (load<uint8_t>(part.data() + kKindAt + 1) != 0 ||
      std::ranges::any_of(rest, [](std::byte b) { return b != std::byte{0}; }))
    return error(Code::kCorrupt, "a part's reserved bytes aren't zero");
  if (load<TransferKind>(part.data() + kKindAt) != kind_ ||
      load<TaskId>(part.data() + kTaskAt) != task_)
    return error(Code::kInvalidArgument, "a part of another transfer");
  const auto index = load<uint32_t>(part.data() + kIndexAt),
             count = load<uint32_t>(part.data() + kCountAt);
  const auto transfer = load<uint64_t>(part.data() + kTransferAt),
             offset = load<uint64_t>(part.data() + kOffsetAt);
  const auto length = load<uint32_t>(part.data() + kBytesAt);
  if (transfer > max_bytes_)
    return error(Code::kOutOfRange, "a transfer of {} bytes, at most {} are allowed", transfer,
                 max_bytes_);
  if (index != next_ || (next_ > 0 && (count != count_ || transfer != transfer_bytes_)))
    return error(Code::kInvalidArgument, "part {} of {} where part {} was due", index, count,
                 next_);
  if (transfer == 0 || count != (transfer + kPartBytes - 1) / kPartBytes ||
      offset != bytes_.size() || length != std::min<uint64_t>(kPartBytes, transfer - offset) ||
      part.size() != kPartHeaderBytes + length)
    return error(Code::kCorrupt, "part {} of {}: {} bytes at {} of {}", index, count, length,
                 offset, transfer);
  count_ = count;
  transfer_bytes_ = transfer;
  const auto payload = part.subspan(kPartHeaderBytes);
  bytes_.insert(bytes_.end(), payload.begin(), payload.end());
  ++next_;
  return {};
}

}  // namespace tern
