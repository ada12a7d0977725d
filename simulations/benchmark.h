/// `tern bench simulation`: how fast the simulator trains, beside the loop that a user would write
/// with LibTorch (tests/bench/plain_loop.h), in the same run on the same samples and cores.
#pragma once

#include <atomic>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"

namespace tern {

struct SimulationBenchmark {
  /// TOML file; its model is replaced by each of `models`, its data for those of texts by drawn
  /// ones.
  std::string scenario;
  std::vector<std::string> models;  ///< built-in models
  size_t repeats = 5;               ///< interleaved; the median of each counts
};

/// Samples a second of one worker, as a JSON object:
///
/// - results: an array with model, batch, plain_samples_per_s (the plain loop), step_samples_per_s
///   (the simulator's trainer alone) and end_to_end_samples_per_s (whole rounds: training, coding,
///   aggregation, one evaluation at the end);
/// - workers: whole rounds of the first model with "1" and "2" workers;
/// - trainers: the trainer alone on "1" thread, and two of them on "2", which is what two workers
///   could reach on this machine.
///
/// Errors: those of prepare and run_scenario, kCancelled.
Result<nlohmann::ordered_json> benchmark_simulation(const SimulationBenchmark& benchmark,
                                                    const std::atomic<bool>& stop);

}  // namespace tern
