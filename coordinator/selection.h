/// Who is asked in a round.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

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

/// Which of `free` clients, in increasing order, is asked after `asked` others in the middle of a
/// round. Depends on its arguments alone.
uint32_t draw_next(uint32_t free, uint64_t seed, uint32_t round, uint32_t asked);

}  // namespace tern
