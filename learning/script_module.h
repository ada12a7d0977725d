/// A TorchScript model whose parameters lie in a flat vector. This header needs LibTorch; it is for
/// learning/ alone.
#pragma once

#include <torch/script.h>
#include <torch/torch.h>

#include <string>
#include <vector>

#include "base/parameter_schema.h"
#include "base/status.h"
#include "config/model_card.h"

namespace tern {

/// In evaluation mode, also while it trains: dropout draws from a generator that all threads share,
/// so it is off. Without the optimizations of TorchScript, which change the bits of the first few
/// calls. Threads: one at a time.
class ScriptModule {
 public:
  /// Errors: those of read_script.
  static Result<ScriptModule> load(const std::string& path);

  const ParameterSchema& schema() const { return schema_; }
  /// In the order of the schema; they require gradients.
  const std::vector<at::Tensor>& parameters() const { return parameters_; }

  /// From now on the parameters are those in `flat`, for examples of this shape with so many
  /// labels; tries forward() on two examples of zeros. Errors: kInvalidArgument, which names a
  /// parameter, when `schema` has others; those of forward().
  Status bind(const ParameterSchema& schema, const TaskShape& shape, uint32_t labels_each,
              const at::Tensor& flat);
  /// Scores [n * labels_each, classes] of inputs [n, features], once it is bound. The script sees
  /// the shape of the data and gives [n, classes], for texts [n, characters, classes]. Errors:
  /// kInvalidArgument for what it gives that isn't a tensor of this shape. Throws what TorchScript
  /// throws.
  Result<at::Tensor> forward(const at::Tensor& inputs);

 private:
  explicit ScriptModule(torch::jit::Module module) : module_(std::move(module)) {}

  torch::jit::Module module_;
  ParameterSchema schema_;
  TaskShape shape_;
  uint32_t labels_each_ = 1;
  std::vector<at::Tensor> parameters_;
};

}  // namespace tern
