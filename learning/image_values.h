/// The numbers that pixels become. For learning/ only.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace tern {

/// The float of each byte value: value / 255, and with `standardize` less the mean of the pixels
/// and over their deviation. Statistics come from counts of the 256 values: exact, and in one fixed
/// order.
std::array<float, 256> pixel_values(const std::vector<uint8_t>& pixels, bool standardize);

/// The values of all pixels.
std::vector<float> to_values(const std::vector<uint8_t>& pixels,
                             const std::array<float, 256>& values);

}  // namespace tern
