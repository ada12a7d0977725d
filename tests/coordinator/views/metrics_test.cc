#include "coordinator/views/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tern {
namespace {

using nlohmann::ordered_json;

Event bytes(std::string_view name, int64_t up, int64_t down) {
  return {name, {{"round", int64_t{1}}, {"up", up}, {"down", down}}};
}

TEST(Metrics, EveryControlByteIsInOneRow) {
  MetricsView view({});
  view.on(bytes("control_bytes", 5, 3));  // clients that join before the first round
  view.on({"round_started", {{"round", int64_t{1}}, {"asked", int64_t{2}}}});
  view.on(bytes("control_bytes", 10, 20));
  view.on(bytes("control_bytes", 1, 2));
  EXPECT_EQ(view.finish_round(1)["control_up"], 16);
  EXPECT_EQ(view.rows().back()["control_down"], 25);
  view.on(bytes("control_bytes", 4, 0));
  view.on({"round_started", {{"round", int64_t{2}}, {"asked", int64_t{2}}}});
  EXPECT_EQ(view.finish_round(2)["control_up"], 4);
  EXPECT_EQ(view.totals().control_up, 20u);
  EXPECT_EQ(view.totals().control_down, 25u);
  EXPECT_EQ(view.totals().bytes_up, 0u) << "frames are counted apart";
}

TEST(Metrics, WhatNobodyWaitedForWasSentAllTheSame) {
  MetricsView view({});
  const auto ignored = [&](int64_t bytes, int64_t dense) {
    view.on({"update_ignored", {{"client", int64_t{1}}, {"bytes", bytes}, {"dense_bytes", dense}}});
  };
  view.on({"round_started", {{"round", int64_t{1}}, {"asked", int64_t{2}}}});
  ignored(100, 4000);
  EXPECT_EQ(view.finish_round(1)["bytes_up"], 100);
  ignored(70, 4000);  // before the next round
  view.on({"round_started", {{"round", int64_t{2}}, {"asked", int64_t{2}}}});
  ignored(30, 0);
  EXPECT_EQ(view.finish_round(2)["bytes_up"], 100);
  EXPECT_EQ(view.totals().bytes_up, 200u);
  EXPECT_EQ(view.totals().dense_up, 8000u);
}

TEST(Metrics, SaysHowOldTheCountedUpdatesOfARoundWere) {
  MetricsView view({});
  view.on({"round_started", {{"round", int64_t{1}}, {"asked", int64_t{2}}}});
  for (const int64_t staleness : {0, 5, 1})
    view.on({"update_counted", {{"client", int64_t{1}}, {"staleness", staleness}}});
  const ordered_json row = view.finish_round(1);
  EXPECT_EQ(row["staleness"], 2.0);
  EXPECT_EQ(row["staleness_max"], 5);
  view.on({"round_started", {{"round", int64_t{2}}, {"asked", int64_t{2}}}});
  EXPECT_TRUE(view.finish_round(2)["staleness"].is_null()) << "nobody was counted";
  EXPECT_EQ(view.rows().back()["staleness_max"], 0);
}

TEST(Metrics, TellsWhoWaitedForTheEndOfARound) {
  MetricsView view({});
  const auto task = [&](int64_t client, double from, double until, const char* end) {
    view.on({"task_timed",
             {{"round", int64_t{1}},
              {"client", client},
              {"from", from},
              {"until", until},
              {"end", end}}});
  };
  view.on({"round_started", {{"round", int64_t{1}}, {"asked", int64_t{3}}}});
  task(4, 0, 2, "counted");
  task(5, 0, 6, "counted");
  task(6, 0, 6.5, "late");
  const ordered_json row = view.finish_round(1);
  EXPECT_EQ(row["waiting"], (4.5 + 0.5) / 2) << "until the last one ended";
  EXPECT_EQ(row["tasks"].dump(),
            R"([[4,0.0,2.0,"counted"],[5,0.0,6.0,"counted"],[6,0.0,6.5,"late"]])");
  view.on({"round_started", {{"round", int64_t{2}}, {"asked", int64_t{3}}}});
  for (int64_t client = 0; client < 200; ++client) task(client, 7, 8, "counted");
  EXPECT_EQ(view.finish_round(2)["tasks"].size(), 50u) << "more can't be looked at";
  view.on({"round_started", {{"round", int64_t{3}}, {"asked", int64_t{3}}}});
  task(1, 0, 0, "counted");
  EXPECT_TRUE(view.finish_round(3)["tasks"].is_null()) << "nothing takes time";
  EXPECT_TRUE(view.rows().back()["waiting"].is_null());
}

TEST(Metrics, BytesOfTheWireAreTheLastTotals) {
  MetricsView view({});
  EXPECT_FALSE(view.totals().wire_up);
  view.on(bytes("wire_bytes", 100, 200));
  view.on(bytes("wire_bytes", 150, 260));
  EXPECT_EQ(view.totals().wire_up, 150u);
  EXPECT_EQ(view.totals().wire_down, 260u);
}

TEST(Metrics, ARoundTakesAsLongAsItsSlowestCountedUpload) {
  MetricsView view({});
  const auto sent = [&](int64_t client, double seconds, bool counted) {
    view.on({"update_sent",
             {{"client", client}, {"bytes", int64_t{10}}, {"transfer_seconds", seconds}}});
    if (counted) view.on({"update_counted", {{"client", client}}});
  };
  view.on({"round_started", {{"round", int64_t{1}}, {"asked", int64_t{3}}}});
  for (const char* chain : {"float32", "int:8", "float32"})
    view.on({"chain_given", {{"chain", chain}, {"reason", "fits"}}});
  sent(1, 0.5, true);
  sent(2, 2, true);
  sent(3, 7, false);
  const ordered_json row = view.finish_round(1);
  EXPECT_EQ(row["transfer_slowest"], 2);
  EXPECT_EQ(row["transfer_sum"], 9.5);
  EXPECT_EQ(row["chains"], (ordered_json{{"float32", 2}, {"int:8", 1}}));
  EXPECT_EQ(row["reasons"], (ordered_json{{"fits", 3}}));
  view.on({"round_started", {{"round", int64_t{2}}, {"asked", int64_t{3}}}});
  sent(1, 0.25, true);
  view.finish_round(2);
  EXPECT_EQ(view.totals().transfer_rounds, 2.25);
  EXPECT_EQ(view.totals().transfer_clients, 9.75);
  EXPECT_TRUE(view.rows().back()["chains"].is_null());
}

TEST(Metrics, TotalsSurviveAsJson) {
  RunTotals totals{.bytes_up = 1,
                   .bytes_down = 2,
                   .control_up = 3,
                   .control_down = 4,
                   .dense_up = 5,
                   .dense_down = 6,
                   .client_trainings = 7,
                   .samples_trained = 8,
                   .void_rounds = 9,
                   .evaluations = {{10, 0.5, 1.5}}};
  EXPECT_TRUE(to_json(totals)["wire_up"].is_null());
  EXPECT_EQ(to_json(totals_from_json(to_json(totals))), to_json(totals));
  totals.wire_up = 11;
  totals.wire_down = 0;
  totals.reached = RunTotals::Reached{12, 13, 14, 15.5};
  totals.transfer_rounds = 2.5;
  totals.chains = {{"float32", 3}};
  totals.reasons = {{"fits", 3}};
  const RunTotals again = totals_from_json(to_json(totals));
  EXPECT_EQ(to_json(again), to_json(totals));
  EXPECT_EQ(again.wire_down, 0u);
  EXPECT_EQ(again.control_down, 4u);
}

}  // namespace
}  // namespace tern
