/// The run that a coordinator's folder holds, or a new one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/parameter_schema.h"
#include "base/status.h"
#include "config/scenario.h"
#include "coordinator/journal/journal.h"
#include "coordinator/run_replay.h"
#include "coordinator/run_state.h"

namespace tern {

struct OpenRun {
  Journal journal;
  std::unique_ptr<RunState> state;
  ReplayedRun replayed;  ///< without an origin: the run is new
};

struct OpenRunSetup {
  uint32_t clients = 0;
  std::vector<double> uplinks;
  std::span<const float> initial;
  size_t workers = 1;
  ReplayOptions replay = {};
};

/// scenario and schema outlive the state. Errors: those of Journal::open and replay();
/// kInvalidArgument when the journal is of another scenario or another number of clients.
Result<OpenRun> open_run(const std::string& folder, const Scenario& scenario,
                         const ParameterSchema& schema, const OpenRunSetup& setup);

/// --replay: computes every version that the run in `folder` (server.state_dir) has published anew
/// from the updates in its journal. Returns {"run","rounds","first_round","versions","updates",
/// "model":{"version","sha256"},"per_round":[{"round","void","counted":[client...],"sha256"}]}.
/// Errors: as above, and kCorrupt when a version comes out otherwise.
Result<nlohmann::ordered_json> replay_run(const std::string& folder);

}  // namespace tern
