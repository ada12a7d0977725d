// Schedules under which tasks outlive their rounds: what the round machine decides, and whole runs
// of a coordinator with clients of different speeds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "coordinator/round_machine.h"
#include "coordinator/strategies/staleness.h"
#include "tests/coordinator/federation.h"
#include "tests/coordinator/round_actions.h"

namespace tern {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

RoundRules rules_of(Schedule schedule) {
  return {.seed = 7,
          .clients = 20,
          .rounds = 30,
          .cohort = 2,
          .asked = 4,
          .min_updates = 1,
          .evaluate_every = 0,
          .schedule = schedule,
          .max_staleness = 3};
}

constexpr Schedule kBoth[] = {Schedule::kLateCredit, Schedule::kFedBuff};

class Machine : public EventSink {
 public:
  explicit Machine(const RoundRules& rules, uint32_t first_round = 1)
      : machine(rules, first_round, *this) {}
  void on(const Event& event) override { names.emplace_back(event.name); }
  std::vector<RoundAction> operator()(const RoundEvent& event, TimePoint now = {}) {
    return machine.on(event, now);
  }
  std::vector<std::string> names;
  TestMachine machine;
};

// ---- The round machine

TEST(Schedules, ATaskThatOutlivesItsRoundCountsInALaterOne) {
  for (const Schedule schedule : kBoth) {
    Machine on(rules_of(schedule));
    const auto first = only<SendTask>(on(BeginRound{}));
    ASSERT_EQ(first.size(), 4u);
    (void)on(update_of(first[0]));
    EXPECT_EQ(only<CloseRound>(on(update_of(first[1]))).size(), 1u);
    (void)on(RoundEnded{});
    const auto second = clients_of(only<SendTask>(on(BeginRound{})));
    EXPECT_EQ(second.size(), schedule == Schedule::kFedBuff ? 2u : 4u);
    for (const uint32_t busy : {first[2].client, first[3].client})
      EXPECT_THAT(second, testing::Not(testing::Contains(busy))) << "one task at a time";
    EXPECT_EQ(only<CountUpdate>(on(update_of(first[2]))).size(), 1u);
    const auto closed = only<CloseRound>(on(update_of(first[3])));
    ASSERT_EQ(closed.size(), 1u);
    EXPECT_EQ(closed[0].round, 2u);
    EXPECT_EQ(closed[0].counted, 2u);
  }
}

TEST(Schedules, WhatArrivesWhileAVersionIsMadeIsHeldForTheNextRound) {
  for (const Schedule schedule : kBoth) {
    Machine on(rules_of(schedule));
    const auto first = only<SendTask>(on(BeginRound{}));
    (void)on(update_of(first[0]));
    (void)on(update_of(first[1]));
    const auto held = on(update_of(first[2]));
    ASSERT_EQ(only<HoldUpdate>(held).size(), 1u);
    EXPECT_EQ(held.size(), 1u);
    (void)on(RoundEnded{});
    EXPECT_EQ(only<HoldUpdate>(on(update_of(first[2]))).size(), 1u) << "nor between two rounds";
    (void)on(BeginRound{});
    EXPECT_EQ(only<CountUpdate>(on(update_of(first[2]))).size(), 1u);
    const auto again = on(update_of(first[2]));
    ASSERT_EQ(only<RefuseUpdate>(again).size(), 1u);
    EXPECT_THAT(only<RefuseUpdate>(again)[0].reason.message(), HasSubstr("already answered"));
  }
}

TEST(Schedules, FedBuffAsksSomebodyElseWheneverATaskEnds) {
  Machine on(rules_of(Schedule::kFedBuff)), same(rules_of(Schedule::kFedBuff));
  const auto first = only<SendTask>(on(BeginRound{}));
  (void)same(BeginRound{});
  EXPECT_EQ(on.machine.lacking(), 0u);
  EXPECT_TRUE(on(AskMore{}).empty());
  (void)on(update_of(first[0]));
  (void)on(update_of(first[1], error(Code::kOutOfRange, "norm")));
  (void)on(TaskFailed{first[2].task, error(Code::kIo, "gone")});
  EXPECT_EQ(on.machine.lacking(), 3u);
  const auto more = clients_of(only<SendTask>(on(AskMore{})));
  ASSERT_EQ(more.size(), 3u);
  EXPECT_EQ(on.machine.lacking(), 0u);
  std::set<uint32_t> all(more.begin(), more.end());
  for (const SendTask& task : first) all.insert(task.client);
  EXPECT_EQ(all.size(), 7u) << "nobody twice in a round";
  // The same events lead to the same choice.
  (void)same(update_of(first[0]));
  (void)same(update_of(first[1], error(Code::kOutOfRange, "norm")));
  (void)same(TaskFailed{first[2].task, error(Code::kIo, "gone")});
  EXPECT_EQ(clients_of(only<SendTask>(same(AskMore{}))), more);
  Machine synchronous(rules_of(Schedule::kSynchronous));
  const auto tasks = only<SendTask>(synchronous(BeginRound{}));
  (void)synchronous(update_of(tasks[0]));
  EXPECT_EQ(synchronous.machine.lacking(), 0u);
}

TEST(Schedules, FedBuffAsksAmongThoseWhoAreThere) {
  Machine on(rules_of(Schedule::kFedBuff));
  const auto first = only<SendTask>(on(BeginRound{std::vector<uint32_t>{2, 5, 9}}));
  EXPECT_THAT(clients_of(first), ElementsAre(2, 5, 9));
  (void)on(update_of(first[0]));
  EXPECT_TRUE(only<SendTask>(on(AskMore{std::vector<uint32_t>{2, 5, 9}})).empty());
  EXPECT_THAT(clients_of(only<SendTask>(on(AskMore{std::vector<uint32_t>{2, 5, 9, 14, 15}}))),
              UnorderedElementsAre(14, 15));
}

TEST(Schedules, AFedBuffRoundEndsWhenNobodyIsLeftToBeAsked) {
  for (const bool counted : {false, true}) {
    Machine on(rules_of(Schedule::kFedBuff));
    const std::vector<uint32_t> there{3, 4};
    const auto tasks = only<SendTask>(on(BeginRound{there}));
    EXPECT_TRUE(on(TaskFailed{tasks[0].task, error(Code::kIo, "gone")}).empty());
    if (counted)
      (void)on(update_of(tasks[1]));
    else
      (void)on(TaskFailed{tasks[1].task, error(Code::kIo, "gone")});
    const auto end = on(AskMore{there});
    EXPECT_EQ(only<CloseRound>(end).size(), counted ? 1u : 0u);
    EXPECT_EQ(only<VoidRound>(end).size(), counted ? 0u : 1u);
    (void)on(RoundEnded{});
    EXPECT_EQ(only<SendTask>(on(BeginRound{there})).size(), 2u) << "the next one is another";
  }
}

TEST(Schedules, WithLateCreditARoundOfFailuresIsVoidOnceNothingIsUnderWay) {
  Machine on(rules_of(Schedule::kLateCredit));
  const auto first = only<SendTask>(on(BeginRound{}));
  (void)on(update_of(first[0]));
  (void)on(update_of(first[1]));
  // A failure between rounds is known in the next one.
  EXPECT_TRUE(on(TaskFailed{first[2].task, error(Code::kIo, "gone")}).empty());
  (void)on(RoundEnded{});
  const auto second = only<SendTask>(on(BeginRound{}));
  for (const SendTask& task : second)
    EXPECT_TRUE(on(TaskFailed{task.task, error(Code::kIo, "gone")}).empty()) << "one is left";
  EXPECT_EQ(only<VoidRound>(on(TaskFailed{first[3].task, error(Code::kIo, "the last one")})).size(),
            1u);
}

TEST(Schedules, TheDeadlineClosesARoundAndItsTasksGoOn) {
  for (const Schedule schedule : kBoth) {
    RoundRules rules = rules_of(schedule);
    rules.deadline = seconds(10);
    Machine on(rules);
    const auto tasks = only<SendTask>(on(BeginRound{}, seconds(100)));
    (void)on(update_of(tasks[0]), seconds(101));
    EXPECT_EQ(only<CloseRound>(on(TimerFired{}, seconds(110))).size(), 1u);
    (void)on(RoundEnded{}, seconds(110));
    (void)on(BeginRound{}, seconds(111));
    EXPECT_EQ(only<CountUpdate>(on(update_of(tasks[1]), seconds(112))).size(), 1u);
    EXPECT_EQ(only<CloseRound>(on(TimerFired{}, seconds(121))).size(), 1u) << "its own deadline";
  }
}

TEST(Schedules, ATaskThatIsTooOldIsGivenUpAndItsClientAskedAgain) {
  for (const Schedule schedule : kBoth) {
    RoundRules rules = rules_of(schedule);
    rules.clients = rules.asked = 3;
    Machine on(rules);
    auto tasks = only<SendTask>(on(BeginRound{}));
    const SendTask slow = tasks.back();
    for (uint32_t round = 1; round <= 1 + rules.max_staleness; ++round) {
      tasks.pop_back();
      for (const SendTask& task : tasks) (void)on(update_of(task));
      (void)on(RoundEnded{});
      const auto begun = on(BeginRound{});
      tasks = only<SendTask>(begun);
      const auto dropped = only<DropTask>(begun);
      if (round <= rules.max_staleness) {
        EXPECT_TRUE(dropped.empty()) << round;
        tasks.push_back(slow);  // it is not among them, and what follows takes the last one off
        continue;
      }
      ASSERT_EQ(dropped.size(), 1u);
      EXPECT_EQ(dropped[0].client, slow.client);
      EXPECT_TRUE(std::holds_alternative<DropTask>(begun.front())) << "before it is asked again";
      EXPECT_THAT(clients_of(tasks), testing::Contains(slow.client));
    }
    const auto late = on(update_of(slow));
    ASSERT_EQ(only<RefuseUpdate>(late).size(), 1u);
    EXPECT_EQ(only<RefuseUpdate>(late)[0].reason.code(), Code::kNotFound);
  }
}

TEST(Schedules, StopEndsTheRunWithTasksUnderWay) {
  for (const Schedule schedule : kBoth) {
    Machine on(rules_of(schedule));
    const auto tasks = only<SendTask>(on(BeginRound{}));
    (void)on(StopRequested{});
    (void)on(update_of(tasks[0]));
    (void)on(update_of(tasks[1]));
    EXPECT_EQ(only<EvaluateModel>(on(RoundEnded{})).size(), 1u);
    const auto end = on(BeginRound{});
    ASSERT_EQ(only<FinishRun>(end).size(), 1u);
    EXPECT_TRUE(only<FinishRun>(end)[0].stopped);
    EXPECT_EQ(only<HoldUpdate>(on(update_of(tasks[2]))).size(), 1u) << "it is for nobody any more";
  }
}

TEST(Schedules, AResumedRoundKnowsOlderTasksAndGoesOnAskingAsBefore) {
  for (const bool between_rounds : {false, true}) {
    Machine on(rules_of(Schedule::kFedBuff)), resumed(rules_of(Schedule::kFedBuff), 2);
    const auto first = only<SendTask>(on(BeginRound{}));
    (void)on(update_of(first[0]));
    (void)on(update_of(first[1]));
    (void)on(RoundEnded{});
    ResumeRound known{.round = 1, .tasks = {}};
    for (size_t i = 2; i < 4; ++i)
      known.tasks.push_back({.client = first[i].client, .round = 1, .fate = Fate::kOpen});
    if (between_rounds) {
      known.closed = known.ended = true;
      EXPECT_EQ(only<SendTask>(resumed(known)).size(), 2u);
      EXPECT_EQ(clients_of(only<SendTask>(resumed(BeginRound{}))),
                clients_of(only<SendTask>(on(BeginRound{}))));
      continue;
    }
    const auto second = only<SendTask>(on(BeginRound{}));
    (void)on(update_of(first[2]));
    known.round = 2;
    known.counted = 1;
    known.tasks.erase(known.tasks.begin());
    for (const SendTask& task : second)
      known.tasks.push_back({.client = task.client, .round = 2, .fate = Fate::kOpen});
    EXPECT_EQ(only<SendTask>(resumed(known)).size(), 3u);
    EXPECT_EQ(resumed.machine.lacking(), 1u);
    EXPECT_EQ(clients_of(only<SendTask>(resumed(AskMore{}))),
              clients_of(only<SendTask>(on(AskMore{}))));
    EXPECT_EQ(only<CloseRound>(resumed(update_of(first[3]))).size(), 1u);
  }
}

// ---- What an old update counts

TEST(Staleness, IsThePolynomialOfThePapersToTheLastBits) {
  EXPECT_EQ(staleness_factor(0, 0.5), 1.0);
  EXPECT_EQ(staleness_factor(17, 0), 1.0);
  EXPECT_EQ(staleness_factor(3, 0.5), 0.5);
  EXPECT_EQ(staleness_factor(3, 1), 0.25);
  EXPECT_EQ(staleness_factor(15, 0.75), 0.125);
  EXPECT_EQ(staleness_factor(1, 8), 1.0 / 256);
  EXPECT_EQ(staleness_factor(1, 0.5), 1 / std::sqrt(2.0));
  for (const double exponent : {0.1, 0.3, 0.5, 0.9, 1.7, 3.3})
    for (uint32_t versions = 0; versions < 200; ++versions) {
      const double factor = staleness_factor(versions, exponent);
      ASSERT_NEAR(factor, std::pow(1.0 + versions, -exponent), 1e-5) << versions << " " << exponent;
      ASSERT_GT(factor, 0);
      ASSERT_LE(factor, 1);
    }
}

// ---- Whole runs

FederationOptions slow_and_fast(std::string_view schedule) {
  return {.clients = 6,
          .cohort = 2,
          .over_select = 2,
          .rounds = 12,
          .elements = 64,
          .start_when = 6,
          .largest_examples = 8,
          .schedule = schedule};
}

/// Clients whose work takes 1, 2, 4, ... seconds.
void add_clients(Federation& run) {
  run.add_clients();
  for (size_t i = 0; i < run.clients.size(); ++i) run.clients[i]->loop.work_takes = seconds(1 << i);
}

/// What each counted update adds, scaled by its age, over the sum of the weights of its round:
/// worked out from the events alone.
std::vector<double> expected_of(const Federation& run) {
  const std::vector<float> zero = run.expected({0}, 0);
  std::vector<double> model(zero.begin(), zero.end());
  const auto clients = run.events.numbers("update_counted", "client");
  const auto staleness = run.events.numbers("update_counted", "staleness");
  size_t at = 0;
  for (const int64_t counted : run.events.numbers("round_closed", "counted")) {
    for (int64_t i = 0; i < counted; ++i, ++at)
      for (size_t j = 0; j < model.size(); ++j)
        model[j] += constant_update(static_cast<uint32_t>(clients[at]), j) /
                    std::sqrt(1.0 + static_cast<double>(staleness[at])) /
                    static_cast<double>(counted);
  }
  return model;
}

TEST(Schedules, ARunCountsLateUpdatesScaledByTheirAge) {
  for (const char* schedule : {"late-credit", "fedbuff"}) {
    Federation run(slow_and_fast(schedule));
    add_clients(run);
    run.run();
    EXPECT_EQ(run.coordinator->model().version(), 12u) << schedule;
    EXPECT_EQ(run.events.count("update_counted"), 24);
    EXPECT_EQ(run.events.count("update_refused"), 0);
    EXPECT_EQ(run.events.count("task_failed"), 0);
    EXPECT_EQ(run.events.count("peer_refused"), 0);
    const auto staleness = run.events.numbers("update_counted", "staleness");
    EXPECT_GT(*std::ranges::max_element(staleness), 0) << "somebody was late";
    const auto model = run.parameters();
    const auto expected = expected_of(run);
    for (size_t i = 0; i < model.size(); ++i) ASSERT_NEAR(model[i], expected[i], 2e-5) << i;
    for (const auto& client : run.clients) EXPECT_EQ(client->events.count("task_refused"), 0);
  }
}

TEST(Schedules, FedBuffIsFasterThanWaitingForEverybody) {
  std::map<std::string, TimePoint> ended;
  for (const char* schedule : {"synchronous", "late-credit", "fedbuff"}) {
    FederationOptions options = slow_and_fast(schedule);
    if (options.schedule == "synchronous") options.over_select = 1;
    Federation run(options);
    add_clients(run);
    run.run();
    ended[schedule] = run.loop.now();
  }
  EXPECT_LT(2 * ended["fedbuff"], ended["synchronous"]);
  EXPECT_LT(ended["late-credit"], ended["synchronous"]);
}

TEST(Schedules, ATaskThatIsTooOldIsRefusedAndItsClientGoesOn) {
  for (const char* schedule : {"late-credit", "fedbuff"}) {
    FederationOptions options = slow_and_fast(schedule);
    options.rounds = 60;
    options.max_staleness = 2;
    options.up = "ef | topk:0.25 | ternary | rice";
    Federation run(options);
    add_clients(run);
    run.clients[5]->loop.work_takes = seconds(60);
    run.run();
    EXPECT_GT(run.events.count("task_failed"), 0);
    const auto staleness = run.events.numbers("update_counted", "staleness");
    EXPECT_LE(*std::ranges::max_element(staleness), 2);
    EXPECT_EQ(run.coordinator->model().version(), 60u);
    const auto told = run.clients[5]->events.numbers("verdict_received", "counted");
    EXPECT_EQ(std::ranges::count(told, 1), 0) << "the slowest is never in time";
  }
}

TEST(Schedules, ConnectionsMayBreakAtAnyPacketAndNothingIsCountedTwice) {
  for (const char* schedule : {"late-credit", "fedbuff"})
    for (uint32_t trial = 0; trial < 15; ++trial) {
      Rng rng(trial, Purpose::kTest);
      FederationOptions options = slow_and_fast(schedule);
      options.up = "ef | topk:0.25 | ternary | rice";
      options.elements = 3000;
      Federation run(options);
      add_clients(run);
      int cuts = 0;
      for (const auto& client : run.clients) {
        const auto watch = [&](std::span<const std::byte> packet) {
          if (as<Goodbye>(read(packet)) || cuts >= 40 || rng.below(8) > 0)
            return CuttableTransport::Fate::kPass;
          ++cuts;
          return CuttableTransport::Fate::kCut;
        };
        client->transport.on_way_in = client->transport.on_way_out = watch;
      }
      run.run();
      EXPECT_EQ(run.coordinator->model().version(), 12u);
      EXPECT_EQ(run.events.count("update_counted"), 24) << schedule << trial;
      EXPECT_EQ(run.events.count("peer_refused"), 0);
      EXPECT_EQ(run.events.count("update_refused"), 0);
      // Each client knows its updates' fates: a task is counted once.
      for (size_t i = 0; i < run.clients.size(); ++i) {
        const auto counted = run.events.numbers("update_counted", "client");
        const auto told = run.clients[i]->events.numbers("verdict_received", "counted");
        EXPECT_LE(std::ranges::count(told, 1), std::ranges::count(counted, i));
        EXPECT_GE(std::ranges::count(told, 1) + 1, std::ranges::count(counted, i));
      }
    }
}

TEST(Schedules, ClientsThatTrainAreNotAskedToEvaluate) {
  FederationOptions options = slow_and_fast("fedbuff");
  // All are at work but the two that a round has counted, if they weren't asked again in it.
  options.over_select = 3;
  options.evaluate_every = 1;
  options.evaluate_by = EvaluateBy::kClients;
  Federation run(options);
  for (uint32_t i = 0; i < options.clients; ++i) {
    run.add_client(i, {.evaluates = true});
    run.clients.back()->loop.work_takes = seconds(1 << i);
  }
  run.run();
  EXPECT_EQ(run.evaluations.size(), 12u);
  int evaluations = 0;
  for (const auto& client : run.clients) {
    const std::string kinds = client->events.texts("task_started", "kind");
    for (size_t at = 0; (at = kinds.find("evaluate", at)) != std::string::npos; ++at) ++evaluations;
  }
  EXPECT_LE(evaluations, 24);
  EXPECT_GT(evaluations, 12);
}

}  // namespace
}  // namespace tern
