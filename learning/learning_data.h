/// What all workers of a process share: the examples, who holds which, and the model's schema. No
/// LibTorch here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/parameter_schema.h"
#include "base/status.h"
#include "learning/client_shares.h"
#include "learning/dataset.h"

namespace tern {

/// Immutable once made: trainers and evaluators of every thread read the same memory and copy only
/// the batch at hand.
struct LearningData {
  std::string model;   ///< a built-in one or torchscript
  std::string script;  ///< of torchscript
  ParameterSchema schema;
  DataBundle data;
  ClientShares clients;  ///< of the training examples; there may be none
};

/// Takes the examples over without copying them. Shared ownership: every trainer and evaluator
/// keeps the data alive. Errors: those of trained_schema; kInvalidArgument when the model is
/// unknown or can't take the data's shape, or when lengths, labels or indices don't fit each other.
Result<std::shared_ptr<const LearningData>> make_learning_data(const ModelConfig& model,
                                                               DataBundle data,
                                                               ClientShares clients);
/// Of a built-in model.
Result<std::shared_ptr<const LearningData>> make_learning_data(std::string_view model,
                                                               DataBundle data,
                                                               ClientShares clients);

}  // namespace tern
