/// The largest components of each matrix, apart from the rest: they travel as two factors, and the
/// chain codes what they leave. With `principal` the factors are coded by `rotate:1024 | eden:4`.
/// With `components` they are whole multiples of a step, the same for a frame, and coded as in
/// factor_code.h. Each component is then one of what those before it have left as they will be
/// decoded, and its left factor the best one for its decoded right one: what one loses the next can
/// take up.
///
/// - Shape: matrices as in layout.h, rank (rows + columns) numbers for each that has more elements.
/// - Step: the argument times the square root of the elements' root mean square; factors of
///   balanced length share it, so that smaller components get fewer bits (reverse water-filling,
///   with the root of what it asks for).
/// - Error: what the chain loses of the rest. Unbiased where the chain is: both sides know exactly
///   what is sent apart. Before `lowpass` that is the band; of what lies outside, the components
///   hold what they hold.
/// - Cost: 9 rows columns rank multiplications to encode, 10 on a grid (2 more under error
///   feedback), 1 to decode.
/// - Paper: Horvath & Richtarik 2021, arXiv:2006.11077 (induced compressors: a biased one, then an
///   unbiased one of what it leaves), with PowerSGD's factors (Vogels et al. 2019) as the biased
///   one, from random directions in each frame, so that no sender needs a memory. Components
///   quantized one after the other with the rest handed on: as in matching pursuit (Goyal et al.
///   1998), for matrices.
/// - Threads: immutable; all memory is the caller's. Nothing here fails: numbers that became too
///   large are refused where the chain reads the rest, or by the frame's norm.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/rng.h"
#include "compression/updates/layout.h"
#include "compression/updates/scratch.h"
#include "compression/updates/stages/power_iteration.h"

namespace tern {

class Principal {
 public:
  /// `step` 0: the factors are coded by a chain. Else they lie on a grid.
  explicit Principal(uint32_t rank, float step = 0) : power_(rank), step_(step) {}

  bool on_grid() const { return step_ > 0; }
  /// Numbers in the factors of all matrices.
  size_t factor_count(const Layout& layout) const;
  /// Where each of their columns ends among them.
  void column_ends(const Layout& layout, std::vector<size_t>& ends) const;
  /// Why the stage would change nothing of such an update; empty when it would.
  std::string idle(const Layout& layout) const;
  /// Writes the factors of the main stream x to scratch.component_factors.
  void factorize(std::span<const float> x, const Layout& layout, uint64_t seed,
                 CodecScratch& scratch) const;
  /// Likewise on a grid, each component of what those before it left; leaves in x what none holds.
  /// Sets scratch.component_ends, too. Returns the grid's step, which is a bfloat16.
  float fit(std::span<float> x, const Layout& layout, uint64_t seed, CodecScratch& scratch) const;
  /// x += sign times the matrices that the factors stand for.
  void add(std::span<const float> factors, const Layout& layout, float sign,
           std::span<float> x) const;

 private:
  struct Grid {
    float step = 0;
    double unit = 0;  ///< a power of two that keeps squares of the elements from overflowing
  };

  Grid grid_of(std::span<const float> x, const Layout& layout) const;
  bool fit_one(float* matrix, const Piece& piece, const Grid& grid, Rng& rng, float* from, float* p,
               float* q) const;

  PowerIteration power_;
  float step_;
};

}  // namespace tern
