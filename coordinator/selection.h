/// Who is asked in a round.
#pragma once

#include <cstdint>
#include <vector>

namespace tern {

/// `count` different clients of 0..clients-1, uniformly, in increasing order. Memory and time
/// O(count), whatever the size of the fleet (Floyd's sampling, Bentley & Floyd 1987). count <=
/// clients. Depends on (seed, round) alone.
std::vector<uint32_t> select_uniform(uint32_t clients, uint32_t count, uint64_t seed,
                                     uint32_t round);

}  // namespace tern
