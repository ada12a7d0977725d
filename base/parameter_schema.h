/// Names and shapes of a model's parameters, in the order in which they lie in one flat float32
/// stream. Coordinator, client and every frame agree on a model by the schema's 64-bit hash.
/// Conventions of the whole code base: float32, row-major, little-endian; a size may be 0.
/// Immutable: share freely.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace tern {

/// Of a model, and of a tensor in a file.
inline constexpr uint64_t kMaxElements = uint64_t{1} << 40;
/// Dimensions of a tensor in a file: NumPy 1's limit.
inline constexpr size_t kMaxRank = 32;

/// What a tensor is for: codecs may treat matrices and vectors differently.
enum class TensorKind : uint8_t { kWeight = 0, kBias = 1, kNorm = 2 };

struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
  TensorKind kind = TensorKind::kWeight;

  /// The product of the dimensions; 1 for a scalar (no dimensions).
  size_t elements() const;
};

class ParameterSchema {
 public:
  ParameterSchema() = default;
  /// Errors: kInvalidArgument for a repeated or empty name, a negative dimension, or more than 2^40
  /// elements.
  static Result<ParameterSchema> make(std::vector<TensorSpec> tensors);
  /// One vector named "update": for callers to whom tensors mean nothing. At most 2^40 elements.
  static ParameterSchema flat(size_t elements);
  /// A schema of which no more is known than this: it has no tensors().
  static ParameterSchema of_hash(uint64_t hash, size_t elements);

  const std::vector<TensorSpec>& tensors() const { return tensors_; }
  /// Where the tensor begins in the flat stream, in elements.
  size_t offset(size_t tensor) const { return offsets_[tensor]; }
  size_t elements() const { return elements_; }
  /// First 8 bytes, little-endian, of SHA-256 over names, shapes and kinds.
  uint64_t hash() const { return hash_; }

 private:
  std::vector<TensorSpec> tensors_;
  std::vector<size_t> offsets_;
  size_t elements_ = 0;
  uint64_t hash_ = 0;
};

}  // namespace tern
