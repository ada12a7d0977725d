// The protocol of rounds: who is asked, what is counted, when a round ends. No sockets, no clock,
// no sleeps.
#include "coordinator/round_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "tests/coordinator/round_actions.h"

namespace tern {
namespace {

using std::chrono::seconds;

class Recorder : public EventSink {
 public:
  void on(const Event& event) override { names.emplace_back(event.name); }
  std::vector<std::string> names;
};

RoundRules small_rules() {
  return {.seed = 7,
          .clients = 20,
          .rounds = 3,
          .cohort = 4,
          .asked = 4,
          .min_updates = 4,
          .evaluate_every = 2};
}

TEST(RoundMachine, AsksDifferentClientsInOrderAndTheSameOnesForTheSameSeed) {
  Recorder sink;
  TestMachine one(small_rules(), 1, sink), other(small_rules(), 1, sink);
  const auto tasks = only<SendTask>(one.on(BeginRound{}, {}));
  const auto again = only<SendTask>(other.on(BeginRound{}, {}));
  ASSERT_EQ(tasks.size(), 4u);
  for (size_t i = 0; i < tasks.size(); ++i) {
    EXPECT_EQ(tasks[i].client, again[i].client);
    EXPECT_EQ(tasks[i].task, again[i].task);
    if (i > 0) {
      EXPECT_LT(tasks[i - 1].client, tasks[i].client);
    }
    EXPECT_LT(tasks[i].client, 20u);
  }
}

TEST(RoundMachine, ClosesWhenTheCohortIsCountedAndRefusesTheRestAsLate) {
  Recorder sink;
  RoundRules rules = small_rules();
  rules.asked = 6;
  TestMachine machine(rules, 1, sink);
  const auto tasks = only<SendTask>(machine.on(BeginRound{}, {}));
  ASSERT_EQ(tasks.size(), 6u);
  for (size_t i = 0; i < 3; ++i) {
    const auto actions = machine.on(update_of(tasks[i]), {});
    EXPECT_EQ(only<CountUpdate>(actions).size(), 1u);
    EXPECT_TRUE(only<CloseRound>(actions).empty());
  }
  const auto closing = only<CloseRound>(machine.on(update_of(tasks[3]), {}));
  ASSERT_EQ(closing.size(), 1u);
  EXPECT_EQ(closing[0].counted, 4u);
  const auto late = only<RefuseUpdate>(machine.on(update_of(tasks[4]), {}));
  ASSERT_EQ(late.size(), 1u);
  EXPECT_THAT(late[0].reason.message(), testing::HasSubstr("round 1 is over"));
}

TEST(RoundMachine, CountsATaskOnce) {
  Recorder sink;
  TestMachine machine(small_rules(), 1, sink);
  const auto tasks = only<SendTask>(machine.on(BeginRound{}, {}));
  EXPECT_EQ(only<CountUpdate>(machine.on(update_of(tasks[0]), {})).size(), 1u);
  const auto again = machine.on(update_of(tasks[0]), {});
  EXPECT_TRUE(only<CountUpdate>(again).empty());
  ASSERT_EQ(only<RefuseUpdate>(again).size(), 1u);
  EXPECT_THAT(only<RefuseUpdate>(again)[0].reason.message(),
              testing::HasSubstr("already answered"));
}

TEST(RoundMachine, RefusesForeignTasksAndTasksOfAnotherClient) {
  Recorder sink;
  TestMachine machine(small_rules(), 1, sink);
  const auto tasks = only<SendTask>(machine.on(BeginRound{}, {}));
  UpdateArrived foreign = update_of(tasks[0]);
  foreign.message.task ^= 1;
  UpdateArrived stolen = update_of(tasks[0]);
  stolen.message.client = tasks[1].client;
  for (const UpdateArrived& update : {foreign, stolen}) {
    const auto actions = machine.on(update, {});
    ASSERT_EQ(only<RefuseUpdate>(actions).size(), 1u);
    EXPECT_EQ(only<RefuseUpdate>(actions)[0].reason.code(), Code::kNotFound);
  }
}

TEST(RoundMachine, ABadUpdateIsRefusedAndTheRoundIsVoidBelowTheMinimum) {
  Recorder sink;
  TestMachine machine(small_rules(), 1, sink);
  const auto tasks = only<SendTask>(machine.on(BeginRound{}, {}));
  (void)machine.on(update_of(tasks[0]), {});
  (void)machine.on(update_of(tasks[1]), {});
  (void)machine.on(TaskFailed{tasks[2].task, error(Code::kIo, "gone")}, {});
  const auto actions = machine.on(update_of(tasks[3], error(Code::kOutOfRange, "norm")), {});
  EXPECT_EQ(only<RefuseUpdate>(actions).size(), 1u);
  const auto voided = only<VoidRound>(actions);
  ASSERT_EQ(voided.size(), 1u);
  EXPECT_EQ(voided[0].counted, 2u);
  EXPECT_TRUE(only<CloseRound>(actions).empty());
}

TEST(RoundMachine, TheDeadlineClosesWithEnoughAndVoidsWithTooFew) {
  for (const uint32_t minimum : {2u, 3u}) {
    Recorder sink;
    RoundRules rules = small_rules();
    rules.min_updates = minimum;
    rules.deadline = seconds(60);
    TestMachine machine(rules, 1, sink);
    const auto begun = machine.on(BeginRound{}, seconds(100));
    ASSERT_EQ(only<SetTimer>(begun).size(), 1u);
    EXPECT_EQ(only<SetTimer>(begun)[0].at, seconds(160));
    const auto tasks = only<SendTask>(begun);
    (void)machine.on(update_of(tasks[0]), seconds(110));
    (void)machine.on(update_of(tasks[1]), seconds(160));
    EXPECT_TRUE(machine.on(TimerFired{}, seconds(159)).empty()) << "too early";
    const auto ended = machine.on(TimerFired{}, seconds(160));
    EXPECT_EQ(only<CloseRound>(ended).size(), minimum == 2 ? 1u : 0u);
    EXPECT_EQ(only<VoidRound>(ended).size(), minimum == 3 ? 1u : 0u);
  }
}

TEST(RoundMachine, AnUpdateAfterTheDeadlineIsRefusedEvenIfTheTimerIsLate) {
  Recorder sink;
  RoundRules rules = small_rules();
  rules.min_updates = 1;
  rules.deadline = seconds(60);
  TestMachine machine(rules, 1, sink);
  const auto tasks = only<SendTask>(machine.on(BeginRound{}, {}));
  (void)machine.on(update_of(tasks[0]), seconds(10));
  const auto actions = machine.on(update_of(tasks[1]), seconds(61));
  EXPECT_EQ(only<RefuseUpdate>(actions).size(), 1u);
  EXPECT_EQ(only<CloseRound>(actions).size(), 1u);
}

TEST(RoundMachine, EvaluatesEveryFewRoundsAndAfterTheLast) {
  Recorder sink;
  TestMachine machine(small_rules(), 1, sink);
  std::vector<uint32_t> evaluated;
  for (;;) {
    const auto begun = machine.on(BeginRound{}, {});
    if (!only<FinishRun>(begun).empty()) {
      EXPECT_FALSE(only<FinishRun>(begun)[0].stopped);
      break;
    }
    for (const SendTask& task : only<SendTask>(begun)) (void)machine.on(update_of(task), {});
    for (const EvaluateModel& action : only<EvaluateModel>(machine.on(RoundEnded{}, {})))
      evaluated.push_back(action.round);
  }
  EXPECT_THAT(evaluated, testing::ElementsAre(2, 3));
  EXPECT_TRUE(machine.finished());
  EXPECT_EQ(sink.names.back(), "run_finished");
}

TEST(RoundMachine, StopEndsTheRunAfterTheRoundAtHandWithAnEvaluation) {
  Recorder sink;
  TestMachine machine(small_rules(), 1, sink);
  const auto tasks = only<SendTask>(machine.on(BeginRound{}, {}));
  (void)machine.on(StopRequested{}, {});
  for (const SendTask& task : tasks) (void)machine.on(update_of(task), {});
  EXPECT_EQ(only<EvaluateModel>(machine.on(RoundEnded{}, {})).size(), 1u);
  const auto end = only<FinishRun>(machine.on(BeginRound{}, {}));
  ASSERT_EQ(end.size(), 1u);
  EXPECT_TRUE(end[0].stopped);
}

TEST(RoundMachine, AResumedRunAsksTheSameClientsAsOneThatWentThrough) {
  Recorder sink;
  TestMachine through(small_rules(), 1, sink);
  for (const SendTask& task : only<SendTask>(through.on(BeginRound{}, {})))
    (void)through.on(update_of(task), {});
  (void)through.on(RoundEnded{}, {});
  const auto second = only<SendTask>(through.on(BeginRound{}, {}));
  TestMachine resumed(small_rules(), 2, sink);
  const auto tasks = only<SendTask>(resumed.on(BeginRound{}, {}));
  ASSERT_EQ(tasks.size(), second.size());
  for (size_t i = 0; i < tasks.size(); ++i) EXPECT_EQ(tasks[i].task, second[i].task);
}

TEST(RoundMachine, AsksAmongThoseWhoAreThere) {
  Recorder sink;
  std::vector<uint32_t> all(20);
  std::iota(all.begin(), all.end(), 0u);
  TestMachine everyone(small_rules(), 1, sink), without(small_rules(), 1, sink),
      some(small_rules(), 1, sink);
  const auto cohort = clients_of(only<SendTask>(everyone.on(BeginRound{all}, {})));
  EXPECT_EQ(cohort, clients_of(only<SendTask>(without.on(BeginRound{}, {}))));
  // One of them is missing: another one is asked in his place, the rest stay.
  std::vector<uint32_t> rest = all;
  std::erase(rest, cohort[1]);
  const auto substituted = clients_of(only<SendTask>(some.on(BeginRound{rest}, {})));
  ASSERT_EQ(substituted.size(), 4u);
  EXPECT_THAT(substituted, testing::Not(testing::Contains(cohort[1])));
  EXPECT_THAT(substituted, testing::IsSupersetOf({cohort[0], cohort[2], cohort[3]}));
}

TEST(RoundMachine, AsksFewerWhenFewerAreThereAndEndsWithTheLastOfThem) {
  for (const uint32_t minimum : {2u, 3u}) {
    Recorder sink;
    RoundRules rules = small_rules();
    rules.min_updates = minimum;
    TestMachine machine(rules, 1, sink);
    const auto tasks = only<SendTask>(machine.on(BeginRound{std::vector<uint32_t>{4, 17}}, {}));
    ASSERT_THAT(clients_of(tasks), testing::ElementsAre(4, 17));
    EXPECT_EQ(tasks[0].task, task_id(7, 1, 4)) << "a task's id says nothing of who else is there";
    (void)machine.on(update_of(tasks[0]), {});
    const auto ended = machine.on(update_of(tasks[1]), {});
    EXPECT_EQ(only<CloseRound>(ended).size(), minimum == 2 ? 1u : 0u);
    EXPECT_EQ(only<VoidRound>(ended).size(), minimum == 3 ? 1u : 0u);
  }
}

TEST(RoundMachine, ARoundThatAllHaveFailedIsVoid) {
  Recorder sink;
  TestMachine machine(small_rules(), 1, sink);
  const auto tasks = only<SendTask>(machine.on(BeginRound{}, {}));
  for (size_t i = 0; i + 1 < tasks.size(); ++i)
    EXPECT_TRUE(machine.on(TaskFailed{tasks[i].task, error(Code::kIo, "gone")}, {}).empty());
  EXPECT_TRUE(machine.on(TaskFailed{tasks[0].task, error(Code::kIo, "again")}, {}).empty());
  const auto ended = machine.on(TaskFailed{tasks[3].task, error(Code::kIo, "gone")}, {});
  ASSERT_EQ(only<VoidRound>(ended).size(), 1u);
  EXPECT_EQ(only<VoidRound>(ended)[0].counted, 0u);
  (void)machine.on(RoundEnded{}, {});
  EXPECT_EQ(only<SendTask>(machine.on(BeginRound{}, {})).size(), 4u) << "the next one is another";
}

}  // namespace
}  // namespace tern
