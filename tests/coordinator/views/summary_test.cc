// What a run leaves behind, also where much isn't known: on a coordinator without LibTorch.
#include "coordinator/views/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "base/durable_file.h"
#include "base/safetensors.h"
#include "config/load.h"
#include "config/model_card.h"

namespace tern {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;
using testing::Not;

Scenario scenario(const std::vector<Override>& extra = {}) {
  std::vector<Override> all{{"data.source", "fashion-mnist"}, {"data.partition", "iid"},
                            {"fleet.clients", "8"},           {"fleet.cohort", "4"},
                            {"model.name", "logistic"},       {"rounds", "6"}};
  all.insert(all.end(), extra.begin(), extra.end());
  return parse_scenario("", "/x.toml", all).value();
}

std::string folder() {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  std::string path = fmt::format("{}tern-{}-{}", testing::TempDir(), getpid(), test->name());
  std::filesystem::remove_all(path);
  return path;
}

RunTotals totals() {
  return {.bytes_up = 1000,
          .bytes_down = 500,
          .control_up = 30,
          .control_down = 40,
          .dense_up = 100'000,
          .dense_down = 50'000,
          .client_trainings = 24,
          .samples_trained = 480,
          .evaluations = {{2, 0.5, 1.0}, {4, 0.75, 0.5}, {6, 0.625, 0.6}}};
}

std::vector<std::string> keys(const ordered_json& object, const std::string& prefix = "") {
  std::vector<std::string> result;
  for (const auto& [key, value] : object.items()) {
    result.push_back(prefix + key);
    for (std::string& inner :
         keys(value.is_object() ? value : ordered_json::object(), prefix + key + "."))
      result.push_back(std::move(inner));
  }
  return result;
}

TEST(Summary, HasTheSameKeysWhateverIsKnown) {
  const Scenario plain = scenario(), aims = scenario({{"target.accuracy", "0.7"}});
  RunTotals known = totals();
  known.wire_up = 2000;
  known.wire_down = 1500;
  known.reached = RunTotals::Reached{4, 600, 300};
  const Evaluation evaluation{.accuracy = 0.625, .clients = {{.client = 0, .examples = 3}}};
  const std::vector<StageSeconds> stages{{"aggregate", 1.5}, {"encode", 0.5}};
  const ordered_json little = make_summary({.scenario = plain, .totals = RunTotals()});
  const ordered_json much = make_summary({.scenario = aims,
                                          .totals = known,
                                          .rounds = 6,
                                          .parameters = 7850,
                                          .evaluation = &evaluation,
                                          .wall_seconds = 3,
                                          .stage_seconds = stages,
                                          .workers = 2,
                                          .blas = "some",
                                          .libtorch = "1.13"});
  EXPECT_EQ(keys(little), keys(much));
  for (const char* key : {"workers", "blas", "libtorch", "virtual_seconds"})
    EXPECT_TRUE(little[key].is_null()) << key;
  for (const std::string_view stage : kWorkStageNames)
    EXPECT_TRUE(little["seconds"][std::string(stage)].is_null()) << stage;
  EXPECT_TRUE(little["bytes"]["wire_up"].is_null());
  EXPECT_EQ(little["bytes"]["control_up"], 0);
  EXPECT_EQ(much["seconds"]["aggregate"], 1.5);
  EXPECT_TRUE(much["seconds"]["train"].is_null()) << "a coordinator trains nothing";
  EXPECT_EQ(much["bytes"]["control_up"], 30);
  EXPECT_EQ(much["bytes"]["wire_down"], 1500);
  EXPECT_EQ(much["workers"], 2);
  EXPECT_EQ(much["best"]["round"], 4);
  EXPECT_EQ(much["late"]["accuracy"], 0.625);
  EXPECT_EQ(much["target"]["bytes_up"], 600);
}

TEST(Summary, ItsTableLeavesOutWhatIsNotKnown) {
  const Scenario plain = scenario();
  const std::string table =
      summary_table(make_summary({.scenario = plain, .totals = totals(), .wall_seconds = 65}));
  EXPECT_THAT(table, HasSubstr("1:05\n"));
  EXPECT_THAT(table, Not(HasSubstr("worker")));
  EXPECT_THAT(table, HasSubstr("100.0x"));
  const std::vector<StageSeconds> stages{{"encode", 1}, {"idle", 3}};
  EXPECT_THAT(summary_table(make_summary(
                  {.scenario = plain, .totals = totals(), .stage_seconds = stages, .workers = 1})),
              HasSubstr("1 worker: encode 25.0%, idle 75.0%"));
}

TEST(Summary, IsWrittenWithTheModelAndTheReport) {
  const Scenario plain = scenario();
  const ParameterSchema schema = model_schema("logistic", {{4}, 2}).value();
  const VersionedModel model(schema, 1);
  const ordered_json summary = make_summary({.scenario = plain,
                                             .totals = totals(),
                                             .parameters = schema.elements(),
                                             .model_sha256 = model.sha256()});
  const std::vector<ordered_json> rows{{{"round", 1}, {"bytes_up", 10}}, {{"round", 2}}};
  const std::string path = folder();
  const Result<RunFolder> opened = RunFolder::open(path, RunStart::kNew);
  ASSERT_TRUE(opened) << opened.error().describe();
  ASSERT_TRUE(
      write_results(
          *opened,
          {.scenario = plain, .schema = schema, .model = model, .rows = rows, .summary = summary})
          .ok());
  const auto text = [&](const char* file) {
    const std::vector<std::byte> bytes = read_file(path + "/" + file).value();
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  EXPECT_EQ(text("metrics.jsonl"), "{\"round\":1,\"bytes_up\":10}\n{\"round\":2}\n");
  EXPECT_EQ(ordered_json::parse(text("summary.json")), summary);
  EXPECT_THAT(text("report.html"), HasSubstr("Chart.js"));
  EXPECT_FALSE(std::filesystem::exists(path + "/evaluation.json")) << "nothing was evaluated";
  std::vector<float> read(schema.elements());
  ASSERT_TRUE(from_safetensors(read_file(path + "/model.safetensors").value(), schema, read).ok());
  EXPECT_TRUE(std::ranges::equal(read, model.parameters()));
}

TEST(Summary, NamesClassesAndClientsOfAnEvaluation) {
  const Evaluation evaluation{
      .classes = {{.examples = 3}, {.examples = 4}},
      .clients = {{.client = 1, .examples = 7, .accuracy = 0.5}, {.client = 9, .examples = 1}}};
  const std::vector<std::string> classes{"boot"}, clients{"ann", "bob"};
  const ordered_json json = evaluation_json(evaluation, {classes, clients});
  EXPECT_EQ(json["classes"][0]["name"], "boot");
  EXPECT_EQ(json["classes"][1]["name"], "1") << "its number";
  EXPECT_EQ(json["clients"][0]["name"], "bob");
  EXPECT_FALSE(json["clients"][1].contains("name"));
}

TEST(Summary, CombinesSeveralByMeanAndDeviation) {
  const ordered_json a{
      {"seed", 1}, {"x", 1.0}, {"n", nullptr}, {"name", "m"}, {"inner", {{"y", 10}}}};
  const ordered_json b{
      {"seed", 2}, {"x", 3.0}, {"n", nullptr}, {"name", "m"}, {"inner", {{"y", 20}}}};
  const ordered_json combined = combine_summaries({a, b});
  EXPECT_EQ(combined["runs"].size(), 2u);
  EXPECT_EQ(combined["mean"]["x"], 2.0);
  EXPECT_DOUBLE_EQ(combined["spread"]["x"].get<double>(), std::sqrt(2.0));
  EXPECT_EQ(combined["mean"]["inner"]["y"], 15.0);
  EXPECT_TRUE(combined["mean"]["n"].is_null());
  EXPECT_FALSE(combined["mean"].contains("name"));
  EXPECT_FALSE(combined["mean"].contains("seed"));
  EXPECT_TRUE(combine_summaries({a})["spread"]["x"].is_null()) << "one run has no spread";
}

TEST(RunFolder, SaysWhyItIsNotFree) {
  const std::string path = folder();
  EXPECT_EQ(RunFolder::open(path, RunStart::kCheckpoint).error().code(), Code::kNotFound)
      << "nothing to resume";
  {
    const Result<RunFolder> first = RunFolder::open(path, RunStart::kNew);
    ASSERT_TRUE(first);
    EXPECT_EQ(RunFolder::open(path, RunStart::kNew).error().code(), Code::kInUse) << "it is locked";
    ASSERT_TRUE(write_durably(first->file(kCheckpointFile), std::string_view("x")).ok());
  }
  EXPECT_THAT(RunFolder::open(path, RunStart::kNew).error().message(),
              HasSubstr("interrupted run"));
  EXPECT_TRUE(RunFolder::open(path, RunStart::kCheckpoint));
  ASSERT_TRUE(write_durably(path + "/summary.json", std::string_view("{}")).ok());
  EXPECT_THAT(check_folder_is_free(path).message(), HasSubstr("finished run"));
}

TEST(RunFolder, RowsAreAppendedAfterThoseOfAnEarlierRun) {
  Result<RunFolder> opened = RunFolder::open(folder(), RunStart::kNew);
  ASSERT_TRUE(opened);
  ASSERT_TRUE(opened->begin_metrics({{{"round", 1}}}).ok());
  ASSERT_TRUE(opened->append({{"round", 2}}).ok());
  const std::vector<std::byte> bytes = read_file(opened->file("metrics.jsonl")).value();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
            "{\"round\":1}\n{\"round\":2}\n");
}

}  // namespace
}  // namespace tern
