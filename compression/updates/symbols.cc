#include "compression/updates/symbols.h"

#include <algorithm>
#include <bit>

#include "compression/updates/bit_reader.h"
#include "compression/updates/kernels/kernels.h"

namespace tern {

namespace {

constexpr size_t kPerByte = 5;  // 3^5 = 243

int bits_of(uint32_t alphabet) { return std::bit_width(alphabet - 1); }

void write_threes(const uint16_t* symbols, size_t k, std::byte* out) {
  for (size_t i = 0; i < k; i += kPerByte) {
    unsigned packed = 0;
    for (size_t j = std::min(i + kPerByte, k); j-- > i;) packed = packed * 3 + symbols[j];
    *out++ = static_cast<std::byte>(packed);
  }
}

Status read_threes(const std::byte* in, size_t k, uint16_t* symbols) {
  for (size_t i = 0; i < k; i += kPerByte) {
    auto packed = static_cast<unsigned>(*in++);
    for (size_t j = i; j < std::min(i + kPerByte, k); ++j, packed /= 3)
      symbols[j] = static_cast<uint16_t>(packed % 3);
    if (packed != 0) return error(Code::kCorrupt, "a byte holds no five ternary values");
  }
  return {};
}

}  // namespace

size_t symbol_bytes(uint32_t alphabet, size_t k) {
  if (alphabet == 3) return (k + kPerByte - 1) / kPerByte;
  return bytes_of_bits(k * static_cast<size_t>(bits_of(alphabet)));
}

void write_symbols(const uint16_t* symbols, size_t k, uint32_t alphabet, std::byte* out) {
  if (alphabet == 3) return write_threes(symbols, k, out);
  kernels().pack(symbols, k, bits_of(alphabet), reinterpret_cast<uint8_t*>(out));
}

Status read_symbols(const std::byte* in, size_t k, uint32_t alphabet, uint16_t* symbols) {
  if (alphabet == 3) return read_threes(in, k, symbols);
  TERN_CHECK_OK(check_padding(in, k, alphabet));
  kernels().unpack(reinterpret_cast<const uint8_t*>(in), k, bits_of(alphabet), symbols);
  if (std::has_single_bit(alphabet)) return {};
  uint16_t largest = 0;
  for (size_t i = 0; i < k; ++i) largest = std::max(largest, symbols[i]);
  return check_symbol(largest, alphabet);
}

Status check_padding(const std::byte* in, size_t k, uint32_t alphabet) {
  if (padding_is_zero(in, k * static_cast<size_t>(bits_of(alphabet)))) return {};
  return error(Code::kCorrupt, "the padding after the values isn't zero");
}

Status check_symbol(uint32_t largest, uint32_t alphabet) {
  if (largest < alphabet) return {};
  return error(Code::kCorrupt, "a symbol {} of an alphabet of {}", largest, alphabet);
}

}  // namespace tern
