#include "simulations/fleet_work.h"

#include <iterator>

#include "compression/updates/frame.h"

namespace tern {

namespace {

/// In real time a late client may still train from a version before the newest.
constexpr size_t kReplicasKept = 3;

}  // namespace

FleetWork::FleetWork(std::shared_ptr<const LearningData> data, std::vector<float> version_zero,
                     std::vector<std::unique_ptr<Trainer>> trainers, const Devices& devices,
                     WorkClock& clock, uint32_t older_versions)
    : data_(std::move(data)),
      workers_(trainers.size()),
      devices_(devices),
      clock_(clock),
      replicas_kept_(kReplicasKept + older_versions) {
  for (size_t i = 0; i < workers_.size(); ++i) {
    workers_[i].trainer = std::move(trainers[i]);
    workers_[i].update.resize(data_->schema.elements());
  }
  replicas_[0] = std::make_shared<const Replica>(data_->schema, std::move(version_zero));
}

Status FleetWork::restore(uint32_t version, std::vector<float> parameters) {
  auto replica = std::make_shared<Replica>(*replicas_.begin()->second);
  TERN_CHECK_OK(replica->restore(version, std::move(parameters)));
  replicas_ = {{version, std::move(replica)}};
  return {};
}

Result<Ready> FleetWork::prepare(size_t, const Welcome& welcome, uint32_t) {
  if (welcome.client >= data_->clients.size())
    return error(Code::kInvalidArgument, "there is no client {}", welcome.client);
  return Ready{.examples = static_cast<uint32_t>(data_->clients[welcome.client].size())};
}

Status FleetWork::update_replica(size_t index, const RoundPlan& plan, const ClientTask& task,
                                 uint32_t held_version, std::span<const std::byte> transfer) {
  Worker& worker = workers_[index];
  TERN_TRY(worker.base, replica_of(plan, task, held_version, transfer, worker.scratch));
  if (worker.base->sha256() != plan.model_sha256)
    return error(Code::kCorrupt, "version {} has SHA-256 {} here, the plan says {}", plan.version,
                 to_hex(worker.base->sha256()), to_hex(plan.model_sha256));
  clock_.book(index, WorkStage::kDecode);
  return {};
}

Result<FleetWork::SharedReplica> FleetWork::replica_of(const RoundPlan& plan,
                                                       const ClientTask& task,
                                                       uint32_t held_version,
                                                       std::span<const std::byte> transfer,
                                                       CodecScratch& scratch) {
  const std::lock_guard lock(mutex_);
  if (const auto found = replicas_.find(plan.version); found != replicas_.end())
    return found->second;
  // Whoever was faster may have newer ones; the one before this version is what it is made from.
  const auto after = replicas_.upper_bound(plan.version);
  if (after == replicas_.begin())
    return error(Code::kNotFound, "no replica of version {} is left", plan.version);
  const Replica& before = *std::prev(after)->second;
  std::span<const std::byte> missing = transfer;
  if (task.download == DownloadKind::kDeltas && held_version < before.version()) {
    // This client lacks more than the fleet does.
    TERN_TRY(const auto frames, split_frames(transfer, plan.version - held_version));
    const size_t known = before.version() - held_version;
    if (known >= frames.size())
      return error(Code::kCorrupt, "{} deltas from version {} to {}", frames.size(), held_version,
                   plan.version);
    missing = transfer.subspan(static_cast<size_t>(frames[known].data() - transfer.data()));
  }
  auto next = std::make_shared<Replica>(before);
  TERN_CHECK_OK(next->apply(plan, task.download, missing, scratch));
  replicas_[plan.version] = next;
  while (replicas_.size() > replicas_kept_) replicas_.erase(replicas_.begin());
  return SharedReplica(next);
}

Result<TrainReport> FleetWork::train(size_t index, const TrainTask& task) {
  if (devices_.drops_out(task.round, task.client))
    return error(Code::kCancelled, "the device dropped out");
  Worker& worker = workers_[index];
  clock_.book(index, WorkStage::kOther);
  Result<TrainReport> report =
      worker.trainer->train(task, worker.base->parameters(), worker.update);
  clock_.book(index, WorkStage::kTrain);
  return report;
}

Result<PendingUpdate> FleetWork::encode(size_t index, const Codec& codec, const FrameMeta& meta,
                                        const SenderMemory& memory, ResidualStore store) {
  Worker& worker = workers_[index];
  Result<PendingUpdate> pending =
      encode_update(codec, meta, data_->schema, worker.update, memory, worker.scratch, store);
  clock_.book(index, WorkStage::kEncode);
  return pending;
}

Result<EvaluationReport> FleetWork::evaluate(size_t, uint32_t) {
  return error(Code::kUnsupported, "in a simulation the fleet evaluates");
}

}  // namespace tern
