/// One run of a scenario, from its data to its results.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "simulations/client_states.h"
#include "simulations/fleet.h"
#include "simulations/prepare.h"

namespace tern {

struct RunOptions {
  FleetOptions fleet;              ///< only runs in memory can be resumed
  std::string out;                 ///< folder for the results; empty: none are written
  bool resume = false;             ///< go on from the checkpoint in `out`
  uint32_t checkpoint_every = 25;  ///< rounds; 0: only when interrupted
  /// Of what clients remember; the rest is on the disk.
  uint64_t memory_bytes = ClientStates::kMemoryBytes;
  std::string title = "rounds";  ///< of the progress bar
  bool show_progress = true;
};

struct RunResult {
  nlohmann::ordered_json summary;  ///< the object of summary.json
  bool interrupted = false;
  bool resumable = false;  ///< a checkpoint can be gone on with
  std::string warning;     ///< for the user; empty when there is none
};

/// Runs to the end, or to the end of the round in which `stop` becomes true; then writes
/// summary.json, metrics.jsonl, evaluation.json, model.safetensors, scenario.toml and report.html,
/// each by rename. An interrupted run also leaves checkpoint.db, which `resume` goes on from; a
/// finished one doesn't. Errors: kInUse when the folder holds a run or another process uses it,
/// kNoSpace, kIo, kOutOfRange when training diverges, and on resume kNotFound, kCorrupt,
/// kInvalidArgument (another scenario).
Result<RunResult> run_scenario(const PreparedScenario& prepared, const RunOptions& options,
                               const std::atomic<bool>& stop);

}  // namespace tern
