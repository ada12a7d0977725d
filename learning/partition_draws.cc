#include "learning/partition_draws.h"

#include <algorithm>
#include <cmath>

namespace tern {

double log_gamma_variate(Rng& rng, double alpha) {
  // 1 - uniform() lies in (0, 1].
  const double boost = alpha < 1 ? std::log(1 - rng.uniform()) / alpha : 0;
  const double d = (alpha < 1 ? alpha + 1 : alpha) - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = rng.normal();
    const double v = std::pow(1 + c * x, 3);
    if (v <= 0) continue;
    const double log_u = std::log(1 - rng.uniform());
    if (log_u < 0.5 * x * x + d - d * v + d * std::log(v)) return std::log(d * v) + boost;
  }
}

void to_shares(std::span<double> logarithms) {
  const double largest = std::ranges::max(logarithms);
  double sum = 0;
  for (double& share : logarithms) {
    share = std::exp(share - largest);
    sum += share;
  }
  for (double& share : logarithms) share /= sum;
}

}  // namespace tern
