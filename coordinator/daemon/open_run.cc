#include "coordinator/daemon/open_run.h"

#include <filesystem>
#include <utility>

#include "config/deployment.h"
#include "config/load.h"
#include "config/model_card.h"
#include "coordinator/daemon/initial_model.h"
#include "coordinator/views/run_folder.h"

namespace tern {

using nlohmann::ordered_json;

Result<OpenRun> open_run(const std::string& folder, const Scenario& scenario,
                         const ParameterSchema& schema, const OpenRunSetup& setup) {
  TERN_TRY(Journal journal, Journal::open(folder));
  TERN_TRY(std::unique_ptr<RunState> state, RunState::make({.scenario = scenario,
                                                            .schema = schema,
                                                            .clients = setup.clients,
                                                            .uplinks = setup.uplinks,
                                                            .initial = setup.initial,
                                                            .workers = setup.workers}));
  Result<ReplayedRun> replayed = replay(journal, *state, setup.replay);
  if (!replayed) return std::move(replayed).error().at({.file = folder});
  if (replayed->origin) {
    const RunOrigin& origin = *replayed->origin;
    if (origin.config_sha256 != config_sha256(scenario))
      return Status(Code::kInvalidArgument,
                    "the run in this folder is of another scenario, see scenario.toml there; only "
                    "[server] and [client] may change",
                    {.file = folder});
    if (origin.clients != setup.clients)
      return Status(Code::kInvalidArgument,
                    fmt::format("the run in this folder has {} clients, the list has {}",
                                origin.clients, setup.clients),
                    {.file = folder});
  }
  return OpenRun{std::move(journal), std::move(state), *std::move(replayed)};
}

Result<ordered_json> replay_run(const std::string& folder) {
  const std::string journal = fmt::format("{}/{}", folder, kJournalFolder);
  if (!std::filesystem::exists(journal))
    return Status(Code::kNotFound, "there is no journal in this folder", {.file = folder});
  TERN_TRY(const LoadedScenario loaded, load_with_overrides(folder + "/scenario.toml", {}));
  const Scenario& scenario = loaded.scenario;
  TERN_TRY(const TaskShape shape, task_shape(scenario));
  TERN_TRY(const ParameterSchema schema, model_schema(scenario.model, shape));
  TERN_TRY(const std::vector<float> initial, read_initial(scenario.model.initial, schema));
  ordered_json rounds = ordered_json::array();
  ReplayOptions options{.from_start = true};
  options.round_ended = [&](const ReplayedRound& round) {
    rounds.push_back(
        {{"round", round.round},
         {"void", !round.version.has_value()},
         {"counted", round.counted},
         {"asked_in", round.asked_in},
         {"sha256", round.version ? ordered_json(to_hex(round.version->sha256)) : nullptr}});
  };
  // Chains come from the journal, so what is known of links doesn't matter.
  TERN_TRY(const OpenRun run, open_run(journal, scenario, schema,
                                       {.clients = scenario.fleet.clients,
                                        .uplinks = {},
                                        .initial = initial,
                                        .workers = 1,
                                        .replay = options}));
  if (!run.replayed.origin)
    return Status(Code::kNotFound, "the journal is empty: no run has begun", {.file = journal});
  if (const auto& open = run.replayed.open)
    rounds.push_back({{"round", open->round},
                      {"void", open->closed && open->closed->is_void},
                      {"counted", open->counted},
                      {"asked_in", open->asked_in},
                      {"sha256", nullptr}});
  return ordered_json{{"run", fmt::format("{:016x}", run.replayed.origin->run_id)},
                      {"rounds", run.replayed.ended_rounds},
                      {"versions", run.replayed.versions},
                      {"updates", run.replayed.updates},
                      {"model",
                       {{"version", run.state->model().version()},
                        {"sha256", to_hex(run.state->model().sha256())}}},
                      {"per_round", rounds}};
}

}  // namespace tern
