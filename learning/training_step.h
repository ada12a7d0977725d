/// One minibatch of SGD on parameters that lie in a flat vector. This header needs LibTorch; it is
/// for learning/ alone.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "learning/learning_data.h"
#include "proto/training.h"

namespace tern {

/// SGD on the mean cross-entropy as PyTorch defines it, with momentum and weight decay. Threads:
/// one at a time.
class TrainingStep {
 public:
  virtual ~TrainingStep() = default;
  /// Where the velocities are from now on, as the parameters lie; before a step with momentum.
  virtual void use_velocity(const at::Tensor& flat) = 0;
  /// Changes the parameters; gives the batch's mean loss before the step. Shape: inputs [n,
  /// features], labels example by example. Errors: those of TrainedModel::forward.
  virtual Result<double> step(const TrainingPlan& plan, const at::Tensor& inputs,
                              std::span<const uint32_t> labels) = 0;
};

/// The leanest one for the model of `data`, with the parameters in `flat`: linear layers and
/// char-lstm do without autograd, convolutions and models of the user's own have LibTorch's.
/// Errors: those of make_trained_model.
Result<std::unique_ptr<TrainingStep>> make_training_step(const LearningData& data,
                                                         const at::Tensor& flat);

}  // namespace tern
