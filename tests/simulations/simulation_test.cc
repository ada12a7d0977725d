// Whole runs: the same bits whoever computes them and however often they are interrupted, and
// honest counts.
#include "simulations/simulation.h"

#include <gmock/gmock.h>

#include "base/durable_file.h"
#include "base/rng.h"
#include "base/safetensors.h"
#include "base/sha256.h"
#include "simulations/fleet.h"
#include "tests/simulations/small_scenario.h"

namespace tern {
namespace {

using nlohmann::ordered_json;

class EveryChain : public testing::TestWithParam<std::pair<const char*, const char*>> {
 protected:
  PreparedScenario scenario(std::vector<Override> extra = {}) const {
    extra.push_back({"compression.up", GetParam().first});
    extra.push_back({"compression.down", GetParam().second});
    return small_scenario(std::move(extra));
  }
};

/// Of seven clients some are summed while others train.
const Override kLargerCohort{"fleet.cohort", "7"};

TEST_P(EveryChain, GivesTheSameModelOnAnyNumberOfWorkers) {
  const PreparedScenario prepared = scenario({kLargerCohort});
  const std::string one = hash_of(run(prepared, {.fleet = {.workers = 1}}));
  for (const size_t workers : {2, 3, 7})
    EXPECT_EQ(hash_of(run(prepared, {.fleet = {.workers = workers}})), one) << workers;
  EXPECT_NE(hash_of(run(scenario({kLargerCohort, {"seed", "2"}}))), one)
      << "another seed gives another model";
}

TEST_P(EveryChain, InterruptedAfterEveryRoundEndsLikeARunThatWentThrough) {
  const PreparedScenario prepared = scenario(
      {kLargerCohort, {"strategy.server_momentum", "0.5"}, {"strategy.server_average_every", "3"}});
  const RunResult through = run(prepared, {.fleet = {.workers = 2}});
  RunOptions options{.fleet = {.workers = 2}, .out = fresh_folder("out")};
  RunResult part = run(prepared, options, kStopAtOnce);
  options.resume = true;
  for (int round = 2; round <= 6; ++round) {
    ASSERT_TRUE(part.interrupted);
    EXPECT_EQ(part.summary["rounds"], round - 1);
    part = run(prepared, options, kStopAtOnce);
  }
  EXPECT_FALSE(part.interrupted);
  EXPECT_EQ(hash_of(part), hash_of(through));
  for (const char* kind : {"up", "down", "dense_up", "dense_down"})
    EXPECT_EQ(part.summary["bytes"][kind], through.summary["bytes"][kind]) << kind;
  EXPECT_GT(part.summary["bytes"]["control_up"], through.summary["bytes"]["control_up"])
      << "after each interruption every client opens a session anew";
  EXPECT_EQ(part.summary["samples_trained"], through.summary["samples_trained"]);
}

// What a fleet of a million does: nobody stays, and what they remember is on the disk.
TEST_P(EveryChain, ClientsThatLeaveAndAreForgottenComeBackAsTheyWere) {
  const PreparedScenario prepared = scenario();
  const RunResult through = run(prepared);
  RunOptions options{.fleet = {.workers = 2, .most_connected = 0}, .memory_bytes = 0};
  const RunResult forgetful = run(prepared, options);
  EXPECT_EQ(hash_of(forgetful), hash_of(through));
  EXPECT_GT(forgetful.summary["bytes"]["control_up"], through.summary["bytes"]["control_up"])
      << "who comes back says so";
  options.out = fresh_folder("out");
  options.checkpoint_every = 2;
  RunResult part = run(prepared, options, kStopAtOnce);
  options.resume = true;
  while (part.interrupted) part = run(prepared, options, kStopAtOnce);
  EXPECT_EQ(hash_of(part), hash_of(through));
  EXPECT_EQ(part.summary["bytes"]["up"], through.summary["bytes"]["up"]);
  EXPECT_FALSE(std::filesystem::exists(options.out + "/checkpoint.db-journal"));
}

TEST_P(EveryChain, CountsTheBytesOfEveryRound) {
  const std::string out = fresh_folder("out");
  const RunResult result = run(scenario(), {.out = out});
  std::ifstream rows(out + "/metrics.jsonl");
  uint64_t up = 0, down = 0, rounds = 0;
  for (std::string line; std::getline(rows, line); ++rounds) {
    const auto row = ordered_json::parse(line);
    up += row["bytes_up"].get<uint64_t>();
    down += row["bytes_down"].get<uint64_t>();
  }
  EXPECT_EQ(rounds, 6u);
  EXPECT_EQ(result.summary["bytes"]["up"], up);
  EXPECT_EQ(result.summary["bytes"]["down"], down);
  EXPECT_EQ(result.summary["bytes"]["dense_up"],
            6u * 4 * 26 * 4);  // rounds x cohort x parameters x 4
  EXPECT_GT(up, 24u * 64) << "part headers count";
}

INSTANTIATE_TEST_SUITE_P(
    Chains, EveryChain,
    testing::Values(std::pair{"float32", "float32"}, std::pair{"rotate:1024 | eden:1", "float32"},
                    std::pair{"rotate:1024 | randk:0.25 | eden:1",
                              "ef | topk:0.1 | ternary | rice"},
                    std::pair{"ef | topk:0.1 | ternary | rice", "ef | rotate | eden:2"},
                    std::pair{"int:8", "bfloat16"},
                    std::pair{"dct:2 | rotate:1024 | randk-by-norm:0.3 | eden:1",
                              "ef | dct:2 | topk:0.2 | ternary | rice"},
                    std::pair{"principal:1 | rotate:1024 | randk:0.3 | eden:1",
                              "ef | components:1x0.3 | topk:0.2 | ternary | cabac"},
                    std::pair{"components:1 | rotate:1024 | randk:0.3 | eden:1",
                              "ef | principal:1 | topk:0.2 | ternary | rice"},
                    std::pair{"ef21 | topk:0.2 | rice", "ef | topk:0.1 | ternary | rice"},
                    std::pair{"dgc:0.5 | topk:0.1 | ternary | rice", "float32"},
                    std::pair{"ef | small16:16 | lowrank:1", "ef | sketch:2x8"}));

// More than the loop keeps open and than are handed out in a turn, with downloads of several parts.
// Where more are asked than counted, a late one must not reach into the next round: that would be
// another run after an interruption.
TEST(Simulation, ACrowdIsTheSameOnAnyNumberOfWorkersAndAfterAnInterruption) {
  for (const char* over_select : {"1", "2"}) {
    const PreparedScenario prepared = small_scenario({{"data.partition", "draw:10"},
                                                      {"fleet.clients", "1000"},
                                                      {"fleet.cohort", "500"},
                                                      {"fleet.over_select", over_select},
                                                      {"model.name", "mlp-2nn"},
                                                      {"compression.up", "rotate:1024 | eden:1"},
                                                      {"compression.down", "float32"},
                                                      {"rounds", "3"},
                                                      {"evaluation.every", "3"}});
    const RunResult one = run(prepared, {.fleet = {.workers = 1}});
    const RunResult three = run(prepared, {.fleet = {.workers = 3}});
    RunOptions options{.fleet = {.workers = 2}, .out = fresh_folder("out")};
    RunResult part = run(prepared, options, kStopAtOnce);
    options.resume = true;
    while (part.interrupted) part = run(prepared, options, kStopAtOnce);
    for (const RunResult& other : {three, part}) {
      EXPECT_EQ(hash_of(other), hash_of(one)) << over_select;
      for (const char* kind : {"up", "down", "dense_up", "dense_down"})
        EXPECT_EQ(other.summary["bytes"][kind], one.summary["bytes"][kind]) << over_select << kind;
    }
  }
}

// The checkpoint says of what it holds which version and which level that is.
TEST(Simulation, ResumesFromKeyframesOfTwoLevels) {
  const PreparedScenario prepared = small_scenario(
      {{"rounds", "9"},
       {"compression.down", "topk:0.1 | ternary | rice"},
       {"compression.keyframe", "topk:0.2 | ternary | rice; ef | topk:0.3 | ternary | rice"},
       {"compression.keyframe_every", "2 4"}});
  const RunResult through = run(prepared);
  RunOptions options{.fleet = {.workers = 2}, .out = fresh_folder("out")};
  RunResult part = run(prepared, options, kStopAtOnce);
  options.resume = true;
  int stops = 0;
  for (; part.interrupted; ++stops) part = run(prepared, options, kStopAtOnce);
  EXPECT_EQ(stops, 8) << "it was stopped after each round but the last";
  EXPECT_EQ(hash_of(part), hash_of(through));
  EXPECT_EQ(part.summary["bytes"]["down"], through.summary["bytes"]["down"]);
}

TEST(Simulation, ResumesWithResidualsOfSixteenBits) {
  const PreparedScenario prepared =
      small_scenario({{"compression.up", "ef | topk:0.1 | ternary | rice"},
                      {"compression.error_feedback.store", "bfloat16"}});
  const std::string through = hash_of(run(prepared));
  RunOptions options{.fleet = {.workers = 2}, .out = fresh_folder("out")};
  RunResult part = run(prepared, options, kStopAtOnce);
  options.resume = true;
  while (part.interrupted) part = run(prepared, options, kStopAtOnce);
  EXPECT_EQ(hash_of(part), through);
  EXPECT_NE(hash_of(run(small_scenario({{"compression.up", "ef | topk:0.1 | ternary | rice"}}))),
            through);
}

TEST(Simulation, WritesResultsThatFitTogether) {
  const std::string out = fresh_folder("out");
  const PreparedScenario prepared = small_scenario();
  const RunResult result = run(prepared, {.out = out});
  for (const char* file : {"summary.json", "metrics.jsonl", "evaluation.json", "model.safetensors",
                           "scenario.toml", "report.html"})
    EXPECT_TRUE(std::filesystem::exists(out + "/" + file)) << file;
  EXPECT_FALSE(std::filesystem::exists(out + "/checkpoint.db"));
  std::vector<float> parameters(prepared.data->schema.elements());
  ASSERT_TRUE(
      from_safetensors(*read_file(out + "/model.safetensors"), prepared.data->schema, parameters)
          .ok());
  EXPECT_EQ(to_hex(sha256(std::span<const float>(parameters))), hash_of(result));
  std::ifstream summary(out + "/summary.json");
  EXPECT_EQ(ordered_json::parse(summary)["model"], result.summary["model"]);
  const Result<Scenario> reloaded = load_scenario(out + "/scenario.toml");
  ASSERT_TRUE(reloaded) << reloaded.error().describe();
  EXPECT_EQ(print_scenario(*reloaded), print_scenario(prepared.scenario));
}

TEST(Simulation, ADeploymentsTablesChangeNothing) {
  const ordered_json without = run(small_scenario()).summary;
  const std::string out = fresh_folder("out");
  const PreparedScenario with = small_scenario(
      {{"server.listen", "tcp://*:7700"}, {"client.connect", "tcp://localhost:7700"}});
  const ordered_json summary = run(with, {.out = out}).summary;
  for (const char* key : {"config_sha256", "model", "bytes", "final"})
    EXPECT_EQ(summary[key], without[key]) << key;
  EXPECT_EQ(load_scenario(out + "/scenario.toml")->server.listen, "tcp://*:7700");
}

TEST(Simulation, LearnsWhatCanBeLearned) {
  // Two blobs 1.4 deviations apart in 12 dimensions: Bayes' accuracy is 0.992.
  const RunResult result = run(small_scenario({{"rounds", "30"}}));
  EXPECT_GT(result.summary["final"]["accuracy"].get<double>(), 0.95);
  EXPECT_GT(result.summary["final"]["macro_f1"].get<double>(), 0.95);
}

TEST(Simulation, SummaryHasEveryKeyAndNullForWhatIsNotKnown) {
  const ordered_json summary = run(small_scenario()).summary;
  for (const char* key :
       {"version", "seed", "workers", "blas", "cpu_level", "libtorch", "config_sha256", "rounds",
        "model", "final", "late", "best", "bytes", "target", "seconds", "virtual_seconds",
        "client_trainings", "samples_trained", "peak_rss_bytes"})
    EXPECT_TRUE(summary.contains(key)) << key;
  for (const char* key :
       {"wall", "train", "encode", "decode", "aggregate", "evaluate", "other", "idle"})
    EXPECT_TRUE(summary["seconds"].contains(key)) << key;
  for (const char* key : {"reached", "round", "bytes_up", "bytes_down", "virtual_seconds"})
    EXPECT_TRUE(summary["target"][key].is_null()) << key << " without a target";
  EXPECT_TRUE(summary["virtual_seconds"].is_null());
}

TEST(Simulation, SaysWhenTheTargetWasReached) {
  const ordered_json target =
      run(small_scenario({{"rounds", "30"}, {"target.accuracy", "0.9"}})).summary["target"];
  EXPECT_EQ(target["reached"], true);
  EXPECT_GT(target["bytes_up"].get<uint64_t>(), 0u);
  EXPECT_EQ(run(small_scenario({{"target.accuracy", "1"}})).summary["target"]["reached"], false);
}

TEST(Simulation, ChargesLateUpdatesOfOverSelectedClients) {
  const ordered_json exact = run(small_scenario()).summary;
  const std::string out = fresh_folder("out");
  const ordered_json over =
      run(small_scenario({{"fleet.over_select", "1.5"}}), {.out = out}).summary;
  EXPECT_EQ(over["client_trainings"].get<int>(), 36);  // 6 rounds x 6 asked
  EXPECT_EQ(over["bytes"]["up"].get<double>(), 1.5 * exact["bytes"]["up"].get<double>());
  std::ifstream rows(out + "/metrics.jsonl");
  std::string line;
  std::getline(rows, line);
  EXPECT_EQ(ordered_json::parse(line)["updates"], 4);
  EXPECT_EQ(ordered_json::parse(line)["refused"], 2);
}

TEST(Simulation, UpdatesAboveTheNormBoundAreRefusedAndTheRoundIsVoid) {
  const PreparedScenario prepared =
      small_scenario({{"strategy.norm_bound", "0.000001"}, {"rounds", "2"}});
  const std::string out = fresh_folder("out");
  const ordered_json summary = run(prepared, {.out = out}).summary;
  EXPECT_EQ(summary["void_rounds"], 2);
  std::ifstream rows(out + "/metrics.jsonl");
  std::string line;
  std::getline(rows, line);
  EXPECT_EQ(ordered_json::parse(line)["refused"], 4);
  EXPECT_TRUE(ordered_json::parse(line)["version"].is_null()) << "nothing is published";
  EXPECT_EQ(summary["bytes"]["down"], 0) << "everybody holds version 0 still";
}

TEST(Simulation, WarmUpSendsMoreAtFirst) {
  const std::string out = fresh_folder("out");
  (void)run(small_scenario({{"compression.up", "ef | topk:0.1 | ternary | rice"},
                            {"compression.error_feedback.warmup", "0.8:2 0.4:1"}}),
            {.out = out});
  std::ifstream rows(out + "/metrics.jsonl");
  std::vector<uint64_t> up;
  for (std::string line; std::getline(rows, line);)
    up.push_back(ordered_json::parse(line)["bytes_up"]);
  ASSERT_EQ(up.size(), 6u);
  EXPECT_EQ(up[0], up[1]);
  EXPECT_GT(up[1], up[2]);
  EXPECT_GT(up[2], up[3]);
}

TEST(Simulation, RefusesAFolderThatHoldsARun) {
  const PreparedScenario prepared = small_scenario();
  const std::string out = fresh_folder("out");
  (void)run(prepared, {.out = out});
  const auto again = run_scenario(prepared, {.out = out, .show_progress = false}, kGoOn);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Code::kInUse);
  EXPECT_THAT(again.error().describe(), testing::HasSubstr("already holds a finished run"));
  const auto resumed =
      run_scenario(prepared, {.out = out, .resume = true, .show_progress = false}, kGoOn);
  ASSERT_FALSE(resumed);
  EXPECT_THAT(resumed.error().describe(), testing::HasSubstr("this run is finished"));
}

TEST(Simulation, AWarmUpMayNeedLongerUpdatesThanTheSpec) {
  // Plain indices and float32 values at rate 1: half as long again as a dense update.
  const ordered_json summary = run(small_scenario({{"compression.up", "ef | topk:0.1"},
                                                   {"compression.error_feedback.warmup", "1:3"}}))
                                   .summary;
  EXPECT_EQ(summary["void_rounds"], 0);
}

TEST(Simulation, AnInterruptionLeavesNoTraceInTheFiguresOfTheWholeRun) {
  // Evaluated in rounds 4 and 6; the interruption in round 1 evaluates too, for its own summary.
  const PreparedScenario prepared =
      small_scenario({{"evaluation.every", "4"}, {"target.accuracy", "0.01"}});
  const RunResult through = run(prepared);
  RunOptions options{.out = fresh_folder("out")};
  const RunResult part = run(prepared, options, kStopAtOnce);
  EXPECT_TRUE(part.summary["final"]["accuracy"].is_number());
  EXPECT_TRUE(part.summary["late"]["accuracy"].is_null()) << "no evaluation was due yet";
  options.resume = true;
  const RunResult whole = run(prepared, options);
  for (const char* key : {"late", "best", "target", "final"})
    EXPECT_EQ(whole.summary[key], through.summary[key]) << key;
}

TEST(Simulation, RefusesToResumeWithOtherData) {
  const PreparedScenario prepared = small_scenario();
  const RunOptions options{.out = fresh_folder("out"), .show_progress = false};
  (void)run(prepared, options, kStopAtOnce);
  PreparedScenario changed = prepared;
  auto data = std::make_shared<LearningData>(*prepared.data);
  data->data.train.inputs[5] += 1;
  changed.data = data;
  RunOptions resume = options;
  resume.resume = true;
  const auto result = run_scenario(changed, resume, kGoOn);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().describe(),
              testing::HasSubstr("data or the initial model have changed"));
}

