// After an outage a large fleet comes back in its own time, and not in the moment in which the
// coordinator is there again.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

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
  EXPECT_TRUE(run.run_until([&] { return joined() == static_cast<int>(clients); }));
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
  constexpr uint32_t kClients = 10'000, kJoins = 500;
  for (const int seconds : {1, 5, 60}) {
    const Return steered = after_an_outage(kClients, kJoins, std::chrono::seconds(seconds)),
                 free = after_an_outage(kClients, 0, std::chrono::seconds(seconds));
    fmt::print(
        "{} clients, an outage of {} s: at most {} joins a second, all in {:.1f} s; without "
        "pace steering {} and {:.1f} s\n",
        kClients, seconds, steered.peak, steered.seconds, free.peak, free.seconds);
    EXPECT_LT(steered.peak, 1.25 * kJoins) << "after " << seconds << " s";
    EXPECT_LT(steered.peak, free.peak) << "after " << seconds << " s";
  }
}

TEST(PaceSteering, ASmallFleetIsBackAtOnce) {
  EXPECT_LT(after_an_outage(10, 500, std::chrono::seconds(1)).seconds, 3);
}

}  // namespace
}  // namespace tern
