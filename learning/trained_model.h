/// A model whose parameters lie in a flat vector, whoever wrote it. This header needs LibTorch; it
/// is for learning/ alone.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <vector>

#include "base/status.h"
#include "learning/learning_data.h"

namespace tern {

/// Threads: one at a time.
class TrainedModel {
 public:
  virtual ~TrainedModel() = default;
  /// In the order of the schema, in the memory of the flat vector; they require gradients.
  virtual const std::vector<at::Tensor>& parameters() const = 0;
  /// Class scores [n * labels of an example, classes] of inputs [n, features], which it may change.
  /// Differentiable. Errors: kInvalidArgument for what a script gives that isn't of this shape.
  virtual Result<at::Tensor> forward(const at::Tensor& inputs) = 0;
};

/// That of `data`, whose parameters are from now on those in `flat` (data.schema.elements()
/// floats). Errors: kUnsupported, kInvalidArgument for a schema that isn't the model's; those of
/// read_script.
Result<std::unique_ptr<TrainedModel>> make_trained_model(const LearningData& data,
                                                         const at::Tensor& flat);

/// `flat` as tensors that require gradients, one for each entry of the schema.
std::vector<at::Tensor> parameter_leaves(const ParameterSchema& schema, const at::Tensor& flat);

}  // namespace tern
