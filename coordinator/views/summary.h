/// The results of a run: the object of summary.json, the files beside it, and tables for people.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/parameter_schema.h"
#include "base/sha256.h"
#include "base/status.h"
#include "base/work_clock.h"
#include "config/scenario.h"
#include "coordinator/versions.h"
#include "coordinator/views/evaluation.h"
#include "coordinator/views/metrics.h"
#include "coordinator/views/run_folder.h"

namespace tern {

/// Seconds of all workers for one of kWorkStageNames.
struct StageSeconds {
  std::string_view stage;
  double seconds = 0;
};
/// For who knows all of them.
std::vector<StageSeconds> stage_seconds(const WorkSeconds& seconds);

/// What there is to say of a run. What isn't given is null in the summary: no key is ever absent.
struct SummaryInputs {
  const Scenario& scenario;
  const RunTotals& totals;
  uint32_t rounds = 0;                     ///< that have ended
  size_t parameters = 0;                   ///< of the model
  Digest model_sha256{};                   ///< of the model after the last round
  const Evaluation* evaluation = nullptr;  ///< the last one
  double wall_seconds = 0;
  std::span<const StageSeconds> stage_seconds{};  ///< those that are known
  std::optional<size_t> workers{};
  std::optional<std::string> blas{};
  std::optional<std::string> libtorch{};
};
/// The object of summary.json; also takes the CPU level and the peak of this process's memory.
nlohmann::ordered_json make_summary(const SummaryInputs& inputs);

/// Mean and standard deviation (n - 1) of every number of several summaries, at the same keys.
nlohmann::ordered_json combine_summaries(const std::vector<nlohmann::ordered_json>& summaries);

/// Names that people gave to classes and clients; a class without one shows its number, a client
/// none.
struct EvaluationNames {
  std::span<const std::string> classes{};
  std::span<const std::string> clients{};
};
/// The object of evaluation.json.
nlohmann::ordered_json evaluation_json(const Evaluation& evaluation, const EvaluationNames& names);

/// Writes model.safetensors, whole or not at all. Errors: kNoSpace, kIo.
Status write_model(const RunFolder& folder, const ParameterSchema& schema,
                   const VersionedModel& model, const std::string& name);

/// What a run leaves in its folder.
struct RunOutput {
  const Scenario& scenario;
  const ParameterSchema& schema;
  const VersionedModel& model;
  const std::vector<nlohmann::ordered_json>& rows;  ///< of metrics.jsonl
  const nlohmann::ordered_json& summary;
  const Evaluation* evaluation = nullptr;  ///< without one there is no evaluation.json
  EvaluationNames names{};
};
/// Writes metrics.jsonl, model.safetensors, evaluation.json, report.html and, last, summary.json,
/// each whole or not at all. Errors: kNoSpace, kIo.
Status write_results(const RunFolder& folder, const RunOutput& output);

/// The results of a run as a table, such as a person wants them. `summary` is that of make_summary.
std::string summary_table(const nlohmann::ordered_json& summary);
/// Mean and spread of several runs; `combined` is that of combine_summaries.
std::string combined_table(const nlohmann::ordered_json& combined);

}  // namespace tern
