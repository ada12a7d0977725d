#include "learning/char_lstm_step.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "learning/blas.h"
#include "learning/linear_layers.h"
#include "learning/models.h"
#include "learning/sgd.h"

namespace tern {
namespace {

/// As the schema has them; the linear layer behind them is LinearLayers'.
enum Parameter : size_t { kEmbedding, kInputWeight, kHiddenWeight, kBias, kCount };

/// Matrices lie row by row, which BLAS takes for their transposes. What belongs to one time step
/// lies together: [time, example, unit]. The gates are those of LibTorch, in its order: input,
/// forget, cell, output.
class CharLstmStep final : public TrainingStep {
 public:
  CharLstmStep(const ParameterSchema& schema, const at::Tensor& flat)
      : schema_(schema),
        views_(parameter_views(schema, flat)),
        classes_(static_cast<int>(views_[kEmbedding].size(0))),
        embedded_(static_cast<int>(views_[kEmbedding].size(1))),
        hidden_(static_cast<int>(views_[kHiddenWeight].size(1))),
        gates_each_(4 * hidden_),
        output_({{.inputs = hidden_,
                  .outputs = classes_,
                  .weight = views_[kCount].data_ptr<float>(),
                  .bias = views_[kCount + 1].data_ptr<float>()}}) {
    for (size_t i = 0; i < kCount; ++i) {
      parameters_[i] = views_[i].data_ptr<float>();
      gradients_[i].resize(static_cast<size_t>(views_[i].numel()));
    }
  }

  void use_velocity(const at::Tensor& flat) override {
    velocity_views_ = parameter_views(schema_, flat);
    output_.set_velocities(0, velocity_views_[kCount].data_ptr<float>(),
                           velocity_views_[kCount + 1].data_ptr<float>());
  }

  Result<double> step(const TrainingPlan& plan, const at::Tensor& inputs,
                      std::span<const uint32_t> labels) override {
    load(inputs, labels);
    forward();
    const double loss = output_.step(plan, hidden(0), labels_, hidden_gradient_.data());
    backward();
    parameter_gradients();
    for (size_t i = 0; i < kCount; ++i)
      descend(plan, gradients_[i].data(), parameters_[i],
              velocity_views_.empty() ? nullptr : velocity_views_[i].data_ptr<float>(),
              gradients_[i].size());
    return loss;
  }

 private:
  /// The batch with time outermost.
  void load(const at::Tensor& inputs, std::span<const uint32_t> labels) {
    batch_ = static_cast<int>(inputs.size(0));
    steps_ = static_cast<int>(inputs.size(1));
    const auto positions = static_cast<size_t>(batch_) * static_cast<size_t>(steps_);
    characters_.resize(positions);
    labels_.resize(positions);
    const float* in = inputs.data_ptr<float>();
    for (size_t b = 0, at = 0; b < static_cast<size_t>(batch_); ++b)
      for (size_t t = 0; t < static_cast<size_t>(steps_); ++t, ++at) {
        characters_[t * static_cast<size_t>(batch_) + b] = static_cast<uint32_t>(in[at]);
        labels_[t * static_cast<size_t>(batch_) + b] = labels[at];
      }
    if (gates_.defined() && gates_.size(1) == batch_ && gates_.size(0) == steps_) return;
    gates_ = at::empty({steps_, batch_, gates_each_}, at::kFloat);
    cells_ = at::empty({steps_, batch_, hidden_}, at::kFloat);
    cell_tanhs_ = at::empty_like(cells_);
    hiddens_ = at::empty_like(cells_);
    hidden_gradient_.resize(positions * static_cast<size_t>(hidden_));
    cell_gradient_.resize(static_cast<size_t>(batch_) * static_cast<size_t>(hidden_));
  }

  float* gates(int t) { return gates_.data_ptr<float>() + ptrdiff_t{t} * batch_ * gates_each_; }
  float* state(const at::Tensor& of, int t) const {
    return of.data_ptr<float>() + ptrdiff_t{t} * batch_ * hidden_;
  }
  float* hidden(int t) const { return state(hiddens_, t); }

  void forward() {
    // What a character adds to the gates: [classes, gates].
    of_character_.resize(static_cast<size_t>(classes_) * static_cast<size_t>(gates_each_));
    for (int c = 0; c < classes_; ++c)
      std::copy_n(parameters_[kBias], gates_each_,
                  of_character_.data() + ptrdiff_t{c} * gates_each_);
    sgemm('T', 'N', gates_each_, classes_, embedded_, 1, parameters_[kInputWeight], embedded_,
          parameters_[kEmbedding], embedded_, 1, of_character_.data(), gates_each_);
    for (int t = 0; t < steps_; ++t) {
      float* at = gates(t);
      for (int b = 0; b < batch_; ++b)
        std::copy_n(of_character_.data() + ptrdiff_t{character(t, b)} * gates_each_, gates_each_,
                    at + ptrdiff_t{b} * gates_each_);
      if (t > 0)
        sgemm('T', 'N', gates_each_, batch_, hidden_, 1, parameters_[kHiddenWeight], hidden_,
              hidden(t - 1), hidden_, 1, at, gates_each_);
      activate(t);
    }
  }

