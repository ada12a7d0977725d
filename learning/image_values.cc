#include "learning/image_values.h"

#include <algorithm>
#include <cmath>

namespace tern {

std::array<float, 256> pixel_values(const std::vector<uint8_t>& pixels, bool standardize) {
  double mean = 0;
  double deviation = 1;
  if (standardize) {
    std::array<uint64_t, 256> counts{};
    for (const uint8_t pixel : pixels) ++counts[pixel];
    const auto n = static_cast<double>(pixels.size());
    for (int v = 0; v < 256; ++v) mean += static_cast<double>(counts[v]) * (v / 255.0);
    mean /= n;
    double variance = 0;
    for (int v = 0; v < 256; ++v) {
      const double distance = v / 255.0 - mean;
      variance += static_cast<double>(counts[v]) * distance * distance;
    }
    // Pixels that are all equal become 0, not 0/0.
    if (counts[pixels[0]] != pixels.size()) deviation = std::sqrt(variance / n);
  }
  std::array<float, 256> values;
  for (int v = 0; v < 256; ++v) values[v] = static_cast<float>((v / 255.0 - mean) / deviation);
  return values;
}

std::vector<float> to_values(const std::vector<uint8_t>& pixels,
                             const std::array<float, 256>& values) {
  std::vector<float> result(pixels.size());
  std::ranges::transform(pixels, result.begin(), [&](uint8_t pixel) { return values[pixel]; });
  return result;
}

}  // namespace tern