TEST(Simulation, OverSelectionDropsNobodyForGood) {
  const std::string out = fresh_folder("out");
  const PreparedScenario prepared = small_scenario({{"rounds", "60"},
                                                    {"fleet.cohort", "2"},
                                                    {"fleet.over_select", "2"},
                                                    {"evaluation.every", "100"}});
  class Counted : public EventSink {
   public:
    void on(const Event& event) override {
      if (event.name == "update_counted") ++times[static_cast<uint32_t>(event.number("client"))];
    }
    std::map<uint32_t, int> times;
  } counted;
  MemoryClientStore memory;
  const auto fleet = Fleet::make(prepared, {.workers = 2}, memory, counted);
  ASSERT_TRUE(fleet);
  ASSERT_TRUE((*fleet)->run(kGoOn, [](uint32_t, const Evaluation*) { return Status(); }));
  // 60 rounds x 2 counted over 8 clients: 15 each on average; none below 4 with a fixed seed.
  for (uint32_t client = 0; client < 8; ++client) EXPECT_GE(counted.times[client], 4) << client;
}

class InitialModel : public testing::Test {
 protected:
  std::string file(float value, size_t count = 26) {
    const ParameterSchema schema = small_scenario().data->schema;
    std::vector<float> parameters(schema.elements(), value);
    parameters[3] = -0.0f;
    parameters.resize(count);
    const std::string path = fresh_folder("initial") + ".safetensors";
    EXPECT_TRUE(
        write_durably(path, std::span<const std::byte>(to_safetensors(schema, parameters))).ok());
    return path;
  }
};

