/// A client's side of a task without any I/O: events in, actions out. Daemon, simulator and fault
/// tests drive this same machine.
///
/// - PlanArrived: UpdateReplica; SendUpdate again for a task whose answer is out; RollBackResidual
///   first when the last one never got its verdict
/// - ReplicaUpdated: TrainLocally
/// - TrainingDone: EncodeAndStore
/// - UpdateStored: SendUpdate
/// - VerdictArrived: CommitResidual or RollBackResidual
///
/// The residual changes only on a verdict: an update that is refused or lost leaves it as it was
/// before the task.
///
/// Threads: one thread owns the machine.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "base/status.h"
#include "compression/updates/codec.h"
#include "compression/updates/error_feedback.h"
#include "proto/messages.h"

namespace tern {

// ---- Events

struct PlanArrived {
  RoundPlan plan;
  ClientTask task;
};
struct ReplicaUpdated {
  Status status;
};
struct TrainingDone {
  Result<TrainReport> report;
};
/// The frame and its pending residual are where a restart finds them.
struct UpdateStored {
  Status status;
};
struct VerdictArrived {
  Verdict verdict;
};
using SessionEvent =
    std::variant<PlanArrived, ReplicaUpdated, TrainingDone, UpdateStored, VerdictArrived>;

// ---- Actions

/// Apply the download and compare hashes.
struct UpdateReplica {
  DownloadKind kind = DownloadKind::kNothing;
};
struct TrainLocally {
  TrainTask task;
};
/// Age the residual, encode the update with it, and store frame and pending residual before the
/// first byte leaves.
struct EncodeAndStore {
  Codec codec;
  FrameMeta meta;
  uint32_t stale_after = 0;
  ResidualStore store = ResidualStore::kFloat32;
};
struct SendUpdate {
  UpdateMessage message;
};
struct CommitResidual {};
struct RollBackResidual {};
/// The task can't be done; tell the coordinator.
struct ReportFailure {
  TaskId task = 0;
  Status reason;
};
using SessionAction = std::variant<UpdateReplica, TrainLocally, EncodeAndStore, SendUpdate,
                                   CommitResidual, RollBackResidual, ReportFailure>;

class SessionMachine {
 public:
  /// `last_task_round`: the round of the client's last task, 0 for none; plans of that round or
  /// before are refused.
  SessionMachine(uint32_t client, uint64_t schema_hash, uint32_t last_task_round)
      : client_(client), schema_hash_(schema_hash), last_task_round_(last_task_round) {}

  /// After a restart: awaits the verdict on an update of this client that an earlier session
  /// stored.
  void resume(const UpdateMessage& update, uint32_t round);

  std::vector<SessionAction> on(const SessionEvent& event);

  uint32_t last_task_round() const { return last_task_round_; }

 private:
  enum class State { kIdle, kUpdatingReplica, kTraining, kEncoding, kAwaitingVerdict };
  using Actions = std::vector<SessionAction>;

  Actions handle(const PlanArrived& event);
  Actions handle(const ReplicaUpdated& event);
  Actions handle(const TrainingDone& event);
  Actions handle(const UpdateStored& event);
  Actions handle(const VerdictArrived& event);
  Actions fail(TaskId task, Status reason);
  UpdateMessage update() const;

  uint32_t client_;
  uint64_t schema_hash_;
  uint32_t last_task_round_;
  State state_ = State::kIdle;
  // The task at hand.
  RoundPlan plan_;
  ClientTask task_;
  std::optional<Codec> codec_;
  TrainReport report_;
};

}  // namespace tern
