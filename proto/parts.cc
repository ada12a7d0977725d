#include "proto/parts.h"

#include <algorithm>

#include "base/bytes.h"

namespace tern {

namespace {

constexpr uint32_t kPartMagic = 0x504E5254;  // "TRNP"
constexpr uint8_t kMajor = 1, kMinor = 0;
constexpr size_t kMajorAt = 4, kMinorAt = 5, kKindAt = 6, kTaskAt = 8, kIndexAt = 16, kCountAt = 20,
                 kTransferAt = 24;
constexpr size_t kOffsetAt = 32, kBytesAt = 40, kHeaderEnd = 44;

}  // namespace

PartCutter::PartCutter(TransferKind kind, TaskId task,
                       std::vector<std::span<const std::byte>> frames)
    : kind_(kind), task_(task), frames_(std::move(frames)) {
  for (const auto& frame : frames_) bytes_ += frame.size();
  count_ = static_cast<uint32_t>((bytes_ + kPartBytes - 1) / kPartBytes);
}

Bytes PartCutter::next(size_t room) {
  const uint64_t offset = uint64_t{index_} * kPartBytes;
  const size_t length = next_bytes() - kPartHeaderBytes;
  frame_before_ = frame_;
  at_before_ = at_;
  Bytes part;
  part.reserve(kPartHeaderBytes + length + room);
  part.resize(kPartHeaderBytes);
  store(part.data(), kPartMagic);
  store(part.data() + kMajorAt, kMajor);
  store(part.data() + kMinorAt, kMinor);
  store(part.data() + kKindAt, kind_);
  store(part.data() + kTaskAt, task_);
  store(part.data() + kIndexAt, index_);
  store(part.data() + kCountAt, count_);
  store(part.data() + kTransferAt, bytes_);
  store(part.data() + kOffsetAt, offset);
  store(part.data() + kBytesAt, static_cast<uint32_t>(length));
  while (part.size() < kPartHeaderBytes + length) {
    const size_t take =
        std::min(frames_[frame_].size() - at_, kPartHeaderBytes + length - part.size());
    const auto from = frames_[frame_].subspan(at_, take);
    part.insert(part.end(), from.begin(), from.end());
    at_ += take;
    if (at_ == frames_[frame_].size()) {
      ++frame_;
      at_ = 0;
    }
  }
  ++index_;
  return part;
}

void PartCutter::undo() {
  --index_;
  frame_ = frame_before_;
  at_ = at_before_;
}

std::vector<Bytes> split_into_parts(TransferKind kind, TaskId task,
                                    std::span<const std::span<const std::byte>> frames) {
  PartCutter cutter(kind, task, {frames.begin(), frames.end()});
  std::vector<Bytes> parts;
  parts.reserve(cutter.count());
  while (!cutter.done()) parts.push_back(cutter.next());
  return parts;
}

size_t total_bytes(const std::vector<Bytes>& parts) {
  size_t total = 0;
  for (const Bytes& part : parts) total += part.size();
  return total;
}

bool is_part(std::span<const std::byte> packet) {
  return packet.size() >= sizeof kPartMagic && load<uint32_t>(packet.data()) == kPartMagic;
}

size_t claimed_length(std::span<const std::byte> part) {
  if (part.size() < kPartHeaderBytes) return part.size();
  return kPartHeaderBytes + size_t{load<uint32_t>(part.data() + kBytesAt)};
}

std::optional<PartLabel> label_of(std::span<const std::byte> part) {
  if (part.size() < kPartHeaderBytes) return std::nullopt;
  return PartLabel{load<TransferKind>(part.data() + kKindAt), load<TaskId>(part.data() + kTaskAt),
                   load<uint32_t>(part.data() + kIndexAt)};
}

Status PartAssembler::add(std::span<const std::byte> part) {
  if (part.size() < kPartHeaderBytes || part.size() > kPartHeaderBytes + kPartBytes ||
      load<uint32_t>(part.data()) != kPartMagic)
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
  if (transfer == 0 || count != (transfer - 1) / kPartBytes + 1 || index >= count ||
      offset != held_ || length != std::min<uint64_t>(kPartBytes, transfer - offset) ||
      part.size() != kPartHeaderBytes + length)
    return error(Code::kCorrupt, "part {} of {}: {} bytes at {} of {}", index, count, length,
                 offset, transfer);
  count_ = count;
  transfer_bytes_ = transfer;
  const auto payload = part.subspan(kPartHeaderBytes);
  parts_.emplace_back(payload.begin(), payload.end());
  held_ += payload.size();
  ++next_;
  return {};
}

Bytes PartAssembler::take() && {
  if (parts_.size() == 1) return std::move(parts_.front());
  Bytes whole;
  whole.reserve(held_);
  for (Bytes& part : parts_) {
    whole.insert(whole.end(), part.begin(), part.end());
    part = Bytes();
  }
  return whole;
}

}  // namespace tern