TEST_F(InitialModel, IsDownloadedAndChargedOnce) {
  const std::string path = file(0.25f);
  const PreparedScenario prepared = small_scenario(
      {{"model.initial", path}, {"fleet.clients", "4"}, {"training.learning_rate", "1e-12"}});
  const RunResult result = run(prepared);
  // Nothing is learned, so every client still has 0.25 everywhere but in one parameter.
  std::vector<float> expected(26, 0.25f);
  expected[3] = 0.0f;
  EXPECT_EQ(hash_of(result), to_hex(sha256(std::span<const float>(expected))));
  EXPECT_GE(result.summary["bytes"]["down"].get<uint64_t>(), 4u * 4 * 26);
  EXPECT_EQ(result.summary["bytes"]["dense_down"].get<uint64_t>(), 6u * 4 * 4 * 26)
      << "rounds x clients: in the first one the model itself";
}

TEST_F(InitialModel, IsCheckedBeforeTheRun) {
  const auto failure = [&](const std::string& path) {
    std::vector<Override> all = small_overrides();
    all.push_back({"model.initial", path});
    const auto prepared = prepare(*parse_scenario("", "/small.toml", all));
    EXPECT_FALSE(prepared);
    EXPECT_EQ(prepared.error().where().key, "model.initial");
    return prepared.error().message();
  };
  EXPECT_THAT(failure(file(16.0f)), testing::HasSubstr("within +-16"));
  EXPECT_THAT(failure(file(std::numeric_limits<float>::quiet_NaN())), testing::HasSubstr("is nan"));
  EXPECT_THAT(failure("/nowhere.safetensors"), testing::HasSubstr("/nowhere.safetensors"));
}

