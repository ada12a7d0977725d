/// The linear layers of a model, forwards, backwards and their step, by BLAS and loops alone: with
/// batches of ten examples, a LibTorch step is a quarter dispatch. No LibTorch here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "proto/training.h"

namespace tern {

/// A layer's parameters, and their velocities where there is momentum: weight [outputs, inputs],
/// bias [outputs], in the memory of whoever owns them.
struct LinearLayer {
  int inputs = 0;
  int outputs = 0;
  float* weight = nullptr;
  float* bias = nullptr;
  float* weight_velocity = nullptr;
  float* bias_velocity = nullptr;
};

/// A stack of layers with ReLU between them and the mean cross-entropy behind the last one. The
/// product that gives a weight's gradient is added straight to the weight (or its velocity), so
/// that the gradient, as large as the model, is never stored: half of the memory traffic of a step
/// with small batches. Memory: the activations of a batch. Threads: one at a time; the BLAS is
/// serial (make_math_serial).
class LinearLayers {
 public:
  explicit LinearLayers(std::vector<LinearLayer> layers);

  /// One step of SGD, as `plan` says and PyTorch defines it, on a batch: inputs [labels.size(),
  /// inputs of the first layer]. Gives the batch's mean loss before the step; `input_gradient`, of
  /// the shape of the inputs or null, gets the gradient by them.
  double step(const TrainingPlan& plan, const float* inputs, std::span<const uint32_t> labels,
              float* input_gradient);
  /// Where the velocities are from now on.
  void set_velocities(size_t layer, float* weight, float* bias) {
    layers_[layer].weight_velocity = weight;
    layers_[layer].bias_velocity = bias;
  }

 private:
  void forward(const float* inputs, int n);
  void descend(const TrainingPlan& plan, const LinearLayer& layer, bool first, const float* seen,
               int n);

  std::vector<LinearLayer> layers_;
  std::vector<std::vector<float>> outputs_;  // of each layer, [outputs, batch]: see forward()
  std::vector<float> bias_gradient_;
  std::vector<float> gradient_, below_;  // by the outputs of a layer and by its inputs, likewise
};

}  // namespace tern
