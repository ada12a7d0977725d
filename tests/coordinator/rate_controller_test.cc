// Rate control in whole runs of a coordinator and its clients, and what it decides by.
#include "coordinator/rate_controller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "compression/updates/error_feedback.h"
#include "proto/parts.h"
#include "tests/coordinator/federation.h"

namespace tern {
namespace {

using testing::HasSubstr;

constexpr char kLadder[] = "rotate:1024 | randk:0.1 | eden:1; rotate:1024 | eden:1; float32";

Scenario scenario_with(RateControlConfig control) {
  Scenario scenario{.seed = 5, .rounds = 10};
  scenario.fleet.clients = 4;
  scenario.fleet.cohort = 4;
  scenario.compression.up = "int:8";
  scenario.compression.rate_control = std::move(control);
  if (scenario.compression.rate_control.ladder.empty())
    scenario.compression.rate_control.ladder = kLadder;
  return scenario;
}

const std::vector<uint32_t> kAll = {0, 1, 2, 3};

/// The chains that the clients were given, in their order.
std::vector<std::string> given(const RoundChains& round) {
  std::vector<std::string> chains;
  chains.reserve(round.given.size());
  for (const auto& [client, chain] : round.given)
    chains.push_back(round.chains[chain.chain].spec());
  return chains;
}

class RateControllerTest : public testing::Test {
 protected:
  RateController make(const Scenario& scenario, std::vector<double> uplinks = {}) {
    Result<RateController> made = RateController::make(scenario, schema_, 4, std::move(uplinks));
    EXPECT_TRUE(made) << made.error().describe();
    return *std::move(made);
  }
  RoundChains begin(RateController& rates, uint32_t round = 1) {
    Result<RoundChains> chains = rates.begin_round(round, kAll, scratch_);
    EXPECT_TRUE(chains) << chains.error().describe();
    return *std::move(chains);
  }
  const ParameterSchema schema_ = test_schema(10'000);
  CodecScratch scratch_;
};

TEST_F(RateControllerTest, WithoutItEverybodyGetsTheOneChain) {
  Scenario scenario = scenario_with({});
  RateController rates = make(scenario);
  const RoundChains round = begin(rates);
  EXPECT_EQ(given(round), std::vector<std::string>(4, "int:8"));
  EXPECT_FALSE(round.deadline_seconds);
}

TEST_F(RateControllerTest, ADeadlineGivesEachLinkWhatItCarries) {
  // 10,000 elements: 40 kB, 1.3 kB and 0.3 kB.
  RateController rates = make(scenario_with({.deadline_seconds = 2.0}), {1e6, 1000, 200, 0});
  const RoundChains round = begin(rates);
  EXPECT_EQ(given(round), (std::vector<std::string>{"float32", "rotate:1024 | eden:1",
                                                    "rotate:1024 | randk:0.1 | eden:1", "int:8"}));
  EXPECT_EQ(round.given.at(0).reason, RateReason::kMostAccurate);
  EXPECT_EQ(round.given.at(1).reason, RateReason::kFits);
  EXPECT_EQ(round.given.at(3).reason, RateReason::kUnknownLink);
  EXPECT_EQ(round.chains.size(), 4u);
  EXPECT_EQ(round.deadline_seconds, 2.0);
}

TEST_F(RateControllerTest, NobodyHurriesMoreThanTheSlowestMakesTheRoundWait) {
  RateController rates = make(scenario_with({.deadline_seconds = 0.001}), {1e6, 1000, 10, 1e6});
  const RoundChains round = begin(rates);
  EXPECT_GT(*round.deadline_seconds, 20) << "some 300 bytes at 10 a second";
  EXPECT_EQ(given(round),
            (std::vector<std::string>{"float32", "rotate:1024 | eden:1",
                                      "rotate:1024 | randk:0.1 | eden:1", "float32"}));
}

TEST_F(RateControllerTest, AMeanErrorMakesTheDeadline) {
  double last = 0;
  for (const double error : {100.0, 1.0, 0.2, 0.01, 1e-6}) {
    RateController rates = make(scenario_with({.mean_error = error}), {1e6, 1000, 10, 1e6});
    const RoundChains round = begin(rates);
    EXPECT_GE(*round.deadline_seconds, last) << error;
    last = *round.deadline_seconds;
    double mean = 0;
    for (const auto& [client, chain] : round.given) mean += chain.nmse / 4 / 4;
    EXPECT_LE(mean, std::max(error, 1e-12));
  }
}

TEST_F(RateControllerTest, TheListGoesBeforeTheScenarioAndThatBeforeMeasurement) {
  Scenario scenario = scenario_with({.deadline_seconds = 1.0});
  RateController measured = make(scenario);
  EXPECT_FALSE(measured.uplink(2));
  measured.measured_uplink(2, 1000);
  EXPECT_EQ(measured.uplink(2), 1000);
  measured.measured_uplink(2, 2000);
  EXPECT_EQ(measured.uplink(2), 1250) << "a quarter of the way";
  scenario.fleet.uplink = "5000";
  RateController both = make(scenario, {0, 700});
  both.measured_uplink(0, 9);
  EXPECT_EQ(both.uplink(0), 5000);
  EXPECT_EQ(both.uplink(1), 700);
}

TEST_F(RateControllerTest, BytesOfFramesReplaceExpectationsInAnyOrder) {
  Scenario scenario =
      scenario_with({.budget_bytes = 900, .ladder = "ef | topk:0.05 | rice; float32"});
  RateController one = make(scenario), other = make(scenario);
  begin(one);
  begin(other);
  const double before = (*one.ladder(1, scratch_))[0].bytes;
  for (const uint32_t client : {0u, 1u, 2u}) one.counted(client, 700 + client, 1.0 + client);
  for (const uint32_t client : {2u, 0u, 1u}) other.counted(client, 700 + client, 1.0 + client);
  ASSERT_TRUE(one.end_round({}, scratch_).ok());
  ASSERT_TRUE(other.end_round({}, scratch_).ok());
  EXPECT_EQ((*one.ladder(2, scratch_))[0].bytes, 701 + kPartHeaderBytes);
  EXPECT_NE(before, 701 + kPartHeaderBytes);
  EXPECT_EQ(one.state().bytes, other.state().bytes);
  EXPECT_EQ(one.state().square_norms, other.state().square_norms);
  EXPECT_EQ(one.state().square_norms.at(2), 9);
  // A controller that is restored goes on alike.
  RateController again = make(scenario);
  again.restore(one.state());
  EXPECT_EQ((*again.ladder(2, scratch_))[0].bytes, 701 + kPartHeaderBytes);
}

TEST_F(RateControllerTest, TheErrorOfAChainIsMeasuredOnTheMeanUpdate) {
  Scenario scenario = scenario_with(
      {.budget_bytes = 900, .ladder = "ef | topk:0.05; rotate:1024 | eden:1; float32"});
  RateController rates = make(scenario);
  begin(rates);
  std::vector<float> mean(schema_.elements());
  for (size_t i = 0; i < 100; ++i) mean[i * 100] = 1;  // all of it is in a hundredth
  EXPECT_GT((*rates.ladder(1, scratch_))[0].nmse, 0.5);
  ASSERT_TRUE(rates.end_round(mean, scratch_).ok());
  EXPECT_EQ((*rates.ladder(2, scratch_))[0].nmse, 0);
  EXPECT_EQ((*rates.ladder(2, scratch_))[1].nmse, 0.571) << "known in closed form";
  EXPECT_FALSE(rates.state().nmse.contains("float32"));
}

TEST_F(RateControllerTest, WhoHasMuchToSayIsNotCompressedAsHard) {
  Scenario scenario = scenario_with({.budget_bytes = 400, .worst_error = 4});
  RateController rates = make(scenario);
  const std::string cheap = "rotate:1024 | randk:0.1 | eden:1";
  EXPECT_EQ(given(begin(rates)), std::vector<std::string>(4, cheap)) << "14.7 / 4 is below 4";
  for (const uint32_t client : kAll) rates.counted(client, 300, client == 3 ? 3.0 : 1.0);
  ASSERT_TRUE(rates.end_round({}, scratch_).ok());
  const RoundChains round = begin(rates, 2);
  EXPECT_EQ(given(round), (std::vector<std::string>{cheap, cheap, cheap, "rotate:1024 | eden:1"}));
  EXPECT_EQ(round.given.at(3).reason, RateReason::kGuard);
}

TEST_F(RateControllerTest, BytesGoWhereTheMeanMoves) {
  RateController rates = make(scenario_with({.mean_bytes = 900}));
  const std::string cheap = "rotate:1024 | randk:0.1 | eden:1", fine = "rotate:1024 | eden:1";
  const RoundChains first = begin(rates);
  EXPECT_EQ(given(first), (std::vector<std::string>{fine, fine, cheap, cheap})) << "all are alike";
  EXPECT_FALSE(first.deadline_seconds);
  // Their frames are as noisy as their chains are.
  for (const uint32_t client : kAll) {
    const double noise = std::sqrt(1 + first.given.at(client).nmse);
    rates.counted(client, 300, noise * (client == 1 ? 1.0 : client == 3 ? 3.0 : 2.0));
  }
  ASSERT_TRUE(rates.end_round({}, scratch_).ok());
  EXPECT_NEAR(rates.state().square_norms.at(1), 1, 1e-9);
  const RoundChains second = begin(rates, 2);
  EXPECT_EQ(given(second), (std::vector<std::string>{fine, cheap, cheap, fine}));
  double bytes = 0;
  for (const auto& [client, chain] : second.given) bytes += chain.bytes;
  EXPECT_LE(bytes, 4 * 900);
  EXPECT_EQ(second.given.at(3).reason, RateReason::kFits);
}

TEST_F(RateControllerTest, AWarmUpRaisesRatesAndNeverLowersThem) {
  Scenario scenario = scenario_with(
      {.budget_bytes = 100'000,
       .ladder = "ef | topk:0.01 | rice; ef | topk:0.05 | rice; ef | topk:0.5 | rice"});
  scenario.compression.error_feedback.warmup = {{0.25, 2}, {0.05, 3}};
  RateController rates = make(scenario);
  const auto chains = [&](uint32_t round) {
    std::string text;
    const auto ladder = rates.ladder(round, scratch_);
    for (const Rung& rung : *ladder) text += rung.codec.spec() + "; ";
    return text;
  };
  EXPECT_EQ(chains(1), "ef | topk:0.25 | rice; ef | topk:0.5 | rice; ");
  EXPECT_EQ(chains(3), "ef | topk:0.05 | rice; ef | topk:0.5 | rice; ");
  EXPECT_EQ(chains(6), "ef | topk:0.01 | rice; ef | topk:0.05 | rice; ef | topk:0.5 | rice; ");
}

TEST_F(RateControllerTest, ClientsThatAreAskedTooRarelyGetNoErrorFeedback) {
  Scenario scenario =
      scenario_with({.budget_bytes = 20'000,
                     .ladder = "ef | topk:0.05 | rice; rotate:1024 | randk:0.1 | eden:1"});
  RateController often = make(scenario);
  EXPECT_EQ(given(begin(often))[0], "ef | topk:0.05 | rice");
  Result<RateController> rarely = RateController::make(scenario, schema_, 1000, {});
  EXPECT_EQ(given(begin(*rarely))[0], "rotate:1024 | randk:0.1 | eden:1");
}

// ---- Whole runs

FederationOptions mixed(size_t workers = 1) {
  FederationOptions options{.clients = 4, .rounds = 6, .elements = 10'000, .workers = workers};
  options.rate_control = {.deadline_seconds = 2.0, .ladder = kLadder};
  options.uplinks = {1e6, 1000, 200, 0};
  return options;
}

TEST(RateControl, ClientsOfOneRoundEncodeWithDifferentChains) {
  Federation run(mixed());
  run.add_clients();
  run.run();
  EXPECT_EQ(run.events.count("update_counted"), 24);
  EXPECT_EQ(run.events.count("update_refused"), 0);
  const std::vector<int64_t> bytes = run.events.numbers("update_sent", "bytes");
  EXPECT_EQ(std::set<int64_t>(bytes.begin(), bytes.end()).size(), 3u)
      << "the fourth has float32, compression.up, too";
  const std::string reasons = run.events.texts("chain_given");
  for (const char* reason : {"most_accurate", "fits", "unknown_link"})
    EXPECT_THAT(reasons, HasSubstr(reason));
  // The mean of six rounds is near what exact updates give.
  const std::vector<float> exact = run.expected({0, 1, 2, 3}, 6), zero = run.expected({0}, 0);
  double errors = 0, squares = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    errors += std::pow(run.parameters()[i] - exact[i], 2);
    squares += std::pow(exact[i] - zero[i], 2);
  }
  // Client 2 has 14.7 of squared error, 9 / 30 of the squares, 1 / 16 of the weight; 6 rounds.
  EXPECT_LT(errors / squares, 0.35);
  EXPECT_GT(errors / squares, 0.05) << "it was compressed";
}

TEST(RateControl, AClientThatWeighsMoreMovesTheMeanMore) {
  FederationOptions options{.clients = 2, .rounds = 1, .elements = 400, .largest_examples = 24};
  options.rate_control = {.mean_bytes = 100'000, .ladder = "float32"};
  Federation run(options);
  run.add_client(0, {.examples = 24});
  run.add_client(1, {.examples = 8});
  run.run();
  const std::map<uint32_t, double> squares = run.coordinator->state().rate.square_norms;
  // Client 1 has twice the update and a third of the weight.
  EXPECT_NEAR(squares.at(0) / squares.at(1), 9.0 / 4, 1e-9);
}

TEST(RateControl, TheModelDoesNotDependOnTheNumberOfWorkers) {
  const auto model = [](size_t workers) {
    Federation run(mixed(workers));
    run.add_clients();
    run.run();
    return run.parameters();
  };
  EXPECT_EQ(model(1), model(3));
}

TEST(RateControl, ARestoredRunGoesOnAsIfNothingHadHappened) {
  FederationOptions options = mixed();
  options.rate_control = {.mean_error = 0.2,
                          .worst_error = 0.5,
                          .ladder = "rotate:1024 | randk:0.1 | eden:1; int:4 | rans; float32"};
  options.uplinks = {1e6, 1000, 200, 5000};
  Federation through(options);
  through.add_clients();
  through.run();
  EXPECT_THAT(through.events.texts("chain_given", "chain"),
              testing::AllOf(HasSubstr("int:4 | rans"), HasSubstr("float32")));

  Federation first(options);
  first.add_clients();
  CoordinatorHooks hooks;
  hooks.stop_requested = [&] { return first.rounds_ended == 2; };
  first.open(std::move(hooks));
  first.run();
  const CoordinatorState saved = first.coordinator->state();
  EXPECT_EQ(saved.rate.square_norms.size(), 4u);
  EXPECT_FALSE(saved.rate.nmse.empty() || saved.rate.bytes.empty());

  Federation second(options);
  second.add_clients();
  second.open();
  ASSERT_TRUE(second.coordinator->restore(saved).ok());
  second.run();
  EXPECT_EQ(second.coordinator->model().sha256(), through.coordinator->model().sha256());
}

TEST(RateControl, AFrameOfAnotherChainIsRefusedThoughOthersOfTheRoundHaveIt) {
  for (const bool wrong : {false, true}) {
    FederationOptions options = mixed();
    options.rounds = 1;
    options.min_updates = 3;
    Federation run(options);
    for (const uint32_t client : {0u, 1u, 3u}) run.add_client(client);
    RawPeer peer(run.network, peer_key(2));
    peer.when_connected = [&] {
      (void)peer.say(
          Hello{.schema_hash = run.schema.hash(), .unix_seconds = run.machine.unix_seconds()});
    };
    peer.when_told = [&](const Message& message) {
      if (std::holds_alternative<Welcome>(message)) (void)peer.say(Ready{.examples = 8});
      const auto* plan = std::get_if<PlanMessage>(&message);
      if (plan == nullptr) return;
      EXPECT_EQ(parse_plan(plan->plan.payload)->codec, "rotate:1024 | randk:0.1 | eden:1");
      // Shorter than the longest frame of its chain, and as good as those of client 1.
      const Codec codec = *Codec::parse(wrong ? "rotate:1024 | randk:0.05 | eden:1"
                                              : "rotate:1024 | randk:0.1 | eden:1");
      const std::vector<float> update(run.schema.elements(), 0.001f);
      CodecScratch scratch;
      const Bytes frame =
          encode_update(codec, {.round = 1, .seed = 3}, run.schema, update, {}, scratch)->frame;
      (void)peer.say(UpdateMessage{
          .task = plan->task.task,
          .client = 2,
          .report = {.examples = 8, .samples_trained = 8, .steps = 1, .mean_loss = 0.5}});
      for (Bytes& part : split_into_parts(TransferKind::kUpdate, plan->task.task,
                                          std::vector{std::span<const std::byte>(frame)}))
        (void)peer.send(std::move(part));
    };
    peer.connect();
    run.run();
    EXPECT_EQ(run.events.count("update_counted"), wrong ? 3 : 4);
    EXPECT_EQ(run.events.count("update_refused"), wrong ? 1 : 0);
    if (wrong) {
      EXPECT_THAT(run.events.texts("update_refused"), HasSubstr("randk:0.05"));
    }
    ASSERT_EQ(peer.heard<Verdict>().size(), 1u);
    EXPECT_EQ(peer.heard<Verdict>()[0].counted, !wrong);
  }
}

TEST(RateControl, TheLawOfErrorFeedbackHoldsAcrossChangesOfTheChain) {
  // A warm-up changes the chain of each round, and in rounds with little budget it is float32's
  // turn to carry an update: what is owed stays owed.
  FederationOptions options{.clients = 1, .rounds = 9, .elements = 400};
  options.rate_control = {.budget_bytes = 380,
                          .ladder = "ef | topk:0.02 | ternary | rice; ef | topk:0.1 | bfloat16"};
  options.warmup = {{0.25, 2}, {0.05, 2}};
  Federation run(options);
  TestClient& client = run.add_client(0);
  run.run();
  EXPECT_THAT(run.events.texts("chain_given", "chain"),
              testing::AllOf(HasSubstr("topk:0.25"), HasSubstr("topk:0.1")));
  const std::vector<float> model = run.parameters(), zero = run.expected({0}, 0);
  const auto residual = client.state(0).memory.residual;
  ASSERT_EQ(residual.size(), model.size());
  for (size_t i = 0; i < model.size(); ++i)
    EXPECT_NEAR(model[i] - zero[i] + residual[i], 9 * constant_update(0, i), 1e-5) << i;
}

}  // namespace
}  // namespace tern
