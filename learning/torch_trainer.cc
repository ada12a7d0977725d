#include "learning/torch_trainer.h"

#include <torch/torch.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "base/rng.h"
#include "learning/blas.h"
#include "learning/linear_layers.h"
#include "learning/models.h"
#include "learning/script_module.h"
#include "learning/torch_errors.h"

namespace tern {
namespace {

Status check_plan(const TrainingPlan& plan) {
  if ((plan.local_epochs == 0) == (plan.local_steps == 0))
    return error(Code::kInvalidArgument,
                 "exactly one of local_epochs ({}) and local_steps ({}) must be positive",
                 plan.local_epochs, plan.local_steps);
  if (plan.batch_size == 0) return error(Code::kInvalidArgument, "batch_size is 0");
  for (const double x : {plan.learning_rate, plan.momentum, plan.weight_decay})
    if (!(x >= 0 && std::isfinite(x)))
      return error(
          Code::kInvalidArgument,
          "learning_rate {}, momentum {} and weight_decay {} must be finite and not negative",
          plan.learning_rate, plan.momentum, plan.weight_decay);
  return {};
}

/// Writes to - from into `out`; false if a difference isn't finite.
bool finite_difference(const float* to, std::span<const float> from, std::span<float> out) {
  // The largest exponent field tells, in integers, which the compiler vectorizes; a float sum it
  // may not.
  uint32_t largest = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = to[i] - from[i];
    largest = std::max(largest, std::bit_cast<uint32_t>(out[i]) & 0x7FFFFFFFU);
  }
  return largest < 0x7F800000U;
}

/// The batches of one task, copied from the shared data one at a time: a batch stays in the cache
/// until it is used, and memory doesn't grow with the client.
class Batches {
 public:
  Batches(const LearningData& data, const TrainTask& task)
      : examples_(data.data.train),
        held_(data.clients.of(task.client)),
        task_(task),
        features_(static_cast<size_t>(data.data.shape.features())),
        length_(std::min<size_t>(task.plan.batch_size, held_.size())),
        inputs_(at::empty({static_cast<int64_t>(length_), static_cast<int64_t>(features_)},
                          at::kFloat)) {}

  /// Shuffles; the order follows from the task and the number of the pass alone.
  void start_pass(uint32_t pass) {
    order_ = held_;
    Rng rng(task_.seed, Purpose::kBatches, task_.round, task_.client, pass);
    rng.shuffle(std::span<uint32_t>(order_));
    at_ = 0;
  }
  bool done() const { return at_ == order_.size(); }

  /// Loads the next batch of this pass.
  void next() {
    const size_t n = std::min(length_, order_.size() - at_);
    labels_.resize(n);
    float* out = inputs_.data_ptr<float>();
    for (size_t i = 0; i < n; ++i, out += features_) {
      const uint32_t example = order_[at_ + i];
      std::memcpy(out, examples_.inputs.data() + example * features_, features_ * sizeof(float));
      labels_[i] = examples_.labels[example];
    }
    at_ += n;
  }
  at::Tensor inputs() const {
    return labels_.size() == length_ ? inputs_
                                     : inputs_.narrow(0, 0, static_cast<int64_t>(labels_.size()));
  }
  const std::vector<uint32_t>& labels() const { return labels_; }

 private:
  const Dataset& examples_;
  const std::vector<uint32_t> held_;
  const TrainTask& task_;
  const size_t features_;
  const size_t length_;  ///< of all batches but a short last one
  at::Tensor inputs_;
  std::vector<uint32_t> labels_;
  std::vector<uint32_t> order_;
  size_t at_ = 0;
};

/// Convolutions and models of the user's own are differentiated by LibTorch; the linear layers of
/// built-in models, where nearly all parameters are, do without.
class TorchTrainer final : public Trainer {
 public:
  TorchTrainer(std::shared_ptr<const LearningData> data, Network network,
               std::optional<ScriptModule> script)
      : data_(std::move(data)),
        network_(std::move(network)),
        script_(std::move(script)),
        flat_(at::zeros({static_cast<int64_t>(data_->schema.elements())}, at::kFloat)),
        parameters_(parameter_views(data_->schema, flat_)),
        linear_(linear_layers()) {
    // variable_data(), not detach(): all views of flat_ count changes together, and the step of a
    // linear layer must not make autograd believe that a convolution's weight has changed.
    for (size_t i = 0; i < 2 * network_.convolutions(); ++i)
      leaves_.push_back(parameters_[i].variable_data().requires_grad_());
  }

