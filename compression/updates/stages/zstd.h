/// Zstandard over the byte planes of floating-point values: all lowest bytes, ..., all highest
/// ones. Only the planes of sign and exponent shrink, so it pays for bfloat16 and float32 values
/// that are alike in size, and for little else.
///
/// - Layout: one Zstandard frame (RFC 8878) with its content size, without checksum and dictionary.
/// - Deviation: the frame's bytes depend on the version of libzstd; what they decode to doesn't.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"

namespace tern {

class CodecScratch;

/// Encodes k values of `width` bytes at `values` into `out`; returns the bytes written, or 0 when
/// that would be `limit` bytes or more.
size_t encode_zstd(const std::byte* values, size_t k, size_t width, size_t limit,
                   CodecScratch& scratch, std::byte* out);
/// Reads exactly k values from hostile bytes. Errors: kCorrupt.
Status decode_zstd(std::span<const std::byte> in, size_t k, size_t width, CodecScratch& scratch,
                   std::byte* values);

}  // namespace tern
