/// The largest components of each matrix, apart from the rest: they travel as two factors, coded by
/// `rotate:1024 | eden:4`, and the chain codes what they leave.
///
/// - Shape: matrices as in layout.h, rank (rows + columns) numbers for each that has more elements.
/// - Error: what the chain loses of the rest. Unbiased where the chain is: both sides know exactly
///   what is sent apart. Before `lowpass` that is the band; of what lies outside, the components
///   hold what they hold.
/// - Cost: 9 rows columns rank multiplications to encode (2 more under error feedback), 1 to
///   decode.
/// - Paper: Horvath & Richtarik 2021, arXiv:2006.11077 (induced compressors: a biased one, then an
///   unbiased one of what it leaves), with PowerSGD's factors (Vogels et al. 2019) as the biased
///   one, from random directions in each frame, so that no sender needs a memory.
/// - Threads: immutable; all memory is the caller's. Nothing here fails: numbers that became too
///   large are refused where the chain reads the rest, or by the frame's norm.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "compression/updates/layout.h"
#include "compression/updates/scratch.h"
#include "compression/updates/stages/power_iteration.h"

namespace tern {

class Principal {
 public:
  explicit Principal(uint32_t rank) : power_(rank) {}

  /// Numbers in the factors of all matrices.
  size_t factor_count(const Layout& layout) const;
  /// Why the stage would change nothing of such an update; empty when it would.
  std::string idle(const Layout& layout) const;
  /// Writes the factors of the main stream x to scratch.component_factors.
  void factorize(std::span<const float> x, const Layout& layout, uint64_t seed,
                 CodecScratch& scratch) const;
  /// x += sign times the matrices that the factors stand for.
  void add(std::span<const float> factors, const Layout& layout, float sign,
           std::span<float> x) const;

 private:
  PowerIteration power_;
};

}  // namespace tern
