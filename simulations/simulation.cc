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

/// The folder of a run: who may write there, and the rows that appear while it runs.
class RunFolder {
 public:
  /// Errors: kInUse, kIo, kNotFound (nothing to resume).
  static Result<RunFolder> open(const std::string& path, bool resume) {
    namespace fs = std::filesystem;
    std::error_code failed;
    fs::create_directories(
        fs::path(path).parent_path().empty() ? "." : fs::path(path).parent_path(), failed);
    if (resume && !fs::exists(fs::path(path) / "checkpoint.bin", failed))
      return Status(Code::kNotFound,
                    fs::exists(fs::path(path) / "summary.json", failed)
                        ? "this run is finished; its results are in summary.json"
                        : "there is no checkpoint.bin to resume from",
                    {.file = path});
    TERN_TRY(FolderLock lock, FolderLock::acquire(path));
    if (!resume)
      for (const char* file : {"summary.json", "checkpoint.bin"})
        if (fs::exists(fs::path(path) / file, failed))
          return Status(
              Code::kInUse,
              fmt::format(
                  "the folder already holds a run ({}); choose another --out, or go on with it by "
                  "--resume {}",
                  file, path),
              {.file = path});
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
    if (metrics_ < 0) return io_error();
    return {};
  }

  /// A row appears whole or not at all.
  Status append(const ordered_json& row) {
    const std::string line = row.dump() + "\n";
    const off_t before = ::lseek(metrics_, 0, SEEK_END);
    const ssize_t written = ::write(metrics_, line.data(), line.size());
    if (written == static_cast<ssize_t>(line.size())) return {};
    if (written >= 0) errno = ENOSPC;
    Status status = io_error();
    if (::ftruncate(metrics_, before) != 0)
      return std::move(status).within("a half-written row remains");
    return status;
  }

 private:
  RunFolder(std::string path, FolderLock lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  Status io_error() const {
    return Status(errno == ENOSPC ? Code::kNoSpace : Code::kIo, std::strerror(errno),
                  {.file = file("metrics.jsonl")});
  }

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
        std::string_view(evaluation_json(*evaluation, prepared.data->data).dump(2) + "\n")));
  TERN_CHECK_OK(
      write_durably(folder.file("report.html"),
                    std::string_view(render_report(nlohmann::json(summary), for_report, config))));
  return write_durably(folder.file("summary.json"), std::string_view(summary.dump(2) + "\n"));
}

}  // namespace

Result<PreparedScenario> prepare(const Scenario& original) {
  PreparedScenario prepared{.scenario = original, .data = nullptr, .test_clients = {}};
  Scenario& scenario = prepared.scenario;
  TERN_TRY(const PartitionRule rule, parse_partition(scenario.data.partition));
  TERN_TRY(DataBundle data, load_data(scenario.data, scenario.seed));
  const auto natural = static_cast<uint32_t>(data.client_names.size());
  const bool by_nature = rule.kind == PartitionRule::Kind::kNatural;
  if (by_nature && scenario.fleet.clients != 0 && scenario.fleet.clients != natural)
    return Status(Code::kInvalidArgument,
                  fmt::format("{} clients, but the data have {} natural ones; leave it out",
                              scenario.fleet.clients, natural),
                  {.key = "fleet.clients"});
  if (by_nature) scenario.fleet.clients = natural;
  const FleetConfig& fleet = scenario.fleet;
  const uint64_t asked = clients_asked(fleet);
  if (asked > fleet.clients)
    return Status(
        Code::kInvalidArgument,
        fmt::format("a round asks {} clients (cohort {} x over_select {}), the fleet has {}", asked,
                    fleet.cohort, fleet.over_select, fleet.clients),
        {.key = "fleet.cohort"});
  PartitionRequest request{.labels = data.train.labels,
                           .natural_client = data.train.client,
                           .classes = static_cast<uint32_t>(data.shape.classes),
                           .clients = fleet.clients,
                           .seed = scenario.seed};
  Result<std::vector<std::vector<uint32_t>>> clients = partition(rule, request);
  if (!clients) return std::move(clients).error().at({.key = "data.partition"});
  request.labels = data.test.labels;
  request.natural_client = data.test.client;
  request.for_test = true;
  // Test data of natural clients may come without a client column: then there are no per-client
  // figures.
  if (!by_nature || !data.test.client.empty()) {
    TERN_TRY(prepared.test_clients, partition(rule, request));
  }
  Result<std::shared_ptr<const LearningData>> made =
      make_learning_data(scenario.model.name, std::move(data), *std::move(clients));
  if (!made) return std::move(made).error().at({.key = "model.name"});
  prepared.data = *std::move(made);
  return prepared;
}

