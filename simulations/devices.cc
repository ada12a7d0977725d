#include "simulations/devices.h"

#include <cmath>

#include "base/rng.h"

namespace tern {

namespace {

/// 30 years at most, so that no sum of them overflows.
Duration duration_of(double seconds) {
  return Duration(std::llround(std::fmin(seconds, 1e9) * 1e9));
}

}  // namespace

Devices::Devices(const Scenario& scenario)
    : seed_(scenario.seed),
      synchronous_(!scenario.fleet.asynchronous()),
      all_are_counted_(clients_asked(scenario.fleet) == scenario.fleet.cohort &&
                       !scenario.fleet.deadline_seconds),
      drop_out_(scenario.fleet.drop_out),
      uplink_(parse_rate_rule(scenario.fleet.uplink)),
      downlink_(parse_rate_rule(scenario.fleet.downlink)),
      speed_(parse_rate_rule(scenario.fleet.speed)),
      round_trip_(duration_of(scenario.fleet.round_trip_seconds.value_or(0))) {}

bool Devices::take_time() const {
  return uplink_ || downlink_ || speed_ || round_trip_ > Duration{};
}

bool Devices::end_with_the_round() const {
  return synchronous_ && (!take_time() || all_are_counted_);
}

MemoryLink Devices::link(uint32_t client) const {
  return {
      .up_bytes_per_s = uplink_ ? rate_of(*uplink_, Purpose::kUplink, seed_, client) : 0,
      .down_bytes_per_s = downlink_ ? rate_of(*downlink_, Purpose::kDownlink, seed_, client) : 0,
      .round_trip = round_trip_};
}

Duration Devices::training(uint32_t round, uint32_t client, const TrainingPlan& plan,
                           uint64_t examples) const {
  if (!speed_) return {};
  const double samples =
      plan.local_steps > 0 ? static_cast<double>(plan.local_steps) * plan.batch_size
                           : static_cast<double>(plan.local_epochs) * static_cast<double>(examples);
  return duration_of(samples / rate_of(*speed_, Purpose::kSpeed, seed_, client) *
                     drops_out(round, client).value_or(1));
}

std::optional<double> Devices::drops_out(uint32_t round, uint32_t client) const {
  Rng rng(seed_, Purpose::kDropout, round, client);
  if (rng.uniform() >= drop_out_) return std::nullopt;
  return rng.uniform();
}

}  // namespace tern
