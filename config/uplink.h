/// What the links of a simulated fleet carry upwards, fleet.uplink_bytes_per_s: the same for all
/// clients, or drawn for each of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tern {

/// Bytes a second; the logarithm is uniform between the two.
struct UplinkRule {
  double low = 0, high = 0;  ///< 1 <= low <= high <= 1e15; equal: no draw
};

/// "125000" or "loguniform:1e4..1e6".
std::optional<UplinkRule> parse_uplink(std::string_view text);
/// parse_uplink of it gives the same rule.
std::string uplink_text(const UplinkRule& rule);

/// Whole bytes a second of a client's link; depends on rule, seed and client number alone. Whole,
/// so that a last bit of this machine's exp() decides nothing.
double uplink_of(const UplinkRule& rule, uint64_t seed, uint32_t client);

}  // namespace tern
