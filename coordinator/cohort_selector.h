/// Who is asked, by the rule of fleet.selection, and when a round closes by
/// fleet.deadline_quantile: both from what updates have shown of their clients.
///
/// - uniform: everybody equally often.
/// - weighted: by the examples that a client says it has; its updates then all weigh the same (Li
/// et
///   al. 2020, arXiv:1907.02189, scheme II, but without replacement).
/// - round-robin: in an order drawn once. Who isn't there is passed over until the order comes
/// round.
/// - power of choice (Cho, Wang & Joshi 2020, arXiv:2010.01243): of candidates drawn uniformly (the
///   paper: by examples) those with the largest loss. The loss is that of a client's last counted
///   update, as in the paper's variant without further messages; clients never asked come first.
/// - oort (Lai et al. 2021, OSDI): a share of the round, 90 % at first and 20 % in the end,
/// explores
///   clients never asked; the others are drawn by utility among the best: examples x mean loss (the
///   paper has the root of the mean squared loss of examples, which clients don't say), scaled to
///   0..1 with the largest twentieth cut off, plus what long neglect adds, times (T / seconds)^2
///   for clients slower than T. T is the median of the known times: there is no pacer, and nobody
///   is left out for having taken part often.
///
/// Under the last two, loss or gain of a client are divided by 1 + the tasks in a row that came to
/// nothing: refused, failed, or late. One that never had an update counted has the others' mean.
///
/// What a client says of itself steers weighted, power of choice and oort: docs/schedules.md has
/// what follows from that. Memory: a record for each client counted. Threads: one at a time.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "config/scenario.h"
#include "config/selection_rule.h"
#include "proto/training.h"

namespace tern {

/// Of a client that was asked.
struct ClientExperience {
  uint32_t round = 0;     ///< in which it was last heard of
  uint32_t misses = 0;    ///< tasks in a row, up to the last, that weren't counted
  uint32_t examples = 0;  ///< of its last counted update; 0: there is none
  double mean_loss = 0;
  double seconds = 0;  ///< from its last counted plan to the update, or at least; 0: not known
};
using ClientExperiences = std::map<uint32_t, ClientExperience>;
/// To the last bit. Reading throws what nlohmann::json throws.
nlohmann::ordered_json to_json(const ClientExperiences& experiences);
ClientExperiences experiences_from_json(const nlohmann::ordered_json& json);

class CohortSelector {
 public:
  CohortSelector(const Scenario& scenario, uint32_t clients);

  /// What a client says that it holds; for the rule `weighted`.
  void announced(uint32_t client, uint32_t examples);
  /// An update of a task of `round` was counted, `seconds` after its plan left, if that is known.
  void counted(uint32_t client, uint32_t round, const TrainReport& report,
               std::optional<double> seconds);
  /// A task ended without being counted.
  void missed(uint32_t client, uint32_t round);
  /// A round has closed without the client, so long after it began.
  void late(uint32_t client, uint32_t round, double seconds);
  /// Whether any of this matters.
  bool remembers() const { return rule_.learns() || quantile_; }

  /// `count` different clients of `free` (in increasing order; without it all clients), or as many
  /// as there are, in increasing order. `asked` others were asked in this round before. Depends on
  /// the arguments and on what was said above alone. Cost: O(count) when uniform and everybody is
  /// free, O(clients) for the other rules.
  std::vector<uint32_t> select(const std::optional<std::vector<uint32_t>>& free, uint32_t count,
                               uint32_t round, uint32_t asked = 0) const;
  /// After how long the round closes, if the scenario says so and the times of as many clients are
  /// known as a round asks. Who has missed three tasks in a row isn't waited for.
  std::optional<Duration> deadline() const;

  const ClientExperiences& state() const { return known_; }
  void restore(ClientExperiences known) { known_ = std::move(known); }

 private:
  using Clients = std::vector<uint32_t>;
  Clients weighted(const Clients& free, uint32_t count, uint32_t round, uint32_t asked) const;
  Clients round_robin(const Clients& free, uint32_t count, uint32_t round, uint32_t asked) const;
  Clients power_of_choice(const Clients& free, uint32_t count, uint32_t round,
                          uint32_t asked) const;
  Clients oort(const Clients& free, uint32_t count, uint32_t round, uint32_t asked) const;
  double gain(const ClientExperience& known, double otherwise) const;
  double mean_gain() const;
  std::vector<double> utilities(std::span<const uint32_t> clients, uint32_t round) const;

  SelectionRule rule_;
  uint64_t seed_;
  uint32_t clients_, asked_a_round_;
  std::optional<double> quantile_;
  std::vector<uint32_t> examples_;  // by client, as far as announced; weighted
  std::vector<uint32_t> place_;     // of each client in the order; round-robin
  ClientExperiences known_;
};

}  // namespace tern