  /// The script's parameters become those that are trained.
  Status bind_script() {
    return script_ ? script_->bind(data_->schema, data_->data.shape, flat_) : Status();
  }

  const ParameterSchema& schema() const override { return data_->schema; }

  Result<TrainReport> train(const TrainTask& task, std::span<const float> base,
                            std::span<float> update) override {
    auto report = without_exceptions([&] { return train_client(task, base, update); });
    if (!report)
      return std::move(report).error().within(
          fmt::format("training client {} in round {}", task.client, task.round));
    return report;
  }

 private:
  Result<TrainReport> train_client(const TrainTask& task, std::span<const float> base,
                                   std::span<float> update) {
    TERN_CHECK_OK(check_plan(task.plan));
    if (base.size() != schema().elements() || update.size() != base.size())
      return error(Code::kInvalidArgument,
                   "base and update have {} and {} elements where the model has {}", base.size(),
                   update.size(), schema().elements());
    if (task.client >= data_->clients.clients())
      return error(Code::kInvalidArgument, "there are {} clients", data_->clients.clients());
    const uint32_t held = data_->clients.examples(task.client);
    if (held == 0) return error(Code::kInvalidArgument, "the client has no examples");

    // LibTorch keeps this number for each thread, and oneDNN doesn't make it set it.
    at::init_num_threads();
    const at::NoGradGuard no_grad;
    std::memcpy(flat_.data_ptr<float>(), base.data(), base.size_bytes());
    plan_ = task.plan;
    reset_velocity();
    Batches batches(*data_, task);
    TrainReport report;
    report.examples = held;
    const auto finished = [&](uint32_t pass) {
      return plan_.local_steps > 0 ? report.steps == plan_.local_steps : pass == plan_.local_epochs;
    };
    for (uint32_t pass = 0; !finished(pass); ++pass) {
      batches.start_pass(pass);
      double loss = 0;
      uint32_t steps = 0;
      for (; !batches.done() && (plan_.local_steps == 0 || report.steps < plan_.local_steps);
           ++report.steps, ++steps) {
        batches.next();
        TERN_TRY(const double batch_loss, step(batches.inputs(), batches.labels()));
        loss += batch_loss;
        report.samples_trained += batches.labels().size();
      }
      report.mean_loss = loss / steps;
      if (!std::isfinite(report.mean_loss))
        return error(
            Code::kOutOfRange,
            "the loss is no longer finite in pass {}; a smaller learning_rate than {} may help",
            pass + 1, plan_.learning_rate);
    }
    if (!finite_difference(flat_.data_ptr<float>(), base, update))
      return error(Code::kOutOfRange,
                   "a parameter is no longer finite; a smaller learning_rate than {} may help",
                   plan_.learning_rate);
    return report;
  }

  void reset_velocity() {
    if (plan_.momentum == 0) return;
    if (!flat_velocity_.defined()) {
      flat_velocity_ = at::empty_like(flat_);
      velocity_ = parameter_views(data_->schema, flat_velocity_);
      const size_t first = 2 * network_.convolutions();
      for (size_t i = first; !script_ && i < velocity_.size(); i += 2)
        linear_.set_velocities((i - first) / 2, velocity_[i].data_ptr<float>(),
                               velocity_[i + 1].data_ptr<float>());
    }
    flat_velocity_.zero_();
  }

