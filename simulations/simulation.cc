#include "simulations/simulation.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "base/clock.h"
#include "base/cpu_level.h"
#include "base/durable_file.h"
#include "base/rng.h"
#include "base/safetensors.h"
#include "base/sha256.h"
#include "base/version.h"
#include "compression/updates/error_feedback.h"
#include "config/load.h"
#include "learning/blas.h"
#include "learning/dataset.h"
#include "learning/partition.h"
#include "proto/parts.h"
#include "simulations/checkpoint.h"
#include "simulations/fleet.h"
#include "simulations/metrics.h"
#include "simulations/progress.h"
#include "simulations/report.h"

namespace tern {

using nlohmann::ordered_json;

namespace {

constexpr size_t kLateEvaluations = 10;

bool exists(const std::string& folder, const char* file) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::path(folder) / file, ignored);
}

/// The folder of a run: who may write there, and the rows that appear while it runs.
class RunFolder {
 public:
  /// Errors: kInUse, kIo, kNotFound (nothing to resume).
  static Result<RunFolder> open(const std::string& path, bool resume) {
    if (resume) {
      if (!exists(path, "checkpoint.bin"))
        return Status(Code::kNotFound,
                      exists(path, "summary.json")
                          ? "this run is finished; its results are in summary.json"
                          : "there is no checkpoint.bin to resume from",
                      {.file = path});
    }
    // First the lock: a run that is under way may have a checkpoint already.
    TERN_TRY(FolderLock lock, FolderLock::acquire(path));
    if (!resume) TERN_CHECK_OK(check_folder_is_free(path));
    return RunFolder(path, std::move(lock));
  }
  RunFolder(RunFolder&& other) noexcept
      : path_(std::move(other.path_)),
        lock_(std::move(other.lock_)),
        metrics_(std::exchange(other.metrics_, -1)) {}
  RunFolder& operator=(RunFolder&&) = delete;
  ~RunFolder() {
    if (metrics_ >= 0) ::close(metrics_);
  }

  std::string file(std::string_view file_name) const {
    return fmt::format("{}/{}", path_, file_name);
  }

