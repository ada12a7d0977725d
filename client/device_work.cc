#include "client/device_work.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "config/model_card.h"

namespace tern {

namespace {

constexpr size_t kMostCoders = 4;  // memory, not cores, is what more of them wait for

}  // namespace

DeviceWork::DeviceWork(const ParameterSchema& schema, Load load)
    : schema_(schema), load_(std::move(load)) {
  const size_t cores = std::thread::hardware_concurrency();
  if (cores < 2 || schema.elements() < kParallelElements) return;
  coders_.emplace(std::min(cores, kMostCoders) - 1);
  scratch_.use(*coders_);
}

Result<Ready> DeviceWork::prepare(size_t, const Welcome& welcome, uint32_t held_version) {
  TERN_TRY(data_, load_(welcome));
  // At a new number in the same run it goes on with what it has.
  if (kept_.empty() && replica_ && held_version > 0 && replica_->version() == held_version)
    kept_ = replica_->models();
  std::vector<float> version_zero(schema_.elements());
  initialize_parameters(schema_, welcome.seed, kGridBits, version_zero);
  replica_.emplace(schema_, std::move(version_zero));
  if (held_version > 0) TERN_CHECK_OK(replica_->restore(std::exchange(kept_, {})));
  kept_.clear();
  update_.resize(data_.trainer ? schema_.elements() : 0);
  return Ready{
      .examples = data_.examples,
      .test_examples = data_.evaluator ? static_cast<uint32_t>(data_.test_labels.size()) : 0};
}

Status DeviceWork::update_replica(size_t, const RoundPlan& plan, const ClientTask& task, uint32_t,
                                  std::span<const std::byte> transfer) {
  return replica_->apply(plan, task.download, transfer, scratch_);
}

Result<TrainReport> DeviceWork::train(size_t, const TrainTask& task) {
  if (!data_.trainer)
    return error(Code::kInvalidArgument, "client {} has no examples to train on", task.client);
  return data_.trainer->train(task, replica_->parameters(), update_);
}

Result<PendingUpdate> DeviceWork::encode(size_t, const Codec& codec, const FrameMeta& meta,
                                         const SenderMemory& memory, ResidualStore store) {
  return encode_update(codec, meta, schema_, update_, memory, scratch_, store);
}

Result<EvaluationReport> DeviceWork::evaluate(size_t, uint32_t) {
  if (!data_.evaluator)
    return error(Code::kInvalidArgument, "this client has no examples to evaluate on");
  EvaluationReport report{.examples = std::vector<uint32_t>(data_.classes),
                          .predicted = std::vector<uint32_t>(data_.classes),
                          .correct = std::vector<uint32_t>(data_.classes)};
  size_t at = 0;
  for (size_t part = 0; part < data_.evaluator->part_count(); ++part) {
    TERN_TRY(const EvaluationPart found, data_.evaluator->evaluate(replica_->parameters(), part));
    for (size_t i = 0; i < found.predicted.size(); ++i, ++at) {
      const uint32_t label = data_.test_labels.at(at), predicted = found.predicted[i];
      ++report.examples[label];
      ++report.predicted[predicted];
      report.correct[label] += label == predicted;
      report.loss_sum += found.loss[i];
    }
  }
  return report;
}

}  // namespace tern
