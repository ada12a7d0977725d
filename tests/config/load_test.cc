#include "config/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "base/durable_file.h"
#include "base/rng.h"
#include "base/sha256.h"
#include "config/downlink.h"
#include "config/vocabulary.h"

namespace tern {
namespace {

using testing::HasSubstr;

// One key a line, so that a test can replace a line and knows its number.
constexpr std::string_view kGood = R"(seed = 7
rounds = 300
[data]
source = "fashion-mnist"
partition = "shards:2"
[fleet]
clients = 100
cohort = 10
[model]
name = "mlp-2nn"
[training]
learning_rate = 0.05
local_epochs = 1
[compression]
up = "rotate|randk:0.25|eden:1"
down = "ef | topk:0.01 | ternary | rice"
[target]
accuracy = 0.84
)";

constexpr std::string_view kCsv = R"(rounds = 3
[data]
source = "csv"
path = "train.csv"
label = "class"
client = "who"
partition = "natural"
[fleet]
cohort = 10
[model]
name = "logistic"
)";

/// kGood with one line replaced (1-based); the new text may have several lines or none.
std::string with_line(std::string_view text, int line, std::string_view replacement) {
  std::string result;
  for (int number = 1; !text.empty(); ++number) {
    const std::string_view current = text.substr(0, text.find('\n') + 1);
    text.remove_prefix(current.size());
    result += number == line ? std::string(replacement) + "\n" : std::string(current);
  }
  return result;
}

std::string describe(std::string_view text, const std::vector<Override>& overrides = {}) {
  const Result<Scenario> scenario = parse_scenario(text, "x.toml", overrides);
  if (scenario) return "accepted";
  EXPECT_EQ(scenario.error().code(), Code::kInvalidArgument);
  EXPECT_FALSE(scenario.error().where().file.empty());
  return scenario.error().describe();
}

TEST(LoadScenario, FillsInDefaultsAndMakesCodecsCanonical) {
  const Scenario s = parse_scenario(kGood, "/runs/x.toml").value();
  EXPECT_EQ(s.seed, 7u);
  EXPECT_EQ(s.rounds, 300u);
  EXPECT_EQ(s.data.partition, "shards:2");
  EXPECT_TRUE(s.data.standardize);
  EXPECT_EQ(s.fleet.min_updates, 10u);
  EXPECT_EQ(s.fleet.over_select, 1.0);
  EXPECT_FALSE(s.fleet.deadline_seconds);
  EXPECT_EQ(s.training.learning_rate, 0.05);
  EXPECT_EQ(s.training.local_epochs, 1u);
  EXPECT_EQ(s.strategy.norm_bound, 1024.0);
  EXPECT_EQ(s.compression.up, "rotate:1024 | randk:0.25 | eden:1");
  EXPECT_EQ(s.compression.down, "ef | topk:0.01 | ternary | rice");
  EXPECT_EQ(s.evaluation.every, 10u);
  EXPECT_EQ(s.target.accuracy, 0.84);
}

TEST(LoadScenario, ReadsDurationsAndSchedules) {
  const auto seconds = [](std::string value) {
    return parse_scenario(kGood, "x.toml", {{"fleet.deadline", std::move(value)}})
        .value()
        .fleet.deadline_seconds.value();
  };
  EXPECT_EQ(seconds("60s"), 60);
  EXPECT_EQ(seconds("\"60s\""), 60);
  EXPECT_EQ(seconds("250ms"), 0.25);
  EXPECT_EQ(seconds("1.5m"), 90);
  EXPECT_EQ(seconds("2h"), 7200);

  const Scenario s = parse_scenario(kGood, "x.toml",
                                    {{"compression.error_feedback.warmup_down", "0.25:3 0.06:30"}})
                         .value();
  ASSERT_EQ(s.compression.error_feedback.warmup_down.size(), 2u);
  EXPECT_EQ(s.compression.error_feedback.warmup_down[1].rate, 0.06);
  EXPECT_EQ(s.compression.error_feedback.warmup_down[1].rounds, 30u);
}

TEST(LoadScenario, AnEmptyScheduleTakesAWarmUpAway) {
  const std::string text = std::string(kGood) +
                           "[compression.error_feedback]\n"
                           "warmup_down = \"0.25:3\"\n";
  const Scenario s =
      parse_scenario(text, "x.toml", {{"compression.error_feedback.warmup_down", ""}}).value();
  EXPECT_TRUE(s.compression.error_feedback.warmup_down.empty());
}

TEST(LoadScenario, LocalStepsTakeThePlaceOfEpochs) {
  const Scenario s = parse_scenario(with_line(kGood, 13, "local_steps = 5"), "x.toml").value();
  EXPECT_EQ(s.training.local_steps, 5u);
  EXPECT_EQ(s.training.local_epochs, 0u);
  EXPECT_EQ(describe(kGood, {{"training.local_epochs", "0"}, {"training.local_steps", "5"}}),
            "accepted");
}

TEST(LoadScenario, PathsAreRelativeToTheFile) {
  const auto path = [](std::string given) {
    return parse_scenario(kCsv, "/runs/deep/../x.toml", {{"data.path", std::move(given)}})
        .value()
        .data.path;
  };
  EXPECT_EQ(path("train.csv"), "/runs/train.csv");
  EXPECT_EQ(path("./a//b/"), "/runs/a/b");
  EXPECT_EQ(path("../train.csv"), "/train.csv");
  EXPECT_EQ(path("/data/train.csv"), "/data/train.csv");
  EXPECT_EQ(path("/"), "/");
  const Scenario here = parse_scenario(kCsv, "x.toml").value();
  EXPECT_EQ(here.data.path, std::filesystem::current_path() / "train.csv");
  EXPECT_EQ(here.data.test_path, "");
  EXPECT_EQ(here.model.initial, "");
}