TEST(Simulation, LabelsThatAreNotUtf8DoNotStopTheResults) {
  const std::string path = fresh_folder("latin1") + ".csv";
  {
    std::ofstream file(path);
    file << "x,label\n";
    for (int i = 0; i < 40; ++i) file << i % 7 << (i % 2 ? ",caf\xe9\n" : ",tea\n");
  }
  const std::string out = fresh_folder("out");
  (void)run(small_scenario({{"data.path", path}}), {.out = out});
  EXPECT_TRUE(std::filesystem::exists(out + "/summary.json"));
}

TEST(Simulation, WithoutTestDataThereAreNoFigures) {
  const ordered_json summary = run(small_scenario({{"data.test_fraction", "0.0001"}})).summary;
  for (const char* key : {"accuracy", "loss", "macro_f1", "worst_decile_client_accuracy"})
    EXPECT_TRUE(summary["final"][key].is_null()) << key;
  EXPECT_TRUE(summary["late"]["accuracy"].is_null());
}

TEST(Simulation, RefusesAFolderThatAnotherRunUses) {
  const std::string out = fresh_folder("out");
  const auto lock = FolderLock::acquire(out);
  ASSERT_TRUE(lock);
  const auto second = run_scenario(small_scenario(), {.out = out, .show_progress = false}, kGoOn);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().describe(), testing::HasSubstr("in use"));
}

