/// What partitions draw, and from which distributions. For learning/ only.
#pragma once

#include <cstdint>
#include <span>

#include "base/rng.h"

namespace tern {

/// The `round` of the Rng of a partition's draw. Numbers are pinned: changing one changes every
/// run.
enum class PartitionDraw : uint32_t {
  kOrder = 0,
  kTestOrder = 1,
  kShards = 2,
  kClassShares = 3,
  kSizes = 4,
  kRefill = 5,
  kMix = 6,           ///< the classes of one client under draw:N
  kExamples = 7,      ///< and its examples
  kTestExamples = 8,  ///< for testing
};

/// The logarithm of a Gamma(alpha, 1) variate, by Marsaglia & Tsang 2000. For alpha < 1:
/// Gamma(alpha) = Gamma(alpha + 1) * U^(1/alpha), which is 0 in double for most draws at alpha =
/// 0.01; its logarithm is an ordinary number.
double log_gamma_variate(Rng& rng, double alpha);

/// Turns such logarithms into shares that add up to 1: independent gamma variates of one alpha give
/// a Dirichlet(alpha) vector.
void to_shares(std::span<double> logarithms);

}  // namespace tern
