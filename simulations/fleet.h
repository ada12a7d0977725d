/// A coordinator and its clients in one process: the daemons' Coordinator and ClientSession over a
/// transport in memory on a virtual clock, or over encrypted sockets in real time. What the fleet
/// adds is the world around them: workers with a trainer each, clients that come into being when
/// they are first asked, and one store for what clients remember.
///
/// One copy of each version is decoded, by the client's code from the coordinator's frames, and
/// shared by all clients that hold the version: they would hold the same bits. Each client
/// downloads its own missing deltas or snapshot.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/event.h"
#include "base/status.h"
#include "base/work_clock.h"
#include "client/client_store.h"
#include "coordinator/cohort_selector.h"
#include "coordinator/rate_controller.h"
#include "coordinator/strategies/fedavg.h"
#include "coordinator/versions.h"
#include "coordinator/views/evaluation.h"
#include "simulations/prepare.h"
#include "simulations/work_place.h"

namespace tern {

/// What a fleet needs to go on from the end of a round, beside what its clients remember.
struct FleetState {
  uint32_t round = 0;  ///< the last one that ended
  Duration time{};     ///< on the virtual clock
  VersionsState model;
  ServerOptimizerState optimizer;
  RateState rate;
  ClientExperiences experiences;
};

enum class FleetTransport {
  kMemory,  ///< virtual time; a run is a function of its scenario
  kZmq      ///< CURVE over loopback in real time: deadlines are real, and where over-selection lets
            ///< time decide who is counted, so does the model
};

struct FleetOptions {
  size_t workers = 1;
  /// Of other processes; each has a thread here that waits for it, beside the workers.
  std::vector<std::shared_ptr<WorkPlace>> elsewhere;
  FleetTransport transport = FleetTransport::kMemory;
  /// When more than so many clients are connected at the end of a round, those that wait for
  /// nothing leave; who is asked comes back. A connected one takes some kilobytes. Only in memory,
  /// in synchronous rounds whose devices take no time: elsewhere a newcomer is later than who
  /// stayed.
  size_t most_connected = 256;
};

class Fleet {
 public:
  /// Called at the end of each round, after its evaluation if there was one; an error ends the run.
  using RoundHook = std::function<Status(uint32_t round, const Evaluation*)>;

  /// `memory`, of what the clients remember, and `sink` outlive the fleet. Errors: those of the
  /// model and the codecs.
  static Result<std::unique_ptr<Fleet>> make(const PreparedScenario& prepared,
                                             const FleetOptions& options, ClientStore& memory,
                                             EventSink& sink);
  virtual ~Fleet() = default;

  /// Goes on from a saved state. Errors: kCorrupt.
  virtual Status restore(FleetState state) = 0;
  /// Runs to the last round, or to the end of the round in which `stop` becomes true. Gives whether
  /// it was stopped. Events: those of Coordinator; over sockets wire_bytes; virtual_time where
  /// devices take time. Errors: kOutOfRange
  /// when training diverges, and those of the hook.
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
