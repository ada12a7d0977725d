/// What a device does for its tasks, with its own replica of the model and its own data.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/parameter_schema.h"
#include "client/client_work.h"
#include "client/replica.h"
#include "compression/updates/scratch.h"
#include "proto/training.h"

namespace tern {

/// A device's data, ready to train on and to evaluate on.
struct DeviceData {
  std::unique_ptr<Trainer> trainer;      ///< null: nothing to train on
  std::unique_ptr<Evaluator> evaluator;  ///< null: nothing to evaluate on
  std::vector<uint32_t> test_labels;     ///< in the evaluator's order
  uint32_t classes = 0;
  uint32_t examples = 0;
};

/// Threads: one task at a time, on one worker; parameters() between tasks.
class DeviceWork : public ClientWork {
 public:
  /// Gets the data that the welcomed client number trains on.
  using Load = std::function<Result<DeviceData>(const Welcome&)>;

  /// `schema` outlives it. A large model's updates are encoded by all cores of the device.
  DeviceWork(const ParameterSchema& schema, Load load);

  /// What a store has kept of the model, for prepare().
  void keep_models(HeldModels models) { kept_ = std::move(models); }
  /// What the replica holds; before the first prepare() what was kept.
  const HeldModels& models() const { return replica_ ? replica_->models() : kept_; }
  /// Of the version that the replica is at; empty before the first prepare().
  std::span<const float> parameters() const {
    return replica_ ? replica_->parameters() : std::span<const float>();
  }

  Result<Ready> prepare(size_t worker, const Welcome& welcome, uint32_t held_version) override;
  uint64_t max_download_bytes() const override { return tern::max_download_bytes(schema_); }
  Status update_replica(size_t worker, const RoundPlan& plan, const ClientTask& task,
                        uint32_t held_version, std::span<const std::byte> transfer) override;
  Result<TrainReport> train(size_t worker, const TrainTask& task) override;
  Result<PendingUpdate> encode(size_t worker, const Codec& codec, const FrameMeta& meta,
                               const SenderMemory& memory, ResidualStore store) override;
  Result<EvaluationReport> evaluate(size_t worker, uint32_t client) override;

 private:
  const ParameterSchema& schema_;
  Load load_;
  HeldModels kept_;
  std::optional<Replica> replica_;
  DeviceData data_;
  std::vector<float> update_;
  std::optional<ThreadPool> coders_;  ///< beside the caller's thread; outlives the scratch
  CodecScratch scratch_;
};

}  // namespace tern
