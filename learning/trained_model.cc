#include "learning/trained_model.h"

#include <functional>
#include <utility>

#include "learning/char_models.h"
#include "learning/models.h"
#include "learning/script_module.h"

namespace tern {
namespace {

using Parameters = std::span<const at::Tensor>;

class BuiltInModel final : public TrainedModel {
 public:
  using Forward = std::function<at::Tensor(Parameters, const at::Tensor&)>;

  BuiltInModel(std::vector<at::Tensor> parameters, Forward forward)
      : parameters_(std::move(parameters)), forward_(std::move(forward)) {}
  const std::vector<at::Tensor>& parameters() const override { return parameters_; }
  Result<at::Tensor> forward(const at::Tensor& inputs) override {
    return forward_(parameters_, inputs);
  }

 private:
  const std::vector<at::Tensor> parameters_;
  const Forward forward_;
};

class ScriptModel final : public TrainedModel {
 public:
  explicit ScriptModel(ScriptModule script) : script_(std::move(script)) {}
  const std::vector<at::Tensor>& parameters() const override { return script_.parameters(); }
  Result<at::Tensor> forward(const at::Tensor& inputs) override { return script_.forward(inputs); }

 private:
  ScriptModule script_;
};

Result<BuiltInModel::Forward> forward_of(const LearningData& data) {
  const TaskShape& shape = data.data.shape;
  if (data.model == "char-lstm") return &char_lstm_forward;
  if (data.model == "char-gpt") return &char_gpt_forward;
  if (data.model == "resnet8-gn")
    return [shape](Parameters parameters, const at::Tensor& inputs) {
      return resnet8_forward(parameters, shape, inputs);
    };
  TERN_TRY(const Network network, Network::make(data.schema, shape));
  return [network](Parameters parameters, const at::Tensor& inputs) {
    return network.forward(parameters, inputs);
  };
}

}  // namespace

std::vector<at::Tensor> parameter_leaves(const ParameterSchema& schema, const at::Tensor& flat) {
  std::vector<at::Tensor> leaves = parameter_views(schema, flat);
  // variable_data(), not detach(): all views of `flat` count changes together, and a step of one
  // parameter must not make autograd believe that another has changed.
  for (at::Tensor& leaf : leaves) leaf = leaf.variable_data().requires_grad_();
  return leaves;
}

Result<std::unique_ptr<TrainedModel>> make_trained_model(const LearningData& data,
                                                         const at::Tensor& flat) {
  if (data.model == kScriptModel) {
    TERN_TRY(ScriptModule script, ScriptModule::load(data.script));
    TERN_CHECK_OK(script.bind(data.schema, data.data.shape, data.data.train.labels_each, flat));
    return std::make_unique<ScriptModel>(std::move(script));
  }
  TERN_TRY(BuiltInModel::Forward forward, forward_of(data));
  return std::make_unique<BuiltInModel>(parameter_leaves(data.schema, flat), std::move(forward));
}

}  // namespace tern
