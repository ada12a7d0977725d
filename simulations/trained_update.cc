#include "simulations/trained_update.h"

#include <utility>

#include "config/load.h"
#include "config/model_card.h"
#include "coordinator/versions.h"
#include "learning/torch_trainer.h"
#include "simulations/prepare.h"

namespace tern {

namespace {

// Not read from the file, so that the program finds it wherever it is started.
constexpr const char* kScenario = R"(
rounds = 1
[data]
source = "fashion-mnist"
partition = "shards:2"
[fleet]
clients = 100
cohort = 10
[model]
name = "cnn"
[training]
learning_rate = 0.05
batch_size = 10
local_epochs = 1
)";
constexpr uint32_t kRounds = 4;

}  // namespace

Result<BenchmarkUpdate> trained_update(const std::atomic<bool>& stop) {
  TERN_TRY(const Scenario scenario, parse_scenario(kScenario, "cnn"));
  TERN_TRY(const PreparedScenario prepared, prepare(scenario));
  TERN_TRY(const std::unique_ptr<Trainer> trainer, make_trainer(prepared.data));
  BenchmarkUpdate result{.schema = prepared.data->schema};
  std::vector<float> model(result.schema.elements());
  initialize_parameters(result.schema, scenario.seed, kGridBits, model);
  for (uint32_t round = 1; round <= kRounds; ++round) {
    if (stop) return error(Code::kCancelled, "interrupted");
    std::vector<float> update(model.size());
    TERN_TRY([[maybe_unused]] const TrainReport report,
             trainer->train({.plan = scenario.training, .seed = scenario.seed, .round = round},
                            model, update));
    for (size_t i = 0; i < model.size(); ++i) model[i] += update[i];
    if (round == kRounds)
      result.values = std::move(update);
    else
      result.earlier.push_back(std::move(update));
  }
  return result;
}

}  // namespace tern
