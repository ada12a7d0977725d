#include "simulations/devices.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/rng.h"

namespace tern {

namespace {

/// 30 years at most, so that no sum of them overflows.
Duration duration_of(double seconds) {
  return Duration(std::llround(std::fmin(seconds, 1e9) * 1e9));
}

}  // namespace

Devices::Devices(const Scenario& scenario, DeviceTraces traces)
    : seed_(scenario.seed),
      synchronous_(!scenario.fleet.asynchronous()),
      all_are_counted_(clients_asked(scenario.fleet) == scenario.fleet.cohort &&
                       !scenario.fleet.deadline_seconds && !scenario.fleet.deadline_quantile),
      drop_out_(scenario.fleet.drop_out),
      uplink_(parse_rate_rule(scenario.fleet.uplink)),
      downlink_(parse_rate_rule(scenario.fleet.downlink)),
      speed_(parse_rate_rule(scenario.fleet.speed)),
      round_trip_(duration_of(scenario.fleet.round_trip_seconds.value_or(0))),
      traces_(std::move(traces)) {}

bool Devices::take_time() const {
  return uplink_ || downlink_ || speed_ || round_trip_ > Duration{} || !traces_.devices.empty() ||
         come_and_go();
}

bool Devices::end_with_the_round() const {
  return synchronous_ && (!take_time() || (all_are_counted_ && !come_and_go()));
}

MemoryLink Devices::link(uint32_t client) const {
  if (!traces_.devices.empty()) {
    const DeviceCapacity& device = traces_.devices[client % traces_.devices.size()];
    return {.up_bytes_per_s = device.up_bytes,
            .down_bytes_per_s = device.down_bytes,
            .round_trip = round_trip_};
  }
  return {
      .up_bytes_per_s = uplink_ ? rate_of(*uplink_, Purpose::kUplink, seed_, client) : 0,
      .down_bytes_per_s = downlink_ ? rate_of(*downlink_, Purpose::kDownlink, seed_, client) : 0,
      .round_trip = round_trip_};
}

double Devices::samples_per_s(uint32_t client) const {
  if (!traces_.devices.empty()) return traces_.devices[client % traces_.devices.size()].samples;
  return speed_ ? rate_of(*speed_, Purpose::kSpeed, seed_, client) : 0;
}

TrainingTime Devices::training(const RoundPlan& plan, uint32_t client, uint64_t examples,
                               TimePoint now) const {
  TrainingTime time;
  const TrainingPlan& amount = plan.training;
  if (const double speed = samples_per_s(client); speed > 0) {
    const double samples =
        amount.local_steps > 0
            ? static_cast<double>(amount.local_steps) * amount.batch_size
            : static_cast<double>(amount.local_epochs) * static_cast<double>(examples);
    time.duration = duration_of(samples / speed * drops_out(plan.round, client).value_or(1));
  }
  time.drops_out = drops_out(plan.round, client).has_value();
  if (const Availability* there = availability(client)) {
    const Duration left = duration_of(there->stays(seconds(now)));
    if (left < time.duration || left == Duration{}) time = {left, true};
  }
  return time;
}

const Availability* Devices::availability(uint32_t client) const {
  if (traces_.availabilities.empty()) return nullptr;
  return &traces_.availabilities[client % traces_.availabilities.size()];
}

TimePoint Devices::next_arrival(uint32_t clients, TimePoint now) const {
  double wait = std::numeric_limits<double>::infinity();
  for (uint32_t client = 0; client < clients; ++client)
    if (const Availability* when = availability(client))
      wait = std::fmin(wait, when->comes(seconds(now)));
  return now + std::max(duration_of(wait), Duration(1));
}

std::vector<uint32_t> Devices::available(uint32_t clients, TimePoint now) const {
  std::vector<uint32_t> there;
  for (uint32_t client = 0; client < clients; ++client)
    if (const Availability* when = availability(client);
        when == nullptr || when->stays(seconds(now)) > 0)
      there.push_back(client);
  return there;
}

std::optional<double> Devices::drops_out(uint32_t round, uint32_t client) const {
  Rng rng(seed_, Purpose::kDropout, round, client);
  if (rng.uniform() >= drop_out_) return std::nullopt;
  return rng.uniform();
}

}  // namespace tern
