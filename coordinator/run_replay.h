/// A run as its journal tells it. Recovery goes on from the last saved state; --replay computes
/// every version anew from the first record that is kept, and holds each against what was
/// published. Threads: one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/status.h"
#include "coordinator/journal/journal.h"
#include "coordinator/rate_controller.h"
#include "coordinator/run_records.h"
#include "coordinator/run_state.h"

namespace tern {

/// A round as far as the journal knows of it.
struct ReplayedRound {
  uint32_t round = 0;
  RoundChains chains;              ///< of those who were asked when it began
  std::vector<uint32_t> asked;     ///< clients, in order
  std::vector<uint32_t> counted;   ///< clients, in order
  std::vector<uint32_t> asked_in;  ///< the round of each one's task
  std::optional<ClosedRecord> closed;
  std::optional<VersionRecord> version;
  bool ended = false;
};

struct ReplayedRun {
  std::optional<RunOrigin> origin;    ///< none in an empty journal
  uint32_t ended_rounds = 0;          ///< the last round that is over
  std::optional<ReplayedRound> open;  ///< the one after it, if it has begun
  TaskFates fates;
  OpenTasks tasks;                            ///< that are open
  std::vector<nlohmann::ordered_json> notes;  ///< of the rounds that are over, as far as kept
  nlohmann::ordered_json last_notes;
  uint64_t updates = 0, versions = 0;  ///< that were computed again
  uint64_t bytes_since_state = 0;      ///< of frames
};

struct ReplayOptions {
  bool from_start = false;  ///< not from the last saved state
  /// Called for each round that is over.
  std::function<void(const ReplayedRound&)> round_ended;
};

/// Applies the journal's records to a new `state`, of which it uses one worker. Errors: kCorrupt
/// for a damaged journal, or one that another scenario or program leads to other versions with;
/// they name the row.
Result<ReplayedRun> replay(Journal& journal, RunState& state, const ReplayOptions& options);

}  // namespace tern
