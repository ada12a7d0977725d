/// Range asymmetric numeral systems over a chunk's symbols: each takes log2(1/frequency) bits, with
/// frequencies of the chunk itself, rounded to multiples of 2^-12.
///
/// - Bits: within 2 % of the symbols' entropy plus the table of 12 bits a symbol between the lowest
///   and the highest that occur, and 16 bytes of final states.
/// - Layout: lowest symbol, highest symbol (16 bits each); nothing more if they are the same. Then
///   their frequencies, 12 bits each; four 32-bit states; 16-bit words in the order of decoding.
///   Symbol i belongs to state i mod 4.
/// - Paper: Duda 2013, arXiv:1311.2540; interleaving as in Giesen 2014, arXiv:1402.3392.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"

namespace tern {

class CodecScratch;

/// Encodes k symbols below 4,096 into `out`; returns the bytes written, or 0 when that would be
/// `limit` bytes or more.
size_t encode_rans(const uint16_t* symbols, size_t k, size_t limit, CodecScratch& scratch,
                   std::byte* out);
/// Reads k symbols below `alphabet` from all of the hostile bytes. Errors: kCorrupt.
Status decode_rans(std::span<const std::byte> in, size_t k, uint32_t alphabet,
                   CodecScratch& scratch, uint16_t* symbols);

}  // namespace tern
