/// Draws of clients without replacement. selector.h has the rules that use them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/rng.h"

namespace tern {

/// `count` different clients of 0..clients-1, uniformly, in increasing order. Memory and time
/// O(count), whatever the size of the fleet (Floyd's sampling, Bentley & Floyd 1987). count <=
/// clients. Depends on (seed, round) alone.
std::vector<uint32_t> select_uniform(uint32_t clients, uint32_t count, uint64_t seed,
                                     uint32_t round);

/// The same among the clients that are there (`available`, in increasing order): whoever of
/// select_uniform's is missing is replaced by a draw from the others. Fewer than `count` when not
/// enough are there. When all are, the two agree.
std::vector<uint32_t> select_available(std::span<const uint32_t> available, uint32_t clients,
                                       uint32_t count, uint64_t seed, uint32_t round);

/// `count` different ones of `free`, which is in increasing order, after `asked` others in a round;
/// in the order drawn. count <= free.size(). Cost: O(count x free). Depends on its arguments alone.
std::vector<uint32_t> draw_more(std::span<const uint32_t> free, uint32_t count, uint64_t seed,
                                uint32_t round, uint32_t asked);

/// The same from a stream of the caller's. Cost: O(free).
std::vector<uint32_t> draw_some(std::span<const uint32_t> free, uint32_t count, Rng& rng);

/// `count` different ones of `clients`, one after the other, each with a probability in proportion
/// to its weight among those that are left; in the order drawn. All weights at least 1, their sum
/// below 2^63, count <= clients.size(). Cost: O(clients + count x log clients).
std::vector<uint32_t> draw_weighted(std::span<const uint32_t> clients,
                                    std::span<const uint64_t> weights, uint32_t count, Rng& rng);

}  // namespace tern
