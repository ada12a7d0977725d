/// The devices of a simulated fleet on its virtual clock: what their links carry, how fast they
/// train, and when they can be asked. The scenario says it for all (fleet.uplink_bytes_per_s,
/// downlink_bytes_per_s, samples_per_s, round_trip), drawn for each client from the seed, or traces
/// say it of each device (device_traces.h). What isn't given takes no time. A device drops out of a
/// task with probability fleet.drop_out, at a uniform moment of its training, and when it can't be
/// asked any more.
///
/// The clock charges the lengths of the packets that really travel. Coding is not charged: it is a
/// few hundredths of training (docs/performance.md).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "client/client_work.h"
#include "config/rate_rule.h"
#include "config/scenario.h"
#include "proto/net/memory_transport.h"
#include "simulations/device_traces.h"

namespace tern {

/// Cost: a draw for each question. Threads: share freely.
class Devices {
 public:
  Devices(const Scenario& scenario, DeviceTraces traces);

  /// Something takes time.
  bool take_time() const;
  /// Every task is over when its round is, and the next round begins at once whoever is there: a
  /// checkpoint at a round's end has everything.
  bool end_with_the_round() const;
  MemoryLink link(uint32_t client) const;
  /// How long a client trains that holds `examples`; until it gives up, if it does.
  TrainingTime training(const RoundPlan& plan, uint32_t client, uint64_t examples,
                        TimePoint now) const;

  /// Somebody can't always be asked.
  bool come_and_go() const { return !traces_.availabilities.empty(); }
  /// When one of 0..clients-1 comes next; later than `now`.
  TimePoint next_arrival(uint32_t clients, TimePoint now) const;
  /// The clients of 0..clients-1 that can be asked, in increasing order.
  std::vector<uint32_t> available(uint32_t clients, TimePoint now) const;

 private:
  double samples_per_s(uint32_t client) const;
  /// The share of its training after which it drops out of its task of this round, if it does.
  std::optional<double> drops_out(uint32_t round, uint32_t client) const;
  const Availability* availability(uint32_t client) const;

  uint64_t seed_;
  bool synchronous_, all_are_counted_;
  double drop_out_;
  std::optional<RateRule> uplink_, downlink_, speed_;
  Duration round_trip_{};
  DeviceTraces traces_;
};

}  // namespace tern
