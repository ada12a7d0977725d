/// Evaluation with LibTorch behind the interface Evaluator. No LibTorch in this header.
#pragma once

#include <memory>

#include "base/status.h"
#include "learning/learning_data.h"
#include "proto/training.h"

namespace tern {

/// Evaluates the test part of `data` in runs of 1,000 examples in their order; the last may be
/// shorter, and without test examples there is none. Calls make_math_serial(). Memory: the
/// parameters and the activations of fifty examples. Errors of make_evaluator: kUnsupported for a
/// model that it can't compute, kInternal. Errors of evaluate: kInvalidArgument for a wrong length
/// or part; kOutOfRange when an output of the model isn't finite.
Result<std::unique_ptr<Evaluator>> make_evaluator(std::shared_ptr<const LearningData> data);

}  // namespace tern
