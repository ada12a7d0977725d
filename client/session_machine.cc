#include "client/session_machine.h"

#include "base/rng.h"

namespace tern {

void SessionMachine::resume(const UpdateMessage& update, uint32_t round) {
  state_ = State::kAwaitingVerdict;
  plan_.round = round;
  task_.task = update.task;
  report_ = update.report;
}

std::vector<SessionAction> SessionMachine::on(const SessionEvent& event) {
  return std::visit([&](const auto& e) { return handle(e); }, event);
}

SessionMachine::Actions SessionMachine::handle(const PlanArrived& event) {
  const RoundPlan& plan = event.plan;
  const TaskId task = event.task.task;
  // A failure here leaves a task at hand as it is: the plan is refused, not the task.
  const auto refuse = [&](Status reason) {
    return Actions{ReportFailure{task, std::move(reason)}};
  };
  if (state_ != State::kIdle && task == task_.task) {
    // Asked again after a broken connection: what was sent is sent once more, the rest goes on.
    if (state_ == State::kAwaitingVerdict) return {SendUpdate{update()}};
    return {};
  }
  // The coordinator has gone on without a word about the update that is out.
  const bool superseded = state_ == State::kAwaitingVerdict && plan.round > plan_.round;
  if (state_ != State::kIdle && !superseded)
    return refuse(error(Code::kInUse, "client {} is busy with another task", client_));
  if (event.task.client != client_)
    return refuse(error(Code::kInvalidArgument, "a task for client {} reached client {}",
                        event.task.client, client_));
  if (plan.schema_hash != schema_hash_)
    return refuse(error(Code::kInvalidArgument,
                        "the plan is for schema {:016x}, this client has {:016x}", plan.schema_hash,
                        schema_hash_));
  if (plan.round <= last_task_round_)
    return refuse(error(Code::kInvalidArgument, "a plan of round {} after one of round {}",
                        plan.round, last_task_round_));
  Result<Codec> codec = Codec::parse(plan.codec);
  if (!codec) return refuse(std::move(codec).error());
  Actions actions;
  if (superseded) {
    last_task_round_ = plan_.round;
    actions.emplace_back(RollBackResidual{});
  }
  plan_ = plan;
  task_ = event.task;
  codec_ = *std::move(codec);
  state_ = State::kUpdatingReplica;
  actions.emplace_back(UpdateReplica{task_.download});
  return actions;
}

SessionMachine::Actions SessionMachine::handle(const ReplicaUpdated& event) {
  if (state_ != State::kUpdatingReplica) return {};
  if (!event.status.ok()) return fail(task_.task, event.status);
  state_ = State::kTraining;
  return {TrainLocally{TrainTask{
      .plan = plan_.training, .seed = plan_.run_seed, .round = plan_.round, .client = client_}}};
}

SessionMachine::Actions SessionMachine::handle(const TrainingDone& event) {
  if (state_ != State::kTraining) return {};
  if (!event.report) return fail(task_.task, event.report.error());
  report_ = *event.report;
  state_ = State::kEncoding;
  EncodeAndStore encode{.codec = *codec_, .meta = {}};
  encode.meta = {.base_version = plan_.version,
                 .round = plan_.round,
                 .seed = Rng(plan_.run_seed, Purpose::kFrameSeed, plan_.round, client_).next64()};
  encode.stale_after = plan_.stale_after;
  encode.store = plan_.residual16 ? ResidualStore::kBfloat16 : ResidualStore::kFloat32;
  return {std::move(encode)};
}

SessionMachine::Actions SessionMachine::handle(const UpdateStored& event) {
  if (state_ != State::kEncoding) return {};
  if (!event.status.ok()) return fail(task_.task, event.status);
  state_ = State::kAwaitingVerdict;
  return {SendUpdate{update()}};
}

UpdateMessage SessionMachine::update() const {
  return {.task = task_.task, .client = client_, .report = report_};
}

SessionMachine::Actions SessionMachine::handle(const VerdictArrived& event) {
  if (state_ != State::kAwaitingVerdict || event.verdict.task != task_.task) return {};
  state_ = State::kIdle;
  last_task_round_ = plan_.round;
  if (event.verdict.counted) return {CommitResidual{}};
  return {RollBackResidual{}};
}

SessionMachine::Actions SessionMachine::fail(TaskId task, Status reason) {
  state_ = State::kIdle;
  last_task_round_ = plan_.round;
  return {ReportFailure{task, std::move(reason)}};
}

}  // namespace tern
