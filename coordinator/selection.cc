#include "coordinator/selection.h"

#include <algorithm>
#include <iterator>
#include <unordered_set>

#include "base/rng.h"

namespace tern {

std::vector<uint32_t> select_uniform(uint32_t clients, uint32_t count, uint64_t seed,
                                     uint32_t round) {
  Rng rng(seed, Purpose::kSelect, round);
  std::unordered_set<uint32_t> chosen;
  chosen.reserve(count);
  for (uint32_t top = clients - count; top < clients; ++top) {
    const uint32_t drawn = rng.below(top + 1);
    if (!chosen.insert(drawn).second) chosen.insert(top);
  }
  std::vector<uint32_t> cohort(chosen.begin(), chosen.end());
  std::ranges::sort(cohort);
  return cohort;
}

std::vector<uint32_t> select_available(std::span<const uint32_t> available, uint32_t clients,
                                       uint32_t count, uint64_t seed, uint32_t round) {
  std::vector<uint32_t> cohort, others;
  const std::vector<uint32_t> wanted = select_uniform(clients, count, seed, round);
  std::ranges::set_intersection(wanted, available, std::back_inserter(cohort));
  std::ranges::set_difference(available, cohort, std::back_inserter(others));
  Rng(seed, Purpose::kSubstitute, round).shuffle(std::span(others));
  others.resize(std::min(others.size(), count - cohort.size()));
  cohort.insert(cohort.end(), others.begin(), others.end());
  std::ranges::sort(cohort);
  return cohort;
}

uint32_t draw_next(uint32_t free, uint64_t seed, uint32_t round, uint32_t asked) {
  return Rng(seed, Purpose::kSelect, round, asked + 1).below(free);
}

}  // namespace tern
