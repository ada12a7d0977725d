#include "learning/torch_evaluator.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "learning/blas.h"
#include "learning/torch_errors.h"
#include "learning/trained_model.h"

namespace tern {
namespace {

constexpr size_t kPartExamples = 1000;
/// Examples of one forward pass: a convolution's unfolded input of 1,000 would take 260 MB and
/// leave the caches.
constexpr size_t kBatchExamples = 50;
/// Characters of one, of texts: attention of char-gpt takes their number times the window.
constexpr size_t kBatchCharacters = 4000;

class TorchEvaluator final : public Evaluator {
 public:
  TorchEvaluator(std::shared_ptr<const LearningData> data, at::Tensor flat,
                 std::unique_ptr<TrainedModel> model)
      : data_(std::move(data)), flat_(std::move(flat)), model_(std::move(model)) {}

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
    const size_t batch =
        std::clamp<size_t>(kBatchCharacters / data_->data.test.labels_each, 1, kBatchExamples);
    for (size_t first = part * kPartExamples; first < end; first += batch)
      TERN_CHECK_OK(evaluate_batch(first, std::min(batch, end - first), result));
    return result;
  }

  /// Appends the figures of test examples first .. first + count - 1.
  Status evaluate_batch(size_t first, size_t count, EvaluationPart& result) {
    const Dataset& test = data_->data.test;
    const auto features = static_cast<size_t>(data_->data.shape.features());
    // A copy where the model is the user's: a script may change its inputs in place.
    at::Tensor inputs =
        at::from_blob(const_cast<float*>(test.inputs.data() + first * features),
                      {static_cast<int64_t>(count), static_cast<int64_t>(features)}, at::kFloat);
    if (data_->model == kScriptModel) inputs = inputs.clone();
    TERN_TRY(at::Tensor scores, model_->forward(inputs));
    scores = scores.contiguous();
    const uint32_t* labels = test.labels.data() + first * test.labels_each;
    const auto classes = static_cast<size_t>(scores.size(1));
    const float* row = scores.data_ptr<float>();
    for (size_t i = 0; i < count * test.labels_each; ++i, row += classes) {
      const float* best = std::max_element(row, row + classes);
      float sum = 0;
      for (size_t c = 0; c < classes; ++c) sum += std::exp(row[c] - *best);
      const float loss = std::log(sum) - (row[labels[i]] - *best);
      if (!std::isfinite(loss))
        return error(Code::kOutOfRange, "the model's output for test example {} is not finite",
                     first + i / test.labels_each);
      result.predicted.push_back(static_cast<uint32_t>(best - row));
      result.loss.push_back(loss);
    }
    return {};
  }

  const std::shared_ptr<const LearningData> data_;
  at::Tensor flat_;
  const std::unique_ptr<TrainedModel> model_;  ///< with the parameters in flat_
};

}  // namespace

Result<std::unique_ptr<Evaluator>> make_evaluator(std::shared_ptr<const LearningData> data) {
  make_math_serial();
  return without_exceptions([&]() -> Result<std::unique_ptr<Evaluator>> {
    const at::Tensor flat = at::zeros({static_cast<int64_t>(data->schema.elements())}, at::kFloat);
    TERN_TRY(std::unique_ptr<TrainedModel> model, make_trained_model(*data, flat));
    return std::make_unique<TorchEvaluator>(std::move(data), flat, std::move(model));
  });
}

}  // namespace tern
