// Whole runs of a coordinator and its clients, honest ones and others, over a transport in memory:
// whatever happens to connections and whatever hostile peers send, the model is what the honest
// updates make it.
#include "coordinator/coordinator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"
#include "compression/updates/frame.h"
#include "proto/transfer.h"
#include "tests/coordinator/federation.h"

namespace tern {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using Cut = CuttableTransport::Fate;

constexpr char kErrorFeedback[] = "ef | topk:0.25 | ternary | rice";
/// A model whose frames need more than one window of credit.
constexpr int64_t kLarge = 400'000;

// ---- Honest runs

TEST(Coordinator, AWholeRunGivesTheExpectedModel) {
  Federation run({.clients = 4, .rounds = 3});
  run.add_clients();
  run.run();
  EXPECT_EQ(run.parameters(), run.expected({0, 1, 2, 3}, 3));
  EXPECT_EQ(run.coordinator->model().version(), 3u);
  EXPECT_EQ(run.coordinator->round(), 3u);
  EXPECT_FALSE(**run.ended) << "it went to its last round";
  EXPECT_EQ(run.events.count("update_counted"), 12);
  EXPECT_EQ(run.events.count("update_refused"), 0);
  EXPECT_EQ(run.events.count("peer_refused"), 0);
  for (const auto& client : run.clients) {
    ASSERT_TRUE(client->finished);
    EXPECT_TRUE(client->finished->ok()) << client->finished->describe();
    EXPECT_EQ(client->training.tasks.size(), 3u);
    EXPECT_EQ(client->events.count("verdict_received"), 3);
    EXPECT_EQ(client->transport.dials, 1);
  }
}

TEST(Coordinator, WeighsUpdatesByExamplesWhateverTheNumberOfWorkers) {
  for (const size_t workers : {1u, 3u}) {
    Federation run({.clients = 3, .rounds = 1, .workers = workers});
    run.add_client(0, {.examples = 1});
    run.add_client(1, {.examples = 2});
    run.add_client(2, {.examples = 5});
    run.run();
    // (1 * 1 + 2 * 2 + 5 * 3) / 8
    std::vector<float> expected = run.expected({0}, 0);
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += 20.0f / 8 * constant_update(0, i);
    EXPECT_EQ(run.parameters(), expected);
  }
}

TEST(Coordinator, LargeModelsTravelUnderCreditBothWays) {
  Federation run({.clients = 2, .rounds = 3, .elements = kLarge});
  run.add_clients();
  run.run();
  EXPECT_EQ(run.parameters(), run.expected({0, 1}, 3));
  for (const auto& client : run.clients) {
    EXPECT_FALSE(client->said<Credit>().empty());
    EXPECT_GE(client->transport.part_bytes_out, int64_t{3} * 4 * kLarge);
    EXPECT_GE(client->transport.part_bytes_in, int64_t{2} * 4 * kLarge);
    EXPECT_LE(client->transport.part_bytes_in, int64_t{2} * 4 * kLarge + 20'000)
        << "each delta once";
  }
}

TEST(Coordinator, EachClientDownloadsEachDeltaOnce) {
  Federation run({.clients = 3, .rounds = 5, .down = kErrorFeedback, .elements = 3000});
  run.add_clients();
  run.run();
  std::vector<int64_t> expected;
  for (const int64_t delta : run.events.numbers("version_published", "delta_bytes"))
    expected.insert(expected.end(), 3, delta + static_cast<int64_t>(kPartHeaderBytes));
  expected.resize(4 * 3);  // the last version is for nobody
  EXPECT_EQ(run.events.numbers("download_sent", "bytes"), expected);
}

TEST(Coordinator, TheLawOfErrorFeedbackHoldsOverAWholeRun) {
  Federation run({.clients = 1, .rounds = 6, .up = kErrorFeedback, .elements = 100});
  TestClient& client = run.add_client(0);
  run.run();
  const std::vector<float> model = run.parameters(), zero = run.expected({0}, 0);
  const auto residual = client.state(0).memory.residual;
  ASSERT_EQ(residual.size(), model.size());
  for (size_t i = 0; i < model.size(); ++i)
    EXPECT_NEAR(model[i] - zero[i] + residual[i], 6 * constant_update(0, i), 1e-5) << i;
}

TEST(Coordinator, UnderEf21TheStepIsTheMeanOfTheClientsEstimates) {
  // With everything sent, an estimate is the update itself: the run is that of float32.
  for (const char* up : {"ef21 | topk:1", "ef21 | topk:0.25 | rice"}) {
    Federation run({.clients = 3, .rounds = 8, .up = up, .elements = 64});
    run.add_clients();
    run.run();
    const std::vector<float> expected = run.expected({0, 1, 2}, 8), model = run.parameters();
    const std::vector<float> zero = run.expected({0}, 0);
    for (size_t i = 0; i < model.size(); ++i) {
      if (std::string_view(up) == "ef21 | topk:1") {
        ASSERT_NEAR(model[i], expected[i], 1e-5) << i;
      } else {
        // A quarter of what is missing comes each round, so after four rounds the estimates of a
        // constant update are whole, and each further step is the mean of the updates.
        ASSERT_LE(std::abs(model[i] - zero[i]), std::abs(expected[i] - zero[i]) + 1e-5) << i;
        ASSERT_GE(std::abs(model[i] - zero[i]), std::abs(expected[i] - zero[i]) * 4 / 8 - 1e-5);
      }
    }
  }
}

TEST(Coordinator, RunsWithoutErrorFeedbackKeepNoResidual) {
  Federation run({.clients = 1, .rounds = 2, .up = "rotate:1024 | eden:4"});
  TestClient& client = run.add_client(0);
  run.run();
  EXPECT_TRUE(client.state(0).memory.empty());
}

TEST(Coordinator, WaitsForClientsAndAsksOnlyThoseThatAreThere) {
  Federation run({.clients = 6, .cohort = 3, .rounds = 4, .start_when = 3});
  for (const uint32_t number : {1u, 3u, 5u}) run.add_client(number);
  run.run();
  EXPECT_EQ(run.events.count("waiting_for_clients"), 1);
  EXPECT_EQ(run.parameters(), run.expected({1, 3, 5}, 4));
}

TEST(Coordinator, AClientWithoutExamplesIsNeverAsked) {
  Federation run({.clients = 3, .cohort = 2, .rounds = 3, .start_when = 2});
  run.add_client(0);
  run.add_client(1, {.examples = 0});
  run.add_client(2);
  run.run();
  EXPECT_EQ(run.parameters(), run.expected({0, 2}, 3));
  EXPECT_EQ(run.clients[1]->events.count("task_started"), 0);
}

TEST(Coordinator, AClientThatJoinsLateDownloadsWhatItMissedAndTakesPart) {
  Federation run({.clients = 3, .cohort = 2, .rounds = 6, .start_when = 2});
  run.add_client(0);
  run.add_client(1);
  TestClient* late = nullptr;
  CoordinatorHooks hooks;
  hooks.after_round = [&](uint32_t round, const Evaluation*) -> Status {
    if (round == 2) (late = &run.add_client(2))->start();
    return {};
  };
  run.open(std::move(hooks));
  run.run();
  ASSERT_NE(late, nullptr);
  ASSERT_FALSE(late->training.tasks.empty());
  EXPECT_GT(late->transport.part_bytes_in, 0u);
  EXPECT_EQ(late->events.count("task_refused"), 0);
  EXPECT_EQ(run.events.count("task_failed"), 0);
}

TEST(Coordinator, AClientThatLeftIsMissedOnceAndThenNotAsked) {
  Federation run({.clients = 4,
                  .cohort = 3,
                  .min_updates = 2,
                  .rounds = 12,
                  .deadline_seconds = 10,
                  .start_when = 4});
  run.add_clients();
  CoordinatorHooks hooks;
  hooks.after_round = [&](uint32_t round, const Evaluation*) -> Status {
    if (round == 1) run.clients[3]->session->stop();
    return {};
  };
  run.open(std::move(hooks));
  run.run();
  EXPECT_LT(run.loop.now(), seconds(15)) << "one deadline";
  std::vector<int64_t> short_of_one = run.events.numbers("round_closed", "counted");
  EXPECT_EQ(std::ranges::count(short_of_one, 3), 11);
  EXPECT_EQ(std::ranges::count(short_of_one, 2), 1);
}

// ---- Connections that break. Whatever breaks, the same updates are counted, so the model is the
// same, bit for bit, and so is what clients remember.

struct Outcome {
  std::vector<float> model;
  std::vector<std::vector<float>> residuals;
  bool operator==(const Outcome&) const = default;
};

Outcome outcome_of(const Federation& run) {
  Outcome outcome{.model = run.parameters(), .residuals = {}};
  for (size_t i = 0; i < run.clients.size(); ++i) {
    const auto residual = run.clients[i]->state(static_cast<uint32_t>(i)).memory.residual;
    outcome.residuals.emplace_back(residual.begin(), residual.end());
  }
  return outcome;
}

FederationOptions error_feedback_run(int64_t elements = 24) {
  return {.clients = 3, .rounds = 4, .up = kErrorFeedback, .elements = elements};
}

Outcome undisturbed(int64_t elements = 24) {
  Federation run(error_feedback_run(elements));
  run.add_clients();
  run.run();
  return outcome_of(run);
}

/// Of a run of two clients, the second of which couldn't do its first task.
Outcome without_the_first_task(uint32_t rounds) {
  Federation run({.clients = 2, .min_updates = 1, .rounds = rounds, .up = kErrorFeedback});
  run.add_clients();
  run.clients[1]->training.fail = [](const TrainTask& task) -> Status {
    return task.round == 1 ? Status(Code::kIo, "not today") : Status();
  };
  run.run();
  return outcome_of(run);
}

void expect_counted_once(const Federation& run, uint32_t client, int rounds) {
  const std::vector<int64_t> counted = run.events.numbers("update_counted", "client");
  EXPECT_EQ(std::ranges::count(counted, client), rounds);
}

TEST(Coordinator, AClientThatReconnectsWhileItTrainsTrainsOnceAndIsCountedOnce) {
  const Outcome expected = undisturbed();
  Federation run(error_feedback_run());
  run.add_clients();
  TestClient& client = *run.clients[1];
  client.loop.work_takes = seconds(10);
  run.start();
  // The first ten seconds are for preparing; it trains from 10 to 20, from 20 to 30, ...
  run.loop.call_at(seconds(15), [&] { client.transport.cut(); });
  run.loop.call_at(seconds(25), [&] { client.transport.cut(); });
  run.loop.call_at(seconds(27), [&] { client.transport.cut(); });
  run.run();
  EXPECT_EQ(client.transport.dials, 4);
  EXPECT_EQ(client.training.tasks.size(), 4u);
  EXPECT_EQ(client.loads, 1) << "its data stay at hand";
  expect_counted_once(run, 1, 4);
  EXPECT_TRUE(outcome_of(run) == expected);
}

TEST(Coordinator, AClientThatReconnectsInTheMiddleOfADownloadGetsItAgain) {
  Federation run({.clients = 2, .rounds = 3, .elements = kLarge});
  run.add_clients();
  TestClient& client = *run.clients[1];
  int parts = 0;
  client.transport.on_way_in = [&](std::span<const std::byte> packet) {
    if (!is_part(packet)) return Cut::kPass;
    ++parts;
    return parts == 3 || parts == 6 ? Cut::kCut : Cut::kPass;
  };
  run.run();
  EXPECT_EQ(client.transport.dials, 3);
  EXPECT_EQ(client.training.tasks.size(), 3u);
  EXPECT_EQ(run.parameters(), run.expected({0, 1}, 3));
}

TEST(Coordinator, AClientThatReconnectsInTheMiddleOfAnUploadSendsTheSameBytesAgain) {
  for (const int cut_at : {1, 2, 5, 7}) {
    Federation run({.clients = 2, .rounds = 2, .elements = kLarge});
    run.add_clients();
    TestClient& client = *run.clients[1];
    int parts = 0;
    client.transport.on_way_out = [&](std::span<const std::byte> packet) {
      return is_part(packet) && ++parts == cut_at ? Cut::kCut : Cut::kPass;
    };
    run.run();
    EXPECT_EQ(client.transport.dials, 2);
    EXPECT_EQ(client.training.tasks.size(), 2u) << "what is trained isn't trained again";
    // A long update's message goes alone, so it is there before the part that is lost.
    EXPECT_EQ(client.said<UpdateMessage>().size(), 3u);
    expect_counted_once(run, 1, 2);
    EXPECT_EQ(run.parameters(), run.expected({0, 1}, 2));
  }
}

TEST(Coordinator, WhoeverAsksForCreditAndSendsNothingHoldsNobodyUp) {
  // More silent clients than there is credit for, and all of them first.
  constexpr uint32_t kSilent = 12, kHonest = 2;
  Federation run({.clients = kSilent + kHonest,
                  .min_updates = kHonest,
                  .rounds = 2,
                  .deadline_seconds = 30,
                  .elements = kLarge});
  std::vector<std::unique_ptr<RawPeer>> silent;
  silent.reserve(kSilent);
  uint32_t credited = 0;
  for (uint32_t i = 0; i < kSilent; ++i) {
    RawPeer& peer = *silent.emplace_back(std::make_unique<RawPeer>(run.network, peer_key(i)));
    peer.when_connected = [&run, &peer] {
      (void)peer.say(
          Hello{.schema_hash = run.schema.hash(), .unix_seconds = run.machine.unix_seconds()});
    };
    peer.when_told = [&peer, &credited, i](const Message& message) {
      if (std::holds_alternative<Welcome>(message)) (void)peer.say(Ready{.examples = 8});
      credited += std::holds_alternative<Credit>(message);
      if (const auto* plan = std::get_if<PlanMessage>(&message))
        (void)peer.say(UpdateMessage{
            .task = plan->task.task,
            .client = i,
            .report = {.examples = 8, .samples_trained = 8, .steps = 1, .mean_loss = 0.5}});
    };
    peer.connect();
  }
  for (uint32_t i = kSilent; i < kSilent + kHonest; ++i) {
    run.add_client(i);
    run.clients.back()->loop.work_takes = seconds(2);  // when all the others have asked
  }
  run.run();
  EXPECT_GE(credited, kSilent) << "they had all the credit that there was";
  EXPECT_EQ(run.events.count("update_counted"), 2 * kHonest);
  EXPECT_EQ(run.parameters(), run.expected({kSilent, kSilent + 1}, 2));
}

TEST(Coordinator, ALostVerdictIsToldByTheNextWelcomeAndCommitsOnce) {
  const Outcome expected = undisturbed();
  // The verdict on the first, a middle and the last update.
  for (const int lost : {1, 2, 4}) {
    Federation run(error_feedback_run());
    run.add_clients();
    TestClient& client = *run.clients[2];
    int verdicts = 0;
    client.transport.on_way_in = [&](std::span<const std::byte> packet) {
      const std::optional<Message> message = read(packet);
      return as<Verdict>(message) && ++verdicts == lost ? Cut::kCut : Cut::kPass;
    };
    run.run();
    if (lost == 4) run.run_for(minutes(2));
    if (lost < 4) {
      EXPECT_EQ(client.events.count("verdict_received"), 4) << lost;
      EXPECT_TRUE(outcome_of(run) == expected) << lost;
    } else {
      EXPECT_EQ(run.parameters(), expected.model);
    }
    expect_counted_once(run, 2, 4);
    EXPECT_EQ(client.training.tasks.size(), 4u);
  }
}

TEST(Coordinator, ALostRefusalIsToldByTheNextWelcomeAndRollsBack) {
  Federation run({.clients = 2, .min_updates = 1, .rounds = 3, .up = kErrorFeedback});
  run.add_clients();
  TestClient& client = *run.clients[1];
  int verdicts = 0;
  client.transport.on_way_in = [&](std::span<const std::byte> packet) {
    const std::optional<Message> message = read(packet);
    return as<Verdict>(message) && ++verdicts == 1 ? Cut::kCut : Cut::kPass;
  };
  // Its first update arrives damaged.
  int parts = 0;
  client.transport.on_way_out = [&](std::span<const std::byte> packet) {
    const std::span<const std::byte> part = open_packet(packet).part;
    if (!part.empty() && ++parts == 1) const_cast<std::byte&>(part.back()) ^= std::byte{1};
    return Cut::kPass;
  };
  run.run();
  EXPECT_EQ(run.events.count("update_refused"), 1);
  EXPECT_THAT(client.events.numbers("verdict_received", "counted"), ElementsAre(0, 1, 1));
  expect_counted_once(run, 1, 2);
  EXPECT_TRUE(outcome_of(run) == without_the_first_task(3));
}

TEST(Coordinator, EveryPacketOfAClientMayBeTheLastOfItsConnection) {
  const Outcome expected = undisturbed();
  int cuts = 0;
  for (int cut_at = 1; cut_at < 40; ++cut_at)
    for (const bool in : {false, true}) {
      Federation run(error_feedback_run());
      run.add_clients();
      TestClient& client = *run.clients[0];
      int packets = 0;
      const auto watch = [&](std::span<const std::byte> packet) {
        if (as<Goodbye>(read(packet)) || ++packets != cut_at) return Cut::kPass;
        ++cuts;
        return Cut::kCut;
      };
      (in ? client.transport.on_way_in : client.transport.on_way_out) = watch;
      run.run();
      EXPECT_EQ(run.parameters(), expected.model) << cut_at << in;
      expect_counted_once(run, 0, 4);
      EXPECT_EQ(run.events.count("peer_refused"), 0);
      EXPECT_LE(client.training.tasks.size(), 4u);
    }
  EXPECT_GT(cuts, 12);
}

TEST(Coordinator, RandomCutsOfAllClientsChangeNothing) {
  const Outcome expected = undisturbed(3000);
  for (uint32_t trial = 0; trial < 25; ++trial) {
    Rng rng(trial, Purpose::kTest);
    Federation run(error_feedback_run(3000));
    run.add_clients();
    int cuts = 0;
    for (const auto& client : run.clients) {
      client->loop.next_work_takes = [&rng] { return seconds(rng.below(5)); };
      const auto watch = [&](std::span<const std::byte> packet) {
        if (as<Goodbye>(read(packet)) || cuts >= 30 || rng.below(6) > 0) return Cut::kPass;
        ++cuts;
        return Cut::kCut;
      };
      client->transport.on_way_in = client->transport.on_way_out = watch;
    }
    run.run();
    EXPECT_EQ(run.parameters(), expected.model) << trial;
    for (uint32_t client = 0; client < 3; ++client) expect_counted_once(run, client, 4);
  }
}

TEST(Coordinator, TheServersProcessIsMissedAndFoundAgain) {
  // Its connections break; the coordinator itself goes on.
  const Outcome expected = undisturbed();
  Federation run(error_feedback_run());
  run.add_clients();
  for (const auto& client : run.clients) client->loop.work_takes = seconds(10);
  run.start();
  run.run_for(seconds(15));
  run.network.set_server_up(false);
  run.run_for(minutes(10));
  for (const auto& client : run.clients) EXPECT_EQ(client->events.count("connection_lost"), 1);
  run.network.set_server_up(true);
  run.network.server().start(*run.coordinator);
  run.run();
  EXPECT_TRUE(outcome_of(run) == expected);
}

// ---- Stragglers

TEST(Coordinator, ATaskThatTheCoordinatorGaveUpIsRolledBackAndTheNextOneCounts) {
  Federation run(
      {.clients = 2, .min_updates = 1, .rounds = 5, .deadline_seconds = 10, .up = kErrorFeedback});
  run.add_clients();
  TestClient& slow = *run.clients[1];
  // Preparing, then one task that takes until the next round, then as fast as the other.
  std::vector<int> takes = {0, 15, 0, 0, 0, 0, 0};
  slow.loop.next_work_takes = [&, next = size_t{0}]() mutable { return seconds(takes[next++]); };
  run.run();
  EXPECT_THAT(run.events.numbers("round_closed", "counted"), ElementsAre(1, 2, 2, 2, 2));
  expect_counted_once(run, 0, 5);
  expect_counted_once(run, 1, 4);
  EXPECT_EQ(slow.training.tasks.size(), 5u);
  EXPECT_TRUE(outcome_of(run) == without_the_first_task(5));
  EXPECT_EQ(slow.events.count("task_refused"), 0);
  EXPECT_EQ(slow.state(1).last_task_round, 5u);
}

TEST(Coordinator, AStragglerThatMovedToANewerVersionMeanwhileTakesTheDeltasItStillLacks) {
  // In round 2 the slow client brings its replica to version 1 and trains on; in round 3 the
  // coordinator, which hasn't heard of that, sends the deltas since version 0.
  Federation run({.clients = 2, .min_updates = 1, .rounds = 6, .deadline_seconds = 10});
  run.add_clients();
  TestClient& slow = *run.clients[1];
  std::vector<int> takes = {0, 0, 15, 7, 0, 0, 0, 0};
  slow.loop.next_work_takes = [&, next = size_t{0}]() mutable { return seconds(takes[next++]); };
  run.run();
  EXPECT_EQ(slow.events.count("task_refused"), 0) << slow.events.texts("task_refused");
  EXPECT_EQ(run.events.count("task_failed"), 0) << run.events.texts("task_failed");
  EXPECT_THAT(run.events.numbers("round_closed", "counted"), ElementsAre(2, 1, 1, 2, 2, 2));
}

TEST(Coordinator, AnUpdateThatComesLateIsRefusedAndNamed) {
  Federation run({.clients = 3, .cohort = 2, .over_select = 1.5, .rounds = 4});
  run.add_clients();
  // The third of three is too late each time, but not so late that the next round has begun: it
  // sends while the round ends.
  run.run();
  EXPECT_EQ(run.events.count("update_counted"), 8);
  EXPECT_EQ(run.events.count("update_refused"), 4);
  EXPECT_THAT(run.events.texts("update_refused"), HasSubstr("is over"));
  for (const auto& client : run.clients)
    EXPECT_EQ(client->events.count("verdict_received"), 4) << "late ones are answered, too";
}

TEST(Coordinator, VoidRoundsBackOffAndTheRunGoesOn) {
  Federation run({.clients = 2, .rounds = 9});
  run.add_clients();
  bool broken = true;
  run.clients[0]->training.fail = [&](const TrainTask&) -> Status {
    return broken ? Status(Code::kIo, "the disk is full") : Status();
  };
  std::vector<TimePoint> ends;
  CoordinatorHooks hooks;
  hooks.after_round = [&](uint32_t round, const Evaluation*) -> Status {
    ends.push_back(run.loop.now());
    if (round == 8) broken = false;
    return {};
  };
  run.open(std::move(hooks));
  run.run();
  EXPECT_EQ(run.events.count("round_void"), 8);
  EXPECT_THAT(run.events.texts("task_failed"), HasSubstr("the disk is full"));
  std::vector<int> pauses;
  for (size_t i = 1; i < ends.size(); ++i)
    pauses.push_back(static_cast<int>(tern::seconds(ends[i] - ends[i - 1])));
  EXPECT_THAT(pauses, ElementsAre(1, 2, 4, 8, 16, 32, 60, 60));
  EXPECT_EQ(run.parameters(), run.expected({0, 1}, 1)) << "void rounds change nothing";
}

// ---- Whom the coordinator turns away, and why. The run goes on with the others.

/// A run of three honest clients, in whose first round client 3 of four is another kind of peer.
/// Its seat is a client's, so that the coordinator listens to it.
class AmongOthers : public testing::Test {
 public:
  AmongOthers() { prepare({.clients = 4, .cohort = 3, .rounds = 3, .start_when = 3}); }

  void prepare(FederationOptions options) {
    peer.reset();
    run = std::make_unique<Federation>(std::move(options));
    for (uint32_t i = 0; i < 3; ++i) run->add_client(i);
    peer = std::make_unique<RawPeer>(run->network, peer_key(3));
  }
  Hello hello() const {
    return {.software = "attack",
            .schema_hash = run->schema.hash(),
            .unix_seconds = run->machine.unix_seconds()};
  }
  /// The peer connects first and says this; then the run goes through as if it weren't there.
  void say_and_run(std::vector<Bytes> packets) {
    peer->when_connected = [&] {
      for (const Bytes& packet : packets) (void)peer->send(packet);
    };
    peer->connect();
    if (!run->coordinator) run->open();
    run->run();
    EXPECT_EQ(run->parameters(), run->expected({0, 1, 2}, 3));
    for (const auto& client : run->clients) {
      EXPECT_TRUE(client->finished && client->finished->ok());
    }
  }
  void expect_refused(const char* reason) {
    const std::vector<Refusal> refusals = peer->heard<Refusal>();
    ASSERT_EQ(refusals.size(), 1u) << reason;
    EXPECT_THAT(refusals[0].reason.describe(), HasSubstr(reason));
    EXPECT_EQ(run->events.count("peer_refused"), 1);
    EXPECT_THAT(run->events.texts("peer_refused"), HasSubstr(reason));
    EXPECT_EQ(peer->losses.size(), 1u) << "and it is cut off";
  }

  std::unique_ptr<Federation> run;
  std::unique_ptr<RawPeer> peer;
};

TEST_F(AmongOthers, AnotherSchemaIsRefused) {
  Hello other = hello();
  other.schema_hash ^= 1;
  say_and_run({to_packet(other)});
  expect_refused("the client is set up for schema");
}

TEST_F(AmongOthers, AnotherProtocolIsRefusedAndToldWhatIsSpokenHere) {
  for (const auto& [low, high] : {std::pair<uint16_t, uint16_t>{1, 1}, {3, 7}, {65535, 65535}}) {
    prepare({.clients = 4, .cohort = 3, .rounds = 3, .start_when = 3});
    Hello other = hello();
    other.protocol_low = low;
    other.protocol_high = high;
    Bytes packet = to_packet(other);
    store(packet.data() + 6, high);  // as a program of that version would write it
    say_and_run({packet});
    expect_refused(
        fmt::format("speaks protocol {} to {}, this coordinator 2 to 2", low, high).c_str());
  }
}

TEST_F(AmongOthers, ANewerClientThatStillSpeaksThisProtocolIsWelcome) {
  Hello newer = hello();
  newer.protocol_high = 9;
  say_and_run({to_packet(newer)});
  ASSERT_EQ(peer->heard<Welcome>().size(), 1u);
  EXPECT_EQ(peer->heard<Welcome>()[0].protocol, 2u);
  EXPECT_EQ(run->events.count("peer_refused"), 0);
}

TEST_F(AmongOthers, AVersionThatWasNeverPublishedIsRefused) {
  Hello ahead = hello();
  ahead.run_id = Federation::kRunId;
  ahead.held_version = 1;
  say_and_run({to_packet(ahead)});
  expect_refused("holds version 1 of this run, the coordinator is at 0");
}

TEST_F(AmongOthers, AVersionOfAnotherRunIsForgotten) {
  Hello other = hello();
  other.run_id = Federation::kRunId + 1;
  other.held_version = 77;
  say_and_run({to_packet(other)});
  EXPECT_EQ(peer->heard<Welcome>().size(), 1u);
}

TEST_F(AmongOthers, ASecondConnectionOfAClientTakesThePlaceOfTheFirst) {
  RawPeer second(run->network, peer_key(3));
  second.when_connected = [&] { (void)second.say(hello()); };
  peer->when_told = [&](const Message& message) {
    if (std::holds_alternative<Welcome>(message)) second.connect();
  };
  second.when_told = [&](const Message& message) {
    if (std::holds_alternative<Welcome>(message)) (void)peer->say(Credit{});
  };
  say_and_run({to_packet(hello())});
  EXPECT_EQ(peer->losses.size(), 1u);
  EXPECT_TRUE(peer->heard<Refusal>().empty()) << "nothing more of it is heard";
  EXPECT_EQ(second.heard<Welcome>().size(), 1u);
  EXPECT_TRUE(second.losses.empty());
  EXPECT_EQ(run->events.count("client_joined"), 5);
  EXPECT_EQ(run->events.count("peer_refused"), 0);
}

TEST_F(AmongOthers, NothingIsHeardBeforeAHello) {
  const TaskId task = task_id(5, 1, 0);
  const Message firsts[] = {Ready{.examples = 5}, UpdateMessage{.task = task, .client = 3},
                            TaskFailure{.task = task, .reason = {Code::kIo, "x"}},
                            Credit{.task = task, .bytes = 1},
                            EvaluationReport{.task = task, .client = 3}};
  std::vector<Bytes> packets;
  for (const Message& message : firsts) packets.push_back(to_packet(message));
  const Bytes frame(100);
  packets.push_back(
      split_into_parts(TransferKind::kUpdate, task, std::vector{std::span(frame)})[0]);
  for (const Bytes& packet : packets) {
    prepare({.clients = 4, .cohort = 3, .rounds = 3, .start_when = 3});
    say_and_run({packet});
    expect_refused("did not begin with a Hello");
  }
}

TEST_F(AmongOthers, WhatOnlyACoordinatorSaysIsRefused) {
  const Message words[] = {Welcome{}, Refusal{{Code::kIo, "x"}}, Goodbye{}, PlanMessage{},
                           Verdict{}};
  for (const Message& word : words)
    for (const bool greeted : {false, true}) {
      prepare({.clients = 4, .cohort = 3, .rounds = 3, .start_when = 3});
      std::vector<Bytes> packets{to_packet(word)};
      if (greeted) packets.insert(packets.begin(), to_packet(hello()));
      say_and_run(packets);
      expect_refused("only a coordinator sends");
    }
}

TEST_F(AmongOthers, AnUpdateInAnotherClientsNameIsRefused) {
  const TaskId task = task_id(5, 1, 0);
  say_and_run({to_packet(hello()), to_packet(UpdateMessage{.task = task, .client = 0})});
  expect_refused("an update in the name of client 0");
  expect_counted_once(*run, 0, 3);
}

TEST_F(AmongOthers, AStrangerIsTurnedAwayWithoutAWord) {
  run->members.erase(peer_key(3));
  say_and_run({to_packet(hello())});
  EXPECT_TRUE(peer->told.empty());
  EXPECT_THAT(run->events.texts("peer_refused"), HasSubstr("not on the list"));
}

TEST_F(AmongOthers, GarbageOfEveryLengthIsRefused) {
  Rng rng(1, Purpose::kTest);
  for (size_t length = 1; length <= 300; ++length) {
    prepare({.clients = 4, .cohort = 3, .rounds = 3, .start_when = 3});
    Bytes garbage(length);
    for (std::byte& byte : garbage) byte = static_cast<std::byte>(rng.next());
    // With and without the beginning of a message or of a part, and a session.
    const char* const magics[] = {"", "TRNM", "TRNP"};
    const char* const magic = magics[length % 3];
    for (size_t i = 0; i < std::min(length, std::strlen(magic)); ++i)
      garbage[i] = static_cast<std::byte>(magic[i]);
    std::vector<Bytes> packets{garbage};
    if (length % 2 == 0) packets.insert(packets.begin(), to_packet(hello()));
    say_and_run(packets);
    EXPECT_LE(peer->heard<Welcome>().size(), length % 2 == 0 ? 1u : 0u);
  }
}

TEST_F(AmongOthers, ADamagedHelloIsRefusedOrAnotherHello) {
  const Bytes packet = to_packet(hello());
  for (size_t bit = 0; bit < 8 * packet.size(); bit += 3) {
    prepare({.clients = 4, .cohort = 3, .rounds = 1, .start_when = 3});
    Bytes damaged = packet;
    damaged[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    peer->when_connected = [&] { (void)peer->send(damaged); };
    peer->connect();
    run->run();
    EXPECT_EQ(run->parameters(), run->expected({0, 1, 2}, 1)) << bit;
    ASSERT_FALSE(peer->told.empty()) << bit;
    EXPECT_TRUE(std::holds_alternative<Welcome>(peer->told[0]) ||
                std::holds_alternative<Refusal>(peer->told[0]));
  }
}

TEST_F(AmongOthers, AnyClockMayBeClaimed) {
  for (const int64_t clock : {INT64_MIN, INT64_MAX, int64_t{0}, kWallClock + 3600}) {
    prepare({.clients = 4, .cohort = 3, .rounds = 3, .start_when = 3});
    Hello off = hello();
    off.unix_seconds = clock;
    say_and_run({to_packet(off)});
    EXPECT_EQ(peer->heard<Welcome>().size(), 1u);
    EXPECT_THAT(run->events.numbers("clock_skew", "client"), ElementsAre(3));
    const int64_t seconds_off = run->events.numbers("clock_skew", "seconds").at(0);
    EXPECT_EQ(seconds_off > 0, clock > kWallClock);
  }
}

// ---- Peers that have a task and answer it badly

/// A peer that takes part: it is asked in each round, and one of three updates is enough.
class Hostile : public testing::Test {
 public:
  void prepare(FederationOptions options = {}) {
    options.clients = 3;
    options.min_updates = 2;
    options.rounds = 3;
    options.largest_examples = announced == 8 ? 8 : 0;  // 0: what clients announce decides
    peer.reset();
    run = std::make_unique<Federation>(std::move(options));
    run->add_client(0);
    run->add_client(1);
    peer = std::make_unique<RawPeer>(run->network, peer_key(2));
    peer->when_connected = [this] {
      (void)peer->say(
          Hello{.schema_hash = run->schema.hash(), .unix_seconds = run->machine.unix_seconds()});
    };
    peer->when_told = [this](const Message& message) {
      if (std::holds_alternative<Welcome>(message)) (void)peer->say(Ready{.examples = announced});
      if (const auto* plan = std::get_if<PlanMessage>(&message)) {
        task = plan->task.task;
        round = parse_plan(plan->plan.payload)->round;
        version = parse_plan(plan->plan.payload)->version;
        if (answer) answer();
      }
    };
    peer->connect();
  }
  /// An update as it should be, but for what a test changes.
  Bytes frame(const char* codec_spec = "float32", float value = 0.25f) {
    const Codec codec = *Codec::parse(codec_spec);
    const std::vector<float> update(run->schema.elements(), value);
    Bytes bytes(codec.max_encoded_bytes(run->schema));
    const FrameMeta meta{.base_version = version, .round = round, .seed = 1};
    CodecScratch scratch;
    bytes.resize(*codec.encode(meta, run->schema, update, scratch, bytes));
    return bytes;
  }
  void send_update(const Bytes& bytes, uint32_t examples = 8) {
    (void)peer->say(update(examples));
    for (const Bytes& part : parts_of(bytes)) (void)peer->send(part);
  }
  UpdateMessage update(uint32_t examples = 8) const {
    return {.task = task,
            .client = 2,
            .report = {.examples = examples, .samples_trained = 8, .steps = 1, .mean_loss = 1}};
  }
  std::vector<Bytes> parts_of(const Bytes& bytes) const {
    return split_into_parts(TransferKind::kUpdate, task, std::vector{std::span(bytes)});
  }
  /// The peer was refused each time; the others made the model.
  void expect_refused_each_time(const char* reason) {
    run->run();
    EXPECT_EQ(run->parameters(), run->expected({0, 1}, 3)) << reason;
    expect_counted_once(*run, 2, 0);
    EXPECT_EQ(run->events.count("update_refused"), 3) << reason;
    EXPECT_THAT(run->events.texts("update_refused"), HasSubstr(reason));
    const std::vector<Verdict> verdicts = peer->heard<Verdict>();
    ASSERT_EQ(verdicts.size(), 3u);
    for (const Verdict& verdict : verdicts) {
      EXPECT_FALSE(verdict.counted);
      EXPECT_THAT(verdict.reason.describe(), HasSubstr(reason));
    }
  }

  std::unique_ptr<Federation> run;
  std::unique_ptr<RawPeer> peer;
  uint32_t announced = 8;  ///< examples
  std::function<void()> answer;
  TaskId task = 0;
  uint32_t round = 0, version = 0;
};

TEST_F(Hostile, IsCountedAsLongAsItBehaves) {
  prepare();
  answer = [&] { send_update(frame("float32", constant_update(2, 0))); };
  run->run();
  expect_counted_once(*run, 2, 3);
}

TEST_F(Hostile, ATransferThatIsTooLongIsRefusedAtItsFirstPart) {
  answer = [&] {
    (void)peer->say(update());
    const Bytes endless(2'000'000);
    (void)peer->send(parts_of(endless).front());
  };
  prepare();
  expect_refused_each_time("a transfer of 2000000 bytes");
}

TEST_F(Hostile, PartsOutOfOrderAreRefused) {
  answer = [&] {
    (void)peer->say(update());
    (void)peer->send(parts_of(frame())[1]);
  };
  prepare({.elements = kLarge});
  expect_refused_each_time("where part 0 was due");
}

TEST_F(Hostile, PartsOfAnotherKindAreRefused) {
  answer = [&] {
    (void)peer->say(update());
    const Bytes bytes = frame();
    (void)peer->send(
        split_into_parts(TransferKind::kSnapshot, task, std::vector{std::span(bytes)})[0]);
  };
  prepare();
  expect_refused_each_time("a part of another transfer");
}

TEST_F(Hostile, EveryDamagedByteOfAFrameIsRefused) {
  size_t at = 0;
  answer = [&] {
    Bytes bytes = frame();
    bytes[at % bytes.size()] ^= std::byte{0x10};
    at += 5;
    send_update(bytes);
  };
  for (int trial = 0; trial < 12; ++trial) {
    prepare();
    expect_refused_each_time("");
  }
}

TEST_F(Hostile, FramesOfAnotherTaskAreRefused) {
  prepare();
  answer = [&] {
    ++round;
    send_update(frame());
  };
  expect_refused_each_time("the update is of round");
  prepare();
  answer = [&] {
    ++version;
    send_update(frame());
  };
  expect_refused_each_time("from version");
  prepare();
  answer = [&] { send_update(frame("bfloat16")); };
  expect_refused_each_time("coded as 'bfloat16'");
  prepare();
  answer = [&] { send_update(frame("float32", 1e6f)); };
  expect_refused_each_time("above the bound");
  for (const uint32_t examples : {0u, 9u, UINT32_MAX}) {
    prepare();
    answer = [&] { send_update(frame(), examples); };
    expect_refused_each_time("clients hold 1 to 8");
  }
}

TEST_F(Hostile, AnnouncesSoMuchThatTheOthersWouldWeighNothing) {
  announced = UINT32_MAX;
  prepare();
  answer = [&] { send_update(frame(), UINT32_MAX); };
  expect_refused_each_time("clients hold 1 to 512");
  // What it may claim at most, 64 times the others' 8 examples, is its weight; theirs is still 8.
  prepare();
  answer = [&] { send_update(frame("float32", 0.25f), 512); };
  run->run();
  expect_counted_once(*run, 2, 3);
  const std::vector<float> before = run->expected({0}, 0), after = run->parameters();
  for (size_t i = 0; i < before.size(); ++i) {
    const double mean =
        (8 * constant_update(0, i) + 8 * constant_update(1, i) + 512 * 0.25) / (8 + 8 + 512);
    EXPECT_NEAR(after[i] - before[i], 3 * mean, 1e-5);
  }
}

TEST_F(Hostile, AnUpdateForAForeignOrFinishedTaskIsRefusedAndNamed) {
  std::vector<TaskId> others;
  answer = [&] {
    const TaskId mine = task;
    for (const TaskId other : {task_id(5, round, 0), task_id(5, round + 1, 2),
                               evaluation_id(5, round, 2), TaskId{0}, TaskId{12345}}) {
      task = other;
      send_update(frame());
    }
    task = mine;
    send_update(frame("float32", constant_update(2, 0)));
  };
  prepare();
  run->run();
  expect_counted_once(*run, 2, 3);
  expect_counted_once(*run, 0, 3);
  EXPECT_EQ(run->events.count("update_refused"), 15);
  EXPECT_THAT(run->events.texts("update_refused"), HasSubstr("no such task for client 2"));
  int refused = 0;
  for (const Verdict& verdict : peer->heard<Verdict>()) refused += !verdict.counted;
  EXPECT_EQ(refused, 15);
}

TEST_F(Hostile, DuplicatesAreAnsweredWithTheFirstVerdictAndNotCountedTwice) {
  answer = [&] {
    for (int i = 0; i < 5; ++i) send_update(frame("float32", constant_update(2, 0)));
  };
  prepare();
  run->clients[0]->loop.work_takes = seconds(1);  // rounds don't end before all has arrived
  run->run();
  expect_counted_once(*run, 2, 3);
  for (const Verdict& verdict : peer->heard<Verdict>())
    EXPECT_TRUE(verdict.counted) << verdict.reason.describe();
  EXPECT_GE(peer->heard<Verdict>().size(), 3u);
}

TEST_F(Hostile, ADuplicateAfterTheVerdictHasTheSameVerdict) {
  for (const bool good : {true, false}) {
    prepare();
    run->clients[0]->loop.work_takes = seconds(20);
    answer = [&] {
      send_update(frame(good ? "float32" : "bfloat16", 0.25f));
      run->loop.call_at(run->loop.now() + seconds(5),
                        [&] { send_update(frame("float32", 0.25f)); });
    };
    run->run();
    expect_counted_once(*run, 2, good ? 3 : 0);
    const std::vector<Verdict> verdicts = peer->heard<Verdict>();
    EXPECT_EQ(verdicts.size(), 6u);
    for (const Verdict& verdict : verdicts) EXPECT_EQ(verdict.counted, good);
  }
}

TEST_F(Hostile, AnUpdateWithoutAFrameIsWorthNothing) {
  answer = [&] {
    for (int i = 0; i < 3; ++i) (void)peer->say(update());
    (void)peer->say(TaskFailure{.task = task, .reason = {Code::kIo, "never mind"}});
    for (int i = 0; i < 3; ++i) (void)peer->say(update());
  };
  prepare();
  run->run();
  EXPECT_EQ(run->parameters(), run->expected({0, 1}, 3));
  expect_counted_once(*run, 2, 0);
}

TEST_F(Hostile, ClaimsToHoldVersionsThatItDoesNot) {
  // Of another run, where nobody can know, and in the midst of this one.
  prepare();
  peer->when_connected = [&] {
    (void)peer->say(Hello{.schema_hash = run->schema.hash(),
                          .run_id = Federation::kRunId + 1,
                          .held_version = 77,
                          .unix_seconds = run->machine.unix_seconds()});
  };
  answer = [&] { send_update(frame("float32", constant_update(2, 0))); };
  run->run();
  expect_counted_once(*run, 2, 3);
  prepare();
  answer = [&] {
    (void)peer->say(TaskFailure{
        .task = task, .held_version = UINT32_MAX, .reason = {Code::kCorrupt, "no idea"}});
  };
  run->run();
  EXPECT_EQ(run->parameters(), run->expected({0, 1}, 3));
  EXPECT_EQ(run->events.count("task_failed"), 3);
}

TEST_F(Hostile, SaysReadyAgainAndAgain) {
  int plans = 0;
  answer = [&] {
    if (++plans > 50) return;
    for (int i = 0; i < 3; ++i) (void)peer->say(Ready{.examples = 8});
    run->loop.call_at(run->loop.now() + seconds(1),
                      [&] { send_update(frame("float32", constant_update(2, 0))); });
  };
  prepare();
  run->run();
  EXPECT_EQ(plans, 3) << "a plan each round, however often it asks";
  expect_counted_once(*run, 2, 3);
}

TEST_F(Hostile, GarbageInTheMiddleOfItsUpdateCostsItTheConnectionAndTheTask) {
  answer = [&] {
    (void)peer->say(update());
    (void)peer->send(parts_of(frame())[0]);
    (void)peer->send(Bytes(77, std::byte{'x'}));
  };
  prepare({.elements = kLarge});
  run->run();
  EXPECT_EQ(run->parameters(), run->expected({0, 1}, 3));
  EXPECT_EQ(run->events.count("peer_refused"), 1);
  EXPECT_EQ(run->events.count("task_failed"), 1);
}

TEST_F(Hostile, SendsMoreOfItsUpdateThanItWasToldTo) {
  // Nobody could bound what a coordinator holds of updates otherwise.
  answer = [&] {
    Bytes packet = parts_of(frame())[0];
    const Bytes message = to_packet(update());
    packet.insert(packet.end(), message.begin(), message.end());
    (void)peer->send(std::move(packet));
  };
  prepare({.elements = kLarge});
  run->run();
  EXPECT_EQ(run->parameters(), run->expected({0, 1}, 3));
  EXPECT_THAT(run->events.texts("peer_refused"), HasSubstr("0 were asked for"));
  EXPECT_EQ(run->events.count("update_sent"), 2 * 3) << "those of the others";
}

TEST_F(Hostile, InTheMiddleOfItsUpdateWhenTheRoundEnds) {
  // It is told then, and not when the rest has come, which the next round would wait behind.
  uint64_t sent = 0;
  uint32_t begun = 0;  // the round
  answer = [&] { (void)peer->say(update()); };
  prepare({.deadline_seconds = 30, .elements = kLarge});
  peer->when_told = [this, &sent, &begun, told = peer->when_told](const Message& message) {
    told(message);
    const auto* credit = std::get_if<Credit>(&message);
    if (credit == nullptr || credit->task != task || credit->bytes > kCreditWindow) return;
    if (std::exchange(begun, round) == round) return;
    const Bytes part = parts_of(frame())[0];
    (void)peer->send(part);
    sent += part.size();
  };
  run->run();
  EXPECT_EQ(run->parameters(), run->expected({0, 1}, 3));
  EXPECT_EQ(run->events.count("peer_refused"), 0);
  const std::vector<Verdict> verdicts = peer->heard<Verdict>();
  ASSERT_EQ(verdicts.size(), 3u);
  for (const Verdict& verdict : verdicts) {
    EXPECT_FALSE(verdict.counted);
    EXPECT_THAT(verdict.reason.describe(), HasSubstr("is over"));
  }
  int64_t ignored = 0;
  for (const int64_t bytes : run->events.numbers("update_ignored", "bytes")) ignored += bytes;
  EXPECT_EQ(ignored, static_cast<int64_t>(sent)) << "what came is accounted for";
  EXPECT_GT(sent, 0u);
}

TEST_F(Hostile, TurnedAwayForAMessageIsNotHeardOnThePartBesideIt) {
  // Of another client, of a coordinator, and no message at all.
  UpdateMessage foreign;
  foreign.client = 1;
  Bytes unreadable = to_packet(Credit{});
  unreadable.push_back(std::byte{0});
  for (const Bytes& message : {to_packet(foreign), to_packet(Welcome{}), unreadable}) {
    answer = [&] {
      Bytes packet = parts_of(frame())[0];
      packet.insert(packet.end(), message.begin(), message.end());
      (void)peer->send(std::move(packet));
    };
    prepare();
    run->run();
    EXPECT_EQ(run->parameters(), run->expected({0, 1}, 3));
    EXPECT_EQ(run->events.count("peer_refused"), 1);
    EXPECT_EQ(run->events.count("task_failed"), 1);
    EXPECT_EQ(peer->heard<Refusal>().size(), 1u);
  }
}

TEST_F(Hostile, ClaimsAnyFigures) {
  answer = [&] {
    UpdateMessage wild = update();
    wild.report.samples_trained = UINT64_MAX;
    wild.report.steps = UINT32_MAX;
    wild.report.mean_loss = -1e308;
    const Bytes bytes = frame("float32", constant_update(2, 0));
    (void)peer->say(wild);
    for (const Bytes& part : parts_of(bytes)) (void)peer->send(part);
  };
  prepare();
  run->run();
  expect_counted_once(*run, 2, 3);
  for (const int64_t samples : run->events.numbers("update_sent", "samples")) EXPECT_GE(samples, 0);
}

TEST_F(Hostile, TakesTheWholeRoundWithItWhenNobodyElseIsLeft) {
  // It has the last open task when it is cut off: the round ends within that.
  answer = [&] {
    run->loop.call_at(run->loop.now() + seconds(30),
                      [&] { (void)peer->send(Bytes(9, std::byte{'x'})); });
  };
  prepare();
  run->run();
  EXPECT_EQ(run->parameters(), run->expected({0, 1}, 3));
}

// ---- Revocation

TEST_F(Hostile, RevokedInTheMiddleOfARoundItsNextPacketCutsItOff) {
  answer = [&] {
    (void)peer->say(update());
    const std::vector<Bytes> parts = parts_of(frame());
    (void)peer->send(parts[0]);
    run->loop.call_at(run->loop.now() + seconds(5), [&, parts] {
      run->members.erase(peer_key(2));
      for (size_t i = 1; i < parts.size(); ++i) (void)peer->send(parts[i]);
    });
  };
  prepare({.elements = kLarge});
  run->run();
  EXPECT_EQ(run->parameters(), run->expected({0, 1}, 3));
  expect_counted_once(*run, 2, 0);
  EXPECT_THAT(run->events.texts("peer_refused"), HasSubstr("revoked"));
  EXPECT_THAT(run->events.texts("task_failed"), HasSubstr("revoked"));
  EXPECT_EQ(peer->heard<PlanMessage>().size(), 1u);
}

TEST_F(Hostile, RevokedAndSilentItIsAskedNoMore) {
  prepare();
  answer = [&] {
    send_update(frame("float32", constant_update(2, 0)));
    run->members.erase(peer_key(2));  // before the update is even there
  };
  run->run();
  EXPECT_EQ(peer->heard<PlanMessage>().size(), 1u);
  EXPECT_EQ(run->parameters(), run->expected({0, 1}, 3));
  // The same between two rounds, when it has nothing to say.
  prepare();
  answer = [&] { send_update(frame("float32", constant_update(2, 0))); };
  CoordinatorHooks hooks;
  hooks.after_round = [&](uint32_t round_ended, const Evaluation*) -> Status {
    if (round_ended == 1) run->members.erase(peer_key(2));
    return {};
  };
  run->open(std::move(hooks));
  run->run();
  EXPECT_EQ(peer->heard<PlanMessage>().size(), 1u) << "a revoked client gets no model";
  EXPECT_EQ(run->events.count("task_failed"), 0) << "and no place in a cohort";
  expect_counted_once(*run, 2, 1);
}

TEST_F(Hostile, RevokedAndSilentItGetsNoModelToEvaluate) {
  FederationOptions options;
  options.evaluate_every = 1;
  options.evaluate_by = EvaluateBy::kClients;
  options.start_when = 2;
  prepare(options);
  peer->when_told = [&](const Message& message) {
    if (std::holds_alternative<Welcome>(message))
      (void)peer->say(Ready{.examples = 0, .test_examples = 10});
    if (const auto* plan = std::get_if<PlanMessage>(&message)) {
      (void)peer->say(EvaluationReport{.task = plan->task.task,
                                       .client = 2,
                                       .examples = {10, 0},
                                       .predicted = {10, 0},
                                       .correct = {10, 0}});
    }
  };
  CoordinatorHooks hooks;
  hooks.after_round = [&](uint32_t round_ended, const Evaluation*) -> Status {
    if (round_ended == 1) run->members.erase(peer_key(2));
    return {};
  };
  run->open(std::move(hooks));
  run->run();
  EXPECT_EQ(peer->heard<PlanMessage>().size(), 1u);
  EXPECT_EQ(run->evaluations.size(), 1u);
  EXPECT_LT(run->loop.now(), seconds(10)) << "nobody waits for it";
}

TEST_F(Hostile, RevokedAndSilentItHoldsUpNoRound) {
  for (const bool last : {false, true}) {
    prepare();
    if (!last) run->clients[0]->loop.work_takes = seconds(20);
    answer = [&] {
      run->loop.call_at(run->loop.now() + seconds(10), [&] {
        run->members.erase(peer_key(2));
        run->coordinator->members_changed();
        run->coordinator->members_changed();
      });
    };
    run->run();
    EXPECT_EQ(run->parameters(), run->expected({0, 1}, 3));
    EXPECT_EQ(run->events.count("peer_refused"), 1);
    EXPECT_THAT(run->events.texts("task_failed"), HasSubstr("revoked"));
    EXPECT_EQ(peer->losses.size(), 1u);
  }
}

// ---- Clients that can't obey: the coordinator hears of it, and the round completes

FederationOptions with_one_that_fails() { return {.clients = 3, .min_updates = 2, .rounds = 3}; }

TEST(Coordinator, AClientThatTrustsAnotherKeyFailsItsTasksAndTheOthersGoOn) {
  Federation run(with_one_that_fails());
  const PublicKey other = test_key(9).public_key();
  run.add_client(0);
  run.add_client(1);
  TestClient& client = run.add_client(2, {.server = &other});
  run.run();
  EXPECT_EQ(run.parameters(), run.expected({0, 1}, 3));
  EXPECT_EQ(run.events.count("task_failed"), 3);
  EXPECT_THAT(run.events.texts("task_failed"),
              AllOf(HasSubstr("signed by key"), HasSubstr("pinned")));
  EXPECT_TRUE(client.training.tasks.empty());
}

TEST(Coordinator, AClockThatIsAnHourOffIsNamedToBothSides) {
  for (const int64_t offset : {3600, -3600}) {
    Federation run(with_one_that_fails());
    run.add_clients();
    TestClient& client = *run.clients[2];
    client.loop.clock_offset = offset;
    run.run();
    EXPECT_EQ(run.parameters(), run.expected({0, 1}, 3));
    EXPECT_THAT(run.events.numbers("clock_skew", "seconds"), ElementsAre(offset));
    EXPECT_THAT(run.events.texts("task_failed"), HasSubstr("is the clock right?"));
    EXPECT_THAT(client.events.texts("task_refused"), HasSubstr("is the clock right?"));
    EXPECT_THAT(client.events.numbers("clock_skew", "seconds"), ElementsAre(offset));
    EXPECT_TRUE(client.training.tasks.empty());
  }
}

TEST(Coordinator, AClockThatIsAMinuteOffDoesNoHarm) {
  Federation run(with_one_that_fails());
  run.add_clients();
  run.clients[1]->loop.clock_offset = 59;
  run.clients[2]->loop.clock_offset = -59;
  run.run();
  EXPECT_EQ(run.parameters(), run.expected({0, 1, 2}, 3));
  EXPECT_EQ(run.events.count("clock_skew"), 0);
}

TEST(Coordinator, AClientSetUpForAnotherModelIsToldAndGivesUp) {
  Federation run({.clients = 3, .cohort = 2, .rounds = 2, .start_when = 2});
  run.add_client(0);
  run.add_client(1);
  TestClient& client = run.add_client(2, {.schema_hash = 99});
  run.run();
  ASSERT_TRUE(client.finished);
  EXPECT_THAT(client.finished->describe(), AllOf(HasSubstr("the coordinator refuses this client"),
                                                 HasSubstr("set up for schema")));
  EXPECT_EQ(run.parameters(), run.expected({0, 1}, 2));
}

TEST(Coordinator, AClientWhoseTrainingFailsIsNamedAndAskedAgain) {
  Federation run(with_one_that_fails());
  run.add_clients();
  run.clients[2]->training.fail = [](const TrainTask& task) -> Status {
    return task.round == 1 ? Status(Code::kOutOfRange, "the loss isn't finite") : Status();
  };
  run.run();
  EXPECT_THAT(run.events.texts("task_failed"), HasSubstr("the loss isn't finite"));
  expect_counted_once(run, 2, 2);
}

// ---- The end

TEST(Coordinator, StopSaysGoodbyeAndClientsWaitForItsReturn) {
  Federation run({.clients = 2, .rounds = 100});
  run.add_clients();
  for (const auto& client : run.clients) client->loop.work_takes = seconds(10);
  run.start();
  run.run_for(seconds(35));
  run.coordinator->stop();
  ASSERT_TRUE(run.ended);
  ASSERT_TRUE(*run.ended);
  EXPECT_TRUE(**run.ended) << "before its last round";
  EXPECT_EQ(run.coordinator->round(), 2u);
  EXPECT_EQ(run.parameters(), run.expected({0, 1}, 2));
  EXPECT_EQ(run.events.count("run_finished"), 1);
  run.run_for(seconds(5));
  for (const auto& client : run.clients) {
    EXPECT_FALSE(client->finished) << "the coordinator may be back";
    EXPECT_THAT(client->events.texts("connection_lost"), HasSubstr("the coordinator was stopped"));
  }
  run.coordinator->stop();
  EXPECT_EQ(run.events.count("run_finished"), 1) << "once";
}

TEST(Coordinator, StopAtAnyMomentEndsTheRun) {
  for (int moment = 0; moment < 120; ++moment) {
    Federation run(
        {.clients = 3, .rounds = 3, .evaluate_every = 1, .evaluate_by = EvaluateBy::kClients});
    for (uint32_t i = 0; i < 3; ++i) run.add_client(i, {.evaluates = true});
    run.start();
    int steps = 0;
    (void)run.run_until([&] { return ++steps > moment || run.ended.has_value(); });
    const TimePoint asked = run.loop.now();
    run.coordinator->stop();
    ASSERT_TRUE(run.run_until([&] { return run.ended.has_value(); })) << moment;
    ASSERT_TRUE(*run.ended) << moment;
    EXPECT_LT(run.loop.now() - asked, seconds(1)) << "nobody is waited for";
    run.run_for(minutes(3));
    EXPECT_EQ(run.events.count("run_finished"), 1);
  }
}

TEST(Coordinator, AFailingHookEndsTheRunAndSaysWhy) {
  Federation run({.clients = 2, .rounds = 5});
  run.add_clients();
  CoordinatorHooks hooks;
  hooks.after_round = [](uint32_t round, const Evaluation*) -> Status {
    return round == 2 ? Status(Code::kNoSpace, "the disk is full") : Status();
  };
  run.open(std::move(hooks));
  run.start();
  ASSERT_TRUE(run.run_until([&] { return run.ended.has_value(); }));
  ASSERT_FALSE(*run.ended);
  EXPECT_THAT(run.ended->error().describe(), HasSubstr("the disk is full"));
}

TEST(Coordinator, TheHookForStoppingEndsTheRunAfterTheRoundAtHand) {
  Federation run({.clients = 2, .rounds = 5});
  run.add_clients();
  CoordinatorHooks hooks;
  hooks.stop_requested = [&] { return run.rounds_ended == 1; };
  run.open(std::move(hooks));
  run.run();
  EXPECT_TRUE(**run.ended);
  EXPECT_EQ(run.coordinator->round(), 2u);
}

TEST(Coordinator, ARestoredRunGoesOnAsIfNothingHadHappened) {
  FederationOptions options{.clients = 3, .rounds = 5, .up = "float32", .down = kErrorFeedback};
  Federation through(options);
  through.add_clients();
  through.run();

  Federation first(options);
  first.add_clients();
  CoordinatorHooks hooks;
  hooks.stop_requested = [&] { return first.rounds_ended == 1; };
  first.open(std::move(hooks));
  first.run();
  const CoordinatorState saved = first.coordinator->state();
  EXPECT_EQ(saved.round, 2u);

  Federation second(options);
  second.add_clients();
  second.open();
  ASSERT_TRUE(second.coordinator->restore(saved).ok());
  second.run();
  EXPECT_EQ(second.parameters(), through.parameters());
  EXPECT_EQ(second.coordinator->model().sha256(), through.coordinator->model().sha256());
}

// ---- Evaluation

FederationOptions evaluated_run(EvaluateBy who) {
  return {.clients = 4, .rounds = 2, .evaluate_every = 1, .evaluate_by = who};
}

TEST(Coordinator, EvaluationByClientsSumsUpRight) {
  Federation run(evaluated_run(EvaluateBy::kClients));
  for (uint32_t i = 0; i < 4; ++i) run.add_client(i, {.evaluates = i > 0});
  run.run();
  ASSERT_EQ(run.evaluations.size(), 2u);
  for (const Evaluation& evaluation : run.evaluations) {
    EXPECT_DOUBLE_EQ(evaluation.accuracy, (1 + 2 + 3) / 30.0);
    EXPECT_DOUBLE_EQ(evaluation.loss, 0.25 * (1 + 2 + 3) / 3);
    EXPECT_DOUBLE_EQ(evaluation.worst_decile_client_accuracy, 0.1) << "of client 1";
    ASSERT_EQ(evaluation.clients.size(), 3u);
    for (uint32_t i = 0; i < 3; ++i) {
      EXPECT_EQ(evaluation.clients[i].client, i + 1);
      EXPECT_EQ(evaluation.clients[i].examples, NumberedEvaluator::kExamples);
      EXPECT_DOUBLE_EQ(evaluation.clients[i].accuracy, (i + 1) / 10.0);
    }
    EXPECT_EQ(evaluation.classes.at(0).examples, 30u);
  }
  EXPECT_EQ(run.events.count("model_evaluated"), 2);
  EXPECT_EQ(run.parameters(), run.expected({0, 1, 2, 3}, 2));
}

TEST(Coordinator, EvaluatorsAttachedEvaluateInTheClientsPlace) {
  FederationOptions options = evaluated_run(EvaluateBy::kAttached);
  options.evaluators = 1;
  Federation run(options);
  for (uint32_t i = 0; i < 4; ++i) run.add_client(i, {.evaluates = true});
  TestClient& evaluator =
      run.add_client_with_key(peer_key(100), {.examples = 0, .evaluates = true});
  run.run();
  ASSERT_EQ(run.evaluations.size(), 2u);
  for (const Evaluation& evaluation : run.evaluations) {
    EXPECT_DOUBLE_EQ(evaluation.accuracy, 0.4) << "as its number, 4, has it";
    EXPECT_TRUE(evaluation.clients.empty()) << "it holds all test data, of no client";
  }
  EXPECT_TRUE(evaluator.training.tasks.empty());
  EXPECT_EQ(evaluator.events.count("task_started"), 2);
  for (uint32_t i = 0; i < 4; ++i) EXPECT_TRUE(run.clients[i]->said<EvaluationReport>().empty());
}

TEST(Coordinator, AnEvaluatorThatHasExamplesIsNotAskedToTrain) {
  FederationOptions options = evaluated_run(EvaluateBy::kAttached);
  options.evaluators = 1;
  options.min_updates = 3;
  options.start_when = 3;
  Federation run(options);
  for (uint32_t i = 0; i < 3; ++i) run.add_client(i);  // the fourth place stays empty
  TestClient& evaluator =
      run.add_client_with_key(peer_key(100), {.examples = 8, .evaluates = true});
  run.run();
  EXPECT_TRUE(evaluator.training.tasks.empty());
  EXPECT_EQ(run.parameters(), run.expected({0, 1, 2}, 2));
}

TEST(Coordinator, WithoutAnybodyToEvaluateTheRunHasNoFigures) {
  for (const EvaluateBy who : {EvaluateBy::kAttached, EvaluateBy::kClients, EvaluateBy::kNobody}) {
    Federation run(evaluated_run(who));
    run.add_clients();
    run.run();
    EXPECT_TRUE(run.evaluations.empty());
    EXPECT_EQ(run.events.count("model_evaluated"), 0);
    EXPECT_LT(run.loop.now(), seconds(5)) << "and waits for none";
  }
}

TEST(Coordinator, AClientThatLeftIsNotWaitedForByAnEvaluation) {
  Federation run(evaluated_run(EvaluateBy::kClients));
  for (uint32_t i = 0; i < 4; ++i) run.add_client(i, {.evaluates = true});
  // The last client goes when it has its verdict.
  run.clients[3]->transport.on_way_in = [&](std::span<const std::byte> packet) {
    const std::optional<Message> message = read(packet);
    if (as<Verdict>(message)) run.loop.post([&] { run.clients[3]->session->stop(); });
    return Cut::kPass;
  };
  run.start();
  ASSERT_TRUE(run.run_until([&] { return !run.evaluations.empty(); }));
  EXPECT_EQ(run.evaluations[0].clients.size(), 3u);
  EXPECT_LT(run.loop.now(), seconds(10));
}

TEST(Coordinator, ASlowEvaluationEndsAtItsDeadlineWithWhatIsThere) {
  FederationOptions options = evaluated_run(EvaluateBy::kClients);
  options.deadline_seconds = 60;
  options.min_updates = 3;
  Federation run(options);
  for (uint32_t i = 0; i < 4; ++i) run.add_client(i, {.evaluates = true});
  // Preparing and training are quick, evaluating isn't.
  std::vector<int> takes = {0, 0, 100, 0, 0, 0, 0};
  run.clients[3]->loop.next_work_takes = [&, next = size_t{0}]() mutable {
    return seconds(takes[next++]);
  };
  run.run();
  ASSERT_EQ(run.evaluations.size(), 2u);
  EXPECT_EQ(run.evaluations[0].clients.size(), 3u);
}

TEST(Coordinator, AnEvaluationSurvivesABrokenConnection) {
  Federation run(evaluated_run(EvaluateBy::kClients));
  for (uint32_t i = 0; i < 4; ++i) run.add_client(i, {.evaluates = true});
  int reports = 0;
  run.clients[2]->transport.on_way_out = [&](std::span<const std::byte> packet) {
    const std::optional<Message> message = read(packet);
    return as<EvaluationReport>(message) && ++reports == 1 ? Cut::kCut : Cut::kPass;
  };
  run.run();
  ASSERT_EQ(run.evaluations.size(), 2u);
  EXPECT_EQ(run.evaluations[0].clients.size(), 4u);
}

TEST_F(Hostile, ReportsThatCannotBeAreRefusedAndTheEvaluationGoesOn) {
  const auto report = [&](std::vector<uint32_t> examples, std::vector<uint32_t> predicted,
                          std::vector<uint32_t> correct, double loss = 1.0) {
    return EvaluationReport{.task = task,
                            .client = 2,
                            .loss_sum = loss,
                            .examples = std::move(examples),
                            .predicted = std::move(predicted),
                            .correct = std::move(correct)};
  };
  const std::function<EvaluationReport()> hostile[] = {
      [&] { return report({}, {}, {}); },
      [&] {
        return report({10, 0, 0}, {10, 0, 0}, {10, 0, 0});
      },
      [&] {
        return report({10, 0}, {10, 0}, {11, 0});
      },
      [&] {
        return report({10, 0}, {9, 0}, {9, 0});
      },
      [&] {
        return report({10, 0}, {9, 1}, {9, 1});
      },
      [&] {
        return report({11, 0}, {11, 0}, {11, 0});
      },
      [&] {
        return report({UINT32_MAX, 11}, {UINT32_MAX, 11}, {10, 0});
      },
      [&] {
        return report({10, 0}, {10, 0}, {10, 0}, -1.0);
      },
      [&] {
        return report({10, 0}, {10, 0}, {10, 0}, 1e300);
      },
  };
  for (const auto& make : hostile) {
    FederationOptions options;
    options.evaluate_every = 1;
    options.evaluate_by = EvaluateBy::kClients;
    options.start_when = 2;
    prepare(options);
    run->clients.clear();
    for (uint32_t i = 0; i < 2; ++i) run->add_client(i, {.evaluates = true});
    peer->when_told = [&](const Message& message) {
      if (std::holds_alternative<Welcome>(message))
        (void)peer->say(Ready{.examples = 0, .test_examples = 10});
      if (const auto* plan = std::get_if<PlanMessage>(&message)) {
        task = plan->task.task;
        ASSERT_EQ(parse_plan(plan->plan.payload)->kind, PlanKind::kEvaluate);
        (void)peer->say(make());
        (void)peer->say(make());  // a second one of the same task is nobody's
      }
    };
    run->open();
    run->run();
    ASSERT_EQ(run->evaluations.size(), 3u);
    for (const Evaluation& evaluation : run->evaluations) {
      EXPECT_EQ(evaluation.clients.size(), 2u);
      EXPECT_DOUBLE_EQ(evaluation.accuracy, 1 / 20.0);
    }
    EXPECT_EQ(run->events.count("task_failed"), 3);
  }
}

TEST_F(Hostile, AReportOfAnotherTaskOrInAnotherNameIsNobodys) {
  FederationOptions options;
  options.evaluate_every = 1;
  options.evaluate_by = EvaluateBy::kClients;
  options.start_when = 2;
  prepare(options);
  run->clients.clear();
  for (uint32_t i = 0; i < 2; ++i) run->add_client(i, {.evaluates = true});
  peer->when_told = [&](const Message& message) {
    if (std::holds_alternative<Welcome>(message))
      (void)peer->say(Ready{.examples = 0, .test_examples = 10});
    if (const auto* plan = std::get_if<PlanMessage>(&message)) {
      EvaluationReport report{.task = evaluation_id(5, 1, 0),
                              .client = 0,
                              .examples = {10, 0},
                              .predicted = {10, 0},
                              .correct = {10, 0}};
      (void)peer->say(report);
      report.task = plan->task.task;
      (void)peer->say(report);  // its own task, as client 0
    }
  };
  run->open();
  run->run();
  for (const Evaluation& evaluation : run->evaluations) {
    ASSERT_EQ(evaluation.clients.size(), 3u);
    EXPECT_EQ(evaluation.clients[0].client, 0u);
    EXPECT_EQ(evaluation.clients[0].accuracy, 0.0);
    EXPECT_EQ(evaluation.clients[2].client, 2u) << "whatever it calls itself";
  }
}

}  // namespace
}  // namespace tern
