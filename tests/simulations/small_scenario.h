/// A fleet that runs in milliseconds: a csv file of two blobs, a logistic model.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/rng.h"
#include "config/load.h"
#include "simulations/simulation.h"

namespace tern {

/// An empty folder of this test's own.
inline std::string fresh_folder(const std::string& folder_name) {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  std::string path =
      fmt::format("{}tern-{}-{}-{}", testing::TempDir(), getpid(), test->name(), folder_name);
  for (char& c : path)
    if (c == '|' || c == ' ') c = '_';
  std::filesystem::remove_all(path);
  return path;
}

/// A file of this test's own, alone in the folder `folder_name`.
inline std::string file_in(const std::string& folder_name, const std::string& name,
                           const std::string& text) {
  const std::string folder = fresh_folder(folder_name);
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/" + name) << text;
  return folder + "/" + name;
}

/// 400 examples of two overlapping blobs in 12 dimensions.
inline std::string blob_file() {
  const std::string path = fmt::format("{}tern-blobs-{}.csv", testing::TempDir(), getpid());
  if (std::filesystem::exists(path)) return path;
  std::ofstream file(path);
  for (int column = 0; column < 12; ++column) file << "x" << column << ",";
  file << "label\n";
  Rng rng(4, Purpose::kTest);
  for (int row = 0; row < 400; ++row) {
    const int label = row % 2;
    for (int column = 0; column < 12; ++column)
      file << fmt::format("{:.4f},", rng.normal() + (label ? 0.7 : -0.7));
    file << (label ? "yes" : "no") << "\n";
  }
  return path;
}

inline std::vector<Override> small_overrides() {
  return {{"data.source", "csv"},     {"data.path", blob_file()},
          {"data.label", "label"},    {"data.partition", "iid"},
          {"fleet.clients", "8"},     {"fleet.cohort", "4"},
          {"model.name", "logistic"}, {"rounds", "6"},
          {"evaluation.every", "2"}};
}

inline Scenario parse_small_scenario(const std::vector<Override>& extra) {
  std::vector<Override> all = small_overrides();
  all.insert(all.end(), extra.begin(), extra.end());
  Result<Scenario> scenario = parse_scenario("", "/small.toml", all);
  EXPECT_TRUE(scenario) << scenario.error().describe();
  return *std::move(scenario);
}

inline PreparedScenario small_scenario(const std::vector<Override>& extra = {}) {
  Result<PreparedScenario> prepared = prepare(parse_small_scenario(extra));
  EXPECT_TRUE(prepared) << prepared.error().describe();
  return *std::move(prepared);
}

inline const std::atomic<bool> kGoOn{false};
inline const std::atomic<bool> kStopAtOnce{true};

inline RunResult run(const PreparedScenario& prepared, RunOptions options = {},
                     const std::atomic<bool>& stop = kGoOn) {
  options.show_progress = false;
  Result<RunResult> result = run_scenario(prepared, options, stop);
  EXPECT_TRUE(result) << result.error().describe();
  return *std::move(result);
}

inline std::string hash_of(const RunResult& result) { return result.summary["model"]["sha256"]; }

}  // namespace tern
