/// The parts of a client's task that take long, behind one interface: a device does them with its
/// own replica and trainer, a simulated fleet shares both among its clients.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/clock.h"
#include "base/status.h"
#include "client/client_store.h"
#include "compression/updates/codec.h"
#include "compression/updates/error_feedback.h"
#include "proto/messages.h"

namespace tern {

/// On a virtual clock; in real time nobody asks.
struct TrainingTime {
  Duration duration{};
  bool drops_out = false;  ///< after that time, without an update
};

/// Threads: called on workers, with the worker's index; one task stays on one worker. `train`
/// leaves the update where the following `encode` on that worker finds it.
class ClientWork {
 public:
  virtual ~ClientWork() = default;

  /// Before the first task of each session: gets the data of this client number at hand, and the
  /// version of the model that `held_version` says (0 in a run that is new to this client). Errors
  /// end the client: the coordinator's run isn't the one that it is set up for.
  virtual Result<Ready> prepare(size_t worker, const Welcome& welcome, uint32_t held_version) = 0;
  /// No download of this model is longer: a plan that says so is refused.
  virtual uint64_t max_download_bytes() const = 0;
  /// Brings the model that this worker trains from to the plan's version. `transfer` is hostile.
  /// Errors: those of Replica::apply.
  virtual Status update_replica(size_t worker, const RoundPlan& plan, const ClientTask& task,
                                uint32_t held_version, std::span<const std::byte> transfer) = 0;
  /// What a client's training that begins `now` takes; on the loop's thread.
  virtual TrainingTime training_takes(const RoundPlan&, uint32_t client, TimePoint now) const {
    static_cast<void>(client), static_cast<void>(now);
    return {};
  }
  /// Errors: those of Trainer::train.
  virtual Result<TrainReport> train(size_t worker, const TrainTask& task) = 0;
  /// Errors: those of encode_update.
  virtual Result<PendingUpdate> encode(size_t worker, const Codec& codec, const FrameMeta& meta,
                                       const SenderMemory& memory, ResidualStore store) = 0;
  /// Of the model, on the examples that this client has kept for testing. task and client of the
  /// report are left to the caller. Errors: those of Evaluator::evaluate.
  virtual Result<EvaluationReport> evaluate(size_t worker, uint32_t client) = 0;
};

}  // namespace tern
