/// How much an update counts that began from an older version.
///   factor = (1 + versions)^-exponent, the polynomial of Xie et al. 2019 (FedAsync,
///   arXiv:1903.03934), which FedBuff takes with 1/2 (Nguyen et al. 2022, arXiv:2106.06639).
/// The update is scaled and keeps its weight, as there: a round of stale updates is a smaller step.
/// Exact arithmetic of IEEE 754 only, so that all machines get the same bits: the exponent is cut
/// off after 20 binary places. 1 for an update of the newest version. Threads: pure.
#pragma once

#include <cstdint>

namespace tern {

/// `exponent` in [0, 8].
double staleness_factor(uint32_t versions, double exponent);

}  // namespace tern
