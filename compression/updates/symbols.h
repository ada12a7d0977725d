/// Symbols of an alphabet as bytes of a fixed length: three of them five to a byte, others in whole
/// bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"

namespace tern {

/// Bytes of k symbols.
size_t symbol_bytes(uint32_t alphabet, size_t k);
void write_symbols(const uint16_t* symbols, size_t k, uint32_t alphabet, std::byte* out);
/// Where symbol number k, which begins a byte, goes as a kernel wants it; null for null. Not for
/// three symbols, which no kernel packs.
inline uint8_t* packed_at(std::byte* packed, uint32_t alphabet, size_t k) {
  return packed == nullptr ? nullptr
                           : reinterpret_cast<uint8_t*>(packed + symbol_bytes(alphabet, k));
}
inline const uint8_t* packed_at(const std::byte* packed, uint32_t alphabet, size_t k) {
  return reinterpret_cast<const uint8_t*>(packed + symbol_bytes(alphabet, k));
}
/// Errors: kCorrupt for bits after k symbols, in their last byte, that aren't zero.
Status check_padding(const std::byte* in, size_t k, uint32_t alphabet);
Status check_symbol(uint32_t largest, uint32_t alphabet);
/// Reads symbol_bytes() hostile bytes. Errors: kCorrupt for a symbol beyond the alphabet and for
/// padding that isn't zero.
Status read_symbols(const std::byte* in, size_t k, uint32_t alphabet, uint16_t* symbols);

}  // namespace tern
