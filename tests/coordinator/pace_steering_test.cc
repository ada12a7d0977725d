// After an outage a large fleet comes back in its own time, and not in the moment in which the
// coordinator is there again.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "tests/coordinator/federation.h"

namespace tern {
namespace {

struct Return {
  int peak = 0;        ///< joins in the busiest second
  double seconds = 0;  ///< until the last one
};

/// The coordinator is gone for so long, and all clients lose it in the same moment.
Return after_an_outage(uint32_t clients, uint32_t joins_per_s, Duration outage) {
  Federation run({.clients = clients, .start_when = clients + 1, .joins_per_s = joins_per_s});
  run.add_clients();
  run.start();
  const auto joined = [&] { return run.events.count("client_joined"); };
  run.run_for(std::chrono::seconds(1));
  EXPECT_EQ(joined(), static_cast<int>(clients));
  run.network.set_server_up(false);
  run.coordinator.reset();
  run.run_for(outage);
  run.network.set_server_up(true);
  run.open();
  run.coordinator->start();
  Return back;
  std::vector<int> tenths{joined()};
  while (tenths.back() < 2 * static_cast<int>(clients) && tenths.size() < 3000) {
    run.run_for(std::chrono::milliseconds(100));
    tenths.push_back(joined());
    const size_t second_ago = tenths.size() - std::min<size_t>(tenths.size(), 11);
    back.peak = std::max(back.peak, tenths.back() - tenths[second_ago]);
  }
  EXPECT_EQ(tenths.back(), 2 * static_cast<int>(clients));
  back.seconds = 0.1 * static_cast<double>(tenths.size());
  return back;
}

TEST(PaceSteering, ALargeFleetStaysNearTheRateThatTheCoordinatorWants) {
  const char* wanted = std::getenv("TERN_PACE_CLIENTS");
  const uint32_t clients = wanted != nullptr ? static_cast<uint32_t>(std::atoi(wanted)) : 1000;
  const uint32_t joins = clients / 20;
  for (const int seconds : {1, 60}) {
    const Return steered = after_an_outage(clients, joins, std::chrono::seconds(seconds)),
                 free = after_an_outage(clients, 0, std::chrono::seconds(seconds));
    fmt::print(
        "{} clients, an outage of {} s: at most {} joins a second, all in {:.1f} s; without "
        "pace steering {} and {:.1f} s\n",
        clients, seconds, steered.peak, steered.seconds, free.peak, free.seconds);
    EXPECT_LT(steered.peak, joins + 5 * std::sqrt(joins)) << "after " << seconds << " s";
    if (seconds == 1) {
      EXPECT_LT(10 * steered.peak, free.peak) << "they all come at once otherwise";
    }
  }
}

TEST(PaceSteering, ASmallFleetIsBackAtOnce) {
  EXPECT_LT(after_an_outage(10, 500, std::chrono::seconds(1)).seconds, 3);
}

}  // namespace
}  // namespace tern
