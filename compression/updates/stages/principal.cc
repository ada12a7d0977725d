#include "compression/updates/stages/principal.h"

#include <fmt/format.h>

#include <algorithm>

namespace tern {

namespace {

// From random directions: after four steps the error is within a few percent of the least.
constexpr int kSteps = 4;

}  // namespace

size_t Principal::factor_count(const Layout& layout) const {
  size_t elements = 0;
  for (const Piece& piece : layout.main)
    if (power_.shortens(piece)) elements += power_.elements(piece);
  return elements;
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
