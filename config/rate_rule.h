/// What the devices of a simulated fleet do in a second (fleet.uplink_bytes_per_s and the like):
/// the same for all clients, or drawn for each of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/rng.h"

namespace tern {

/// Bytes or samples a second; the logarithm is uniform between the two.
struct RateRule {
  double low = 0, high = 0;  ///< 1 <= low <= high <= 1e15; equal: no draw
};

/// "125000" or "loguniform:1e4..1e6".
std::optional<RateRule> parse_rate_rule(std::string_view text);
/// parse_rate_rule of it gives the same rule.
std::string rate_text(const RateRule& rule);

/// A client's, whole; depends on rule, purpose, seed and client number alone. Whole, so that a last
/// bit of this machine's exp() decides nothing.
double rate_of(const RateRule& rule, Purpose purpose, uint64_t seed, uint32_t client);

}  // namespace tern
