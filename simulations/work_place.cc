#include "simulations/work_place.h"

#include <utility>

#include "learning/torch_evaluator.h"
#include "learning/torch_trainer.h"

namespace tern {

LocalPlace::LocalPlace(std::unique_ptr<Trainer> trainer, std::unique_ptr<Evaluator> evaluator)
    : trainer_(std::move(trainer)),
      evaluator_(std::move(evaluator)),
      update_(trainer_->schema().elements()) {}

Result<std::unique_ptr<LocalPlace>> LocalPlace::make(
    const std::shared_ptr<const LearningData>& data) {
  TERN_TRY(std::unique_ptr<Trainer> trainer, make_trainer(data));
  TERN_TRY(std::unique_ptr<Evaluator> evaluator, make_evaluator(data));
  return std::unique_ptr<LocalPlace>(new LocalPlace(std::move(trainer), std::move(evaluator)));
}

Result<TrainReport> LocalPlace::train(const TrainTask& task, const ModelView& base) {
  return trainer_->train(task, base.parameters, update_);
}

Result<PendingUpdate> LocalPlace::encode(const Codec& codec, const FrameMeta& meta,
                                         const SenderMemory& memory, ResidualStore store) {
  return encode_update(codec, meta, trainer_->schema(), update_, memory, scratch_, store);
}

Result<EvaluationPart> LocalPlace::evaluate(const ModelView& model, size_t part) {
  return evaluator_->evaluate(model.parameters, part);
}

}  // namespace tern
