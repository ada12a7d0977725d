/// From a scenario to everything that a run needs in memory.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/status.h"
#include "compression/updates/accumulator.h"
#include "config/scenario.h"
#include "learning/learning_data.h"
#include "simulations/device_traces.h"

namespace tern {

/// A scenario with its data: what can be wrong with the input has been found. Immutable.
struct PreparedScenario {
  Scenario scenario;  ///< fleet.clients filled in where the data say it
  std::shared_ptr<const LearningData> data;
  std::vector<std::vector<uint32_t>> test_clients;  ///< test examples of each client; may be empty
  std::vector<float>
      initial;  ///< of model.initial, on the grid; empty: the run starts from the seed
  AccumulatorBounds bounds;
  DeviceTraces traces;
  uint32_t largest_examples = 1;  ///< that a client holds
};

/// Loads and partitions the data and checks the scenario against them. Errors: those of load_data,
/// read_device_traces, partition and the model, with Where{file or key}.
Result<PreparedScenario> prepare(const Scenario& scenario);

/// Bytes a second of each client's link, where the traces say it; else empty.
std::vector<double> uplinks_of(const PreparedScenario& prepared);

/// SHA-256, in hexadecimal, of the examples, their partition, the traces and the initial model: a
/// run can only be resumed with the same. Cost: O(bytes of the data), about a second a gigabyte.
std::string input_sha256(const PreparedScenario& prepared);

/// The most bytes that what clients remember between tasks can take, by the end of the run.
Result<double> remembered_bytes(const PreparedScenario& prepared);

/// What a run would cost, without training: parameters, lengths of a real update and a real delta
/// of Gaussian values, bytes and samples of the whole run, memory and disk, and what rate control
/// would do (rate_preview.h).
Result<nlohmann::ordered_json> estimate_cost(const PreparedScenario& prepared, size_t workers);

}  // namespace tern
