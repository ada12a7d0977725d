#include "coordinator/selection.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <unordered_set>
#include <utility>

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

std::vector<uint32_t> draw_more(std::span<const uint32_t> free, uint32_t count, uint64_t seed,
                                uint32_t round, uint32_t asked) {
  std::vector<uint32_t> left(free.begin(), free.end()), drawn;
  for (; count > 0; --count) {
    const uint32_t next =
        Rng(seed, Purpose::kSelect, round, ++asked).below(static_cast<uint32_t>(left.size()));
    drawn.push_back(left[next]);
    left.erase(left.begin() + next);
  }
  return drawn;
}

std::vector<uint32_t> draw_some(std::span<const uint32_t> free, uint32_t count, Rng& rng) {
  std::vector<uint32_t> drawn(free.begin(), free.end());
  for (uint32_t i = 0; i < count; ++i)
    std::swap(drawn[i], drawn[i + rng.below(static_cast<uint32_t>(drawn.size()) - i)]);
  drawn.resize(count);
  return drawn;
}

namespace {

/// Sums of a list of weights whose parts change: a binary indexed tree (Fenwick 1994).
class WeightTree {
 public:
  explicit WeightTree(std::span<const uint64_t> weights) : sums_(weights.size() + 1) {
    for (size_t i = 1; i < sums_.size(); ++i) {
      sums_[i] += weights[i - 1];
      const size_t above = i + (i & -i);
      if (above < sums_.size()) sums_[above] += sums_[i];
      total_ += weights[i - 1];
    }
  }
  uint64_t total() const { return total_; }
  /// The place whose weight covers `point` of the total.
  size_t find(uint64_t point) const {
    size_t place = 0;
    for (size_t step = std::bit_floor(sums_.size()); step > 0; step /= 2)
      if (place + step < sums_.size() && sums_[place + step] <= point) {
        place += step;
        point -= sums_[place];
      }
    return place;
  }
  void remove(size_t place, uint64_t weight) {
    total_ -= weight;
    for (size_t i = place + 1; i < sums_.size(); i += i & -i) sums_[i] -= weight;
  }

 private:
  std::vector<uint64_t> sums_;  // sums_[i] of the (i & -i) weights that end with the i-th
  uint64_t total_ = 0;
};

}  // namespace

std::vector<uint32_t> draw_weighted(std::span<const uint32_t> clients,
                                    std::span<const uint64_t> weights, uint32_t count, Rng& rng) {
  WeightTree tree(weights);
  std::vector<uint32_t> drawn;
  for (; count > 0; --count) {
    // Exactly uniform: what is left over of 2^64 is drawn again.
    uint64_t point = rng.next64();
    while (point < -tree.total() % tree.total()) point = rng.next64();
    const size_t place = tree.find(point % tree.total());
    drawn.push_back(clients[place]);
    tree.remove(place, weights[place]);
  }
  return drawn;
}

}  // namespace tern
