#include "compression/updates/stages/power_iteration.h"

#include <algorithm>
#include <cmath>

#include "compression/updates/kernels/kernels.h"

namespace tern {

namespace {

// What is left of a column after the others are taken out counts as rounding below this share.
constexpr double kIndependent = 1e-5;

void multiply(float* x, size_t n, float factor) {
  for (size_t i = 0; i < n; ++i) x[i] *= factor;
}

}  // namespace

void PowerIteration::fill_empty(float* q, size_t n, Rng& rng) const {
  for (size_t r = 0; r < rank_; ++r) {
    float* column = q + r * n;
    if (kernels().max_abs(column, n) > 0) continue;
    for (size_t j = 0; j < n; ++j)
      column[j] = static_cast<float>(static_cast<int32_t>(rng.next())) * 0x1p-31f;
  }
}

void PowerIteration::scale(float* q, size_t n) const {
  for (size_t r = 0; r < rank_; ++r) {
    const float largest = kernels().max_abs(q + r * n, n);
    // Not below 2^-100, unless all of it is zero: so orthonormalize() leaves it.
    if (largest > 0) multiply(q + r * n, n, std::ldexp(1.0f, -std::ilogb(largest)));
  }
}

void PowerIteration::step(const float* m, const Piece& piece, const float* start, float* p,
                          float* q) const {
  for (size_t row = 0; row < piece.rows; ++row)
    for (size_t r = 0; r < rank_; ++r)
      p[r * piece.rows + row] = static_cast<float>(
          kernels().dot(m + row * piece.columns, start + r * piece.columns, piece.columns));
  orthonormalize(p, piece.rows);
  std::fill_n(q, rank_ * piece.columns, 0.0f);
  for (size_t row = 0; row < piece.rows; ++row)
    for (size_t r = 0; r < rank_; ++r)
      kernels().add_scaled(p[r * piece.rows + row], m + row * piece.columns, piece.columns,
                           q + r * piece.columns);
}

void PowerIteration::balance(const Piece& piece, float* p, float* q) const {
  const double shape =
      std::sqrt(static_cast<double>(piece.rows) / static_cast<double>(piece.columns));
  for (size_t r = 0; r < rank_; ++r, p += piece.rows, q += piece.columns) {
    const double length = std::sqrt(kernels().sum_squares(q, piece.columns));
    if (length == 0) continue;
    const int half = std::ilogb(length * shape) >> 1;
    multiply(p, piece.rows, std::ldexp(1.0f, half));
    multiply(q, piece.columns, std::ldexp(1.0f, -half));
  }
}

void PowerIteration::add_product(const float* p, const float* q, const Piece& piece, float sign,
                                 float* m) const {
  for (size_t row = 0; row < piece.rows; ++row, m += piece.columns)
    for (size_t r = 0; r < rank_; ++r)
      kernels().add_scaled(sign * p[r * piece.rows + row], q + r * piece.columns, piece.columns, m);
}

/// Gram-Schmidt, each column twice against those before it.
void PowerIteration::orthonormalize(float* p, size_t m) const {
  for (size_t r = 0; r < rank_; ++r) {
    float* column = p + r * m;
    const double before = std::sqrt(kernels().sum_squares(column, m));
    for (int pass = 0; pass < 2; ++pass)
      for (size_t other = 0; other < r; ++other) {
        const double shared = kernels().dot(column, p + other * m, m);
        kernels().add_scaled(static_cast<float>(-shared), p + other * m, m, column);
      }
    const double after = std::sqrt(kernels().sum_squares(column, m));
    const bool empty = !(after > kIndependent * before) || after < 0x1p-100;
    for (size_t i = 0; i < m; ++i)
      column[i] = empty ? 0.0f : static_cast<float>(static_cast<double>(column[i]) / after);
  }
}

}  // namespace tern
