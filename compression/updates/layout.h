/// Where an update's tensors lie in the streams that a chain codes: the *main* stream, which goes
/// through all stages, and the *small* one, which `small16` sends as bfloat16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/parameter_schema.h"

namespace tern {

/// A tensor. Matrices keep their first dimension as rows and all others as columns (a convolution's
/// weights: one row for each output channel); vectors and scalars are one column.
struct Piece {
  size_t update_at = 0;  ///< where it begins in the update
  size_t at = 0;         ///< where it begins in its stream
  size_t rows = 0;
  size_t columns = 0;

  size_t size() const { return rows * columns; }
};

struct Layout {
  std::vector<Piece> main;
  std::vector<Piece> small;
  size_t main_elements = 0;
  size_t small_elements = 0;
};

/// Deals the schema's tensors to the streams: to `small` those that aren't weights or have fewer
/// than `small_below` elements (0: none). Reuses the layout's memory.
void lay_out(const ParameterSchema& schema, size_t small_below, Layout& layout);

/// stream[piece.at ...] = update[piece.update_at ...] for all pieces.
void gather(std::span<const Piece> pieces, std::span<const float> update, std::span<float> stream);

}  // namespace tern
