/// The few directions that hold most of a matrix, by steps of the block power iteration
/// (subspace iteration; Golub & Van Loan, Matrix Computations, 8.2).
#pragma once

#include <cstddef>

#include "base/rng.h"
#include "compression/updates/layout.h"

namespace tern {

/// M (m x n) is nearly P Q^T, P (m x rank) and Q (n x rank), both stored column by column.
class PowerIteration {
 public:
  explicit PowerIteration(size_t rank) : rank_(rank) {}

  size_t rank() const { return rank_; }
  /// Whether factors are fewer numbers than the matrix.
  bool shortens(const Piece& piece) const { return elements(piece) < piece.size(); }
  /// Of P and Q together.
  size_t elements(const Piece& piece) const { return rank_ * (piece.rows + piece.columns); }

  /// Random directions for the columns of Q that have none.
  void fill_empty(float* q, size_t n, Rng& rng) const;
  /// Multiplies each column by a power of two, so that its largest magnitude is in [1, 2) and
  /// products with M don't overflow.
  void scale(float* q, size_t n) const;
  /// One step from `start`, the Q of before: P with orthonormal columns, and Q = M^T P. A column
  /// without a direction of its own becomes zero. `start` may not be `q`. Cost: 2 m n rank
  /// multiplications.
  void step(const float* m, const Piece& piece, const float* start, float* p, float* q) const;
  /// Makes the values of P and Q about equally large, by powers of two: the product stays as it is.
  void balance(const Piece& piece, float* p, float* q) const;
  /// M += sign P Q^T: component after component, each product and each sum rounded to float32.
  void add_product(const float* p, const float* q, const Piece& piece, float sign, float* m) const;

 private:
  void orthonormalize(float* p, size_t m) const;

  size_t rank_;
};

}  // namespace tern