  Status begin_metrics(const std::vector<ordered_json>& rows) {
    std::string text;
    for (const ordered_json& row : rows) text += row.dump() + "\n";
    TERN_CHECK_OK(write_durably(file("metrics.jsonl"), std::string_view(text)));
    metrics_ = ::open(file("metrics.jsonl").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (metrics_ < 0) return io_error(errno, "cannot write", file("metrics.jsonl"));
    return {};
  }

  /// A row appears whole or not at all.
  Status append(const ordered_json& row) {
    const std::string line = row.dump() + "\n";
    const off_t before = ::lseek(metrics_, 0, SEEK_END);
    const ssize_t written = ::write(metrics_, line.data(), line.size());
    if (written == static_cast<ssize_t>(line.size())) return {};
    if (written >= 0) errno = ENOSPC;
    Status status = io_error(errno, "cannot write", file("metrics.jsonl"));
    if (::ftruncate(metrics_, before) != 0)
      return std::move(status).within("a half-written row remains");
    return status;
  }

 private:
  RunFolder(std::string path, FolderLock lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  FolderLock lock_;
  int metrics_ = -1;
};

std::string config_sha256(const Scenario& scenario) {
  return to_hex(sha256(std::string_view(print_scenario(scenario))));
}

ordered_json or_null(bool known, ordered_json value) {
  return known ? std::move(value) : ordered_json(nullptr);
}

size_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<size_t>(usage.ru_maxrss) * 1024;
}

ordered_json make_summary(const PreparedScenario& prepared, const RunOptions& options,
                          const Fleet& fleet, const RunTotals& totals,
                          const Evaluation* final_evaluation, const WorkSeconds& seconds,
                          double wall) {
  const auto& points = totals.evaluations;
  const bool evaluated = !points.empty();
  const size_t late = std::min(points.size(), kLateEvaluations);
  double late_sum = 0;
  for (size_t i = points.size() - late; i < points.size(); ++i) late_sum += points[i].accuracy;
  // Of equal ones the first.
  const auto best = std::ranges::max_element(points, {}, &RunTotals::Point::accuracy);
  const Scenario& scenario = prepared.scenario;

  ordered_json summary;
  summary["version"] = kVersion;
  summary["seed"] = scenario.seed;
  summary["workers"] = options.workers;
  summary["blas"] = blas_description();
  summary["cpu_level"] = std::string(name(cpu_level()));
  summary["libtorch"] = libtorch_version();
  summary["config_sha256"] = config_sha256(scenario);
  summary["rounds"] = fleet.round();
  summary["void_rounds"] = totals.void_rounds;
  summary["model"] = {{"name", scenario.model.name},
                      {"parameters", fleet.schema().elements()},
                      {"sha256", to_hex(fleet.model().sha256())}};
  summary["final"] = {
      {"accuracy", or_null(final_evaluation, final_evaluation ? final_evaluation->accuracy : 0)},
      {"loss", or_null(final_evaluation, final_evaluation ? final_evaluation->loss : 0)},
      {"macro_f1", or_null(final_evaluation, final_evaluation ? final_evaluation->macro_f1 : 0)},
      {"worst_decile_client_accuracy",
       or_null(final_evaluation && !final_evaluation->clients.empty(),
               final_evaluation ? final_evaluation->worst_decile_client_accuracy : 0)}};
  summary["late"] = {
      {"accuracy", or_null(evaluated, late_sum / static_cast<double>(std::max<size_t>(late, 1)))}};
  summary["best"] = {{"accuracy", or_null(evaluated, evaluated ? best->accuracy : 0)},
                     {"round", or_null(evaluated, evaluated ? best->round : 0)}};
  summary["bytes"] = {{"up", totals.bytes_up},       {"down", totals.bytes_down},
                      {"control_up", nullptr},       {"control_down", nullptr},
                      {"dense_up", totals.dense_up}, {"dense_down", totals.dense_down},
                      {"wire_up", nullptr},          {"wire_down", nullptr}};
  const bool target = scenario.target.accuracy.has_value(), reached = totals.reached.has_value();
  summary["target"] = {{"reached", or_null(target, reached)},
                       {"round", or_null(reached, reached ? totals.reached->round : 0)},
                       {"bytes_up", or_null(reached, reached ? totals.reached->bytes_up : 0)},
                       {"bytes_down", or_null(reached, reached ? totals.reached->bytes_down : 0)},
                       {"virtual_seconds", nullptr}};
  summary["seconds"] = {{"wall", wall}};
  for (size_t i = 0; i < seconds.size(); ++i)
    summary["seconds"][std::string(kWorkStageNames[i])] = seconds[i];
  summary["virtual_seconds"] = nullptr;
  summary["client_trainings"] = totals.client_trainings;
  summary["samples_trained"] = totals.samples_trained;
  summary["peak_rss_bytes"] = peak_rss_bytes();
  return summary;
}

ordered_json evaluation_json(const Evaluation& evaluation, const DataBundle& data) {
  ordered_json json{{"accuracy", evaluation.accuracy},
                    {"loss", evaluation.loss},
                    {"macro_f1", evaluation.macro_f1},
                    {"worst_decile_client_accuracy", evaluation.worst_decile_client_accuracy},
                    {"classes", ordered_json::array()},
                    {"clients", ordered_json::array()}};
  for (size_t c = 0; c < evaluation.classes.size(); ++c) {
    const ClassFigures& figures = evaluation.classes[c];
    json["classes"].push_back(
        {{"name", c < data.class_names.size() ? data.class_names[c] : std::to_string(c)},
         {"examples", figures.examples},
         {"recall", figures.recall},
         {"precision", figures.precision},
         {"f1", figures.f1}});
  }
  for (const ClientFigures& figures : evaluation.clients) {
    ordered_json client{{"client", figures.client}};
    if (figures.client < data.client_names.size())
      client["name"] = data.client_names[figures.client];
    client["examples"] = figures.examples;
    client["accuracy"] = figures.accuracy;
    json["clients"].push_back(std::move(client));
  }
  return json;
}

Status write_results(const RunFolder& folder, const PreparedScenario& prepared, const Fleet& fleet,
                     const MetricsView& metrics, const Evaluation* evaluation,
                     const ordered_json& summary) {
  const std::string config = print_scenario(prepared.scenario);
  std::string rows;
  std::vector<nlohmann::json> for_report;
  for (const ordered_json& row : metrics.rows()) {
    rows += row.dump() + "\n";
    for_report.emplace_back(row);
  }
  TERN_CHECK_OK(write_durably(folder.file("metrics.jsonl"), std::string_view(rows)));
  TERN_CHECK_OK(write_durably(folder.file("model.safetensors"),
                              std::span<const std::byte>(to_safetensors(
                                  fleet.schema(), fleet.model().parameters(),
                                  {{"tern.model", prepared.scenario.model.name},
                                   {"tern.version", std::to_string(fleet.model().version())},
                                   {"tern.sha256", to_hex(fleet.model().sha256())}}))));
  if (evaluation)
    TERN_CHECK_OK(write_durably(
        folder.file("evaluation.json"),
        std::string_view(evaluation_json(*evaluation, prepared.data->data)
                             .dump(2, ' ', false, ordered_json::error_handler_t::replace) +
                         "\n")));
  TERN_CHECK_OK(
      write_durably(folder.file("report.html"),
                    std::string_view(render_report(nlohmann::json(summary), for_report, config))));
  return write_durably(folder.file("summary.json"), std::string_view(summary.dump(2) + "\n"));
}

}  // namespace

