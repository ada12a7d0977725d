/// The built-in models as functions of a flat parameter vector. This header needs LibTorch; it is
/// for learning/ and its tests. Everyone else uses learning/torch_trainer.h and
/// learning/torch_evaluator.h.
#pragma once

#include <torch/torch.h>

#include <cstddef>
#include <span>
#include <vector>

#include "base/parameter_schema.h"
#include "base/status.h"
#include "config/model_card.h"

namespace tern {

/// A tensor for each entry of the schema, all sharing the memory of `flat` (schema.elements()
/// floats).
std::vector<at::Tensor> parameter_views(const ParameterSchema& schema, const at::Tensor& flat);

/// A stack of convolutions, then one of linear layers: logistic, mlp-2nn and cnn are all of this
/// form. A convolution (weight [out, in, k, k], odd k, padding k/2, stride 1) is
/// followed by 2x2 max-pooling and ReLU, a linear layer (weight [out, in]) by ReLU unless it is the
/// last. Each has a weight and a bias, in this order in the schema. Threads: immutable, share
/// freely.
class Network {
 public:
  /// Reads the layers off the schema. Errors: kUnsupported when it isn't of this form;
  /// kInvalidArgument when the layers fit neither each other nor `shape`.
  static Result<Network> make(const ParameterSchema& schema, const TaskShape& shape);

  size_t convolutions() const { return convolutions_; }
  size_t linear_layers() const { return linear_layers_; }

  /// What the first linear layer sees: inputs [n, features] through the convolutions, flattened
  /// again to [n, m]. `parameters`: as from parameter_views. Differentiable.
  at::Tensor features(std::span<const at::Tensor> parameters, const at::Tensor& inputs) const;
  /// Class scores [n, classes] of inputs [n, features]. Differentiable.
  at::Tensor forward(std::span<const at::Tensor> parameters, const at::Tensor& inputs) const;

 private:
  size_t convolutions_ = 0;
  size_t linear_layers_ = 0;
  std::vector<int64_t> input_;  ///< {channels, height, width} when there are convolutions
};

/// Class scores [n, classes] of resnet8-gn (config/model_card.h) for inputs [n, features];
/// `parameters` as from parameter_views. Differentiable.
at::Tensor resnet8_forward(std::span<const at::Tensor> parameters, const TaskShape& shape,
                           const at::Tensor& inputs);

}  // namespace tern
