#include "learning/torch_trainer.h"

#include <torch/torch.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/rng.h"
#include "learning/blas.h"
#include "learning/torch_errors.h"
#include "learning/training_step.h"

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
    size_ = std::min(length_, order_.size() - at_);
    const size_t labels_each = examples_.labels_each;
    labels_.resize(size_ * labels_each);
    float* out = inputs_.data_ptr<float>();
    for (size_t i = 0; i < size_; ++i, out += features_) {
      const size_t example = order_[at_ + i];
      std::memcpy(out, examples_.inputs.data() + example * features_, features_ * sizeof(float));
      std::copy_n(examples_.labels.begin() + static_cast<ptrdiff_t>(example * labels_each),
                  labels_each, labels_.begin() + static_cast<ptrdiff_t>(i * labels_each));
    }
    at_ += size_;
  }
  /// Examples of the batch.
  size_t size() const { return size_; }
  at::Tensor inputs() const {
    return size_ == length_ ? inputs_ : inputs_.narrow(0, 0, static_cast<int64_t>(size_));
  }
  const std::vector<uint32_t>& labels() const { return labels_; }

 private:
  const Dataset& examples_;
  const std::vector<uint32_t> held_;
  const TrainTask& task_;
  const size_t features_;
  const size_t length_;  ///< of all batches but a short last one
  at::Tensor inputs_;
  size_t size_ = 0;
  std::vector<uint32_t> labels_;
  std::vector<uint32_t> order_;
  size_t at_ = 0;
};

class TorchTrainer final : public Trainer {
 public:
  TorchTrainer(std::shared_ptr<const LearningData> data, at::Tensor flat,
               std::unique_ptr<TrainingStep> step)
      : data_(std::move(data)), flat_(std::move(flat)), step_(std::move(step)) {}

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
        TERN_TRY(const double batch_loss, step_->step(plan_, batches.inputs(), batches.labels()));
        loss += batch_loss;
        report.samples_trained += batches.size();
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
    if (!velocity_.defined()) {
      velocity_ = at::empty_like(flat_);
      step_->use_velocity(velocity_);
    }
    velocity_.zero_();
  }

  const std::shared_ptr<const LearningData> data_;  // shared with all workers
  TrainingPlan plan_;                               ///< of the task at hand
  at::Tensor flat_;                                 ///< parameters
  at::Tensor velocity_;                             ///< made by the first task with momentum
  const std::unique_ptr<TrainingStep> step_;        ///< on those
};

}  // namespace

Result<std::unique_ptr<Trainer>> make_trainer(std::shared_ptr<const LearningData> data) {
  make_math_serial();
  return without_exceptions([&]() -> Result<std::unique_ptr<Trainer>> {
    const at::Tensor flat = at::zeros({static_cast<int64_t>(data->schema.elements())}, at::kFloat);
    TERN_TRY(std::unique_ptr<TrainingStep> step, make_training_step(*data, flat));
    return std::make_unique<TorchTrainer>(std::move(data), flat, std::move(step));
  });
}

}  // namespace tern