TEST(Simulation, ADamagedCheckpointIsRefusedOrHarmless) {
  const PreparedScenario prepared =
      small_scenario({{"compression.up", "ef | topk:0.2 | ternary | rice"}});
  const std::string through = hash_of(run(prepared));
  const std::string out = fresh_folder("out"), file = out + "/checkpoint.db";
  (void)run(prepared, {.out = out}, kStopAtOnce);
  const auto whole = *read_file(file);
  const RunOptions resume{.out = out, .resume = true, .show_progress = false};
  const auto resumed_from = [&](std::span<const std::byte> bytes) {
    EXPECT_TRUE(write_durably(file, bytes).ok());
    std::filesystem::remove(out + "/summary.json");
    return run_scenario(prepared, resume, kGoOn);
  };
  Rng rng(1, Purpose::kTest);
  int refused = 0;
  for (int flip = 0; flip < 300; ++flip) {
    auto damaged = whole;
    // Half of them where something is written.
    size_t at = rng.below(static_cast<uint32_t>(whole.size()));
    while (flip % 2 == 0 && whole[at] == std::byte{}) at = (at + 1) % whole.size();
    damaged[at] ^= std::byte{1} << rng.below(8);
    const auto result = resumed_from(damaged);
    if (result) {
      EXPECT_EQ(hash_of(*result), through) << at;
    } else {
      ++refused;
      EXPECT_THAT(result.error().describe(), testing::HasSubstr("checkpoint.db")) << at;
    }
  }
  EXPECT_GT(refused, 100);
  for (const size_t length : {size_t{20}, whole.size() / 2, whole.size() - 40'000})
    EXPECT_FALSE(resumed_from(std::span(whole).first(length))) << length;
  const auto good = resumed_from(whole);
  ASSERT_TRUE(good) << "the whole checkpoint still works";
  EXPECT_EQ(hash_of(*good), through);
}

TEST(Simulation, RefusesTheCheckpointOfAnotherScenario) {
  const std::string out = fresh_folder("out");
  (void)run(small_scenario(), {.out = out}, kStopAtOnce);
  const auto foreign = run_scenario(small_scenario({{"training.learning_rate", "0.01"}}),
                                    {.out = out, .resume = true, .show_progress = false}, kGoOn);
  ASSERT_FALSE(foreign);
  EXPECT_THAT(foreign.error().describe(), testing::HasSubstr("another scenario"));
}

// Killed before its first save, a run leaves a file without one.
TEST(Simulation, ACheckpointWithoutASaveBeginsAnew) {
  const PreparedScenario prepared = small_scenario();
  const std::string out = fresh_folder("out");
  std::filesystem::create_directories(out);
  {
    auto file = CheckpointFile::open(out + "/checkpoint.db");
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->put_client(1, std::vector<std::byte>(50)).ok());
  }
  ASSERT_TRUE(std::filesystem::exists(out + "/checkpoint.db"));
  EXPECT_EQ(hash_of(run(prepared, {.out = out, .resume = true})), hash_of(run(prepared)));
}

TEST(Simulation, AModelThatDivergesStopsTheRunWithAReason) {
  const auto result = run_scenario(small_scenario({{"strategy.server_learning_rate", "500"}}),
                                   {.show_progress = false}, kGoOn);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Code::kOutOfRange);
  EXPECT_THAT(result.error().message(), testing::HasSubstr("training diverges"));
}

