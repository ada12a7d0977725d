/// What a run has learned, and everything that changes it: counting updates, closing a round,
/// publishing a version. The coordinator does so as updates come in, recovery and --replay as the
/// journal tells; since this code is the same and sums are integers, so are the bits.
///
/// Memory: the model, its residual, momentum and what averaging keeps; while updates are added an
/// accumulator of twice the model, whatever the number of workers, and while a version is made the
/// step and the next model.
///
/// Threads: one at a time, but add() runs on workers side by side, each with its own index, and
/// while aggregate() or publish() run on a worker nothing else is called.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/parameter_schema.h"
#include "base/sha256.h"
#include "base/status.h"
#include "compression/updates/accumulator.h"
#include "compression/updates/codec.h"
#include "compression/updates/scratch.h"
#include "config/scenario.h"
#include "coordinator/cohort_selector.h"
#include "coordinator/rate_controller.h"
#include "coordinator/strategies/fedavg.h"
#include "coordinator/update_check.h"
#include "coordinator/versions.h"

namespace tern {

/// Everything that a coordinator needs to go on from the end of a round.
struct CoordinatorState {
  uint32_t round = 0;  ///< the last one that ended
  VersionsState model;
  ServerOptimizerState optimizer;
  RateState rate;
  ClientExperiences experiences;
  Digest parent_sha256{};         ///< of the version before
  uint32_t largest_examples = 0;  ///< of a client; 0: not settled yet
};

/// A task without an answer.
struct OpenTask {
  TaskId task = 0;
  uint32_t round = 0;    ///< in which it was asked for
  uint32_t version = 0;  ///< the newest one then
};
using OpenTasks = std::map<uint32_t, OpenTask>;  ///< by client: it has one at a time

class RunState {
 public:
  struct Setup {
    const Scenario& scenario;       ///< outlives the state
    const ParameterSchema& schema;  ///< outlives the state
    uint32_t clients = 0;
    std::vector<double> uplinks;     ///< as for RateController
    std::span<const float> initial;  ///< on the grid; empty: version 0 is computed from the seed
    size_t workers = 1;
  };
  /// A model from elsewhere isn't known to clients as one from the seed is: it is published as
  /// version 1, so that each client downloads it, and is charged for it, before its first task.
  /// Errors: those of the codecs and of the initial model.
  static Result<std::unique_ptr<RunState>> make(const Setup& setup);

  const Scenario& scenario() const { return scenario_; }
  const ParameterSchema& schema() const { return schema_; }
  VersionedModel& model() { return model_; }
  const VersionedModel& model() const { return model_; }
  const Digest& parent_sha256() const { return parent_sha256_; }
  RateController& rates() { return rates_; }
  CohortSelector& selector() { return selector_; }
  CodecScratch& scratch(size_t worker) { return scratch_[worker]; }

  /// Before the first round: what an update can weigh, and room for the sum. Errors: those of
  /// FixedPointAccumulator::make.
  Status settle_weights(uint32_t largest_examples);
  bool settled() const { return largest_examples_ != 0; }
  uint32_t largest_examples() const { return largest_examples_; }

  /// The chain of a round without rate control. Errors: those of warm_up.h.
  Result<Codec> chain_of_round(uint32_t round) const { return rates_.chain_of_round(round); }
  /// What the update of a task is checked against. On the loop's thread also while publish() runs:
  /// so the newest version is the caller's to say.
  UpdateRules rules(const OpenTask& task, const Codec& codec, uint32_t newest_version) const;
  /// Notes that an update is counted, and what for; add() follows. Its transfer has `bytes`, and
  /// came so many `seconds` after its plan had left, if that is known.
  void count(const UpdateMessage& message, CheckedUpdate& update, size_t bytes,
             std::optional<double> seconds);
  /// Adds a counted update to the sum. Cost: that of decode_accumulate.
  Status add(size_t worker, const CheckedUpdate& update);

  /// The round has too few updates: its sum is dropped.
  Status drop_round(CodecScratch& scratch);
  /// The server's step from the sum.
  Result<std::vector<float>> aggregate(size_t worker);
  /// Errors: those of VersionedModel::publish and of warm_up.h.
  Result<SharedFrame> publish(size_t worker, uint32_t round, std::vector<float> step);

  /// `round` is the last one that ended. Cost: a copy of the optimizer's vectors.
  CoordinatorState state(uint32_t round) const;
  /// Errors: kCorrupt when the lengths don't fit the schema.
  Status restore(CoordinatorState state);

 private:
  RunState(const Setup& setup, Codec up, std::vector<Codec> down, RateController rates);
  Status publish_initial(std::span<const float> initial);

  const Scenario& scenario_;
  const ParameterSchema& schema_;
  const Codec up_;
  const std::vector<Codec> down_;  // of each level of VersionTree
  RateController rates_;
  CohortSelector selector_;
  VersionedModel model_;
  ServerOptimizerState optimizer_;
  Digest parent_sha256_{};
  FixedPointAccumulator sum_;
  std::vector<CodecScratch> scratch_;  // each worker's
  uint32_t largest_examples_ = 0;
};

}  // namespace tern
