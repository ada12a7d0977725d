#include "coordinator/strategies/fedavg.h"

#include <algorithm>

namespace tern {

namespace {
constexpr uint32_t kLargestWeight = 65535;
}

uint32_t fedavg_weight(uint32_t examples, int shift) {
  return std::clamp<uint32_t>(examples >> shift, 1, kLargestWeight);
}

int fedavg_weight_shift(uint32_t largest_examples) {
  int shift = 0;
  while (largest_examples >> shift > kLargestWeight) ++shift;
  return shift;
}

void fedavg_step(const StrategyConfig& strategy, ServerOptimizerState& state,
                 std::span<float> mean) {
  if (strategy.server_momentum > 0) {
    if (state.momentum.empty()) state.momentum.assign(mean.size(), 0.0f);
    const auto beta = static_cast<float>(strategy.server_momentum);
    for (size_t i = 0; i < mean.size(); ++i)
      mean[i] = state.momentum[i] = beta * state.momentum[i] + mean[i];
  }
  if (strategy.server_learning_rate != 1.0) {
    const auto rate = static_cast<float>(strategy.server_learning_rate);
    for (float& value : mean) value *= rate;
  }
}

}  // namespace tern