Status check_folder_is_free(const std::string& path) {
  if (exists(path, "summary.json"))
    return Status(Code::kInUse, "the folder already holds a finished run; choose another --out",
                  {.file = path});
  if (exists(path, "checkpoint.bin"))
    return Status(Code::kInUse,
                  fmt::format("the folder already holds an interrupted run; go on with it by "
                              "--resume {}, or choose another --out",
                              path),
                  {.file = path});
  return {};
}

Result<RunResult> run_scenario(const PreparedScenario& prepared, const RunOptions& options,
                               const std::atomic<bool>& stop) {
  const Scenario& scenario = prepared.scenario;
  std::optional<RunFolder> folder;
  std::optional<Checkpoint> earlier;
  if (!options.out.empty()) {
    Result<RunFolder> opened = RunFolder::open(options.out, options.resume);
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
  if (options.resume) {
    TERN_TRY(earlier, read_checkpoint(folder->file("checkpoint.bin")));
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
  TERN_TRY(const std::unique_ptr<Fleet> fleet, Fleet::make(prepared, options.workers, events));
  WorkSeconds seconds_before{};
  double wall_before = 0;
  if (earlier) {
    TERN_CHECK_OK(fleet->restore(std::move(earlier->fleet)));
    seconds_before = earlier->seconds;
    wall_before = earlier->wall_seconds;
  }
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
  const auto save = [&] {
    return write_checkpoint(folder->file("checkpoint.bin"), {.identity = identity,
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
    const bool due = options.checkpoint_every > 0 && round % options.checkpoint_every == 0;
    return due && round < scenario.rounds ? save() : Status();
  };
  const Result<bool> stopped = fleet->run(stop, after_round);
  progress.reset();
  if (!stopped) return stopped.error();
  const Evaluation* evaluation = last_evaluation ? &*last_evaluation : nullptr;
  RunResult result{.summary = make_summary(prepared, options, *fleet, metrics.totals(), evaluation,
                                           worked(), wall()),
                   .interrupted = *stopped,
                   .warning = std::move(warning)};
  if (!folder) return result;
  if (result.interrupted) TERN_CHECK_OK(save());
  TERN_CHECK_OK(write_results(*folder, prepared, *fleet, metrics, evaluation, result.summary));
  if (!result.interrupted) {
    std::error_code ignored;  // one left over is harmless: summary.json says that the run is over
    std::filesystem::remove(folder->file("checkpoint.bin"), ignored);
  }
  return result;
}

ordered_json combine_summaries(const std::vector<ordered_json>& summaries) {
  const auto flat = [&](auto&& self, const std::vector<const ordered_json*>& all,
                        bool spread) -> ordered_json {
    if (all.front()->is_object()) {
      ordered_json json = ordered_json::object();
      for (const auto& [key, value] : all.front()->items()) {
        std::vector<const ordered_json*> inner;
        for (const ordered_json* one : all) inner.push_back(&one->at(key));
        ordered_json combined = self(self, inner, spread);
        if (!combined.is_discarded()) json[key] = std::move(combined);
      }
      return json;
    }
    double sum = 0, squares = 0;
    for (const ordered_json* one : all) {
      if (one->is_null()) return nullptr;
      if (!one->is_number()) return ordered_json(ordered_json::value_t::discarded);
      sum += one->get<double>();
    }
    const double mean = sum / static_cast<double>(all.size());
    if (!spread) return mean;
    for (const ordered_json* one : all)
      squares += (one->get<double>() - mean) * (one->get<double>() - mean);
    if (all.size() == 1) return nullptr;  // one run says nothing about the spread
    return std::sqrt(squares / static_cast<double>(all.size() - 1));
  };
  std::vector<const ordered_json*> all;
  for (const ordered_json& summary : summaries) all.push_back(&summary);
  ordered_json mean = flat(flat, all, false), spread = flat(flat, all, true);
  for (const char* key : {"seed", "workers"}) {
    mean.erase(key);
    spread.erase(key);
  }
  return {{"runs", summaries}, {"mean", std::move(mean)}, {"spread", std::move(spread)}};
}

}  // namespace tern
