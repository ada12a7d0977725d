/// A work place in another process of the same job: requests and replies over a channel. Both ends
/// are the same program with the same data, which whoever makes the channel has seen to; so values
/// travel as they lie in memory.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "simulations/work_place.h"

namespace tern {

/// Messages between two ends, whole and in order. Threads: one at a time at each end.
class WorkChannel {
 public:
  virtual ~WorkChannel() = default;
  /// Errors: kIo when the other end is gone.
  virtual Status send(std::span<const std::byte> message) = 0;
  virtual Result<std::vector<std::byte>> receive() = 0;
};

/// The end that asks. A model travels once: the other end keeps the last few. What clients remember
/// travels with each task. Errors of all calls: those of the other end's place, kIo, kCorrupt.
class RemotePlace : public WorkPlace {
 public:
  /// `elements`: of the model.
  RemotePlace(std::unique_ptr<WorkChannel> channel, size_t elements)
      : channel_(std::move(channel)), elements_(elements) {}
  /// Tells the other end that there is no more to do.
  ~RemotePlace() override;

  Result<TrainReport> train(const TrainTask& task, const ModelView& base) override;
  Result<PendingUpdate> encode(const Codec& codec, const FrameMeta& meta,
                               const SenderMemory& memory, ResidualStore store) override;
  Result<EvaluationPart> evaluate(const ModelView& model, size_t part) override;

 private:
  Status bring(const ModelView& model);
  Result<std::vector<std::byte>> ask(std::span<const std::byte> request);

  std::unique_ptr<WorkChannel> channel_;
  const size_t elements_;
  std::deque<Digest> there_;  // models at the other end, the oldest first
};

/// The end that works: answers until the other end says that there is no more to do. Errors: kIo,
/// kCorrupt for a request that can't be read; a task that fails is the other end's to know.
Status serve_work(WorkChannel& channel, WorkPlace& place, size_t elements);

}  // namespace tern
