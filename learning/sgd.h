/// The step of SGD as PyTorch defines it, on flat parameters: g += decay * w; v = momentum * v + g;
/// w -= rate * v. No LibTorch here.
#pragma once

#include <cstddef>

#include "proto/training.h"

namespace tern {

/// The second half, for a velocity that has the gradient already: decay and the step itself.
inline void follow_velocity(const TrainingPlan& plan, float* parameters, float* velocity,
                            size_t count) {
  const auto rate = static_cast<float>(plan.learning_rate);
  const auto decay = static_cast<float>(plan.weight_decay);
  for (size_t i = 0; i < count; ++i) {
    velocity[i] += decay * parameters[i];
    parameters[i] -= rate * velocity[i];
  }
}

/// The whole step; `velocity` isn't looked at without momentum.
inline void descend(const TrainingPlan& plan, const float* gradient, float* parameters,
                    float* velocity, size_t count) {
  if (plan.momentum == 0) {
    const auto rate = static_cast<float>(plan.learning_rate);
    const float shrunk = 1 - rate * static_cast<float>(plan.weight_decay);
    for (size_t i = 0; i < count; ++i) parameters[i] = parameters[i] * shrunk - rate * gradient[i];
    return;
  }
  const auto momentum = static_cast<float>(plan.momentum);
  for (size_t i = 0; i < count; ++i) velocity[i] = velocity[i] * momentum + gradient[i];
  follow_velocity(plan, parameters, velocity, count);
}

}  // namespace tern