  /// One minibatch; gives its mean loss before the step.
  Result<double> step(const at::Tensor& inputs, const std::vector<uint32_t>& labels) {
    if (script_) return script_step(inputs, labels);
    if (network_.convolutions() == 0)
      return linear_.step(plan_, inputs.data_ptr<float>(), labels, nullptr);
    at::Tensor features;
    {
      const at::AutoGradMode record(true);
      features = network_.features(leaves_, inputs);
    }
    at::Tensor gradient = at::empty_like(features, at::MemoryFormat::Contiguous);
    const double loss = linear_.step(plan_, features.detach().contiguous().data_ptr<float>(),
                                     labels, gradient.data_ptr<float>());
    const auto gradients = torch::autograd::grad({features}, leaves_, {gradient});
    for (size_t i = 0; i < gradients.size(); ++i) descend(i, gradients[i]);
    return loss;
  }

  Result<double> script_step(const at::Tensor& inputs, const std::vector<uint32_t>& labels) {
    const at::AutoGradMode record(true);
    TERN_TRY(const at::Tensor scores, script_->forward(inputs, data_->data.shape));
    const at::Tensor wanted =
        at::tensor(std::vector<int64_t>(labels.begin(), labels.end()), at::kLong);
    const at::Tensor loss = at::cross_entropy_loss(scores, wanted);
    const auto gradients = torch::autograd::grad({loss}, script_->parameters(), {}, c10::nullopt,
                                                 false, /*allow_unused=*/true);
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < gradients.size(); ++i)
      descend(i, gradients[i].defined() ? gradients[i] : at::zeros_like(parameters_[i]));
    return loss.item<double>();
  }

  std::vector<LinearLayer> linear_layers() {
    std::vector<LinearLayer> layers;
    if (script_) return layers;
    for (size_t i = 2 * network_.convolutions(); i < parameters_.size(); i += 2)
      layers.push_back({.inputs = static_cast<int>(parameters_[i].size(1)),
                        .outputs = static_cast<int>(parameters_[i].size(0)),
                        .weight = parameters_[i].data_ptr<float>(),
                        .bias = parameters_[i + 1].data_ptr<float>()});
    return layers;
  }

  /// One step of parameter i along its gradient.
  void descend(size_t i, const at::Tensor& gradient) {
    at::Tensor& w = parameters_[i];
    if (plan_.momentum == 0) {
      if (plan_.weight_decay != 0) w.mul_(1 - plan_.learning_rate * plan_.weight_decay);
      w.add_(gradient, -plan_.learning_rate);
      return;
    }
    velocity_[i].mul_(plan_.momentum).add_(gradient);
    if (plan_.weight_decay != 0) velocity_[i].add_(w, plan_.weight_decay);
    w.add_(velocity_[i], -plan_.learning_rate);
  }

  const std::shared_ptr<const LearningData> data_;  // shared with all workers
  const Network network_;                           ///< empty with a script
  std::optional<ScriptModule> script_;              ///< a model of the user's own
  TrainingPlan plan_;                               ///< of the task at hand
  at::Tensor flat_;
  std::vector<at::Tensor> parameters_;  ///< views of flat_
  LinearLayers linear_;                 ///< on those
  std::vector<at::Tensor> leaves_;      ///< the convolutions' ones again, for autograd
  at::Tensor flat_velocity_;            ///< made by the first task with momentum
  std::vector<at::Tensor> velocity_;
};

}  // namespace

Result<std::unique_ptr<Trainer>> make_trainer(std::shared_ptr<const LearningData> data) {
  make_math_serial();
  return without_exceptions([&]() -> Result<std::unique_ptr<Trainer>> {
    Network network;
    std::optional<ScriptModule> script;
    if (data->model == kScriptModel) {
      TERN_TRY(script, ScriptModule::load(data->script));
    } else {
      TERN_TRY(network, Network::make(data->schema, data->data.shape));
    }
    auto trainer =
        std::make_unique<TorchTrainer>(std::move(data), std::move(network), std::move(script));
    TERN_CHECK_OK(trainer->bind_script());
    return trainer;
  });
}

}  // namespace tern
