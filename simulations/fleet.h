/// A coordinator and its clients in one process. The protocol is that of the daemons: the same
/// RoundMachine, the same SessionMachine, every update and delta through real frames and parts.
/// What the fleet adds is the driver: it carries out the machines' actions on a worker pool and
/// hands the answers back in an order that the seed decides, so that the result doesn't depend on
/// which worker was faster.
///
/// One copy of each version is decoded, by the client's code from the coordinator's frames, and
/// shared by all clients that hold the version: they would hold the same bits. Each client is
/// charged its own missing deltas or snapshot.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/event.h"
#include "base/status.h"
#include "client/client_store.h"
#include "coordinator/strategies/fedavg.h"
#include "coordinator/versions.h"
#include "simulations/evaluation.h"
#include "simulations/prepare.h"
#include "simulations/work_clock.h"

namespace tern {

/// Everything that a fleet needs to go on from the end of a round.
struct FleetState {
  uint32_t round = 0;  ///< the last one that ended
  VersionsState model;
  ServerOptimizerState optimizer;
  std::map<uint32_t, ClientState> clients;
};

class Fleet {
 public:
  /// Called at the end of each round, after its evaluation if there was one; an error ends the run.
  using RoundHook = std::function<Status(uint32_t round, const Evaluation*)>;

  /// `sink` outlives the fleet. Errors: those of the model and the codecs.
  static Result<std::unique_ptr<Fleet>> make(const PreparedScenario& prepared, size_t workers,
                                             EventSink& sink);
  virtual ~Fleet() = default;

  /// Goes on from a saved state. Errors: kCorrupt.
  virtual Status restore(FleetState state) = 0;
  /// Runs to the last round, or to the end of the round in which `stop` becomes true. Gives whether
  /// it was stopped. Events: round_started, download_sent, update_sent, update_counted,
  /// update_refused, task_failed, round_closed or round_void, version_published, model_evaluated,
  /// run_finished. Errors: kOutOfRange when training diverges, and those of the hook.
  virtual Result<bool> run(const std::atomic<bool>& stop, const RoundHook& after_round) = 0;

  virtual uint32_t round() const = 0;
  virtual const VersionedModel& model() const = 0;
  virtual const ParameterSchema& schema() const = 0;
  /// A copy of the state at the end of a round.
  virtual FleetState state() const = 0;
  /// Busy and idle seconds of the workers so far; between rounds only.
  virtual WorkSeconds seconds() const = 0;
};

}  // namespace tern
