/// Reading bits, least significant first, at any position of a byte buffer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.h"

namespace tern {

constexpr size_t bytes_of_bits(size_t bits) { return (bits + 7) / 8; }

/// Up to 57 bits from position `at`; zeros past the end.
inline uint64_t bits_at(std::span<const std::byte> in, size_t at) {
  const size_t byte = at / 8;
  if (byte >= in.size()) return 0;
  return load_low(in.data() + byte, std::min<size_t>(8, in.size() - byte)) >> (at % 8);
}

/// True when the bits from `end` to the end of its byte are zero: padding that a frame may have.
inline bool padding_is_zero(const std::byte* in, size_t end) {
  return end % 8 == 0 || static_cast<uint8_t>(in[end / 8]) >> (end % 8) == 0;
}

}  // namespace tern
