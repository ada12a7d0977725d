/// The IDX format of MNIST and its kin: two zero bytes, a type, the number of dimensions, the
/// dimensions as big-endian 32-bit numbers, then the values. Plain or gzip-compressed; the content
/// decides, not the name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "learning/dataset.h"

namespace tern {

struct IdxBytes {
  std::vector<uint32_t> shape;
  std::vector<uint8_t> values;  ///< the product of shape
};

/// Reads a file of unsigned bytes (type 0x08) with exactly `dimensions` dimensions. Files are
/// hostile: memory is bounded by a small multiple of what the file really holds, whatever its
/// header says. Errors: kNotFound, kIo; kCorrupt for a wrong magic, a file shorter or longer than
/// its header says, or damaged gzip data.
Result<IdxBytes> read_idx(const std::string& path, int dimensions);

/// Reads {train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz] from a folder. Pixels become x / 255,
/// then, if `standardize`, (x - mean) / deviation of all training pixels. Shape {1, height, width};
/// classes = largest training label + 1. Errors: as read_idx; kInvalidArgument when images and
/// labels don't match or a test label has no training example.
Result<DataBundle> load_idx(const std::string& folder, bool standardize);

}  // namespace tern