TEST(Prepare, NamesTheKeyOfWhatDoesNotFitTheData) {
  const std::pair<std::vector<Override>, const char*> cases[] = {
      {{{"data.partition", "shards:3"}}, "data.partition"},
      {{{"fleet.clients", "1000"}, {"fleet.cohort", "4"}}, "data.partition"},
      {{{"model.name", "cnn"}}, "model.name"},
      {{{"model.input", "13"}}, "model.input"},
      {{{"model.input", "1x3x4"}}, "model.input"},
      {{{"model.classes", "3"}}, "model.classes"},
      {{{"fleet.max_examples", "39"}}, "fleet.max_examples"},
  };
  for (const auto& [extra, key] : cases) {
    std::vector<Override> all = small_overrides();
    all.insert(all.end(), extra.begin(), extra.end());
    const auto scenario = parse_scenario("", "/small.toml", all);
    ASSERT_TRUE(scenario) << scenario.error().describe();
    const auto prepared = prepare(*scenario);
    ASSERT_FALSE(prepared) << key;
    EXPECT_EQ(prepared.error().where().key, key);
  }
}

TEST(Prepare, TakesTheKeysThatOnlyADeploymentNeeds) {
  const PreparedScenario prepared = small_scenario({{"model.input", "12"},
                                                    {"model.classes", "2"},
                                                    {"fleet.max_examples", "1000"},
                                                    {"server.listen", "tcp://*:7700"},
                                                    {"client.connect", "tcp://localhost:7700"}});
  EXPECT_EQ(prepared.largest_examples, 1000u);
  EXPECT_EQ(small_scenario().largest_examples, 40u) << "what the partition gives";
}

