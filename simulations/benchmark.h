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
  std::string scenario;             ///< TOML file; its model is replaced by each of `models`
  std::vector<std::string> models;  ///< built-in models
  size_t repeats = 5;               ///< interleaved; the best of each counts
};

/// {"results":[{"model","batch","plain_samples_per_s","step_samples_per_s","end_to_end_samples_per_s"}],
///  "workers":{"1":..,"2":..}}: samples a second of one worker for the plain loop, for the
///  simulator's
/// trainer alone, and for whole rounds (training, coding, aggregation, one evaluation at the end);
/// `workers` are whole rounds of the first model. Errors: those of prepare and run_scenario,
/// kCancelled.
Result<nlohmann::ordered_json> benchmark_simulation(const SimulationBenchmark& benchmark,
                                                    const std::atomic<bool>& stop);

}  // namespace tern
