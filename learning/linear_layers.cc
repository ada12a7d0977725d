#include "learning/linear_layers.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "learning/blas.h"
#include "learning/sgd.h"

namespace tern {
namespace {

/// Replaces the scores [classes, batch] by the gradient of the batch's mean cross-entropy; gives
/// that mean.
double cross_entropy_gradient(std::span<float> scores, std::span<const uint32_t> labels) {
  const size_t n = labels.size(), classes = scores.size() / n;
  const auto count = static_cast<float>(n);
  // Class by class, as the scores lie.
  std::vector<float> largest(scores.begin(), scores.begin() + static_cast<ptrdiff_t>(n)),
      label_scores(n), sums(n);
  for (size_t c = 1; c < classes; ++c)
    for (size_t i = 0; i < n; ++i) largest[i] = std::max(largest[i], scores[c * n + i]);
  for (size_t i = 0; i < n; ++i) label_scores[i] = scores[labels[i] * n + i] - largest[i];
  for (size_t c = 0; c < classes; ++c)
    for (size_t i = 0; i < n; ++i) {
      float& score = scores[c * n + i];
      score = std::exp(score - largest[i]);
      sums[i] += score;
    }
  double loss = 0;
  for (size_t i = 0; i < n; ++i) {
    loss += static_cast<double>(std::log(sums[i])) - label_scores[i];
    sums[i] *= count;
  }
  for (size_t c = 0; c < classes; ++c)
    for (size_t i = 0; i < n; ++i) scores[c * n + i] /= sums[i];
  for (size_t i = 0; i < n; ++i) scores[labels[i] * n + i] -= 1 / count;
  return loss / static_cast<double>(n);
}

}  // namespace

LinearLayers::LinearLayers(std::vector<LinearLayer> layers)
    : layers_(std::move(layers)), outputs_(layers_.size()) {}

// In the terms of BLAS, whose matrices run down the columns, a weight is [inputs x outputs]. What
// goes from layer to layer is [batch x units], so that the large matrix stands on the right, which
// OpenBLAS likes: at ten examples it is a third faster so. The inputs come example by example, as
// [inputs x batch].
void LinearLayers::forward(const float* inputs, int n) {
  const float* seen = inputs;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LinearLayer& layer = layers_[i];
    std::vector<float>& out = outputs_[i];
    out.resize(static_cast<size_t>(layer.outputs) * static_cast<size_t>(n));
    sgemm(i == 0 ? 'T' : 'N', 'N', n, layer.outputs, layer.inputs, 1, seen,
          i == 0 ? layer.inputs : n, layer.weight, layer.inputs, 0, out.data(), n);
    const bool last = i + 1 == layers_.size();
    float* at = out.data();
    for (int unit = 0; unit < layer.outputs; ++unit, at += n)
      for (int example = 0; example < n; ++example) {
        const float y = at[example] + layer.bias[unit];
        at[example] = !last && y <= 0 ? 0 : y;  // NaN stays
      }
    seen = out.data();
  }
}

double LinearLayers::step(const TrainingPlan& plan, const float* inputs,
                          std::span<const uint32_t> labels, float* input_gradient) {
  const auto n = static_cast<int>(labels.size());
  forward(inputs, n);
  gradient_ = outputs_.back();
  const double loss = cross_entropy_gradient(gradient_, labels);
  for (size_t i = layers_.size(); i-- > 0;) {
    const LinearLayer& layer = layers_[i];
    // Before the step changes the weight.
    if (i > 0) {
      const std::vector<float>& seen = outputs_[i - 1];
      below_.resize(seen.size());
      sgemm('N', 'T', n, layer.inputs, layer.outputs, 1, gradient_.data(), n, layer.weight,
            layer.inputs, 0, below_.data(), n);
      for (size_t j = 0; j < seen.size(); ++j) below_[j] = seen[j] <= 0 ? 0 : below_[j];
    } else if (input_gradient != nullptr) {
      sgemm('N', 'T', layer.inputs, n, layer.outputs, 1, layer.weight, layer.inputs,
            gradient_.data(), n, 0, input_gradient, layer.inputs);
    }
    descend(plan, layer, i == 0, i == 0 ? inputs : outputs_[i - 1].data(), n);
    std::swap(gradient_, below_);
  }
  return loss;
}

void LinearLayers::descend(const TrainingPlan& plan, const LinearLayer& layer, bool first,
                           const float* seen, int n) {
  const auto add_product = [&](float alpha, float beta, float* to) {
    sgemm(first ? 'N' : 'T', 'N', layer.inputs, layer.outputs, n, alpha, seen,
          first ? layer.inputs : n, gradient_.data(), n, beta, to, layer.inputs);
  };
  bias_gradient_.resize(static_cast<size_t>(layer.outputs));
  const float* at = gradient_.data();
  for (float& sum : bias_gradient_) {
    sum = 0;
    for (int example = 0; example < n; ++example) sum += *at++;
  }
  if (plan.momentum == 0) {
    const auto rate = static_cast<float>(plan.learning_rate);
    add_product(-rate, 1 - rate * static_cast<float>(plan.weight_decay), layer.weight);
  } else {
    add_product(1, static_cast<float>(plan.momentum), layer.weight_velocity);
    follow_velocity(plan, layer.weight, layer.weight_velocity,
                    static_cast<size_t>(layer.inputs) * static_cast<size_t>(layer.outputs));
  }
  tern::descend(plan, bias_gradient_.data(), layer.bias, layer.bias_velocity,
                bias_gradient_.size());
}

}  // namespace tern