TEST(EstimateCost, UsesLengthsOfRealFrames) {
  const auto cost = estimate_cost(small_scenario({{"compression.up", "int:8"}}), 1);
  ASSERT_TRUE(cost);
  EXPECT_EQ((*cost)["parameters"], 26);
  EXPECT_LT((*cost)["update_bytes"].get<double>(), 4 * 26 + 64 + 72);
  EXPECT_GT((*cost)["update_bytes"].get<double>(), 26 + 64);
}

// ---- Rate control

/// Links so slow and frames so short that all kinds of chains are chosen.
std::vector<Override> rate_controlled() {
  return {{"fleet.uplink_bytes_per_s", "loguniform:100..10000"},
          {"compression.rate_control.mean_error", "0.05"},
          {"compression.rate_control.worst_error", "0.2"},
          {"compression.rate_control.ladder",
           "ef | topk:0.1 | ternary | rice; int:3; int:4 | rans; int:8; float32"}};
}

TEST(RateControl, GivesTheSameModelOnAnyNumberOfWorkersAndOverSockets) {
  const PreparedScenario prepared = small_scenario(rate_controlled());
  const RunResult one = run(prepared, {.fleet = {.workers = 1}});
  EXPECT_GE(one.summary["rate_control"]["chains"].size(), 3u) << one.summary["rate_control"];
  EXPECT_EQ(hash_of(run(prepared, {.fleet = {.workers = 2}})), hash_of(one));
  const RunResult zmq = run(prepared, {.fleet = {.workers = 2, .transport = FleetTransport::kZmq}});
  EXPECT_EQ(hash_of(zmq), hash_of(one));
  EXPECT_EQ(zmq.summary["rate_control"], one.summary["rate_control"]);
  EXPECT_NEAR(zmq.summary["transfer_seconds"]["clients"].get<double>(),
              one.summary["transfer_seconds"]["clients"].get<double>(), 1e-9);
  EXPECT_NE(hash_of(run(small_scenario())), hash_of(one));
}

