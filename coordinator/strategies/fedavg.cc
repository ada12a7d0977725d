#include "coordinator/strategies/fedavg.h"

#include <algorithm>

namespace tern {

namespace {

constexpr uint32_t kLargestWeight = 65535;

void average_step(uint32_t every, ServerOptimizerState& state, std::span<float> step) {
  if (state.lag.empty()) state.lag.assign(step.size(), 0.0f);
  if (++state.steps < every) {
    const auto before = static_cast<float>(state.steps - 1);
    for (size_t i = 0; i < step.size(); ++i) state.lag[i] += before * step[i];
    return;
  }
  const auto models = static_cast<float>(every);
  for (size_t i = 0; i < step.size(); ++i) step[i] = (step[i] - state.lag[i]) / models;
  state.steps = 0;
  state.lag.clear();
}

}  // namespace

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
  if (strategy.server_average_every > 0) average_step(strategy.server_average_every, state, mean);
}

}  // namespace tern
