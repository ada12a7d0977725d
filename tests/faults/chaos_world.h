// One fleet in one thread, on a virtual clock, with everything going wrong that a seed draws:
// packets that are lost with their connection, that come twice, late, and overtake those of other
// clients; coordinator and clients that are killed in the middle of anything and come back; a disk
// that refuses a write; a wall clock that jumps whenever the coordinator starts. The code is the
// daemons': coordinator, journal, recovery, session, frames.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/status.h"

namespace tern {

/// How a seed ended, and what happened until then.
struct Outcome {
  std::string hash;         ///< of the journal's model
  std::string served_hash;  ///< of the coordinator's at the end
  uint64_t trace = 0;
  uint64_t lost = 0, doubled = 0;
  bool replays = false, partial = false, keyframes = false;
  double virtual_seconds = 0;
  uint64_t coordinator_kills = 0, client_kills = 0, disk_faults = 0;
  uint64_t late = 0, void_rounds = 0;
};

/// The seed's fleet, its journals in `folder`, which is removed at the end. A process may run one
/// at a time: a full disk is a limit of the process.
Outcome run_seed(uint64_t seed, const std::string& folder);

/// The same fleet when nothing goes wrong.
Outcome run_undisturbed(bool keyframes, const std::string& folder);

/// Called when a fleet cannot go on, in the middle of it; the process ends when it returns.
extern std::function<void(const Status&)> when_a_seed_cannot_go_on;

}  // namespace tern
