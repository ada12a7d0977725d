/// A run's state at the end of a round, as one file that is whole or not there. A run resumed from
/// it ends with the same bits as one that was never interrupted. Layout: "TRNCKPT3", length of the
/// JSON (8), JSON (scalars and the lengths of what follows), raw arrays, SHA-256.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "coordinator/views/metrics.h"
#include "simulations/fleet.h"

namespace tern {

/// What a run must have in common with the one that it goes on with.
struct RunIdentity {
  std::string config_sha256;
  std::string input_sha256;
  std::string environment;  ///< versions of what decides the bits of training
};

struct Checkpoint {
  RunIdentity identity;
  FleetState fleet;
  RunTotals totals;
  std::vector<nlohmann::ordered_json> rows;  ///< of metrics.jsonl
  WorkSeconds seconds{};                     ///< of the workers so far
  double wall_seconds = 0;
};

/// Errors: kNoSpace, kIo. Size and extra memory: the model, the server's residual, the kept deltas
/// and every client's residual.
Status write_checkpoint(const std::string& path, const Checkpoint& checkpoint);
/// Errors: kNotFound, kIo, kCorrupt (damaged or another format).
Result<Checkpoint> read_checkpoint(const std::string& path);

}  // namespace tern
