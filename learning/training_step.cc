#include "learning/training_step.h"

#include <utility>

#include "learning/char_lstm_step.h"
#include "learning/linear_layers.h"
#include "learning/models.h"
#include "learning/trained_model.h"

namespace tern {
namespace {

/// What a step does to parameters whose gradients are tensors.
class Descent {
 public:
  Descent(const ParameterSchema& schema, const at::Tensor& flat)
      : schema_(schema), parameters_(parameter_views(schema, flat)) {}
  const std::vector<at::Tensor>& parameters() const { return parameters_; }
  void use_velocity(const at::Tensor& flat) { velocity_ = parameter_views(schema_, flat); }
  const std::vector<at::Tensor>& velocity() const { return velocity_; }

  /// One step of parameter i along its gradient.
  void descend(const TrainingPlan& plan, size_t i, const at::Tensor& gradient) {
    at::Tensor& w = parameters_[i];
    if (plan.momentum == 0) {
      if (plan.weight_decay != 0) w.mul_(1 - plan.learning_rate * plan.weight_decay);
      w.add_(gradient, -plan.learning_rate);
      return;
    }
    velocity_[i].mul_(plan.momentum).add_(gradient);
    if (plan.weight_decay != 0) velocity_[i].add_(w, plan.weight_decay);
    w.add_(velocity_[i], -plan.learning_rate);
  }

 private:
  const ParameterSchema& schema_;
  std::vector<at::Tensor> parameters_;
  std::vector<at::Tensor> velocity_;
};

/// By LibTorch's autograd, for whatever model.
class AutogradStep final : public TrainingStep {
 public:
  AutogradStep(const ParameterSchema& schema, const at::Tensor& flat,
               std::unique_ptr<TrainedModel> model)
      : model_(std::move(model)), descent_(schema, flat) {}
  void use_velocity(const at::Tensor& flat) override { descent_.use_velocity(flat); }

  Result<double> step(const TrainingPlan& plan, const at::Tensor& inputs,
                      std::span<const uint32_t> labels) override {
    const at::AutoGradMode record(true);
    TERN_TRY(const at::Tensor scores, model_->forward(inputs));
    const at::Tensor wanted =
        at::tensor(std::vector<int64_t>(labels.begin(), labels.end()), at::kLong);
    const at::Tensor loss = at::cross_entropy_loss(scores, wanted);
    const auto gradients = torch::autograd::grad({loss}, model_->parameters(), {}, c10::nullopt,
                                                 false, /*allow_unused=*/true);
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < gradients.size(); ++i)
      descent_.descend(
          plan, i,
          gradients[i].defined() ? gradients[i] : at::zeros_like(descent_.parameters()[i]));
    return loss.item<double>();
  }

 private:
  const std::unique_ptr<TrainedModel> model_;
  Descent descent_;
};

/// Autograd for the convolutions; the linear layers, where nearly all parameters are, do without.
class StackStep final : public TrainingStep {
 public:
  StackStep(const ParameterSchema& schema, const at::Tensor& flat, Network network)
      : network_(std::move(network)),
        descent_(schema, flat),
        leaves_(parameter_leaves(schema, flat)),
        linear_(linear_layers()) {
    leaves_.resize(2 * network_.convolutions());
  }

  void use_velocity(const at::Tensor& flat) override {
    descent_.use_velocity(flat);
    const auto& velocity = descent_.velocity();
    for (size_t i = leaves_.size(); i < velocity.size(); i += 2)
      linear_.set_velocities((i - leaves_.size()) / 2, velocity[i].data_ptr<float>(),
                             velocity[i + 1].data_ptr<float>());
  }

  Result<double> step(const TrainingPlan& plan, const at::Tensor& inputs,
                      std::span<const uint32_t> labels) override {
    if (leaves_.empty()) return linear_.step(plan, inputs.data_ptr<float>(), labels, nullptr);
    at::Tensor features;
    {
      const at::AutoGradMode record(true);
      features = network_.features(leaves_, inputs);
    }
    at::Tensor gradient = at::empty_like(features, at::MemoryFormat::Contiguous);
    const double loss = linear_.step(plan, features.detach().contiguous().data_ptr<float>(), labels,
                                     gradient.data_ptr<float>());
    const auto gradients = torch::autograd::grad({features}, leaves_, {gradient});
    for (size_t i = 0; i < gradients.size(); ++i) descent_.descend(plan, i, gradients[i]);
    return loss;
  }

 private:
  std::vector<LinearLayer> linear_layers() const {
    std::vector<LinearLayer> layers;
    const auto& parameters = descent_.parameters();
    for (size_t i = 2 * network_.convolutions(); i < parameters.size(); i += 2)
      layers.push_back({.inputs = static_cast<int>(parameters[i].size(1)),
                        .outputs = static_cast<int>(parameters[i].size(0)),
                        .weight = parameters[i].data_ptr<float>(),
                        .bias = parameters[i + 1].data_ptr<float>()});
    return layers;
  }

  const Network network_;
  Descent descent_;
  std::vector<at::Tensor> leaves_;  ///< the convolutions' parameters, for autograd
  LinearLayers linear_;
};

}  // namespace

Result<std::unique_ptr<TrainingStep>> make_training_step(const LearningData& data,
                                                         const at::Tensor& flat) {
  if (data.model == "char-lstm") return make_char_lstm_step(data, flat);
  if (data.model == "logistic" || data.model == "mlp-2nn" || data.model == "cnn") {
    TERN_TRY(Network network, Network::make(data.schema, data.data.shape));
    return std::make_unique<StackStep>(data.schema, flat, std::move(network));
  }
  TERN_TRY(std::unique_ptr<TrainedModel> model, make_trained_model(data, flat));
  return std::make_unique<AutogradStep>(data.schema, flat, std::move(model));
}

}  // namespace tern
