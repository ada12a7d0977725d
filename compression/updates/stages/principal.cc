#include "compression/updates/stages/principal.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/factor_code.h"
#include "compression/updates/stages/scale.h"

namespace tern {

namespace {

// From random directions: after four steps the error is within a few percent of the least.
constexpr int kSteps = 4;

// So many binary places are left free for sums of squares.
constexpr int kSpare = 20;

/// A multiple of the step, rounded up from 0.6 of one on: what is nearer to the middle than that
/// costs more bits than it mends.
float to_grid(float x, float step) {
  const float steps = std::min(std::floor(std::fabs(x) / step + 0.4f), float{kLargestFactor});
  return steps > 0 ? std::copysign(steps * step, x) : 0.0f;
}

}  // namespace

size_t Principal::factor_count(const Layout& layout) const {
  size_t elements = 0;
  for (const Piece& piece : layout.main)
    if (power_.shortens(piece)) elements += power_.elements(piece);
  return elements;
}

void Principal::column_ends(const Layout& layout, std::vector<size_t>& ends) const {
  ends.clear();
  size_t end = 0;
  for (const Piece& piece : layout.main) {
    if (!power_.shortens(piece)) continue;
    for (size_t r = 0; r < power_.rank(); ++r) ends.push_back(end += piece.rows);
    for (size_t r = 0; r < power_.rank(); ++r) ends.push_back(end += piece.columns);
  }
}

std::string Principal::idle(const Layout& layout) const {
  if (factor_count(layout) > 0) return {};
  return fmt::format("no weight is larger than its {} principal components", power_.rank());
}

void Principal::factorize(std::span<const float> x, const Layout& layout, uint64_t seed,
                          CodecScratch& scratch) const {
  scratch.component_factors.resize(factor_count(layout));
  float* p = scratch.component_factors.data();
  for (size_t i = 0; i < layout.main.size(); ++i) {
    const Piece& piece = layout.main[i];
    if (!power_.shortens(piece)) continue;
    float* const q = p + power_.rank() * piece.rows;
    const size_t length = power_.rank() * piece.columns;
    CodecScratch::make_room(scratch.directions, length);
    std::ranges::fill(scratch.directions, 0.0f);
    Rng rng(seed, Purpose::kLowRank, 0, 0, static_cast<uint32_t>(i));
    power_.fill_empty(scratch.directions.data(), piece.columns, rng);
    for (int step = 0; step < kSteps; ++step) {
      if (step > 0) std::copy_n(q, length, scratch.directions.data());
      power_.scale(scratch.directions.data(), piece.columns);
      power_.step(x.data() + piece.at, piece, scratch.directions.data(), p, q);
    }
    power_.balance(piece, p, q);
    p = q + length;
  }
}

/// The step that all matrices share, by their elements' root mean square.
Principal::Grid Principal::grid_of(std::span<const float> x, const Layout& layout) const {
  double squares = 0, elements = 0;
  for (const Piece& piece : layout.main) {
    if (!power_.shortens(piece)) continue;
    squares += kernels().sum_squares(x.data() + piece.at, piece.size());
    elements += static_cast<double>(piece.size());
  }
  if (squares == 0) return {};
  const double rms = std::sqrt(squares / elements);
  // A component that held all of a matrix would have factors of the root of its elements' size.
  const auto step = static_cast<float>(step_ * std::sqrt(rms));
  return {.step = scale_value(scale_nearest(step)),
          .unit = std::ldexp(1.0, -std::ilogb(rms) - kSpare)};
}

/// One component of a matrix, which it is taken off. False where one of its factors is all zeros on
/// the grid; q then holds anything. `from` has room for a row.
bool Principal::fit_one(float* matrix, const Piece& piece, const Grid& grid, Rng& rng, float* from,
                        float* p, float* q) const {
  const size_t m = piece.rows, n = piece.columns;
  PowerIteration(1).fill_empty(q, n, rng);
  double length = std::sqrt(kernels().sum_squares(q, n));
  for (int i = 0; i < kSteps && length > 0; ++i) {
    for (size_t j = 0; j < n; ++j) from[j] = static_cast<float>(q[j] / length);
    std::fill_n(q, n, 0.0f);
    for (size_t row = 0; row < m; ++row) {  // M^T M of the last one, a row while it is in the cache
      const double along = kernels().quick_dot(matrix + row * n, from, n);
      kernels().add_scaled(static_cast<float>(along * grid.unit), matrix + row * n, n, q);
    }
    length = std::sqrt(kernels().sum_squares(q, n));
  }
  if (!(length > 0) || !std::isfinite(length)) return false;
  // The square of the component's length by now. Its factors' roots of mean squares are to be
  // alike.
  const double sigma = std::sqrt(length / grid.unit);
  const double rms = std::sqrt(sigma / std::sqrt(static_cast<double>(m) * static_cast<double>(n)));
  const double factor = rms * std::sqrt(static_cast<double>(n)) / length;
  for (size_t j = 0; j < n; ++j) q[j] = to_grid(static_cast<float>(q[j] * factor), grid.step);
  const double squares = kernels().sum_squares(q, n);
  if (squares == 0) return false;
  // Near one, so that products with it are no larger than the elements.
  const float to_one = std::ldexp(1.0f, -std::ilogb(std::sqrt(squares)));
  for (size_t j = 0; j < n; ++j) from[j] = q[j] * to_one;
  bool any = false;
  for (size_t row = 0; row < m; ++row) {
    // The best left factor for the right one as it will be decoded.
    const double best = kernels().quick_dot(matrix + row * n, from, n) / (squares * to_one);
    p[row] = to_grid(static_cast<float>(best), grid.step);
    any = any || p[row] != 0;
    kernels().add_scaled(-p[row], q, n, matrix + row * n);
  }
  return any;
}

float Principal::fit(std::span<float> x, const Layout& layout, uint64_t seed,
                     CodecScratch& scratch) const {
  column_ends(layout, scratch.component_ends);
  CodecScratch::make_room(scratch.component_factors, factor_count(layout));
  std::ranges::fill(scratch.component_factors, 0.0f);
  const Grid grid = grid_of(x, layout);
  if (grid.step == 0) return 0;
  float* p = scratch.component_factors.data();
  for (size_t i = 0; i < layout.main.size(); ++i) {
    const Piece& piece = layout.main[i];
    if (!power_.shortens(piece)) continue;
    float* const q = p + power_.rank() * piece.rows;
    CodecScratch::make_room(scratch.directions, piece.columns);
    Rng rng(seed, Purpose::kLowRank, 0, 0, static_cast<uint32_t>(i));
    for (size_t r = 0; r < power_.rank(); ++r) {
      float* const right = q + r * piece.columns;
      if (fit_one(x.data() + piece.at, piece, grid, rng, scratch.directions.data(),
                  p + r * piece.rows, right))
        continue;
      std::fill_n(right, piece.columns, 0.0f);
      break;  // the next one would find the same again
    }
    p += power_.elements(piece);
  }
  return grid.step;
}

void Principal::add(std::span<const float> factors, const Layout& layout, float sign,
                    std::span<float> x) const {
  const float* p = factors.data();
  for (const Piece& piece : layout.main) {
    if (!power_.shortens(piece)) continue;
    power_.add_product(p, p + power_.rank() * piece.rows, piece, sign, x.data() + piece.at);
    p += power_.elements(piece);
  }
}

}  // namespace tern
