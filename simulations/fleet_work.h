/// What the clients of a fleet in one process do for their tasks: they share the data, a work place
/// for each worker, and one replica of each version.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/work_clock.h"
#include "client/client_work.h"
#include "client/replica.h"
#include "compression/updates/scratch.h"
#include "learning/learning_data.h"
#include "proto/training.h"
#include "simulations/devices.h"
#include "simulations/work_place.h"

namespace tern {

/// Threads: worker w calls with its own index; restore() while no task runs.
class FleetWork : public ClientWork {
 public:
  /// A place for each worker. `devices` (null in real time) and `clock` outlive it.
  /// `older_versions`: that tasks may still begin from.
  FleetWork(std::shared_ptr<const LearningData> data, std::vector<float> version_zero,
            std::vector<std::shared_ptr<WorkPlace>> places, const Devices* devices,
            WorkClock& clock, uint32_t older_versions);

  Status restore(const HeldModels& models) { return replica_.restore(models); }

  Result<Ready> prepare(size_t worker, const Welcome& welcome, uint32_t held_version) override;
  uint64_t max_download_bytes() const override { return tern::max_download_bytes(data_->schema); }
  Status update_replica(size_t worker, const RoundPlan& plan, const ClientTask& task,
                        uint32_t held_version, std::span<const std::byte> transfer) override;
  TrainingTime training_takes(const RoundPlan& plan, uint32_t client,
                              TimePoint now) const override {
    if (devices_ == nullptr) return {};
    return devices_->training(plan, client, data_->clients.examples(client), now);
  }
  Result<TrainReport> train(size_t worker, const TrainTask& task) override;
  Result<PendingUpdate> encode(size_t worker, const Codec& codec, const FrameMeta& meta,
                               const SenderMemory& memory, ResidualStore store) override;
  Result<EvaluationReport> evaluate(size_t worker, uint32_t client) override;

 private:
  struct Worker {
    std::shared_ptr<WorkPlace> place;
    SharedModel base;  // of the task at hand
    CodecScratch scratch;
  };

  Result<SharedModel> model_of(const RoundPlan& plan, const ClientTask& task,
                               std::span<const std::byte> transfer, CodecScratch& scratch);

  std::shared_ptr<const LearningData> data_;
  std::vector<Worker> workers_;
  const Devices* devices_;
  WorkClock& clock_;
  const size_t models_kept_;
  std::mutex mutex_;  // guards replica_
  Replica replica_;   // of all clients: their newest versions, and what the next ones build on
};

}  // namespace tern
