#include "simulations/rate_preview.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "compression/updates/rate_control.h"
#include "coordinator/rate_controller.h"
#include "coordinator/selection.h"

namespace tern {

using nlohmann::ordered_json;

namespace {

/// Longer runs show no more.
constexpr uint32_t kMostRounds = 1000;

struct Use {
  uint64_t updates = 0;
  double slowest = 0, fastest = 0;  // bytes a second of who got it
};

}  // namespace

Result<ordered_json> preview_rates(const PreparedScenario& prepared) {
  const Scenario& scenario = prepared.scenario;
  if (!scenario.compression.rate_control.on()) return ordered_json(nullptr);
  TERN_TRY(RateController rates,
           RateController::make(scenario, prepared.data->schema, scenario.fleet.clients,
                                uplinks_of(prepared)));
  CodecScratch scratch;
  const uint32_t rounds = std::min(scenario.rounds, kMostRounds);
  std::map<std::string, Use> uses;
  std::map<std::string, uint64_t> reasons;
  double deadlines = 0, slowest_sum = 0, bytes = 0, updates = 0;
  for (uint32_t round = 1; round <= rounds; ++round) {
    const std::vector<uint32_t> asked =
        select_uniform(scenario.fleet.clients, static_cast<uint32_t>(clients_asked(scenario.fleet)),
                       scenario.seed, round);
    TERN_TRY(const RoundChains chains, rates.begin_round(round, asked, scratch));
    deadlines += chains.deadline_seconds.value_or(0);
    double slowest = 0;
    for (const auto& [client, given] : chains.given) {
      Use& use = uses[chains.chains[given.chain].spec()];
      ++reasons[std::string(name(given.reason))];
      ++use.updates;
      ++updates;
      bytes += given.bytes;
      const std::optional<double> link = rates.uplink(client);
      if (!link) continue;
      use.slowest = use.slowest == 0 ? *link : std::min(use.slowest, *link);
      use.fastest = std::max(use.fastest, *link);
      slowest = std::max(slowest, given.bytes / *link);
    }
    slowest_sum += slowest;
  }
  // As it is after a warm-up.
  TERN_TRY(const std::vector<Rung> ladder, rates.ladder(scenario.rounds, scratch));
  ordered_json rungs = ordered_json::array();
  for (const Rung& rung : ladder) {
    const Use use = uses[rung.codec.spec()];
    const bool linked = use.slowest > 0;
    rungs.push_back({{"chain", rung.codec.spec()},
                     {"bytes", rung.bytes},
                     {"nmse", rung.nmse},
                     {"error_in_mean", error_in_mean(rung, scenario.fleet.cohort)},
                     {"updates", use.updates},
                     {"slowest_link", linked ? ordered_json(use.slowest) : ordered_json(nullptr)},
                     {"fastest_link", linked ? ordered_json(use.fastest) : ordered_json(nullptr)}});
  }
  const bool links = rates.uplink(0).has_value();
  const bool timed = scenario.compression.rate_control.needs_links();
  return ordered_json{
      {"rounds", rounds},
      {"ladder", std::move(rungs)},
      {"reasons", reasons},
      {"mean_bytes", bytes / std::max(updates, 1.0)},
      {"mean_deadline", timed ? ordered_json(deadlines / rounds) : ordered_json(nullptr)},
      {"mean_slowest", links ? ordered_json(slowest_sum / rounds) : ordered_json(nullptr)}};
}

std::string preview_table(const ordered_json& preview) {
  if (preview.is_null()) return {};
  std::string text = fmt::format(
      "\n# Rate control over {} rounds, if all updates were equally large:\n"
      "# {:<42} {:>9} {:>10} {:>9} {:>8}  {}\n",
      preview["rounds"].get<uint32_t>(), "chain", "bytes", "NMSE", "in mean", "updates",
      "links, bytes/s");
  for (const ordered_json& rung : preview["ladder"]) {
    const bool linked = rung["slowest_link"].is_number();
    text += fmt::format("# {:<42} {:>9.0f} {:>10.4g} {:>9.3g} {:>8}  {}\n",
                        rung["chain"].get<std::string>(), rung["bytes"].get<double>(),
                        rung["nmse"].get<double>(), rung["error_in_mean"].get<double>(),
                        rung["updates"].get<uint64_t>(),
                        linked ? fmt::format("{:.0f} to {:.0f}", rung["slowest_link"].get<double>(),
                                             rung["fastest_link"].get<double>())
                               : "");
  }
  std::string reasons;
  for (const auto& [reason, count] : preview["reasons"].items())
    reasons += fmt::format("{}{} {}", reasons.empty() ? "" : ", ", reason, count.get<uint64_t>());
  text += fmt::format("# reasons: {}\n", reasons);
  if (preview["mean_slowest"].is_number())
    text += fmt::format("# a round's slowest upload takes {:.4g} s on average\n",
                        preview["mean_slowest"].get<double>());
  return text;
}

}  // namespace tern
