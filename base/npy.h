/// Arrays in NumPy's .npy format (numpy.lib.format 1.0, 2.0 and 3.0: a magic, a Python dictionary
/// as text, raw data): what Python users have at hand. Only float32, little-endian, in C order, the
/// last index varying fastest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"

namespace tern {

/// A checked view of a file: the bytes must outlive it.
struct NpyArray {
  std::vector<int64_t> shape;       ///< empty for a scalar, which has one element
  size_t elements = 0;              ///< the product of the dimensions
  std::span<const std::byte> data;  ///< exactly `elements` floats, at any address

  std::vector<float> values() const;
};

/// Reads hostile bytes. The dictionary may have its three keys in any order and spacing; the data
/// have to fill the rest of the file exactly.
/// Errors: kCorrupt (not a .npy file, cut off, malformed, more than 32 dimensions or 2^40 elements,
/// data of another length than the shape says), kUnsupported (other elements, Fortran order, a
/// newer format: the message says what was found and what is expected). Cost: O(header); allocates
/// at most 4 KiB, whatever the file says.
Result<NpyArray> parse_npy(std::span<const std::byte> file);

/// The file's bytes, format 1.0, with the data at a multiple of 64 as NumPy aligns them.
/// Errors: kInvalidArgument when `values` are not as many as the shape says, or parse_npy would not
/// read such a shape.
Result<std::vector<std::byte>> to_npy(std::span<const int64_t> shape,
                                      std::span<const float> values);

}  // namespace tern