Result<ordered_json> estimate_cost(const PreparedScenario& prepared, size_t workers) {
  const Scenario& scenario = prepared.scenario;
  const size_t n = prepared.data->schema.elements();
  TERN_TRY(const Codec up, Codec::parse(scenario.compression.up));
  TERN_TRY(const Codec down, Codec::parse(scenario.compression.down));
  CodecScratch scratch;
  std::vector<float> sample(n);
  Rng rng(scenario.seed, Purpose::kTest);
  for (float& value : sample) value = static_cast<float>(rng.normal());
  const auto part_bytes = [&](const Codec& codec) -> Result<size_t> {
    TERN_TRY(const PendingUpdate pending, encode_update(codec, {}, sample, Residual(), scratch));
    const std::span<const std::byte> frame(pending.frame);
    return total_bytes(split_into_parts(TransferKind::kUpdate, 0, {&frame, 1}));
  };
  TERN_TRY(const size_t up_bytes, part_bytes(up));
  TERN_TRY(const size_t down_bytes, part_bytes(down));
  const auto asked = static_cast<double>(clients_asked(scenario.fleet));
  const double missed =
      scenario.fleet.clients / asked;  // versions between two tasks of a client, on average
  const double download =
      std::min(missed * static_cast<double>(down_bytes), 4.0 * static_cast<double>(n));
  double examples = 0;
  for (const auto& client : prepared.data->clients) examples += static_cast<double>(client.size());
  examples /= static_cast<double>(prepared.data->clients.size());
  const double samples =
      scenario.training.local_steps > 0
          ? double{1} * scenario.training.local_steps * scenario.training.batch_size
          : examples * scenario.training.local_epochs;
  const double rounds = scenario.rounds;
  // Model, replica, version 0, residual, step; per worker update, accumulator, trainer's copies;
  // residuals of clients.
  const double residuals = up.error_feedback() ? scenario.fleet.clients : 0.0;
  const double memory =
      4.0 * static_cast<double>(n) * (6 + 6 * static_cast<double>(workers) + residuals) +
      4.0 * static_cast<double>(prepared.data->data.train.inputs.size() +
                                prepared.data->data.test.inputs.size());
  return ordered_json{{"parameters", n},
                      {"clients", scenario.fleet.clients},
                      {"update_bytes", up_bytes},
                      {"delta_bytes", down_bytes},
                      {"bytes_up", rounds * asked * static_cast<double>(up_bytes)},
                      {"bytes_down", rounds * asked * download},
                      {"samples", rounds * asked * samples},
                      {"memory_bytes", memory}};
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
  MetricsView metrics(scenario.target);
  uint32_t first_round = 1;
  if (options.resume) {
    TERN_TRY(earlier, read_checkpoint(folder->file("checkpoint.bin")));
    if (earlier->config_sha256 != config_sha256(scenario))
      return Status(Code::kInvalidArgument, "the checkpoint is of another scenario",
                    {.file = options.out});
    metrics.restore(earlier->totals, earlier->rows);
    first_round = earlier->fleet.round + 1;
  }
  EventFan events;
  events.add(metrics);
  std::optional<ProgressView> progress;
  TERN_TRY(const std::unique_ptr<Fleet> fleet,
           Fleet::make(scenario, prepared.data, prepared.test_clients, options.workers, events));
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
    events.add(progress.emplace(stderr, options.title, first_round, scenario.rounds));

  const SteadyClock clock;
  const auto wall = [&] { return wall_before + seconds(clock.now()); };
  const auto worked = [&] {
    WorkSeconds total = fleet->seconds();
    for (size_t i = 0; i < total.size(); ++i) total[i] += seconds_before[i];
    return total;
  };
  const auto save = [&] {
    return write_checkpoint(folder->file("checkpoint.bin"),
                            {.config_sha256 = config_sha256(scenario),
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
                   .interrupted = *stopped};
  if (!folder) return result;
  if (result.interrupted) TERN_CHECK_OK(save());
  TERN_CHECK_OK(write_results(*folder, prepared, *fleet, metrics, evaluation, result.summary));
  if (!result.interrupted) {
    std::error_code
        ignored;  // a checkpoint left over is harmless: the next start begins with its own error
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
    return all.size() > 1 ? std::sqrt(squares / static_cast<double>(all.size() - 1)) : 0.0;
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
