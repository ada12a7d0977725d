#include "simulations/simulation.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/clock.h"
#include "base/durable_file.h"
#include "base/version.h"
#include "config/load.h"
#include "coordinator/views/metrics.h"
#include "coordinator/views/progress.h"
#include "coordinator/views/run_folder.h"
#include "coordinator/views/summary.h"
#include "learning/blas.h"
#include "simulations/checkpoint.h"
#include "simulations/devices.h"
#include "simulations/fleet.h"

namespace tern {

using nlohmann::ordered_json;

namespace {

/// SQLite's longest value is a gigabyte.
constexpr double kMostClientBytes = 0.99e9;

/// Where SQLite puts a temporary file.
std::filesystem::path temporary_folder() {
  std::error_code ignored;
  for (const char* name : {"SQLITE_TMPDIR", "TMPDIR"})
    if (const char* folder = std::getenv(name); folder != nullptr)
      if (std::filesystem::is_directory(folder, ignored)) return folder;
  for (const char* folder : {"/var/tmp", "/usr/tmp"})
    if (std::filesystem::is_directory(folder, ignored)) return folder;
  return "/tmp";
}

/// Before a run of days begins that would fill the disk.
Status check_disk(const PreparedScenario& prepared, const RunOptions& options) {
  const FleetConfig& fleet = prepared.scenario.fleet;
  TERN_TRY(const double wanted, remembered_bytes(prepared));
  if (wanted <= static_cast<double>(options.memory_bytes)) return {};
  const double tasks = double{1} * prepared.scenario.rounds * clients_asked(fleet);
  const double each = wanted / std::min<double>(fleet.clients, tasks);
  if (each > kMostClientBytes)
    return error(Code::kUnsupported,
                 "what a client remembers of this model takes {:.1f} GB; a gigabyte is the most "
                 "that a checkpoint can hold of one",
                 each / 1e9);
  // What a save replaces stays until the save is there.
  const double replaced = options.checkpoint_every == 0
                              ? wanted
                              : each * options.checkpoint_every * clients_asked(fleet);
  std::error_code failed;
  const std::filesystem::path folder =
      options.out.empty() ? temporary_folder() : std::filesystem::path(options.out);
  const auto there = std::filesystem::file_size(folder / kCheckpointFile, failed);
  const double needed =
      wanted + std::min(wanted, replaced) - (failed ? 0 : static_cast<double>(there));
  const auto space = std::filesystem::space(folder, failed);
  if (failed || static_cast<double>(space.available) >= needed) return {};
  return Status(Code::kNoSpace,
                fmt::format("what clients remember can take {:.1f} GB more, and {:.1f} GB are "
                            "free{}",
                            needed / 1e9, static_cast<double>(space.available) / 1e9,
                            options.resume ? ""
                                           : "; choose another disk by --out, or "
                                             "compression.error_feedback.store = \"bfloat16\""),
                {.file = folder.string()});
}

}  // namespace

Result<RunResult> run_scenario(const PreparedScenario& prepared, const RunOptions& options,
                               const std::atomic<bool>& stop) {
  const Scenario& scenario = prepared.scenario;
  std::optional<RunFolder> folder;
  std::optional<Checkpoint> earlier;
  if (!options.out.empty()) {
    Result<RunFolder> opened =
        RunFolder::open(options.out, options.resume ? RunStart::kCheckpoint : RunStart::kNew);
    if (!opened) return std::move(opened).error();
    folder.emplace(*std::move(opened));
  }
  const RunIdentity identity{.config_sha256 = config_sha256(scenario),
                             .input_sha256 = folder ? input_sha256(prepared) : "",
                             .environment = fmt::format("tern {}, {}, LibTorch {}", kVersion,
                                                        blas_description(), libtorch_version())};
  MetricsView metrics(scenario.target);
  uint32_t first_round = 1;
  std::string warning;
  // Otherwise a client may be in the middle of a task when a round ends.
  const bool resumable = options.fleet.transport == FleetTransport::kMemory &&
                         Devices(scenario, prepared.traces).end_with_the_round();
  TERN_TRY(CheckpointFile checkpoint,
           CheckpointFile::open(folder && resumable ? folder->file(kCheckpointFile) : ""));
  ClientStates memory(checkpoint, prepared.data->schema.elements(), options.memory_bytes);
  if (options.resume) {
    TERN_TRY(earlier, checkpoint.read());
    if (!earlier) warning = "the run was interrupted before its first checkpoint: it begins anew";
  }
  if (earlier) {
    if (earlier->identity.config_sha256 != identity.config_sha256)
      return Status(Code::kInvalidArgument, "the checkpoint is of another scenario",
                    {.file = options.out});
    if (earlier->identity.input_sha256 != identity.input_sha256)
      return Status(Code::kInvalidArgument,
                    "the data or the initial model have changed since the run was interrupted",
                    {.file = options.out});
    if (earlier->identity.environment != identity.environment)
      warning = fmt::format(
          "the run began with {} and goes on with {}: its model will differ in bits from that of a "
          "run that was not interrupted",
          earlier->identity.environment, identity.environment);
    metrics.restore(earlier->totals, earlier->rows);
    first_round = earlier->fleet.round + 1;
  }
  EventFan events;
  events.add(metrics);
  std::optional<ProgressView> progress;
  TERN_TRY(const std::unique_ptr<Fleet> fleet,
           Fleet::make(prepared, options.fleet, memory, events));
  WorkSeconds seconds_before{};
  double wall_before = 0;
  if (earlier) {
    TERN_CHECK_OK(fleet->restore(std::move(earlier->fleet)));
    seconds_before = earlier->seconds;
    wall_before = earlier->wall_seconds;
  }
  TERN_CHECK_OK(check_disk(prepared, options));
  if (folder) {
    TERN_CHECK_OK(
        write_durably(folder->file("scenario.toml"), std::string_view(print_scenario(scenario))));
    TERN_CHECK_OK(folder->begin_metrics(metrics.rows()));
  }
  if (options.show_progress)
    events.add(progress.emplace(stderr, options.title, first_round, scenario.rounds,
                                metrics.totals().bytes_up, metrics.totals().bytes_down));

  const SteadyClock clock;
  const auto wall = [&] { return wall_before + seconds(clock.now()); };
  const auto worked = [&] {
    WorkSeconds total = fleet->seconds();
    for (size_t i = 0; i < total.size(); ++i) total[i] += seconds_before[i];
    return total;
  };
  const auto save = [&]() -> Status {
    TERN_CHECK_OK(memory.put_all());
    return checkpoint.save({.identity = identity,
                            .fleet = fleet->state(),
                            .totals = metrics.totals(),
                            .rows = metrics.rows(),
                            .seconds = worked(),
                            .wall_seconds = wall()});
  };
  std::optional<Evaluation> last_evaluation;
  const auto after_round = [&](uint32_t round, const Evaluation* evaluation) -> Status {
    if (evaluation) last_evaluation = *evaluation;
    const ordered_json& row = metrics.finish_round(wall());
    if (!folder) return {};
    TERN_CHECK_OK(folder->append(row));
    const bool due =
        resumable && options.checkpoint_every > 0 && round % options.checkpoint_every == 0;
    return due && round < scenario.rounds ? save() : Status();
  };
  const Result<bool> stopped = fleet->run(stop, after_round);
  progress.reset();
  if (!stopped) return stopped.error();
  const Evaluation* evaluation = last_evaluation ? &*last_evaluation : nullptr;
  const std::vector<StageSeconds> spent = stage_seconds(worked());
  RunResult result{
      .summary = make_summary({.scenario = scenario,
                               .totals = metrics.totals(),
                               .rounds = fleet->round(),
                               .parameters = fleet->schema().elements(),
                               .model_sha256 = fleet->model().sha256(),
                               .evaluation = evaluation,
                               .wall_seconds = wall(),
                               .stage_seconds = spent,
                               .workers = options.fleet.workers + options.fleet.elsewhere.size(),
                               .blas = blas_description(),
                               .libtorch = libtorch_version()}),
      .interrupted = *stopped,
      .resumable = resumable,
      .warning = std::move(warning)};
  if (!folder) return result;
  if (result.interrupted && resumable) TERN_CHECK_OK(save());
  const DataBundle& data = prepared.data->data;
  TERN_CHECK_OK(write_results(
      *folder, {.scenario = scenario,
                .schema = fleet->schema(),
                .model = fleet->model(),
                .rows = metrics.rows(),
                .summary = result.summary,
                .evaluation = evaluation,
                .names = {.classes = data.class_names, .clients = data.client_names}}));
  if (!result.interrupted) {
    std::error_code ignored;  // one left over is harmless: summary.json says that the run is over
    std::filesystem::remove(folder->file(kCheckpointFile), ignored);
    std::filesystem::remove(folder->file(kCheckpointFile) + "-journal", ignored);
  }
  return result;
}

}  // namespace tern
