/// The coordinator of a run: carries out what the round machine decides, over any transport and any
/// loop. The daemon gives it ZeroMQ and real time, simulations whatever they simulate; this code is
/// the same.
///
/// A client is known by its key. Sessions open with Hello and Welcome; a new Hello from the same
/// client replaces its older connection, and an open task is handed out again. Membership is asked
/// for every packet, so a revoked client is cut off in the middle of a session.
///
/// Everything that takes long (dry decode, summing, encoding a version, the journal) runs on the
/// loop's workers.
///
/// With a journal nothing is said before it is on the disk: a round before its plans, an update or
/// its refusal before the verdict, a version before it is handed out. A coordinator that is killed
/// goes on from there, in the middle of a round too.
/// Threads: the loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/event.h"
#include "base/loop.h"
#include "base/parameter_schema.h"
#include "base/status.h"
#include "base/work_clock.h"
#include "config/scenario.h"
#include "coordinator/run_log.h"
#include "coordinator/run_replay.h"
#include "coordinator/run_state.h"
#include "coordinator/versions.h"
#include "coordinator/views/evaluation.h"
#include "proto/keys.h"
#include "proto/transport.h"

namespace tern {

/// Who a peer is.
struct Member {
  bool evaluator = false;
  uint32_t number = 0;  ///< client number; evaluators go on from where clients end
};
/// Nothing for strangers and for revoked keys.
using Membership = std::function<std::optional<Member>(const PeerKey&)>;

/// Who evaluates published models.
enum class EvaluateBy { kClients, kAttached, kNobody };

struct CoordinatorSetup {
  Scenario scenario;
  ParameterSchema schema;
  uint32_t classes = 0;
  std::vector<float> initial;  ///< on the grid; empty: the run starts from the seed
  uint32_t clients = 0;
  Membership membership;
  uint64_t run_id = 0;
  size_t workers = 1;  ///< of the loop
  /// Of one client; 0: the most that clients announce before the first round, within 64 times
  /// the median.
  uint32_t largest_examples = 0;
  /// Of each client, as far as known before it comes.
  std::vector<uint32_t> examples;
  /// Bytes a second that each client's link carries, as far as an operator knows; 0 or missing: the
  /// scenario's, or what uploads show.
  std::vector<double> uplinks;
  uint32_t start_when = 0;        ///< clients to wait for before the first round
  bool everyone_is_there = true;  ///< any client can be asked, whoever is connected
  Duration plan_lifetime = std::chrono::minutes(10);
  EvaluateBy evaluate_by = EvaluateBy::kClients;
  /// Where everything is written before anybody is told of it; outlives the coordinator. Without
  /// one a run can't be gone on with.
  RunLog* log = nullptr;
  /// A run to go on with: what replay() has made of the log's journal. `state` belongs to scenario
  /// and schema that outlive the coordinator.
  std::unique_ptr<RunState> state;
  ReplayedRun replayed;
  /// In one process a diverging model or a fault is worth stopping for: a task that fails with
  /// kOutOfRange, kInternal, kCorrupt, kIo or kNoSpace ends the run.
  bool stop_on_failure = false;
};

/// What a coordinator asks of whoever runs it. All but `finished` may be empty.
struct CoordinatorHooks {
  using Evaluated = std::function<void(Result<std::optional<Evaluation>>)>;
  /// Evaluates the published model in place of evaluators and clients; calls back once.
  std::function<void(bool scheduled, Evaluated)> evaluate;
  /// At the end of each round, after its evaluation if there was one; an error ends the run.
  std::function<Status(uint32_t round, const Evaluation*)> after_round;
  /// Clients that can be asked now, connected or not, in increasing order; without it, those that
  /// are connected. Where there are too few, asked again at next_arrival().
  std::function<std::vector<uint32_t>()> available;
  std::function<TimePoint()> next_arrival;  ///< of a client; goes with `available`
  /// A client that is not connected has a task.
  std::function<void(uint32_t client)> wanted;
  /// What the journal keeps of the round that has ended; asked after after_round.
  std::function<nlohmann::ordered_json()> notes;
  /// Asked at the end of each round.
  std::function<bool()> stop_requested;
  /// A worker has spent its time since its last call on this.
  std::function<void(size_t worker, WorkStage)> book;
  /// The run is over; `stopped` before its last round.
  std::function<void(Result<bool> stopped)> finished;
};

class Coordinator : public ServerTransport::Handler {
 public:
  /// loop, transport, key and sink outlive the coordinator. Errors: those of the codecs and of the
  /// initial model.
  static Result<std::unique_ptr<Coordinator>> make(CoordinatorSetup setup, CoordinatorHooks hooks,
                                                   Loop& loop, ServerTransport& transport,
                                                   const SecretKey& key, EventSink& sink);
  /// Goes on from a saved state; before start(). Errors: kCorrupt.
  virtual Status restore(CoordinatorState state) = 0;
  /// Opens for clients and begins as soon as enough are there. Events: client_joined, peer_refused,
  /// clock_skew, waiting_for_clients, round_started, chain_given, deadline_set, download_sent,
  /// update_sent, update_counted, update_refused, update_ignored, task_failed, task_timed,
  /// round_closed or round_void, version_published, model_evaluated, control_bytes, run_finished.
  virtual void start() = 0;
  /// Cuts off now, and not at its next packet, whoever the membership knows no more.
  virtual void members_changed() = 0;
  /// Whether nothing is open with a client. It is forgotten then and may leave, until it is wanted
  /// and comes back with a Hello.
  virtual bool let_go(uint32_t client) = 0;
  /// Ends the run: at once, so that the round at hand is void (with a journal: waits to be gone on
  /// with), or as soon as the version that it has led to is published.
  virtual void stop() = 0;

  virtual uint32_t round() const = 0;  ///< the last one that ended
  virtual const VersionedModel& model() const = 0;
  virtual CoordinatorState state() const = 0;
};

}  // namespace tern