TEST(LoadScenario, FillsInADeploymentOnlyWhereThereIsOne) {
  const Scenario none = parse_scenario(kGood, "/runs/x.toml").value();
  EXPECT_EQ(none.server.start_when, 0u);
  const Scenario s = parse_scenario(kGood, "/runs/x.toml",
                                    {{"server.listen", "tcp://*:7700"},
                                     {"server.key", "keys/server"},
                                     {"client.data_path", "../mine.csv"},
                                     {"client.server_key", "server.pub"},
                                     {"fleet.over_select", "1.3"}})
                         .value();
  EXPECT_EQ(s.server.start_when, 13u) << "as many as a round asks";
  EXPECT_EQ(s.server.evaluate, "clients");
  EXPECT_EQ(s.server.plan_lifetime_seconds, 600);
  EXPECT_EQ(s.server.key, "/runs/keys/server");
  EXPECT_EQ(s.client.data_path, "/mine.csv");
  EXPECT_EQ(s.client.server_key, "server.pub") << "a key or a file: not for this folder to say";
  EXPECT_EQ(s.client.examples, "partition");
  EXPECT_FALSE(s.client.give_up_after_seconds);
  EXPECT_EQ(parse_scenario(kGood, "x.toml", {{"server.start_when", "3"}}).value().server.start_when,
            3u);
}

TEST(LoadScenario, ShapesBecomeCanonical) {
  const auto shape = [](std::string text) {
    return parse_scenario(kGood, "x.toml", {{"model.input", std::move(text)}}).value().model.input;
  };
  EXPECT_EQ(shape("784"), "784");
  EXPECT_EQ(shape("3x032x32"), "3x32x32");
}

TEST(LoadScenario, NaturalPartitionsNeedNoFleetSize) {
  EXPECT_EQ(parse_scenario(kCsv, "x.toml").value().fleet.clients, 0u);
}

