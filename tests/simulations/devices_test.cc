// The virtual clock: what it charges can be computed by hand, it changes no bit where everybody is
// counted, and it decides who is where not everybody is.
#include "simulations/devices.h"

#include <gtest/gtest.h>

#include <fstream>

#include "simulations/simulation.h"
#include "tests/simulations/small_scenario.h"

namespace tern {
namespace {

using nlohmann::ordered_json;

double virtual_seconds(const RunResult& result) { return result.summary["virtual_seconds"]; }

/// Everything takes time, and differs between clients a hundredfold.
std::vector<Override> slow_devices() {
  return {{"fleet.uplink_bytes_per_s", "loguniform:100..10000"},
          {"fleet.downlink_bytes_per_s", "loguniform:100..10000"},
          {"fleet.samples_per_s", "loguniform:10..1000"},
          {"fleet.round_trip", "80ms"},
          {"compression.up", "ef | topk:0.25 | ternary | rice"},
          {"compression.down", "ef | topk:0.25 | ternary | rice"}};
}

TEST(Devices, ATrainingTakesItsSamples) {
  // 8 clients with 40 examples each, 4 of which train at once: 2 epochs of 40 at 50 a second.
  for (const std::vector<Override>& amount :
       {std::vector<Override>{{"training.local_epochs", "2"}},
        std::vector<Override>{{"training.local_steps", "8"}}}) {
    std::vector<Override> all = amount;
    all.push_back({"fleet.samples_per_s", "50"});
    const RunResult result = run(small_scenario(all));
    EXPECT_EQ(virtual_seconds(result), 6 * 80 / 50.0);
  }
  EXPECT_TRUE(run(small_scenario()).summary["virtual_seconds"].is_null());
}

TEST(Devices, LinksTakeTheirBytes) {
  const ordered_json up = run(small_scenario({{"fleet.uplink_bytes_per_s", "1000"}})).summary;
  // float32 updates of one length, one after the other: each round waits for one of four. The
  // message that begins an update travels with it.
  const double sent = up["bytes"]["up"].get<double>() / 4 / 1000;
  EXPECT_GT(up["virtual_seconds"].get<double>(), sent);
  EXPECT_LT(up["virtual_seconds"].get<double>(), sent + 6 * 0.1);
  const ordered_json down = run(small_scenario({{"fleet.downlink_bytes_per_s", "1000"},
                                                {"fleet.cohort", "8"},
                                                {"compression.up", "int:8"}}))
                                .summary;
  const double received = down["bytes"]["down"].get<double>() / 8 / 1000;
  EXPECT_GT(down["virtual_seconds"].get<double>(), received);
  EXPECT_LT(down["virtual_seconds"].get<double>(), received + 6 * 0.8) << "with a plan each";
  EXPECT_DOUBLE_EQ(virtual_seconds(run(small_scenario({{"fleet.round_trip", "50ms"}}))), 6 * 0.05);
}

TEST(Devices, WhereEverybodyIsCountedTheyChangeNoBitOfTheModel) {
  const std::vector<Override> slow = slow_devices();
  const RunResult one = run(small_scenario(slow), {.fleet = {.workers = 1}});
  EXPECT_EQ(hash_of(one), hash_of(run(small_scenario({slow.begin() + 4, slow.end()}))));
  EXPECT_GT(virtual_seconds(one), 6 * 0.08);
  const RunResult three = run(small_scenario(slow), {.fleet = {.workers = 3}});
  EXPECT_EQ(hash_of(three), hash_of(one));
  EXPECT_EQ(virtual_seconds(three), virtual_seconds(one)) << "to the nanosecond";
}

TEST(Devices, InterruptedAfterEveryRoundTheClockGoesOn) {
  const PreparedScenario prepared = small_scenario(slow_devices());
  const RunResult through = run(prepared, {.fleet = {.workers = 2}});
  RunOptions options{.fleet = {.workers = 2}, .out = fresh_folder("out")};
  RunResult part = run(prepared, options, kStopAtOnce);
  options.resume = true;
  while (part.interrupted) {
    ASSERT_TRUE(part.resumable);
    part = run(prepared, options, kStopAtOnce);
  }
  EXPECT_EQ(hash_of(part), hash_of(through));
  EXPECT_EQ(virtual_seconds(part), virtual_seconds(through));
}

TEST(Devices, OverSelectionWaitsForTheFastOnesAlone) {
  std::vector<Override> all = slow_devices();
  const RunResult patient = run(small_scenario(all));
  all.push_back({"fleet.over_select", "1.5"});
  const PreparedScenario prepared = small_scenario(all);
  const RunResult result = run(prepared, {.fleet = {.workers = 1}});
  EXPECT_LT(virtual_seconds(result), 0.7 * virtual_seconds(patient));
  const RunResult three = run(prepared, {.fleet = {.workers = 3}});
  EXPECT_EQ(hash_of(three), hash_of(result)) << "who is late doesn't depend on the workers";
  EXPECT_EQ(virtual_seconds(three), virtual_seconds(result));
  EXPECT_EQ(three.summary["bytes"], result.summary["bytes"]);
  const RunResult stopped = run(prepared, {.out = fresh_folder("out")}, kStopAtOnce);
  EXPECT_TRUE(stopped.interrupted);
  EXPECT_FALSE(stopped.resumable) << "the slow ones are in the middle of their tasks";
}

TEST(Devices, ADeadlineEndsARoundOnTheVirtualClock) {
  std::vector<Override> all = slow_devices();
  all.insert(all.end(), {{"fleet.deadline", "2s"}, {"fleet.min_updates", "1"}});
  const RunResult result = run(small_scenario(all));
  EXPECT_LE(virtual_seconds(result), 6 * 2 + 1e-9);
  EXPECT_LT(result.summary["client_trainings"], 6 * 4) << "not all came in time";
}

TEST(Devices, InEveryScheduleTheWorkersChangeNothing) {
  double patient = 0;
  for (const char* schedule : {"synchronous", "late-credit", "fedbuff"}) {
    std::vector<Override> all = slow_devices();
    all.insert(all.end(), {{"fleet.schedule", schedule},
                           {"fleet.cohort", "2"},
                           {"fleet.over_select", "2"},
                           {"fleet.min_updates", "1"},
                           {"fleet.drop_out", "0.2"},
                           {"rounds", "20"}});
    const bool synchronous = std::string_view(schedule) == "synchronous";
    if (synchronous) all.push_back({"fleet.over_select", "1"});
    const PreparedScenario prepared = small_scenario(all);
    const RunResult one = run(prepared, {.fleet = {.workers = 1}, .out = fresh_folder(schedule)});
    // In a synchronous round both may drop out.
    if (!synchronous) {
      EXPECT_EQ(one.summary["void_rounds"], 0) << schedule;
    }
    for (const size_t workers : {2u, 3u}) {
      const RunResult more = run(prepared, {.fleet = {.workers = workers}});
      EXPECT_EQ(hash_of(more), hash_of(one)) << schedule;
      EXPECT_EQ(virtual_seconds(more), virtual_seconds(one));
      EXPECT_EQ(more.summary["bytes"], one.summary["bytes"]);
    }
    if (synchronous) {
      patient = virtual_seconds(one);
      continue;
    }
    EXPECT_LT(virtual_seconds(one), 0.7 * patient) << schedule;
    const RunResult stopped = run(prepared, {.out = fresh_folder("stopped")}, kStopAtOnce);
    EXPECT_FALSE(stopped.resumable) << "tasks outlive their rounds";
  }
}

// Many answers of one virtual time: what follows from each must not depend on how many of them were
// at work at once.
TEST(Devices, WithEqualDevicesTheWorkersChangeNothing) {
  for (const bool synchronous : {true, false}) {
    std::vector<Override> all = {{"fleet.clients", "40"}, {"fleet.min_updates", "1"}};
    if (synchronous)
      all.insert(all.end(), {{"fleet.cohort", "5"}, {"fleet.over_select", "8"}});
    else
      all.insert(all.end(), {{"fleet.schedule", "fedbuff"},
                             {"fleet.cohort", "9"},
                             {"fleet.over_select", "2"},
                             {"fleet.samples_per_s", "50"}});
    const PreparedScenario prepared = small_scenario(all);
    const RunResult one = run(prepared, {.fleet = {.workers = 1}});
    for (const size_t workers : {2u, 3u, 7u}) {
      const RunResult more = run(prepared, {.fleet = {.workers = workers}});
      EXPECT_EQ(hash_of(more), hash_of(one)) << synchronous << " " << workers;
      EXPECT_EQ(more.summary["bytes"], one.summary["bytes"]) << synchronous << " " << workers;
      EXPECT_EQ(more.summary["client_trainings"], one.summary["client_trainings"]);
    }
  }
}

TEST(Devices, DropOutsAreDrawnAndCostTheTimeUntilThen) {
  std::vector<Override> all = {{"fleet.samples_per_s", "50"}, {"fleet.min_updates", "1"}};
  const RunResult without = run(small_scenario(all));
  all.push_back({"fleet.drop_out", "0.4"});
  const PreparedScenario prepared = small_scenario(all);
  const std::string out = fresh_folder("out");
  const RunResult with = run(prepared, {.out = out});
  std::ifstream metrics(out + "/metrics.jsonl");
  int failed = 0, updates = 0;
  for (std::string line; std::getline(metrics, line);) {
    const ordered_json row = ordered_json::parse(line);
    failed += row["failed"].get<int>();
    updates += row["updates"].get<int>();
  }
  EXPECT_EQ(failed + updates, 6 * 4) << "a round waits for all but those";
  EXPECT_GT(failed, 2);
  EXPECT_LT(failed, 18);
  // Nobody takes longer than a task; after a round that all have left, the coordinator waits.
  EXPECT_LE(virtual_seconds(with),
            virtual_seconds(without) + with.summary["void_rounds"].get<double>());
  EXPECT_EQ(hash_of(run(prepared, {.fleet = {.workers = 2}})), hash_of(with));
}

// ---- Traces

std::string trace(const std::string& folder, const std::string& text) {
  return file_in(folder, "trace.csv", text);
}

TEST(Devices, WorkWhenTheyAreThereAlone) {
  // Clients 0 to 3 are there in the first 50 of 100 seconds, the others after them; a training
  // takes 40 / 2.5 = 16 s. Three rounds of the former; the fourth breaks off at 50 s and is void; a
  // second later the others begin.
  std::string windows = "client,active,inactive,finish_time\n";
  for (int client = 0; client < 8; ++client)
    windows += fmt::format("{},{},100\n", client, client < 4 ? "0,50" : "50,100");
  std::vector<Override> all = {{"fleet.availability", trace("windows", windows)},
                               {"fleet.devices", trace("devices", "samples_per_s\n2.5\n")}};
  const RunResult result = run(small_scenario(all));
  EXPECT_EQ(result.summary["void_rounds"], 1);
  EXPECT_EQ(virtual_seconds(result), 51 + 2 * 16);
  // Without a client at the beginning, a run waits for the first ones.
  all[0].value = trace("later", "client,active,inactive,finish_time\na,30,1000,1000\n");
  EXPECT_EQ(virtual_seconds(run(small_scenario(all))), 30 + 6 * 16);
  // However short a visit is, it isn't overlooked.
  all[0].value = trace("short", "client,active,inactive,finish_time\na,0.25,0.5,16.5\n");
  all[1].value = trace("fast", "samples_per_s\n400\n");
  // Of the three trainings of 0.1 s in a visit, the third breaks off.
  const RunResult visits = run(small_scenario(all));
  EXPECT_EQ(virtual_seconds(visits), 16.5 + 0.5);
  EXPECT_EQ(visits.summary["void_rounds"], 2);
  // A run of which clients may be elsewhere later isn't taken up in the middle.
  const RunResult stopped = run(small_scenario(all), {.out = fresh_folder("out")}, kStopAtOnce);
  EXPECT_TRUE(stopped.interrupted && !stopped.resumable);
  // Two that never meet end the run, and don't keep it waiting for ever.
  all.push_back({"fleet.clients", "2"});
  all.push_back({"fleet.cohort", "2"});
  all[0].value = trace("apart", "client,active,inactive,finish_time\na,0,5,10\nb,5,10,20\n");
  const auto apart = run_scenario(small_scenario(all), {.show_progress = false}, kGoOn);
  ASSERT_FALSE(apart);
  EXPECT_NE(apart.error().describe().find("2 clients were never there at once"), std::string::npos)
      << apart.error().describe();
  all.resize(2);
  // One that can be seen to wait for ever is refused.
  all[0].value =
      trace("never", "client,active,inactive,finish_time\na,0,50,100\nb,50,100,100\nc,1,1,100\n");
  const Result<PreparedScenario> never = prepare(parse_small_scenario(all));
  ASSERT_FALSE(never);
  EXPECT_NE(
      never.error().describe().find("at most 3 of 8 clients are there at once, a round needs 4"),
      std::string::npos)
      << never.error().describe();
}

// ---- Selection

TEST(Devices, EveryRuleOfSelectionGoesOnWhereItStopped) {
  for (const char* rule : {"weighted", "round-robin", "power-of-choice:2", "oort"}) {
    std::vector<Override> all = slow_devices();
    all.insert(all.end(), {{"fleet.selection", rule}, {"fleet.cohort", "3"}});
    const PreparedScenario prepared = small_scenario(all);
    const RunResult through = run(prepared, {.fleet = {.workers = 1}});
    EXPECT_EQ(hash_of(run(prepared, {.fleet = {.workers = 3}})), hash_of(through)) << rule;
    RunOptions options{.fleet = {.workers = 2}, .out = fresh_folder("out")};
    RunResult part = run(prepared, options, kStopAtOnce);
    options.resume = true;
    while (part.interrupted) part = run(prepared, options, kStopAtOnce);
    EXPECT_EQ(hash_of(part), hash_of(through)) << rule;
    EXPECT_NE(hash_of(through), hash_of(run(small_scenario({all.begin(), all.end() - 2})))) << rule;
  }
}

TEST(Devices, ADeadlineFromTheirSpeedsPassesOverTheSlowest) {
  std::vector<Override> all = slow_devices();
  all.insert(all.end(), {{"fleet.min_updates", "1"}, {"fleet.clients", "40"}, {"rounds", "20"}});
  const double patient = virtual_seconds(run(small_scenario(all)));
  all.push_back({"fleet.deadline_quantile", "0.5"});
  const RunResult result = run(small_scenario(all));
  const RunResult stopped = run(small_scenario(all), {.out = fresh_folder("out")}, kStopAtOnce);
  EXPECT_FALSE(stopped.resumable) << "the slow ones are in the middle of their tasks";
  EXPECT_LT(virtual_seconds(result), 0.8 * patient);
  EXPECT_GT(result.summary["client_trainings"], 40) << "but not over everybody";
}

TEST(Devices, TheTargetSaysWhenItWasReached) {
  std::vector<Override> all = slow_devices();
  all.push_back({"target.accuracy", "0.6"});
  const ordered_json summary = run(small_scenario(all)).summary;
  ASSERT_TRUE(summary["target"]["reached"]) << summary["late"];
  EXPECT_GT(summary["target"]["virtual_seconds"], 0);
  EXPECT_LE(summary["target"]["virtual_seconds"], summary["virtual_seconds"]);
}

}  // namespace
}  // namespace tern
