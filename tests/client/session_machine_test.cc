// A client's side of a task: each step only after the one before it, and the residual moves on a
// verdict alone.
#include "client/session_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/rng.h"

namespace tern {
namespace {

constexpr uint64_t kSchema = 0xabc;

PlanArrived plan_of_round(uint32_t round) {
  PlanArrived event;
  event.plan = {.round = round,
                .version = round - 1,
                .schema_hash = kSchema,
                .run_seed = 9,
                .codec = "ef | topk:0.01 | ternary | rice",
                .training = {.batch_size = 10},
                .stale_after = 50};
  event.task = {.task = 100 + round, .client = 3, .download = DownloadKind::kDeltas};
  return event;
}

template <typename T>
const T* sole(const std::vector<SessionAction>& actions) {
  return actions.size() == 1 ? std::get_if<T>(&actions[0]) : nullptr;
}

/// Plays a task up to its update.
void play(SessionMachine& session, uint32_t round) {
  ASSERT_NE(sole<UpdateReplica>(session.on(plan_of_round(round))), nullptr);
  ASSERT_NE(sole<TrainLocally>(session.on(ReplicaUpdated{})), nullptr);
  ASSERT_NE(sole<EncodeAndStore>(session.on(TrainingDone{TrainReport{.examples = 60}})), nullptr);
  ASSERT_NE(sole<SendUpdate>(session.on(UpdateStored{})), nullptr);
}

TEST(SessionMachine, TrainsForTheRoundAndClientOfThePlan) {
  SessionMachine session(3, kSchema, 0);
  (void)session.on(plan_of_round(5));
  const auto actions = session.on(ReplicaUpdated{});
  const auto* train = sole<TrainLocally>(actions);
  ASSERT_NE(train, nullptr);
  EXPECT_EQ(train->task.round, 5u);
  EXPECT_EQ(train->task.client, 3u);
  EXPECT_EQ(train->task.seed, 9u);
}

TEST(SessionMachine, SeedsOfFramesDifferBetweenClientsAndRounds) {
  std::vector<uint64_t> seeds;
  for (const uint32_t client : {3u, 4u})
    for (const uint32_t round : {5u, 6u}) {
      SessionMachine session(client, kSchema, 0);
      PlanArrived plan = plan_of_round(round);
      plan.task.client = client;
      (void)session.on(plan);
      (void)session.on(ReplicaUpdated{});
      const auto actions = session.on(TrainingDone{TrainReport{}});
      seeds.push_back(sole<EncodeAndStore>(actions)->meta.seed);
      EXPECT_EQ(sole<EncodeAndStore>(actions)->meta.base_version, round - 1);
    }
  std::ranges::sort(seeds);
  EXPECT_EQ(std::ranges::adjacent_find(seeds), seeds.end());
}

TEST(SessionMachine, CommitsWhenCountedAndRollsBackWhenRefused) {
  SessionMachine session(3, kSchema, 0);
  play(session, 5);
  EXPECT_NE(sole<CommitResidual>(session.on(VerdictArrived{{.task = 105, .counted = true}})),
            nullptr);
  play(session, 8);
  EXPECT_NE(sole<RollBackResidual>(session.on(VerdictArrived{{.task = 108, .counted = false}})),
            nullptr);
  EXPECT_EQ(session.last_task_round(), 8u);
}

TEST(SessionMachine, IgnoresAVerdictOnAnotherTaskAndASecondOne) {
  SessionMachine session(3, kSchema, 0);
  play(session, 5);
  EXPECT_TRUE(session.on(VerdictArrived{{.task = 104, .counted = true}}).empty());
  EXPECT_EQ(session.on(VerdictArrived{{.task = 105, .counted = true}}).size(), 1u);
  EXPECT_TRUE(session.on(VerdictArrived{{.task = 105, .counted = true}}).empty());
}

TEST(SessionMachine, RefusesPlansThatAreNotForItNow) {
  PlanArrived old = plan_of_round(5), foreign = plan_of_round(9), schema = plan_of_round(9),
              codec = plan_of_round(9);
  foreign.task.client = 4;
  schema.plan.schema_hash = 1;
  codec.plan.codec = "zip";
  const std::pair<PlanArrived, const char*> cases[] = {{old, "after one of round 5"},
                                                       {foreign, "reached client 3"},
                                                       {schema, "this client has"},
                                                       {codec, "unknown stage 'zip'"}};
  for (const auto& [plan, message] : cases) {
    SessionMachine session(3, kSchema, 5);
    const auto actions = session.on(plan);
    const auto* failure = sole<ReportFailure>(actions);
    ASSERT_NE(failure, nullptr) << message;
    EXPECT_THAT(failure->reason.message(), testing::HasSubstr(message));
  }
}

TEST(SessionMachine, ASecondPlanWhileBusyLeavesTheTaskAtHandAlone) {
  SessionMachine session(3, kSchema, 0);
  (void)session.on(plan_of_round(5));
  EXPECT_NE(sole<ReportFailure>(session.on(plan_of_round(6))), nullptr);
  EXPECT_NE(sole<TrainLocally>(session.on(ReplicaUpdated{})), nullptr);
}

TEST(SessionMachine, AskedForTheSameTaskAgainItGoesOnOrSendsTheSameUpdate) {
  SessionMachine session(3, kSchema, 0);
  const PlanArrived plan = plan_of_round(5);
  (void)session.on(plan);
  EXPECT_TRUE(session.on(plan).empty()) << "while the replica is moved";
  ASSERT_NE(sole<TrainLocally>(session.on(ReplicaUpdated{})), nullptr);
  EXPECT_TRUE(session.on(plan).empty()) << "while it trains";
  ASSERT_NE(sole<EncodeAndStore>(session.on(TrainingDone{TrainReport{.examples = 60}})), nullptr);
  EXPECT_TRUE(session.on(plan).empty()) << "while it encodes";
  const auto first = session.on(UpdateStored{});
  for (int again = 0; again < 2; ++again) {
    const auto actions = session.on(plan);
    const auto* update = sole<SendUpdate>(actions);
    ASSERT_NE(update, nullptr);
    EXPECT_EQ(update->message.task, sole<SendUpdate>(first)->message.task);
    EXPECT_EQ(update->message.client, 3u);
    EXPECT_EQ(update->message.report.examples, 60u);
  }
  EXPECT_NE(sole<CommitResidual>(session.on(VerdictArrived{{.task = 105, .counted = true}})),
            nullptr)
      << "and the verdict counts as before";
  EXPECT_NE(sole<ReportFailure>(session.on(plan)), nullptr) << "after it the task is over";
}

TEST(SessionMachine, AResumedUpdateIsSentAgainSettledOrSuperseded) {
  const UpdateMessage stored{.task = 105, .client = 3, .report = {.examples = 60}};
  for (const bool counted : {true, false}) {
    SessionMachine session(3, kSchema, 4);
    session.resume(stored, 5);
    const auto actions = session.on(plan_of_round(5));
    const auto* update = sole<SendUpdate>(actions);
    ASSERT_NE(update, nullptr);
    EXPECT_EQ(update->message.task, 105u);
    EXPECT_EQ(update->message.client, 3u);
    EXPECT_EQ(update->message.report.examples, 60u);
    const auto end = session.on(VerdictArrived{{.task = 105, .counted = counted}});
    ASSERT_EQ(end.size(), 1u);
    EXPECT_EQ(std::holds_alternative<CommitResidual>(end[0]), counted);
    EXPECT_EQ(session.last_task_round(), 5u);
    EXPECT_NE(sole<ReportFailure>(session.on(plan_of_round(5))), nullptr);
  }
  SessionMachine session(3, kSchema, 4);
  session.resume(stored, 5);
  const auto actions = session.on(plan_of_round(6));
  ASSERT_EQ(actions.size(), 2u);
  EXPECT_TRUE(std::holds_alternative<RollBackResidual>(actions[0]));
  EXPECT_EQ(session.last_task_round(), 5u);
}

TEST(SessionMachine, ANewPlanWhileAVerdictIsDueRollsBackFirst) {
  SessionMachine session(3, kSchema, 0);
  play(session, 5);
  const auto actions = session.on(plan_of_round(8));
  ASSERT_EQ(actions.size(), 2u);
  EXPECT_TRUE(std::holds_alternative<RollBackResidual>(actions[0]));
  EXPECT_TRUE(std::holds_alternative<UpdateReplica>(actions[1]));
  EXPECT_EQ(session.last_task_round(), 5u);
  EXPECT_TRUE(session.on(VerdictArrived{{.task = 105, .counted = true}}).empty()) << "too late";
  ASSERT_NE(sole<TrainLocally>(session.on(ReplicaUpdated{})), nullptr);
}

TEST(SessionMachine, APlanThatIsRefusedWhileAVerdictIsDueRollsNothingBack) {
  PlanArrived foreign = plan_of_round(8), schema = foreign, codec = foreign, older = foreign,
              same = foreign;
  foreign.task.client = 4;
  schema.plan.schema_hash = 1;
  codec.plan.codec = "zip";
  older.plan.round = 4;
  same.plan.round = 5;  // another task of the same round
  for (const PlanArrived& plan : {foreign, schema, codec, older, same}) {
    SessionMachine session(3, kSchema, 0);
    play(session, 5);
    ASSERT_NE(sole<ReportFailure>(session.on(plan)), nullptr);
    EXPECT_EQ(session.last_task_round(), 0u);
    EXPECT_NE(sole<CommitResidual>(session.on(VerdictArrived{{.task = 105, .counted = true}})),
              nullptr);
  }
}

TEST(SessionMachine, AFailureAtAnyStepIsReportedOnce) {
  const Status broken = error(Code::kIo, "disk");
  for (int step = 0; step < 3; ++step) {
    SessionMachine session(3, kSchema, 0);
    (void)session.on(plan_of_round(5));
    if (step > 0) (void)session.on(ReplicaUpdated{});
    if (step > 1) (void)session.on(TrainingDone{TrainReport{}});
    const std::vector<SessionAction> actions = step == 0   ? session.on(ReplicaUpdated{broken})
                                               : step == 1 ? session.on(TrainingDone{broken})
                                                           : session.on(UpdateStored{broken});
    ASSERT_NE(sole<ReportFailure>(actions), nullptr) << step;
    EXPECT_TRUE(session.on(UpdateStored{}).empty());
    EXPECT_NE(sole<UpdateReplica>(session.on(plan_of_round(6))), nullptr)
        << "ready for the next task";
  }
}

}  // namespace
}  // namespace tern
