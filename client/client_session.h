/// A client of a run: dials the coordinator, checks what it is told, does its tasks, and comes back
/// when the connection breaks. Carries out what the session machine decides, over any transport and
/// any loop. The daemon and the simulator run this same code.
///
/// A plan is obeyed only when it is signed by the pinned key, is of this run, not expired, not
/// older than what was obeyed before, and when the model manifest beside it says the same of the
/// model.
///
/// An update is stored, with the residual that it leaves, before its first byte is sent: a client
/// that is killed before the verdict sends the same bytes when it is asked again, or commits when
/// the Welcome says that it was counted. It trains no task twice whose update it holds.
///
/// Threads: the loop's thread; tasks run on its workers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "base/event.h"
#include "base/loop.h"
#include "base/status.h"
#include "client/client_store.h"
#include "client/client_work.h"
#include "client/plan_check.h"
#include "proto/transport.h"

namespace tern {

struct ClientSetup {
  uint64_t schema_hash = 0;
  std::shared_ptr<PlanCheck> plans;       ///< shared by the clients of a simulated fleet
  std::optional<uint32_t> number;         ///< when it is known before the coordinator says it
  std::optional<Duration> give_up_after;  ///< without a connection; default: never
  uint64_t jitter_seed = 0;               ///< of the pauses before dialling again
};

class ClientSession : public ClientTransport::Handler {
 public:
  /// Over: ok when the run is finished, otherwise why this client can't go on.
  using Finished = std::function<void(Status)>;

  /// Everything outlives the session. Events: connected, connection_lost (once for each loss),
  /// clock_skew, task_started, update_uploaded, verdict_received, task_refused, run_finished.
  static std::unique_ptr<ClientSession> make(ClientSetup setup, Loop& loop,
                                             ClientTransport& transport, ClientWork& work,
                                             ClientStore& store, EventSink& sink,
                                             Finished finished);
  virtual void start() = 0;
  /// Disconnects; `finished` isn't called. A task that is under way is dropped.
  virtual void stop() = 0;
  /// Nothing is under way or waited for but a next task: a client that stops now loses nothing.
  virtual bool idle() const = 0;
};

}  // namespace tern
