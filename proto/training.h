/// The seam between protocol and learning: what a client is asked to do with its data, and what
/// came of it. Spans and a schema only, so that nothing above it needs LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/parameter_schema.h"
#include "base/status.h"

namespace tern {

/// How a client trains in one task; part of the signed plan.
struct TrainingPlan {
  double learning_rate = 0.05;
  double momentum = 0.0;
  double weight_decay = 0.0;
  uint32_t batch_size = 10;
  uint32_t local_epochs = 1;  ///< passes over the client's examples; 0 when local_steps counts
  uint32_t local_steps = 0;   ///< minibatches, reshuffled at each pass; 0 when local_epochs counts
};

/// One client's work in one round. All randomness follows from (seed, round, client).
struct TrainTask {
  TrainingPlan plan;
  uint64_t seed = 0;
  uint32_t round = 0;
  uint32_t client =
      0;  ///< client number: its position in the registry; it also picks the data partition
};

struct TrainReport {
  uint32_t examples = 0;         ///< that the client holds: its weight under FedAvg
  uint64_t samples_trained = 0;  ///< examples seen, counted once for each pass
  uint32_t steps = 0;
  double mean_loss = 0;  ///< mean over the batches of the last pass, before each step
};

/// Trains one client at a time. Threads: one thread at a time; make one Trainer for each worker.
class Trainer {
 public:
  virtual ~Trainer() = default;
  virtual const ParameterSchema& schema() const = 0;
  /// Starts from `base` (schema().elements() floats) and writes update = trained - base, of the
  /// same length. The result depends on nothing but task, base and the client's data. Errors:
  /// kOutOfRange when the loss or a parameter is no longer finite; kInvalidArgument for a client
  /// without data.
  virtual Result<TrainReport> train(const TrainTask& task, std::span<const float> base,
                                    std::span<float> update) = 0;
};

/// Predictions for a run of test examples, in their order: one of each, or of texts one of each
/// character.
struct EvaluationPart {
  std::vector<uint32_t> predicted;  ///< class of the largest output; ties to the lower class
  std::vector<float> loss;          ///< cross-entropy, in nats
};

/// Evaluates fixed runs of the test data. Threads: one thread at a time; one for each worker.
class Evaluator {
 public:
  virtual ~Evaluator() = default;
  /// The test data are cut into part_count() runs of fixed length, so that the bits don't depend on
  /// who computes which.
  virtual size_t part_count() const = 0;
  virtual Result<EvaluationPart> evaluate(std::span<const float> parameters, size_t part) = 0;
};

}  // namespace tern
