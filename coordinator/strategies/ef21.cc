#include "coordinator/strategies/ef21.h"

namespace tern {

void ef21_step(ServerOptimizerState& state, uint64_t round_weight, std::span<float> mean) {
  state.estimate.resize(mean.size());
  double weights = 0;
  for (const auto& [client, weight] : state.estimate_weights) weights += weight;
  const auto of_round = static_cast<double>(round_weight);
  for (size_t i = 0; i < mean.size(); ++i) {
    state.estimate[i] += static_cast<double>(mean[i]) * of_round;
    mean[i] = static_cast<float>(state.estimate[i] / weights);
  }
}

}  // namespace tern
