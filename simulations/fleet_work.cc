#include "simulations/fleet_work.h"

#include <algorithm>
#include <iterator>

namespace tern {

namespace {

/// In real time a late client may still train from a version before the newest.
constexpr size_t kModelsKept = 3;

}  // namespace

FleetWork::FleetWork(std::shared_ptr<const LearningData> data, std::vector<float> version_zero,
                     std::vector<std::shared_ptr<WorkPlace>> places, const Devices* devices,
                     WorkClock& clock, uint32_t older_versions)
    : data_(std::move(data)),
      workers_(places.size()),
      devices_(devices),
      clock_(clock),
      models_kept_(kModelsKept + older_versions),
      replica_(data_->schema, std::move(version_zero)) {
  for (size_t i = 0; i < workers_.size(); ++i) workers_[i].place = std::move(places[i]);
}

Result<Ready> FleetWork::prepare(size_t, const Welcome& welcome, uint32_t) {
  if (welcome.client >= data_->clients.clients())
    return error(Code::kInvalidArgument, "there is no client {}", welcome.client);
  return Ready{.examples = data_->clients.examples(welcome.client)};
}

Status FleetWork::update_replica(size_t index, const RoundPlan& plan, const ClientTask& task,
                                 uint32_t, std::span<const std::byte> transfer) {
  Worker& worker = workers_[index];
  TERN_TRY(worker.base, model_of(plan, task, transfer, worker.scratch));
  if (worker.base->sha256 != plan.model_sha256)
    return error(Code::kCorrupt, "version {} has SHA-256 {} here, the plan says {}", plan.version,
                 to_hex(worker.base->sha256), to_hex(plan.model_sha256));
  clock_.book(index, WorkStage::kDecode);
  return {};
}

Result<SharedModel> FleetWork::model_of(const RoundPlan& plan, const ClientTask& task,
                                        std::span<const std::byte> transfer,
                                        CodecScratch& scratch) {
  const std::lock_guard lock(mutex_);
  if (const auto found = replica_.models().find(plan.version); found != replica_.models().end())
    return found->second;
  TERN_TRY(SharedModel model, replica_.reach(plan, task.download, transfer, scratch));
  if (plan.version < replica_.version()) return model;  // of a late one; the others have gone on
  std::vector<uint32_t> keep;
  size_t newest = 0;
  for (auto held = replica_.models().rbegin();
       held != replica_.models().rend() && newest < models_kept_; ++held, ++newest) {
    keep.push_back(held->first);
    std::ranges::copy(plan.versions.kept(held->first), std::back_inserter(keep));
  }
  std::ranges::sort(keep);
  replica_.move_to(plan.version, keep);
  return model;
}

Result<TrainReport> FleetWork::train(size_t index, const TrainTask& task) {
  Worker& worker = workers_[index];
  clock_.book(index, WorkStage::kOther);
  Result<TrainReport> report =
      worker.place->train(task, {worker.base->parameters, worker.base->sha256});
  clock_.book(index, WorkStage::kTrain);
  return report;
}

Result<PendingUpdate> FleetWork::encode(size_t index, const Codec& codec, const FrameMeta& meta,
                                        const SenderMemory& memory, ResidualStore store) {
  Worker& worker = workers_[index];
  Result<PendingUpdate> pending = worker.place->encode(codec, meta, memory, store);
  clock_.book(index, WorkStage::kEncode);
  return pending;
}

Result<EvaluationReport> FleetWork::evaluate(size_t, uint32_t) {
  return error(Code::kUnsupported, "in a simulation the fleet evaluates");
}

}  // namespace tern
