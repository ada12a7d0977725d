#include "coordinator/strategies/staleness.h"

#include <cmath>

namespace tern {

double staleness_factor(uint32_t versions, double exponent) {
  double root = 1.0 + versions, power = 1;
  const double whole = std::floor(exponent);
  for (double i = 0; i < whole; ++i) power *= root;
  double left = exponent - whole;
  // Digit by digit: a square root is rounded as IEEE 754 says, std::pow as its library likes.
  for (int place = 0; place < 20 && left > 0; ++place) {
    root = std::sqrt(root);
    left *= 2;
    if (left < 1) continue;
    left -= 1;
    power *= root;
  }
  return 1 / power;
}

}  // namespace tern
