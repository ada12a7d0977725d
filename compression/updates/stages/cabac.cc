#include "compression/updates/stages/cabac.h"

#include <algorithm>
#include <array>

namespace tern {

namespace {

constexpr int kQuick = 5, kSlow = 7;
constexpr uint32_t kOne = 1u << 16;       // probability 1
constexpr uint32_t kRenormal = 1u << 24;  // a range below it takes in the next byte
constexpr size_t kFlushedBytes = 4;

/// The probability that a position is kept, in units of 2^-16; never 0 or 1.
class Probability {
 public:
  explicit Probability(uint32_t start) : quick_(start), slow_(start) {}

  uint32_t value() const { return (quick_ + slow_) / 2; }
  void kept() {
    quick_ += (kOne - quick_) >> kQuick;
    slow_ += (kOne - slow_) >> kSlow;
  }
  void dropped() {
    quick_ -= quick_ >> kQuick;
    slow_ -= slow_ >> kSlow;
  }

 private:
  uint32_t quick_, slow_;
};

/// Of a position, after one that was dropped (or none) and after one that was kept.
std::array<Probability, 2> start(size_t k, size_t n) {
  const auto share = static_cast<uint32_t>(k * kOne / n);
  const Probability both(std::clamp(share, kOne >> 10, kOne - (kOne >> 10)));
  return {both, both};
}

/// Bytes of the low end of a range, of which a carry may still change the last ones.
class LowEnd {
 public:
  LowEnd(std::byte* out, size_t most) : out_(out), most_(most) {}

  /// Moves the top byte of `low` out, whose bit 32 is a carry; returns the rest. The byte and those
  /// of 0xff behind it wait until no carry can come.
  uint64_t shift(uint64_t low) {
    if (low < 0xff000000u || low >> 32 != 0) {
      const auto carry = static_cast<uint8_t>(low >> 32);
      // Before the first byte there is nothing to carry into.
      if (begun_) put(static_cast<uint8_t>(top_ + carry));
      for (; waiting_ > 0; --waiting_) put(static_cast<uint8_t>(0xff + carry));
      top_ = static_cast<uint8_t>(low >> 24);
      begun_ = true;
    } else {
      ++waiting_;
    }
    return (low & 0x00ffffff) << 8;
  }
  bool full() const { return bytes_ > most_; }
  size_t bytes() const { return bytes_; }

 private:
  void put(uint8_t byte) {
    if (bytes_ < most_) out_[bytes_] = std::byte{byte};
    ++bytes_;
  }

  std::byte* out_;
  size_t most_, bytes_ = 0;
  uint8_t top_ = 0;
  bool begun_ = false;
  size_t waiting_ = 0;
};

}  // namespace

size_t encode_cabac(const uint16_t* index, size_t k, size_t n, std::byte* out, size_t most) {
  auto [after_dropped, after_kept] = start(k, n);
  LowEnd end(out, most);
  uint64_t low = 0;
  uint32_t range = 0xffffffff;  // of which a kept position has the lower part
  const auto renormalize = [&] {
    for (; range < kRenormal; range <<= 8) low = end.shift(low);
  };
  const auto drop = [&](Probability& p) {
    const uint32_t bound = (range >> 16) * p.value();
    low += bound;
    range -= bound;
    p.dropped();
    renormalize();
  };
  const auto keep = [&](Probability& p) {
    range = (range >> 16) * p.value();
    p.kept();
    renormalize();
  };
  size_t next = 0;
  for (size_t i = 0; i < k && !end.full(); ++i) {
    if (next > 0 && next == index[i]) {
      keep(after_kept);
    } else {
      if (next > 0) {
        drop(after_kept);
        ++next;
      }
      for (; next < index[i]; ++next) drop(after_dropped);
      keep(after_dropped);
    }
    ++next;
  }
  for (size_t i = 0; i <= kFlushedBytes; ++i) low = end.shift(low);
  return end.full() ? 0 : end.bytes();
}

Status decode_cabac(std::span<const std::byte> in, size_t k, size_t n, uint16_t* index,
                    size_t& used) {
  if (in.size() < kFlushedBytes)
    return error(Code::kCorrupt, "{} bytes are too few for coded positions", in.size());
  auto [after_dropped, after_kept] = start(k, n);
  uint32_t range = 0xffffffff, code = 0;
  size_t at = 0;
  for (; at < kFlushedBytes; ++at) code = code << 8 | std::to_integer<uint32_t>(in[at]);
  // It stays within the range from here on, or would be read as that of other bytes.
  if (code >= range) return error(Code::kCorrupt, "coded positions begin outside of the range");
  bool too_short = false;
  const auto is_kept = [&](Probability& p) {
    const uint32_t bound = (range >> 16) * p.value();
    const bool kept = code < bound;
    if (kept) {
      range = bound;
      p.kept();
    } else {
      code -= bound;
      range -= bound;
      p.dropped();
    }
    for (; range < kRenormal; range <<= 8) {
      too_short = too_short || at == in.size();
      code = code << 8 | (too_short ? 0 : std::to_integer<uint32_t>(in[at++]));
    }
    return kept;
  };
  size_t count = 0, position = 0;
  while (count < k && position < n && !too_short) {
    if (count > 0 && is_kept(after_kept)) {
      index[count++] = static_cast<uint16_t>(position++);
      continue;
    }
    if (count > 0) ++position;
    for (; position < n && !too_short; ++position)
      if (is_kept(after_dropped)) break;
    if (position < n) index[count++] = static_cast<uint16_t>(position++);
  }
  if (count < k || too_short)
    return error(Code::kCorrupt, "{} of {} coded positions below {} in {} bytes", count, k, n,
                 in.size());
  // A writer stops at the low end of the last range.
  if (code != 0)
    return error(Code::kCorrupt, "the end of the coded positions isn't that of a writer");
  used = at;
  return {};
}

}  // namespace tern
