#include "learning/torch_evaluator.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "learning/blas.h"
#include "learning/models.h"
#include "learning/script_module.h"
#include "learning/torch_errors.h"

namespace tern {
namespace {

constexpr size_t kPartExamples = 1000;
/// Examples of one forward pass: a convolution's unfolded input of 1,000 would take 260 MB and
/// leave the caches.
constexpr size_t kBatchExamples = 50;

class TorchEvaluator final : public Evaluator {
 public:
  TorchEvaluator(std::shared_ptr<const LearningData> data, Network network,
                 std::optional<ScriptModule> script)
      : data_(std::move(data)), network_(std::move(network)), script_(std::move(script)) {
    flat_ = at::zeros({static_cast<int64_t>(data_->schema.elements())}, at::kFloat);
    views_ = parameter_views(data_->schema, flat_);
  }
  Status bind_script() {
    return script_ ? script_->bind(data_->schema, data_->data.shape, flat_) : Status();
  }

  size_t part_count() const override {
    return (data_->data.test.examples() + kPartExamples - 1) / kPartExamples;
  }

  Result<EvaluationPart> evaluate(std::span<const float> parameters, size_t part) override {
    if (parameters.size() != data_->schema.elements())
      return error(Code::kInvalidArgument, "{} parameters where the model has {}",
                   parameters.size(), data_->schema.elements());
    if (part >= part_count())
      return error(Code::kInvalidArgument, "part {} of {}", part, part_count());
    return without_exceptions([&] { return evaluate_part(parameters, part); });
  }

 private:
  Result<EvaluationPart> evaluate_part(std::span<const float> parameters, size_t part) {
    at::init_num_threads();
    const at::NoGradGuard no_autograd;
    // A copy, so that neither the caller's alignment nor its lifetime matters.
    std::memcpy(flat_.data_ptr<float>(), parameters.data(), parameters.size_bytes());
    const size_t end = std::min((part + 1) * kPartExamples, data_->data.test.examples());
    EvaluationPart result;
    result.predicted.reserve(kPartExamples);
    result.loss.reserve(kPartExamples);
    for (size_t first = part * kPartExamples; first < end; first += kBatchExamples)
      TERN_CHECK_OK(evaluate_batch(first, std::min(kBatchExamples, end - first), result));
    return result;
  }

  /// Appends the figures of test examples first .. first + count - 1.
  Status evaluate_batch(size_t first, size_t count, EvaluationPart& result) {
    const Dataset& test = data_->data.test;
    const auto features = static_cast<size_t>(data_->data.shape.features());
    // from_blob wants a mutable pointer; nothing writes to the inputs of a built-in model.
    const at::Tensor inputs =
        at::from_blob(const_cast<float*>(test.inputs.data() + first * features),
                      {static_cast<int64_t>(count), static_cast<int64_t>(features)}, at::kFloat);
    at::Tensor scores;
    if (script_) {
      // A copy: a script may change its inputs in place.
      TERN_TRY(scores, script_->forward(inputs.clone(), data_->data.shape));
    } else {
      scores = network_.forward(views_, inputs);
    }
    scores = scores.contiguous();
    const auto classes = static_cast<size_t>(scores.size(1));
    const float* row = scores.data_ptr<float>();
    for (size_t i = 0; i < count; ++i, row += classes) {
      const float* best = std::max_element(row, row + classes);
      float sum = 0;
      for (size_t c = 0; c < classes; ++c) sum += std::exp(row[c] - *best);
      const float loss = std::log(sum) - (row[test.labels[first + i]] - *best);
      if (!std::isfinite(loss))
        return error(Code::kOutOfRange, "the model's output for test example {} is not finite",
                     first + i);
      result.predicted.push_back(static_cast<uint32_t>(best - row));
      result.loss.push_back(loss);
    }
    return {};
  }

  const std::shared_ptr<const LearningData> data_;
  const Network network_;  ///< empty with a script
  std::optional<ScriptModule> script_;
  at::Tensor flat_;
  std::vector<at::Tensor> views_;
};

}  // namespace

Result<std::unique_ptr<Evaluator>> make_evaluator(std::shared_ptr<const LearningData> data) {
  make_math_serial();
  return without_exceptions([&]() -> Result<std::unique_ptr<Evaluator>> {
    Network network;
    std::optional<ScriptModule> script;
    if (data->model == kScriptModel) {
      TERN_TRY(script, ScriptModule::load(data->script));
    } else {
      TERN_TRY(network, Network::make(data->schema, data->data.shape));
    }
    auto evaluator =
        std::make_unique<TorchEvaluator>(std::move(data), std::move(network), std::move(script));
    TERN_CHECK_OK(evaluator->bind_script());
    return evaluator;
  });
}

}  // namespace tern
