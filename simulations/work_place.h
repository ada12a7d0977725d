/// Where a worker's tasks are computed: on its own thread, or by a process of another machine that
/// it waits for. The bits don't depend on it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "base/sha256.h"
#include "base/status.h"
#include "compression/updates/codec.h"
#include "compression/updates/error_feedback.h"
#include "compression/updates/scratch.h"
#include "learning/learning_data.h"
#include "proto/training.h"

namespace tern {

/// Parameters of a model, which are told apart by their SHA-256.
struct ModelView {
  std::span<const float> parameters;
  const Digest& sha256;
};

/// Threads: one at a time.
class WorkPlace {
 public:
  virtual ~WorkPlace() = default;

  /// Leaves the update where encode() finds it. Errors: those of Trainer::train.
  virtual Result<TrainReport> train(const TrainTask& task, const ModelView& base) = 0;
  /// Errors: those of encode_update.
  virtual Result<PendingUpdate> encode(const Codec& codec, const FrameMeta& meta,
                                       const SenderMemory& memory, ResidualStore store) = 0;
  /// Errors: those of Evaluator::evaluate.
  virtual Result<EvaluationPart> evaluate(const ModelView& model, size_t part) = 0;
};

class LocalPlace : public WorkPlace {
 public:
  /// Errors: those of make_trainer and make_evaluator.
  static Result<std::unique_ptr<LocalPlace>> make(const std::shared_ptr<const LearningData>& data);

  Result<TrainReport> train(const TrainTask& task, const ModelView& base) override;
  Result<PendingUpdate> encode(const Codec& codec, const FrameMeta& meta,
                               const SenderMemory& memory, ResidualStore store) override;
  Result<EvaluationPart> evaluate(const ModelView& model, size_t part) override;
  /// Of an evaluation.
  size_t part_count() const { return evaluator_->part_count(); }

 private:
  LocalPlace(std::unique_ptr<Trainer> trainer, std::unique_ptr<Evaluator> evaluator);

  std::unique_ptr<Trainer> trainer_;
  std::unique_ptr<Evaluator> evaluator_;
  std::vector<float> update_;
  CodecScratch scratch_;
};

}  // namespace tern
