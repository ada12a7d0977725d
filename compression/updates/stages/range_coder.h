/// Bits one after another, each with the probability that those before it say: a range coder
/// (Martin 1979) with adaptive probabilities, as in CABAC (Marpe et al. 2003). Threads: none of
/// these is shared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"

namespace tern {

/// How likely a bit is to be set, in units of 2^-16; never 0 or 1. The mean of two that move by
/// 1/32 and 1/128 of their distance with every bit.
class AdaptiveBit {
 public:
  static constexpr uint32_t kOne = 1u << 16;

  explicit AdaptiveBit(uint32_t start = kOne / 2) : quick_(start), slow_(start) {}

  uint32_t value() const { return (quick_ + slow_) / 2; }
  void was(bool set) {
    if (set) {
      quick_ += (kOne - quick_) >> kQuick;
      slow_ += (kOne - slow_) >> kSlow;
    } else {
      quick_ -= quick_ >> kQuick;
      slow_ -= slow_ >> kSlow;
    }
  }

 private:
  static constexpr int kQuick = 5, kSlow = 7;

  uint32_t quick_, slow_;
};

/// Writes at most `most` bytes, and then none; what is then coded is lost.
class RangeEncoder {
 public:
  RangeEncoder(std::byte* out, size_t most) : out_(out), most_(most) {}

  void put(bool set, AdaptiveBit& bit) {
    put(set, bit.value());
    bit.was(set);
  }
  /// Each bit of `value` as likely as not.
  void put_even(uint32_t value, int bits) {
    while (bits-- > 0) put((value >> bits & 1) != 0, AdaptiveBit::kOne / 2);
  }
  bool full() const { return bytes_ > most_; }
  /// Writes what is left; returns all bytes, or 0 where there were too many.
  size_t finish() {
    for (size_t i = 0; i <= kFlushedBytes; ++i) shift();
    return full() ? 0 : bytes_;
  }

  static constexpr size_t kFlushedBytes = 4;
  static constexpr uint32_t kRenormal = 1u << 24;  ///< a range below it takes in the next byte

 private:
  void put(bool set, uint32_t probability) {
    const uint32_t bound = (range_ >> 16) * probability;  // a set bit has the lower part
    if (set) {
      range_ = bound;
    } else {
      low_ += bound;
      range_ -= bound;
    }
    for (; range_ < kRenormal; range_ <<= 8) shift();
  }
  /// Moves the top byte of `low_` out, whose bit 32 is a carry. The byte and those of 0xff behind
  /// it wait until no carry can come.
  void shift() {
    if (low_ < 0xff000000u || low_ >> 32 != 0) {
      const auto carry = static_cast<uint8_t>(low_ >> 32);
      // Before the first byte there is nothing to carry into.
      if (begun_) write(static_cast<uint8_t>(top_ + carry));
      for (; waiting_ > 0; --waiting_) write(static_cast<uint8_t>(0xff + carry));
      top_ = static_cast<uint8_t>(low_ >> 24);
      begun_ = true;
    } else {
      ++waiting_;
    }
    low_ = (low_ & 0x00ffffff) << 8;
  }
  void write(uint8_t byte) {
    if (bytes_ < most_) out_[bytes_] = std::byte{byte};
    ++bytes_;
  }

  std::byte* out_;
  size_t most_, bytes_ = 0;
  uint64_t low_ = 0;
  uint32_t range_ = 0xffffffff;
  uint8_t top_ = 0;
  bool begun_ = false;
  size_t waiting_ = 0;
};

/// Reads hostile bytes. Behind their end there are zeros, and too_short() says so.
class RangeDecoder {
 public:
  /// Errors: kCorrupt for bytes that no encoder begins with.
  static Result<RangeDecoder> begin(std::span<const std::byte> in) {
    if (in.size() < RangeEncoder::kFlushedBytes)
      return error(Code::kCorrupt, "{} bytes are too few for coded bits", in.size());
    RangeDecoder decoder(in);
    for (; decoder.at_ < RangeEncoder::kFlushedBytes; ++decoder.at_)
      decoder.code_ = decoder.code_ << 8 | std::to_integer<uint32_t>(in[decoder.at_]);
    // It stays within the range from here on, or would be read as that of other bytes.
    if (decoder.code_ >= decoder.range_)
      return error(Code::kCorrupt, "coded bits begin outside of the range");
    return decoder;
  }

  bool get(AdaptiveBit& bit) {
    const bool set = get(bit.value());
    bit.was(set);
    return set;
  }
  uint32_t get_even(int bits) {
    uint32_t value = 0;
    while (bits-- > 0) value = value << 1 | (get(AdaptiveBit::kOne / 2) ? 1u : 0u);
    return value;
  }
  bool too_short() const { return too_short_; }
  /// Whether an encoder would have stopped here: at the low end of the last range.
  bool at_end() const { return !too_short_ && code_ == 0; }
  size_t used() const { return at_; }

 private:
  explicit RangeDecoder(std::span<const std::byte> in) : in_(in) {}

  bool get(uint32_t probability) {
    const uint32_t bound = (range_ >> 16) * probability;
    const bool set = code_ < bound;
    if (set) {
      range_ = bound;
    } else {
      code_ -= bound;
      range_ -= bound;
    }
    for (; range_ < RangeEncoder::kRenormal; range_ <<= 8) {
      too_short_ = too_short_ || at_ == in_.size();
      code_ = code_ << 8 | (too_short_ ? 0 : std::to_integer<uint32_t>(in_[at_++]));
    }
    return set;
  }

  std::span<const std::byte> in_;
  size_t at_ = 0;
  uint32_t range_ = 0xffffffff, code_ = 0;
  bool too_short_ = false;
};

}  // namespace tern