TEST(RateControl, InterruptedAfterEveryRoundEndsLikeARunThatWentThrough) {
  const PreparedScenario prepared = small_scenario(rate_controlled());
  const RunResult through = run(prepared, {.fleet = {.workers = 2}});
  RunOptions options{.fleet = {.workers = 2}, .out = fresh_folder("out")};
  RunResult part = run(prepared, options, kStopAtOnce);
  options.resume = true;
  while (part.interrupted) part = run(prepared, options, kStopAtOnce);
  EXPECT_EQ(hash_of(part), hash_of(through));
  EXPECT_EQ(part.summary["rate_control"], through.summary["rate_control"]);
  EXPECT_NEAR(part.summary["transfer_seconds"]["rounds"].get<double>(),
              through.summary["transfer_seconds"]["rounds"].get<double>(), 1e-9);
}

TEST(RateControl, EveryRowSaysWhatWasGivenAndHowLongItTook) {
  const std::string out = fresh_folder("out");
  const ordered_json summary = run(small_scenario(rate_controlled()), {.out = out}).summary;
  std::ifstream rows(out + "/metrics.jsonl");
  double rounds = 0, clients = 0;
  for (std::string line; std::getline(rows, line);) {
    const ordered_json row = ordered_json::parse(line);
    uint64_t given = 0, reasons = 0;
    for (const auto& [chain, count] : row["chains"].items()) given += count.get<uint64_t>();
    for (const auto& [reason, count] : row["reasons"].items()) reasons += count.get<uint64_t>();
    EXPECT_EQ(given, 4u);
    EXPECT_EQ(reasons, 4u);
    EXPECT_GT(row["deadline"].get<double>(), 0);
    EXPECT_LE(row["transfer_slowest"].get<double>(), row["transfer_sum"].get<double>());
    rounds += row["transfer_slowest"].get<double>();
    clients += row["transfer_sum"].get<double>();
  }
  EXPECT_NEAR(summary["transfer_seconds"]["rounds"].get<double>(), rounds, 1e-9);
  EXPECT_NEAR(summary["transfer_seconds"]["clients"].get<double>(), clients, 1e-9);
  const ordered_json plain = run(small_scenario()).summary;
  EXPECT_TRUE(plain["transfer_seconds"]["rounds"].is_null()) << "no link is known";
  EXPECT_TRUE(plain["rate_control"]["chains"].is_null());
}

TEST(RateControl, ADeadlineNeedsLinks) {
  std::vector<Override> all = small_overrides();
  all.push_back({"compression.rate_control.deadline", "2s"});
  const Result<Scenario> scenario = parse_scenario("", "/small.toml", all);
  ASSERT_TRUE(scenario);
  const auto prepared = prepare(*scenario);
  ASSERT_FALSE(prepared);
  EXPECT_EQ(prepared.error().where().key, "compression.rate_control.deadline");
  EXPECT_THAT(prepared.error().message(), testing::HasSubstr("needs fleet.uplink_bytes_per_s"));
}

TEST(EstimateCost, SaysWhatRateControlWouldDo) {
  const auto cost = estimate_cost(small_scenario(rate_controlled()), 1);
  ASSERT_TRUE(cost);
  const ordered_json& rates = (*cost)["rate_control"];
  ASSERT_EQ(rates["ladder"].size(), 5u);
  uint64_t updates = 0;
  for (const ordered_json& rung : rates["ladder"]) updates += rung["updates"].get<uint64_t>();
  EXPECT_EQ(updates, 6u * 4);
  EXPECT_GT(rates["mean_slowest"].get<double>(), 0);
  const auto plain = estimate_cost(small_scenario(), 1);
  EXPECT_TRUE((*plain)["rate_control"].is_null());
}

}  // namespace
}  // namespace tern