  /// One pass of tanh does all gates: sigmoid(x) = (1 + tanh(x / 2)) / 2.
  void activate(int t) {
    float* at = gates(t);
    const int h = hidden_;
    for (int b = 0; b < batch_; ++b, at += gates_each_) {
      for (int i = 0; i < 2 * h; ++i) at[i] *= 0.5F;
      for (int i = 3 * h; i < 4 * h; ++i) at[i] *= 0.5F;
    }
    at::Tensor now = gates_.select(0, t);
    now.tanh_();
    at = gates(t);
    float* cell = state(cells_, t);
    const float* before = t > 0 ? state(cells_, t - 1) : nullptr;
    for (int b = 0; b < batch_; ++b, at += gates_each_, cell += h) {
      for (int i = 0; i < 2 * h; ++i) at[i] = 0.5F * at[i] + 0.5F;
      for (int i = 3 * h; i < 4 * h; ++i) at[i] = 0.5F * at[i] + 0.5F;
      for (int i = 0; i < h; ++i) cell[i] = at[i] * at[2 * h + i];
      if (before == nullptr) continue;
      for (int i = 0; i < h; ++i) cell[i] += at[h + i] * before[i];
      before += h;
    }
    at::Tensor tanhs = cell_tanhs_.select(0, t);
    at::tanh_out(tanhs, cells_.select(0, t));
    at = gates(t);
    const float* squashed = state(cell_tanhs_, t);
    float* out = hidden(t);
    for (int b = 0; b < batch_; ++b, at += gates_each_, squashed += h, out += h)
      for (int i = 0; i < h; ++i) out[i] = at[3 * h + i] * squashed[i];
  }

  /// Replaces the gates by the gradients of what they were made of.
  void backward() {
    std::ranges::fill(cell_gradient_, 0.0F);
    const int h = hidden_;
    for (int t = steps_ - 1; t >= 0; --t) {
      float* at = gates(t);
      const float* squashed = state(cell_tanhs_, t);
      const float* before = t > 0 ? state(cells_, t - 1) : nullptr;
      const float* by_hidden = hidden_gradient_.data() + ptrdiff_t{t} * batch_ * h;
      float* by_cell = cell_gradient_.data();
      for (int b = 0; b < batch_; ++b) {
        for (int i = 0; i < h; ++i) {
          const float in = at[i], forget = at[h + i], cell = at[2 * h + i], out = at[3 * h + i];
          const float through = by_cell[i] + by_hidden[i] * out * (1 - squashed[i] * squashed[i]);
          const float past = before == nullptr ? 0 : before[i];
          at[i] = through * cell * in * (1 - in);
          at[h + i] = through * past * forget * (1 - forget);
          at[2 * h + i] = through * in * (1 - cell * cell);
          at[3 * h + i] = by_hidden[i] * squashed[i] * out * (1 - out);
          by_cell[i] = through * forget;
        }
        at += gates_each_;
        squashed += h;
        by_hidden += h;
        by_cell += h;
        if (before != nullptr) before += h;
      }
      if (t > 0)
        sgemm('N', 'N', h, batch_, gates_each_, 1, parameters_[kHiddenWeight], h, gates(t),
              gates_each_, 1, hidden_gradient_.data() + ptrdiff_t{t - 1} * batch_ * h, h);
    }
  }

  void parameter_gradients() {
    // A text has two characters at least (learning_data.cc).
    sgemm('N', 'T', hidden_, gates_each_, (steps_ - 1) * batch_, 1, hidden(0), hidden_, gates(1),
          gates_each_, 0, gradients_[kHiddenWeight].data(), hidden_);
    // By what each character adds to the gates.
    std::ranges::fill(of_character_, 0.0F);
    std::vector<float>& bias = gradients_[kBias];
    std::ranges::fill(bias, 0.0F);
    for (int t = 0; t < steps_; ++t)
      for (int b = 0; b < batch_; ++b) {
        const float* at = gates(t) + ptrdiff_t{b} * gates_each_;
        float* sum = of_character_.data() + ptrdiff_t{character(t, b)} * gates_each_;
        for (int i = 0; i < gates_each_; ++i) sum[i] += at[i];
      }
    for (int c = 0; c < classes_; ++c) {
      const float* at = of_character_.data() + ptrdiff_t{c} * gates_each_;
      for (int i = 0; i < gates_each_; ++i) bias[static_cast<size_t>(i)] += at[i];
    }
    sgemm('N', 'N', embedded_, classes_, gates_each_, 1, parameters_[kInputWeight], embedded_,
          of_character_.data(), gates_each_, 0, gradients_[kEmbedding].data(), embedded_);
    sgemm('N', 'T', embedded_, gates_each_, classes_, 1, parameters_[kEmbedding], embedded_,
          of_character_.data(), gates_each_, 0, gradients_[kInputWeight].data(), embedded_);
  }

  uint32_t character(int t, int b) const {
    return characters_[static_cast<size_t>(t) * static_cast<size_t>(batch_) +
                       static_cast<size_t>(b)];
  }

  const ParameterSchema& schema_;
  const std::vector<at::Tensor> views_;
  const int classes_, embedded_, hidden_, gates_each_;
  int batch_ = 0, steps_ = 0;
  float* parameters_[kCount] = {};
  std::vector<float> gradients_[kCount];
  std::vector<at::Tensor> velocity_views_;
  LinearLayers output_;
  std::vector<uint32_t> characters_, labels_;
  std::vector<float> of_character_;
  at::Tensor gates_, cells_, cell_tanhs_, hiddens_;
  std::vector<float> hidden_gradient_;  ///< [time, example, unit]
  std::vector<float> cell_gradient_;    ///< [example, unit], of the time step at hand
};

}  // namespace

Result<std::unique_ptr<TrainingStep>> make_char_lstm_step(const LearningData& data,
                                                          const at::Tensor& flat) {
  TERN_TRY(const ParameterSchema wanted, model_schema("char-lstm", data.data.shape));
  if (wanted.hash() != data.schema.hash())
    return error(Code::kInvalidArgument, "the schema isn't that of char-lstm");
  return std::make_unique<CharLstmStep>(data.schema, flat);
}

}  // namespace tern
