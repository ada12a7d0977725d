/// The devices of a simulated fleet on its virtual clock: what their links carry and how fast they
/// train, as the scenario says (fleet.uplink_bytes_per_s, downlink_bytes_per_s, samples_per_s,
/// round_trip), drawn for each client from the seed. What isn't given takes no time. A device drops
/// out of a task with probability fleet.drop_out, at a uniform moment of its training.
///
/// The clock charges the lengths of the packets that really travel. Coding is not charged: it is a
/// few hundredths of training (docs/performance.md).
#pragma once

#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "config/rate_rule.h"
#include "config/scenario.h"
#include "proto/net/memory_transport.h"
#include "proto/training.h"

namespace tern {

/// Cost: a draw for each question. Threads: share freely.
class Devices {
 public:
  explicit Devices(const Scenario& scenario);

  /// Something takes time.
  bool take_time() const;
  /// Every task is over when its round is, so that a checkpoint at a round's end has everything.
  bool end_with_the_round() const;
  MemoryLink link(uint32_t client) const;
  /// How long a client trains that holds `examples`; until it gives up, if it does.
  Duration training(uint32_t round, uint32_t client, const TrainingPlan& plan,
                    uint64_t examples) const;
  /// The share of its training after which it drops out of its task of this round, if it does.
  std::optional<double> drops_out(uint32_t round, uint32_t client) const;

 private:
  uint64_t seed_;
  bool synchronous_, all_are_counted_;
  double drop_out_;
  std::optional<RateRule> uplink_, downlink_, speed_;
  Duration round_trip_{};
};

}  // namespace tern