TEST(LoadScenario, OverSelectionIsRoundedUpButNotByBinaryDust) {
  EXPECT_EQ(clients_asked({.cohort = 10, .over_select = 1.1}), 11u);
  EXPECT_EQ(clients_asked({.cohort = 10, .over_select = 1.11}), 12u);
  EXPECT_EQ(clients_asked({.cohort = 10, .over_select = 1.0}), 10u);
  EXPECT_EQ(clients_asked({.cohort = 4'000'000'000, .over_select = 1.3}), 5'200'000'000u);
  EXPECT_EQ(clients_asked({.cohort = 10, .over_select = 1e300}), uint64_t{1} << 53);
  for (uint32_t cohort = 1; cohort < 1000; ++cohort)
    for (uint32_t tenths = 10; tenths < 40; ++tenths)
      ASSERT_EQ(clients_asked({.cohort = cohort, .over_select = tenths / 10.0}),
                (uint64_t{cohort} * tenths + 9) / 10);
}

TEST(LoadScenario, ReadsAFileAndSaysWhenThereIsNone) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / fmt::format("tern-load-{}", ::getpid());
  std::filesystem::create_directory(folder);
  const std::string file = folder / "x.toml";
  ASSERT_TRUE(write_durably(file, kGood).ok());
  EXPECT_EQ(load_scenario(file).value().rounds, 300u);
  EXPECT_EQ(load_scenario(file, {{"rounds", "20"}}).value().rounds, 20u);
  const Result<Scenario> missing = load_scenario(folder / "none.toml");
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_EQ(missing.error().describe(), (folder / "none.toml").string() + ": does not exist");
  std::filesystem::remove_all(folder);
}

struct BadInput {
  std::string text;
  std::string expected;
};

std::vector<BadInput> bad_inputs() {
  const auto good = [](int line, std::string_view text) { return with_line(kGood, line, text); };
  const auto csv = [](int line, std::string_view text) { return with_line(kCsv, line, text); };
  const std::string top =
      "The top level has seed, rounds and the tables data, fleet, model, training, strategy, "
      "compression, evaluation, target, server, client";
  const std::string fleet =
      "[fleet] has clients, cohort, schedule, selection, over_select, max_staleness, min_updates, "
      "deadline, deadline_quantile, max_examples, uplink_bytes_per_s, downlink_bytes_per_s, "
      "samples_per_s, round_trip, "
      "drop_out, devices, availability";
  return {
      // Unknown names.
      {good(2, "round = 300"), "x.toml:2: round: unknown name; did you mean rounds? " + top},
      {good(8, "cohrot = 10"),
       "x.toml:8: fleet.cohrot: unknown name; did you mean cohort? " + fleet},
      {good(8, "size = 10"), "x.toml:8: fleet.size: unknown name; " + fleet},
      {good(8, "learning_rate = 1"),
       "x.toml:8: fleet.learning_rate: unknown name; did you mean training.learning_rate? " +
           fleet},
      {good(2, "clients = 100"),
       "x.toml:2: clients: unknown name; did you mean fleet.clients? " + top},
      {good(6, "[fleets]"), "x.toml:6: fleets: unknown name; did you mean fleet? " + top},
      {good(14, "[compression]\nerror_feedbak.kind = \"ef14\""),
       "x.toml:15: compression.error_feedbak: unknown name; did you mean error_feedback? "
       "[compression] has up, down, keyframe, keyframe_every, allow_biased and the tables "
       "error_feedback, rate_control"},
      {good(3, "\"data.source\" = \"csv\"\n[data]"),
       "x.toml:3: \"data.source\": unknown name; write table.key without quotes"},
      {"\"\" = 1\n", "x.toml:1: unknown name; " + top},
      {"data = 3\n", "x.toml:1: data: is a table of keys, not a value"},
      {"[[fleet]]\ncohort = 1\n", "x.toml:1: fleet: is a table of keys, not a value"},
      // Wrong types and ranges.
      {good(2, "rounds = \"many\""),
       "x.toml:2: rounds: must be an integer, at least 1, not \"many\""},
      {good(2, "rounds = 3.0"), "x.toml:2: rounds: must be an integer, at least 1, not 3.0"},
      {good(2, "rounds = true"), "x.toml:2: rounds: must be an integer, at least 1, not true"},
      {good(2, "rounds = [3]"), "x.toml:2: rounds: must be an integer, at least 1, not an array"},
      {good(2, "rounds = {n = 3}"),
       "x.toml:2: rounds: must be an integer, at least 1, not a table"},
      {good(2, "rounds = 2020-01-01"),
       "x.toml:2: rounds: must be an integer, at least 1, not a date"},
      {good(2, "rounds = 0"), "x.toml:2: rounds: must be an integer, at least 1, not 0"},
      {good(2, "rounds = 4294967296"),
       "x.toml:2: rounds: must be an integer, at most 4294967295, not 4294967296"},
      {good(1, "seed = -1"), "x.toml:1: seed: must be an integer, at least 0, not -1"},
      {good(5, "partition = \"iid\"\nstandardize = 1"),
       "x.toml:6: data.standardize: must be true or false, not 1"},
      {good(12, "learning_rate = 0"),
       "x.toml:12: training.learning_rate: must be a finite number, above 0, not 0"},
      {good(12, "learning_rate = inf"),
       "x.toml:12: training.learning_rate: must be a finite number, above 0, not inf"},
      {good(12, "momentum = nan"),
       "x.toml:12: training.momentum: must be a finite number, at least 0 and below 1, not nan"},
      {good(12, "momentum = 1.0"),
       "x.toml:12: training.momentum: must be a finite number, at least 0 and below 1, not 1.0"},
      {good(18, "accuracy = 84"),
       "x.toml:18: target.accuracy: must be a finite number, above 0 and at most 1, not 84"},
      {good(8, "cohort = 10\nover_select = 0.5"),
       "x.toml:9: fleet.over_select: must be a finite number, at least 1, not 0.5"},
      {good(4, "source = \"mnist\""),
       "x.toml:4: data.source: must be one of fashion-mnist, idx, cifar, leaf, text, csv, "
       "not \"mnist\""},
      {good(10, "name = \"mlp2nn\""),
       "x.toml:10: model.name: must be one of logistic, mlp-2nn, cnn, resnet8-gn, char-lstm, "
       "char-gpt, torchscript, not \"mlp2nn\"; "
       "did you mean "
       "\"mlp-2nn\"?"},
      {good(12, "optimizer = \"adam\""),
       "x.toml:12: training.optimizer: must be \"sgd\", not \"adam\""},
      {csv(4, "path = \"\""), "x.toml:4: data.path: must be a path, not \"\""},
      {csv(5, "label = \"\""),
       "x.toml:5: data.label: must be a string that is not empty, not \"\""},
      {good(5, "partition = \"shards:0\""),
       "x.toml:5: data.partition: must be one of iid, shards:K (K at least 1), dirichlet:ALPHA, "
       "quantity:ALPHA (ALPHA above 0), draw:N or draw:N:ALPHA, natural, not \"shards:0\""},
      {good(8, "cohort = 10\ndeadline = \"0s\""),
       "x.toml:9: fleet.deadline: must be a duration such as \"60s\" (units: ms, s, m, h), above "
       "0 and at most 1000000000, not \"0s\""},
      {good(8, "cohort = 10\ndeadline = 60"),
       "x.toml:9: fleet.deadline: must be a duration such as \"60s\" (units: ms, s, m, h), above "
       "0 and at most 1000000000, not 60"},
      {std::string(kGood) + "[compression.error_feedback]\nwarmup_down = \"25:3\"\n",
       "x.toml:20: compression.error_feedback.warmup_down: must be a list of rate:rounds such as "
       "\"0.25:3 0.06:3\" (rates above 0 and at most 1, rounds at least 1), not \"25:3\""},
      {good(10, "name = \"cnn\"\ninput = \"28x28\""),
       "x.toml:11: model.input: must be a shape such as \"1x28x28\" (channels, height, width) or "
       "\"784\" (features), not \"28x28\""},
      {good(10, "name = \"cnn\"\nclasses = 1"),
       "x.toml:11: model.classes: must be an integer, at least 2, not 1"},
      {good(18, "accuracy = 0.5\n[server]\nplan_lifetime = \"0s\""),
       "x.toml:20: server.plan_lifetime: must be a duration such as \"60s\" (units: ms, s, m, h), "
       "at least 10 and at most 1000000000, not \"0s\""},
      {good(18, "accuracy = 0.5\n[server]\nevaluate = \"client\""),
       "x.toml:20: server.evaluate: must be one of clients, attached, none, not \"client\"; did "
       "you "
       "mean \"clients\"?"},
      {good(18, "accuracy = 0.5\n[client]\nlisten = \"tcp://*:1\""),
       "x.toml:20: client.listen: unknown name; did you mean server.listen? [client] has connect, "
       "server_key, key, state_dir, examples, data_path, give_up_after"},
      // What is required.
      {good(2, ""), "x.toml: rounds: is required: an integer, at least 1"},
      {good(4, ""),
       "x.toml: data.source: is required: one of fashion-mnist, idx, cifar, leaf, text, "
       "csv"},
      {good(5, ""),
       "x.toml: data.partition: is required: one of iid, shards:K (K at least 1), dirichlet:ALPHA, "
       "quantity:ALPHA (ALPHA above 0), draw:N or draw:N:ALPHA, natural"},
      {good(8, ""), "x.toml: fleet.cohort: is required: an integer, at least 1"},
      {good(10, ""),
       "x.toml: model.name: is required: one of logistic, mlp-2nn, cnn, resnet8-gn, "
       "char-lstm, char-gpt, torchscript"},
      {good(7, ""),
       "x.toml: fleet.clients: is required unless data.partition is \"natural\": an integer, at "
       "least 1"},
      {good(4, "source = \"idx\""),
       "x.toml: data.path: is required with data.source = \"idx\": a folder"},
      {csv(4, ""), "x.toml: data.path: is required with data.source = \"csv\": a file"},
      {csv(5, ""),
       "x.toml: data.label: is required with data.source = \"csv\": the column that holds the "
       "class"},
      // Combinations.
      {csv(6, ""),
       "x.toml:7: data.partition: \"natural\" needs data.client, the column that holds the client"},
      {good(5, "partition = \"natural\""),
       "x.toml:5: data.partition: \"natural\" needs data.source = \"leaf\", \"text\", or \"csv\" "
       "with data.client"},
      {good(4, "source = \"text\""),
       "x.toml: data.path: is required with data.source = \"text\": a folder"},
      {good(4, "source = \"text\"\npath = \"t\"\nstandardize = true"),
       "x.toml:6: data.standardize: applies only with images and columns of numbers, not with "
       "data.source = \"text\""},
      {good(4, "source = \"text\"\npath = \"t\"\nwindow = 1"),
       "x.toml:6: data.window: must be an integer, at least 2 and at most 4096, not 1"},
      {good(4, "source = \"idx\"\npath = \"t\"\nwindow = 80"),
       "x.toml:6: data.window: applies only with data.source = \"text\""},
      {good(4, "source = \"fashion-mnist\"\nlabel = \"class\""),
       "x.toml:5: data.label: applies only with data.source = \"csv\""},
      {csv(5, "label = \"class\"\ntest_path = \"t.csv\"\ntest_fraction = 0.1"),
       "x.toml:7: data.test_fraction: applies only with data.source = \"text\", or \"csv\" "
       "without data.test_path"},
      {good(8, "cohort = 101"), "x.toml:8: fleet.cohort: is 101, but fleet.clients is only 100"},
      {good(8, "cohort = 80\nover_select = 1.26"),
       "x.toml:9: fleet.over_select: 1.26 x the cohort of 80 asks 101 clients, but fleet.clients "
       "is "
       "only 100"},
      {good(18, "accuracy = 0.5\n[server]\nstart_when = 101"),
       "x.toml:20: server.start_when: is 101, but fleet.clients is only 100"},
      {good(8, "cohort = 10\nmin_updates = 11"),
       "x.toml:9: fleet.min_updates: is 11, but fleet.cohort is only 10"},
      {good(16, "down = \"auto\"\nkeyframe_every = 10"),
       "x.toml:17: compression.keyframe_every: is given, but compression.down = \"auto\" chooses "
       "it: "
       "leave one out"},
      {good(8, "cohort = 10\nmax_staleness = 5"),
       "x.toml:9: fleet.max_staleness: applies only with fleet.schedule = \"late-credit\" or "
       "\"fedbuff\""},
      {with_line(good(8, "cohort = 10\nschedule = \"fedbuff\""), 16,
                 "up = \"ef21 | topk:0.01 | ternary | rice\""),
       "x.toml:9: fleet.schedule: is \"fedbuff\", where updates are scaled by their age, but "
       "'ef21' of compression.up adds them up to an estimate of each client: use 'ef', or a "
       "synchronous schedule"},
      {with_line(good(8, "cohort = 10\nschedule = \"late-credit\""), 15,
                 "[compression]\nrate_control.budget_bytes = 100"),
       "x.toml:9: fleet.schedule: is \"late-credit\", but compression.rate_control plans for all "
       "clients of a round together: it needs the synchronous schedule"},
      {good(13, "local_epochs = 1\nlocal_steps = 5"),
       "x.toml:14: training.local_steps: does not go together with training.local_epochs: give one "
       "of the two"},
      {good(13, "local_epochs = 0"),
       "x.toml:13: training.local_epochs: is 0, and so is training.local_steps: one of the two has "
       "to be at least 1"},
      {std::string(kGood) + "[compression.error_feedback]\nwarmup = \"0.25:3\"\n",
       "x.toml:20: compression.error_feedback.warmup: needs a chain that starts with ef and keeps "
       "a "
       "share of the values (topk, randk), but compression.up is \"rotate:1024 | randk:0.25 | "
       "eden:1\""},
      {good(16, "down = \"ef | sign\"\nerror_feedback.warmup_down = \"0.25:3\""),
       "x.toml:17: compression.error_feedback.warmup_down: needs a chain that starts with ef and "
       "keeps a share of the values (topk, randk), but compression.down is \"ef | sign\""},
      // Keyframes.
      {good(16, "down = \"topk:0.01\"\nkeyframe = \"ef | topk:0.1\""),
       "x.toml: compression.keyframe_every: is required as well: how keyframes are coded and when "
       "belong together"},
      {good(16, "keyframe_every = 10"),
       "x.toml: compression.keyframe: is required as well: how keyframes are coded and when belong "
       "together"},
      {good(16, "keyframe = \"ef | topk:0.1\"\nkeyframe_every = \"10 100\""),
       "x.toml:17: compression.keyframe_every: has 2 levels, compression.keyframe has 1"},
      {good(16, "keyframe = \"topk:0.1; ef | topk:0.1\"\nkeyframe_every = \"10 25\""),
       "x.toml:17: compression.keyframe_every: keyframes every 25 versions on top of every 10: a "
       "multiple is needed"},
      {good(16, "down = \"ef | topk:0.01\"\nkeyframe = \"ef | topk:0.1\"\nkeyframe_every = 10"),
       "x.toml:16: compression.down: 'ef | topk:0.01' is coded fresh from its keyframe, which "
       "remembers what it lost; write it without 'ef'"},
      {good(16, "down = \"topk:0.01\"\nkeyframe = \"ef21 | topk:0.1\"\nkeyframe_every = 10"),
       "x.toml:17: compression.keyframe: 'ef21 | topk:0.1' is coded fresh from its keyframe, which "
       "remembers what it lost; write it without 'ef21'"},
      {good(16, "keyframe_every = 1"),
       "x.toml:16: compression.keyframe_every: must be a number of versions such as 10, or one for "
       "each level of keyframes such as \"10 100\", not 1"},
      // Rate control.
      {good(16, "rate_control.deadline = \"2s\"\nrate_control.budget_bytes = 5"),
       "x.toml:16: compression.rate_control.deadline: does not go together with "
       "compression.rate_control.budget_bytes: give one of the two"},
      {good(16, "rate_control.ladder = \"float32\""),
       "x.toml:16: compression.rate_control.ladder: applies only with one of "
       "compression.rate_control.budget_bytes, .mean_bytes, .deadline and .mean_error"},
      {good(16, "rate_control.mean_bytes = 900\nrate_control.mean_error = 5"),
       "x.toml:17: compression.rate_control.mean_error: does not go together with "
       "compression.rate_control.mean_bytes: give one of the two"},
      {good(15, "up = \"dct:28 | lowpass:0.3 | int:8\"\nrate_control.mean_error = 1"),
       "x.toml:15: compression.up: is for clients of unknown links, and sends other frequencies "
       "than "
       "the chains of compression.rate_control.ladder"},
      {good(16, "rate_control.budget_bytes = 0"),
       "x.toml:16: compression.rate_control.budget_bytes: must be an integer, at least 1, not 0"},
      {good(16, "rate_control.ladder = \"float32; topk:0.1\""),
       "x.toml:16: compression.rate_control.ladder: chain 2 of the ladder: 'topk:0.1' is biased, "
       "and clients with different chains are averaged: put 'ef' first, or take an unbiased chain"},
      {good(15, "up = \"ef21 | topk:0.1\"\nrate_control.mean_error = 1"),
       "x.toml:15: compression.up: starts with 'ef21', which remembers what means nothing to the "
       "other chains of compression.rate_control.ladder"},
      {good(8, "cohort = 10\nuplink_bytes_per_s = \"loguniform:1e6..1e4\""),
       "x.toml:9: fleet.uplink_bytes_per_s: must be a rate for all clients such as \"125000\", or "
       "\"loguniform:LOW..HIGH\" such as \"loguniform:1e4..1e6\" (1 to 1e15 a second), not "
       "\"loguniform:1e6..1e4\""},
  };
}

TEST(LoadScenario, KeyframesHaveAChainAndAPeriodForEachLevel) {
  const Scenario s =
      parse_scenario(kGood, "x.toml",
                     {{"compression.down", "topk:0.01 | ternary | rice"},
                      {"compression.keyframe", "topk:0.02|ternary|rice ;rotate | eden:2"},
                      {"compression.keyframe_every", "10 100"}})
          .value();
  EXPECT_EQ(s.compression.keyframe, "topk:0.02 | ternary | rice; rotate:1024 | eden:2");
  const VersionTree tree = version_tree(s.compression);
  EXPECT_EQ(tree.periods, (std::vector<uint32_t>{10, 100}));
  EXPECT_FALSE(tree.chain) << "without ef each is coded from the start";
  const std::vector<Codec> codecs = downlink_codecs(s.compression).value();
  ASSERT_EQ(codecs.size(), 3u);
  for (const Codec& codec : codecs) EXPECT_TRUE(codec.error_feedback()) << codec.spec();
}

TEST(LoadScenario, SaysWhatIsWrongAndWhere) {
  for (const BadInput& bad : bad_inputs()) EXPECT_EQ(describe(bad.text), bad.expected) << bad.text;
}

TEST(LoadScenario, TheTestScenariosAreGood) {
  EXPECT_EQ(describe(kGood), "accepted");
  EXPECT_EQ(describe(kCsv), "accepted");
}

TEST(LoadScenario, SyntaxErrorsKeepTheirLine) {
  EXPECT_THAT(describe(with_line(kGood, 8, "cohort = ")), testing::StartsWith("x.toml:8: "));
  EXPECT_THAT(describe(with_line(kGood, 8, "clients = 100")), testing::StartsWith("x.toml:8: "));
  EXPECT_THAT(describe("a = \"\xff\"\n"), testing::StartsWith("x.toml:1: "));
  EXPECT_THAT(describe("a = 9223372036854775808\n"), testing::StartsWith("x.toml:1: "));
  EXPECT_THAT(describe("rounds = " + std::string(100'000, '[')), testing::StartsWith("x.toml:1: "));
}

TEST(LoadScenario, ACodecErrorKeepsItsMessageAndGetsThePlaceOfItsKey) {
  const std::string unknown = describe(with_line(kGood, 15, "up = \"topk:0.1 | magic\""));
  EXPECT_THAT(unknown, testing::StartsWith("x.toml:15: compression.up: "));
  EXPECT_THAT(unknown, HasSubstr("magic"));
  const std::string biased = describe(with_line(kGood, 15, "up = \"topk:0.1\""));
  EXPECT_THAT(biased, testing::StartsWith("x.toml:15: compression.up: "));
  EXPECT_EQ(describe(with_line(kGood, 15, "up = \"topk:0.1\"\nallow_biased = true")), "accepted");
}

TEST(LoadScenario, ReportsTheFirstErrorOfTheFile) {
  const std::string text = with_line(with_line(kGood, 18, "accuracy = 2"), 4, "source = 1");
  EXPECT_THAT(describe(text), testing::StartsWith("x.toml:4: data.source: "));
}

TEST(LoadScenario, NeverRepeatsPlaceOrKeyInTheMessage) {
  for (const BadInput& bad : bad_inputs()) {
    const Result<Scenario> scenario = parse_scenario(bad.text, "x.toml");
    ASSERT_FALSE(scenario);
    const Status& status = scenario.error();
    EXPECT_THAT(status.message(), testing::Not(HasSubstr("x.toml")));
    EXPECT_TRUE(status.where().key.empty() || !status.message().starts_with(status.where().key))
        << status.describe();
  }
}

TEST(Overrides, SplitAtTheFirstEqualsSign) {
  const Override plain = parse_override("rounds=20").value();
  EXPECT_EQ(plain.key, "rounds");
  EXPECT_EQ(plain.value, "20");
  const Override spaced = parse_override(" compression.up = ef | topk:0.1 = ").value();
  EXPECT_EQ(spaced.key, "compression.up");
  EXPECT_EQ(spaced.value, "ef | topk:0.1 =");
  EXPECT_EQ(parse_override("data.label=").value().value, "");
  EXPECT_EQ(parse_override("rounds").error().describe(),
            "--set: must be table.key=value, not \"rounds\"");
  EXPECT_EQ(parse_override(" =3").error().describe(),
            "--set: must be table.key=value, not \" =3\"");
}

TEST(Overrides, ReportThemselvesInsteadOfALine) {
  const auto set = [](std::string key, std::string value) {
    return describe(kGood, {{std::move(key), std::move(value)}});
  };
  EXPECT_EQ(set("rounds", "ten"), "--set: rounds: must be an integer, at least 1, not \"ten\"");
  EXPECT_EQ(set("rounds", "1e3"), "--set: rounds: must be an integer, at least 1, not \"1e3\"");
  EXPECT_EQ(set("rounds", ""), "--set: rounds: must be an integer, at least 1, not \"\"");
  EXPECT_EQ(set("rounds", "99999999999999999999"),
            "--set: rounds: must be an integer, at least 1, not \"99999999999999999999\"");
  EXPECT_EQ(set("data.standardize", "yes"),
            "--set: data.standardize: must be true or false, not \"yes\"");
  EXPECT_EQ(set("data.path", "\xff"), "--set: data.path: must be UTF-8");
  EXPECT_EQ(set("fleet", "10"), "--set: fleet: is a table of keys, not a value");
  EXPECT_EQ(set("fleet.cohort", "101"),
            "--set: fleet.cohort: is 101, but fleet.clients is only 100");
  EXPECT_EQ(set("fleet.clients", "9"),
            "x.toml:8: fleet.cohort: is 10, but fleet.clients is only 9");
  EXPECT_THAT(
      set("fleet.cohrot", "1"),
      testing::StartsWith("--set: fleet.cohrot: unknown name; did you mean cohort? [fleet]"));
  EXPECT_THAT(set("flet.cohort", "1"),
              testing::StartsWith("--set: flet.cohort: there is no table 'flet'; did you mean "
                                  "fleet? The top level has seed, rounds and the tables data,"));
  EXPECT_THAT(set("rounds.x", "1"),
              testing::StartsWith("--set: rounds.x: there is no table 'rounds'"));
  EXPECT_THAT(set("compression.up", "magic"), testing::StartsWith("--set: compression.up: "));
  EXPECT_THAT(set(std::string(100'000, 'x'), "1"), HasSubstr("unknown name; The top level"));
}

TEST(Overrides, TheLastOfAKeyWinsAndStringsNeedNoQuotes) {
  const Scenario s =
      parse_scenario(kGood, "x.toml",
                     {{"rounds", "20"}, {"rounds", "30"}, {"compression.up", "rotate | eden:1"}})
          .value();
  EXPECT_EQ(s.rounds, 30u);
  EXPECT_EQ(s.compression.up, "rotate:1024 | eden:1");
}

/// A value that is not the default of the key, as a user would write it after --set.
std::string sample(const Key& key) {
  switch (key.type) {
    case KeyType::kInteger:
      return "3";
    case KeyType::kNumber:
      return key.range.low >= 1 ? "1.25" : "0.125";
    case KeyType::kBoolean:
      return key.name == "data.standardize" ? "false" : "true";
    case KeyType::kChoice:
      return std::string(key.choices.back());
    case KeyType::kText:
      return "some column";
    case KeyType::kPath:
      return "/some/file";
    case KeyType::kPartition:
      return "dirichlet:0.5";
    case KeyType::kCodec:
    case KeyType::kDownlink:
      return "ef | topk:0.02 | ternary | rice";
    case KeyType::kShape:
      return "1x8x8";
    case KeyType::kDuration:
      return "90s";
    case KeyType::kSchedule:
      return "0.25:3 0.06:4";
    case KeyType::kSelection:
      return "power-of-choice:2";
    case KeyType::kRate:
      return "loguniform:1000..5000";
    case KeyType::kLadder:
      return "rotate:1024 | eden:1; float32";
    case KeyType::kChains:
      return "ef | topk:0.02 | ternary | rice";
    case KeyType::kPeriods:
      return "10";
  }
  return {};
}

TEST(LoadScenario, ChoosesTheDownlinkByHowOftenAClientComes) {
  struct Chosen {
    std::vector<Override> fleet;
    std::string down, keyframe;
    std::vector<uint32_t> every;
  };
  const std::string owed = "ef | topk:0.02 | ternary | rice";
  const std::string two = "topk:0.02 | ternary | rice; ef | topk:0.05 | ternary | rice";
  const std::vector<Chosen> all = {
      {{{"fleet.clients", "30"}}, "ef | topk:0.01 | ternary | rice", "", {}},
      {{}, "topk:0.005 | ternary | rice", owed, {10}},
      {{{"fleet.over_select", "1.4"}}, "topk:0.005 | ternary | rice", owed, {7}},
      // With fedbuff it says how many are at work, and a version takes the updates of ten.
      {{{"fleet.over_select", "2"}, {"fleet.schedule", "fedbuff"}},
       "topk:0.005 | ternary | rice",
       owed,
       {10}},
      {{{"fleet.clients", "210"}}, "topk:0.01 | ternary | rice", two, {10, 20}},
      {{{"fleet.clients", "1000"}}, "topk:0.01 | ternary | rice", two, {10, 100}},
      {{{"fleet.clients", "1000000"}}, "topk:0.01 | ternary | rice", two, {10, 100}}};
  for (const Chosen& chosen : all) {
    std::vector<Override> overrides = chosen.fleet;
    overrides.push_back({"compression.down", "auto"});
    const Result<Scenario> s = parse_scenario(kGood, "x.toml", overrides);
    ASSERT_TRUE(s) << s.error().describe();
    EXPECT_EQ(s->compression.down, chosen.down);
    EXPECT_EQ(s->compression.keyframe, chosen.keyframe);
    EXPECT_EQ(s->compression.keyframe_every, chosen.every);
    // What is printed is what was chosen: daemons and clients read the same.
    const Result<Scenario> again = parse_scenario(print_scenario(*s), "x.toml");
    ASSERT_TRUE(again) << again.error().describe();
    EXPECT_EQ(config_sha256(*again), config_sha256(*s));
  }
}

TEST(Vocabulary, EveryKeyCanBeSetAndIsPrinted) {
  // Chains with ef make the warm-ups legal; the tables that exclude each other are told apart by
  // hand.
  const std::vector<Override> common = {{"compression.up", "ef | topk:0.1 | ternary | rice"},
                                        {"compression.down", "ef | topk:0.1 | ternary | rice"},
                                        {"fleet.cohort", "3"}};
  for (const Key& key : vocabulary()) {
    std::vector<Override> overrides = common;
    overrides.push_back({std::string(key.name), sample(key)});
    if (key.name == "model.name") overrides.push_back({"model.script", "net.pt"});
    if (key.name == "model.script") overrides.push_back({"model.name", "torchscript"});
    if (key.name == "training.local_steps") overrides.push_back({"training.local_epochs", "0"});
    if (key.name == "data.partition") overrides.push_back({"fleet.clients", "100"});
    if (key.applies.holds != nullptr && table_of(key.name) == "compression.rate_control")
      overrides.push_back({"compression.rate_control.budget_bytes", "100"});
    if (key.name.starts_with("compression.keyframe")) {
      overrides.push_back({"compression.down", "topk:0.1"});
      overrides.push_back(key.type == KeyType::kPeriods
                              ? Override{"compression.keyframe", "ef | topk:0.02"}
                              : Override{"compression.keyframe_every", "10"});
    }
    if (key.name == "fleet.max_staleness" || key.name == "strategy.staleness_exponent")
      overrides.push_back({"fleet.schedule", "fedbuff"});
    const bool of_texts = key.name == "data.window";
    if (of_texts)
      for (const auto& [name, value] : {std::pair("data.source", "text"), {"data.path", "texts"}})
        overrides.push_back({name, value});
    const Result<Scenario> scenario =
        parse_scenario(of_texts ? kGood : kCsv, "/runs/x.toml", overrides);
    ASSERT_TRUE(scenario) << key.name << ": " << scenario.error().describe();
    const std::optional<std::string> printed = print_value(key, *scenario);
    ASSERT_TRUE(printed) << key.name;
    const std::string plain = sample(key);
    EXPECT_TRUE(*printed == plain || *printed == toml_string(plain))
        << key.name << " = " << *printed;
    const std::string text = print_scenario(*scenario);
    const size_t leaf = key.name.rfind('.') == std::string_view::npos ? 0 : key.name.rfind('.') + 1;
    EXPECT_THAT("\n" + text,
                HasSubstr(fmt::format("\n{} = {}\n", key.name.substr(leaf), *printed)));
  }
}

TEST(LoadScenario, AScriptGoesWithItsModelAlone) {
  const auto load = [](const std::vector<Override>& overrides) {
    return parse_scenario(kCsv, "/runs/x.toml", overrides);
  };
  EXPECT_EQ(load({{"model.name", "torchscript"}, {"model.script", "net.pt"}})->model.script,
            "/runs/net.pt");
  EXPECT_TRUE(load({{"model.name", "torchscript"}, {"model.initial", "net.safetensors"}}))
      << "a coordinator has no script";
  EXPECT_THAT(load({{"model.name", "torchscript"}}).error().describe(),
              HasSubstr("model.script: is required with model.name = \"torchscript\""));
  EXPECT_THAT(load({{"model.script", "net.pt"}}).error().describe(),
              HasSubstr("model.script: applies only with model.name = \"torchscript\""));
}

TEST(LoadScenario, DrawnPartitions) {
  for (const char* good : {"draw:60", "draw:1:0.05"})
    EXPECT_TRUE(
        parse_scenario(kCsv, "/x.toml", {{"data.partition", good}, {"fleet.clients", "100"}}))
        << good;
  for (const char* bad : {"draw", "draw:", "draw:0", "draw:5:", "draw:5:0", "draw:x"})
    EXPECT_FALSE(
        parse_scenario(kCsv, "/x.toml", {{"data.partition", bad}, {"fleet.clients", "100"}}))
        << bad;
}

TEST(Vocabulary, EveryKeyHasANameOfItsOwnAMeaningAndAnExpectation) {
  std::set<std::string_view> names;
  std::set<std::string_view> finished;
  std::string_view table;
  for (const Key& key : vocabulary()) {
    EXPECT_TRUE(names.insert(key.name).second) << key.name;
    EXPECT_FALSE(key.meaning.empty()) << key.name;
    EXPECT_FALSE(expectation(key).empty()) << key.name;
    EXPECT_EQ(find_key(key.name), &key);
    EXPECT_EQ(key.type == KeyType::kChoice, !key.choices.empty()) << key.name;
    EXPECT_FALSE(is_table(key.name)) << key.name;
    // A table's keys stand together, or printing would open it twice.
    if (table_of(key.name) != table) {
      finished.insert(table);
      table = table_of(key.name);
      EXPECT_FALSE(finished.contains(table)) << key.name;
    }
  }
}

TEST(PrintScenario, IsCanonicalAndInTheOrderOfTheVocabulary) {
  const Scenario s = parse_scenario(kGood, "/x.toml", {{"fleet.deadline", "1.5m"}}).value();
  EXPECT_EQ(print_scenario(s), R"(seed = 7
rounds = 300

[data]
source = "fashion-mnist"
standardize = true
partition = "shards:2"

[fleet]
clients = 100
cohort = 10
schedule = "synchronous"
selection = "uniform"
over_select = 1.0
min_updates = 10
deadline = "90s"
drop_out = 0.0

[model]
name = "mlp-2nn"

[training]
optimizer = "sgd"
learning_rate = 0.05
momentum = 0.0
weight_decay = 0.0
batch_size = 10
local_epochs = 1

[strategy]
name = "fedavg"
server_learning_rate = 1.0
server_momentum = 0.0
norm_bound = 1024.0

[compression]
up = "rotate:1024 | randk:0.25 | eden:1"
down = "ef | topk:0.01 | ternary | rice"
allow_biased = false

[compression.error_feedback]
stale_after = 50
store = "float32"

[evaluation]
every = 10

[target]
accuracy = 0.84
)");
}

TEST(PrintScenario, ATableOfADeploymentIsPrintedWholeOrNotAtAll) {
  const std::string run = print_scenario(parse_scenario(kGood, "/x.toml").value());
  const Scenario s = parse_scenario(kGood, "/x.toml",
                                    {{"server.listen", "tcp://*:7700"},
                                     {"server.clients", "clients.txt"},
                                     {"client.examples", "partition"}})
                         .value();
  EXPECT_EQ(print_scenario(s), run + R"(
[server]
listen = "tcp://*:7700"
clients = "/clients.txt"
start_when = 10
evaluate = "clients"
plan_lifetime = "600s"
keep_rounds = 100
joins_per_s = 500
)");
  EXPECT_EQ(print_scenario(s, Tables::kRun), run);
}

TEST(ConfigSha256, DependsOnTheRunAlone) {
  const auto of = [](const std::vector<Override>& overrides) {
    return config_sha256(parse_scenario(kGood, "/x.toml", overrides).value());
  };
  EXPECT_EQ(of({}), to_hex(sha256(print_scenario(parse_scenario(kGood, "/x.toml").value()))));
  EXPECT_EQ(of({{"server.listen", "tcp://*:1"}, {"server.evaluate", "none"}}), of({}));
  EXPECT_EQ(of({{"client.connect", "tcp://a:1"}, {"client.examples", "all"}}), of({}));
  EXPECT_NE(of({{"rounds", "301"}}), of({}));
  EXPECT_NE(of({{"model.input", "784"}}), of({}));
}

/// Every field, also those that are not printed.
std::vector<std::string> fields(const Scenario& scenario) {
  std::vector<std::string> result;
  for (const Key& key : vocabulary()) {
    Key plain = key;
    plain.applies = {};
    plain.zero_is_none = false;
    result.push_back(
        fmt::format("{} = {}", key.name, print_value(plain, scenario).value_or("none")));
  }
  return result;
}

void expect_round_trip(const Scenario& scenario) {
  const std::string text = print_scenario(scenario);
  const Result<Scenario> again = parse_scenario(text, "/elsewhere/y.toml");
  ASSERT_TRUE(again) << again.error().describe() << "\n" << text;
  EXPECT_EQ(fields(*again), fields(scenario));
  EXPECT_EQ(print_scenario(*again), text);
}

TEST(PrintScenario, RoundTripsEveryKindOfScenario) {
  expect_round_trip(parse_scenario(kGood, "x.toml").value());
  expect_round_trip(parse_scenario(kCsv, "x.toml").value());
  expect_round_trip(parse_scenario(with_line(kGood, 13, "local_steps = 4"), "x.toml").value());
  expect_round_trip(parse_scenario(kCsv, "x.toml", {{"data.test_path", "t.csv"}}).value());
  expect_round_trip(parse_scenario(kGood, "x.toml",
                                   {{"fleet.deadline", "1ms"},
                                    {"seed", "9223372036854775807"},
                                    {"model.input", "1x28x28"},
                                    {"model.classes", "10"},
                                    {"fleet.max_examples", "600"},
                                    {"server.start_when", "7"},
                                    {"server.plan_lifetime", "1.5m"},
                                    {"server.keep_rounds", "0"},
                                    {"client.give_up_after", "1h"},
                                    {"client.data_path", "mine"},
                                    {"compression.up", "ef | topk:0.001 | ternary | rice"},
                                    {"compression.error_feedback.warmup", "0.333333333:1  1:2"},
                                    {"compression.error_feedback.warmup_down", "0.25:4294967295"}})
                        .value());
  expect_round_trip(parse_scenario(kGood, "x.toml",
                                   {{"compression.down", "topk:0.01 | ternary | rice"},
                                    {"compression.keyframe", "topk:0.1; ef | topk:0.2"},
                                    {"compression.keyframe_every", "10  100"}})
                        .value());
  expect_round_trip(parse_scenario(kGood, "x.toml",
                                   {{"compression.down", "topk:0.01 | ternary | rice"},
                                    {"compression.keyframe", "ef | topk:0.2"},
                                    {"compression.keyframe_every", "7"}})
                        .value());
}

TEST(PrintScenario, RoundTripsStringsThatNeedEscapes) {
  for (const std::string& text :
       {std::string("a \"b\" \\ 'c'"), std::string("tab\tline\nreturn\r"),
        std::string("\x01\x1f\x7f"), std::string("na\xc3\xafve \xe2\x82\xac \xf0\x9f\x90\xa6"),
        std::string("[x] = # 3")}) {
    const Scenario s = parse_scenario(kCsv, "x.toml", {{"data.label", text}}).value();
    EXPECT_EQ(s.data.label, text);
    expect_round_trip(s);
  }
}

TEST(PrintScenario, RoundTripsEveryBitOfANumber) {
  Rng rng(1, Purpose::kTest);
  for (int i = 0; i < 300; ++i) {
    Scenario s = parse_scenario(kGood, "x.toml").value();
    s.training.learning_rate =
        std::ldexp(1 + rng.uniform(), static_cast<int>(rng.below(2000)) - 1000);
    s.fleet.deadline_seconds = std::ldexp(1 + rng.uniform(), static_cast<int>(rng.below(60)) - 30);
    s.target.accuracy = rng.uniform() + 0x1p-54;
    expect_round_trip(s);
  }
  for (double value : {5e-324, 1e-7, 1e15, 1e16, 1e17, 1.7976931348623157e308, 123456789.0}) {
    Scenario s = parse_scenario(kGood, "x.toml").value();
    s.strategy.norm_bound = value;
    expect_round_trip(s);
  }
}

}  // namespace
}  // namespace tern
