#include "coordinator/views/summary.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/cpu_level.h"
#include "base/durable_file.h"
#include "base/safetensors.h"
#include "base/version.h"
#include "config/load.h"
#include "coordinator/views/progress.h"
#include "coordinator/views/report.h"

namespace tern {

using nlohmann::ordered_json;

namespace {

constexpr size_t kLateEvaluations = 10;

ordered_json or_null(bool known, ordered_json value) {
  return known ? std::move(value) : ordered_json(nullptr);
}

template <typename T>
ordered_json or_null(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

/// Lists, since what they hold differs from run to run.
ordered_json rate_control_json(const RunTotals& totals) {
  const auto list = [](const std::map<std::string, uint64_t>& counts, const char* what) {
    if (counts.empty()) return ordered_json(nullptr);
    ordered_json rows = ordered_json::array();
    for (const auto& [name, count] : counts) rows.push_back({{what, name}, {"updates", count}});
    return rows;
  };
  return {{"chains", list(totals.chains, "chain")}, {"reasons", list(totals.reasons, "reason")}};
}

size_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<size_t>(usage.ru_maxrss) * 1024;
}

}  // namespace

std::vector<StageSeconds> stage_seconds(const WorkSeconds& seconds) {
  std::vector<StageSeconds> result;
  result.reserve(seconds.size());
  for (size_t i = 0; i < seconds.size(); ++i) result.push_back({kWorkStageNames[i], seconds[i]});
  return result;
}

ordered_json make_summary(const SummaryInputs& inputs) {
  const RunTotals& totals = inputs.totals;
  const Evaluation* evaluation = inputs.evaluation;
  const auto& points = totals.evaluations;
  const bool evaluated = !points.empty();
  const size_t late = std::min(points.size(), kLateEvaluations);
  double late_sum = 0;
  for (size_t i = points.size() - late; i < points.size(); ++i) late_sum += points[i].accuracy;
  // Of equal ones the first.
  const auto best = std::ranges::max_element(points, {}, &RunTotals::Point::accuracy);
  const Scenario& scenario = inputs.scenario;

  ordered_json summary;
  summary["version"] = kVersion;
  summary["seed"] = scenario.seed;
  summary["workers"] = or_null(inputs.workers);
  summary["blas"] = or_null(inputs.blas);
  summary["cpu_level"] = std::string(name(cpu_level()));
  summary["libtorch"] = or_null(inputs.libtorch);
  summary["config_sha256"] = config_sha256(scenario);
  summary["rounds"] = inputs.rounds;
  summary["void_rounds"] = totals.void_rounds;
  summary["model"] = {{"name", scenario.model.name},
                      {"parameters", inputs.parameters},
                      {"sha256", to_hex(inputs.model_sha256)}};
  summary["final"] = {{"accuracy", or_null(evaluation, evaluation ? evaluation->accuracy : 0)},
                      {"loss", or_null(evaluation, evaluation ? evaluation->loss : 0)},
                      {"macro_f1", or_null(evaluation, evaluation ? evaluation->macro_f1 : 0)},
                      {"worst_decile_client_accuracy",
                       or_null(evaluation && !evaluation->clients.empty(),
                               evaluation ? evaluation->worst_decile_client_accuracy : 0)}};
  summary["late"] = {
      {"accuracy", or_null(evaluated, late_sum / static_cast<double>(std::max<size_t>(late, 1)))}};
  summary["best"] = {{"accuracy", or_null(evaluated, evaluated ? best->accuracy : 0)},
                     {"round", or_null(evaluated, evaluated ? best->round : 0)}};
  summary["bytes"] = {{"up", totals.bytes_up},
                      {"down", totals.bytes_down},
                      {"control_up", totals.control_up},
                      {"control_down", totals.control_down},
                      {"dense_up", totals.dense_up},
                      {"dense_down", totals.dense_down},
                      {"wire_up", or_null(totals.wire_up)},
                      {"wire_down", or_null(totals.wire_down)}};
  const bool target = scenario.target.accuracy.has_value(), reached = totals.reached.has_value();
  summary["target"] = {
      {"reached", or_null(target, reached)},
      {"round", or_null(reached, reached ? totals.reached->round : 0)},
      {"bytes_up", or_null(reached, reached ? totals.reached->bytes_up : 0)},
      {"bytes_down", or_null(reached, reached ? totals.reached->bytes_down : 0)},
      {"transfer_seconds", or_null(reached ? totals.reached->transfer_rounds : std::nullopt)},
      {"virtual_seconds", or_null(reached ? totals.reached->virtual_seconds : std::nullopt)}};
  summary["transfer_seconds"] = {{"rounds", or_null(totals.transfer_rounds)},
                                 {"clients", or_null(totals.transfer_clients)}};
  summary["rate_control"] = rate_control_json(totals);
  summary["seconds"] = {{"wall", inputs.wall_seconds}};
  for (const std::string_view stage : kWorkStageNames) {
    const auto spent = std::ranges::find(inputs.stage_seconds, stage, &StageSeconds::stage);
    const bool known = spent != inputs.stage_seconds.end();
    summary["seconds"][std::string(stage)] = or_null(known, known ? spent->seconds : 0);
  }
  summary["virtual_seconds"] = or_null(totals.virtual_seconds);
  summary["client_trainings"] = totals.client_trainings;
  summary["samples_trained"] = totals.samples_trained;
  summary["peak_rss_bytes"] = peak_rss_bytes();
  return summary;
}

ordered_json combine_summaries(const std::vector<ordered_json>& summaries) {
  const auto flat = [&](auto&& self, const std::vector<const ordered_json*>& all,
                        bool spread) -> ordered_json {
    if (all.front()->is_object()) {
      ordered_json object = ordered_json::object();
      for (const auto& [key, value] : all.front()->items()) {
        std::vector<const ordered_json*> inner;
        inner.reserve(all.size());
        for (const ordered_json* one : all) inner.push_back(&one->at(key));
        ordered_json combined = self(self, inner, spread);
        if (!combined.is_discarded()) object[key] = std::move(combined);
      }
      return object;
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
  all.reserve(summaries.size());
  for (const ordered_json& summary : summaries) all.push_back(&summary);
  ordered_json mean = flat(flat, all, false), spread = flat(flat, all, true);
  for (const char* key : {"seed", "workers"}) {
    mean.erase(key);
    spread.erase(key);
  }
  return {{"runs", summaries}, {"mean", std::move(mean)}, {"spread", std::move(spread)}};
}

ordered_json evaluation_json(const Evaluation& evaluation, const EvaluationNames& names) {
  ordered_json json{{"accuracy", evaluation.accuracy},
                    {"loss", evaluation.loss},
                    {"macro_f1", evaluation.macro_f1},
                    {"worst_decile_client_accuracy", evaluation.worst_decile_client_accuracy},
                    {"classes", ordered_json::array()},
                    {"clients", ordered_json::array()}};
  for (size_t c = 0; c < evaluation.classes.size(); ++c) {
    const ClassFigures& figures = evaluation.classes[c];
    json["classes"].push_back(
        {{"name", c < names.classes.size() ? names.classes[c] : std::to_string(c)},
         {"examples", figures.examples},
         {"recall", figures.recall},
         {"precision", figures.precision},
         {"f1", figures.f1}});
  }
  for (const ClientFigures& figures : evaluation.clients) {
    ordered_json client{{"client", figures.client}};
    if (figures.client < names.clients.size()) client["name"] = names.clients[figures.client];
    client["examples"] = figures.examples;
    client["accuracy"] = figures.accuracy;
    client["loss"] = figures.loss;
    json["clients"].push_back(std::move(client));
  }
  return json;
}

Status write_model(const RunFolder& folder, const ParameterSchema& schema,
                   const VersionedModel& model, const std::string& name) {
  return write_durably(
      folder.file("model.safetensors"),
      std::span<const std::byte>(to_safetensors(schema, model.parameters(),
                                                {{"tern.model", name},
                                                 {"tern.version", std::to_string(model.version())},
                                                 {"tern.sha256", to_hex(model.sha256())}})));
}

Status write_results(const RunFolder& folder, const RunOutput& output) {
  std::string rows;
  std::vector<nlohmann::json> for_report;
  for (const ordered_json& row : output.rows) {
    rows += row.dump() + "\n";
    for_report.emplace_back(row);
  }
  TERN_CHECK_OK(write_durably(folder.file("metrics.jsonl"), std::string_view(rows)));
  TERN_CHECK_OK(write_model(folder, output.schema, output.model, output.scenario.model.name));
  if (output.evaluation)
    TERN_CHECK_OK(write_durably(
        folder.file("evaluation.json"),
        std::string_view(evaluation_json(*output.evaluation, output.names)
                             .dump(2, ' ', false, ordered_json::error_handler_t::replace) +
                         "\n")));
  TERN_CHECK_OK(write_durably(
      folder.file("report.html"),
      std::string_view(render_report(nlohmann::json(output.summary), for_report,
                                     print_scenario(output.scenario, Tables::kRun)))));
  return write_durably(folder.file("summary.json"),
                       std::string_view(output.summary.dump(2) + "\n"));
}

namespace {

std::string number(const ordered_json& value, const char* format) {
  return value.is_null() ? "--" : fmt::format(fmt::runtime(format), value.get<double>());
}

std::string bytes_line(const ordered_json& bytes, const char* direction) {
  const double sent = bytes[direction].get<double>();
  const double dense = bytes[std::string("dense_") + direction].get<double>();
  return fmt::format("{:>10}   {:>9} as float32, {}", human_bytes(sent), human_bytes(dense),
                     sent > 0 ? fmt::format("{:.1f}x", dense / sent) : "--");
}

}  // namespace

std::string summary_table(const ordered_json& summary) {
  const auto& bytes = summary["bytes"];
  const auto& seconds = summary["seconds"];
  double busy_and_idle = 0;
  for (const auto& [stage, spent] : seconds.items())
    if (stage != "wall" && spent.is_number()) busy_and_idle += spent.get<double>();
  std::string text = fmt::format(
      "{}, {} parameters, {} rounds, seed {}\n", summary["model"]["name"].get<std::string>(),
      summary["model"]["parameters"].get<uint64_t>(), summary["rounds"].get<uint64_t>(),
      summary["seed"].get<uint64_t>());
  const auto row = [&](std::string_view label, const std::string& value) {
    text += fmt::format("  {:<22} {}\n", label, value);
  };
  row("accuracy, late", fmt::format("{:>10}   mean of the last 10 evaluations",
                                    number(summary["late"]["accuracy"], "{:.4f}")));
  row("accuracy, best",
      fmt::format("{:>10}   in round {}", number(summary["best"]["accuracy"], "{:.4f}"),
                  number(summary["best"]["round"], "{:.0f}")));
  row("accuracy, final",
      fmt::format("{:>10}   loss {}, macro F1 {}, worst tenth of clients {}",
                  number(summary["final"]["accuracy"], "{:.4f}"),
                  number(summary["final"]["loss"], "{:.4f}"),
                  number(summary["final"]["macro_f1"], "{:.4f}"),
                  number(summary["final"]["worst_decile_client_accuracy"], "{:.4f}")));
  if (summary["void_rounds"] != 0)
    row("void rounds",
        fmt::format("{:>10}   too few updates counted; metrics.jsonl says how many were refused",
                    summary["void_rounds"].get<uint64_t>()));
  if (summary["target"]["reached"].is_boolean()) {
    const auto& target = summary["target"];
    row("target",
        target["reached"].get<bool>()
            ? fmt::format("   reached in round {}, after {} up and {} down",
                          target["round"].get<int>(), human_bytes(target["bytes_up"].get<double>()),
                          human_bytes(target["bytes_down"].get<double>()))
            : std::string("   not reached"));
  }
  row("bytes up", bytes_line(bytes, "up"));
  row("bytes down", bytes_line(bytes, "down"));
  if (const ordered_json& transfer = summary["transfer_seconds"]; transfer["rounds"].is_number())
    row("uploads took",
        fmt::format("{:>8.2f} s   the slowest of each round; {:.2f} s over all clients",
                    transfer["rounds"].get<double>(), transfer["clients"].get<double>()));
  for (const ordered_json& chain : summary["rate_control"]["chains"])
    row("", fmt::format("{:>10} x {}", chain["updates"].get<uint64_t>(),
                        chain["chain"].get<std::string>()));
  if (summary["virtual_seconds"].is_number())
    row("virtual time",
        fmt::format(
            "{:>10}{}", human_seconds(summary["virtual_seconds"].get<double>()),
            summary["target"]["virtual_seconds"].is_number()
                ? fmt::format("   target after {}",
                              human_seconds(summary["target"]["virtual_seconds"].get<double>()))
                : ""));
  std::string stages;
  for (const auto& [stage, spent] : seconds.items())
    if (stage != "wall" && spent.is_number() && busy_and_idle > 0)
      stages += fmt::format("{}{} {:.1f}%", stages.empty() ? "" : ", ", stage,
                            100 * spent.get<double>() / busy_and_idle);
  std::string time = fmt::format("{:>10}", human_seconds(seconds["wall"].get<double>()));
  if (const ordered_json& workers = summary["workers"]; workers.is_number())
    time +=
        fmt::format("   {} worker{}: {}", workers.get<uint64_t>(), workers == 1 ? "" : "s", stages);
  row("time", time);
  row("samples trained",
      fmt::format(
          "{:>10}   {:.0f}/s, peak memory {}", summary["samples_trained"].get<uint64_t>(),
          summary["samples_trained"].get<double>() / std::max(1e-9, seconds["wall"].get<double>()),
          human_bytes(summary["peak_rss_bytes"].get<double>())));
  row("model SHA-256", summary["model"]["sha256"].get<std::string>());
  return text;
}

std::string combined_table(const ordered_json& combined) {
  const auto& mean = combined["mean"];
  const auto& spread = combined["spread"];
  std::string text =
      fmt::format("mean of {} runs, +- standard deviation\n", combined["runs"].size());
  const auto row = [&](const char* label, const char* table, const char* key) {
    text += fmt::format("  {:<22} {:>10} +- {}\n", label, number(mean[table][key], "{:.4f}"),
                        number(spread[table][key], "{:.4f}"));
  };
  row("accuracy, late", "late", "accuracy");
  row("accuracy, best", "best", "accuracy");
  row("accuracy, final", "final", "accuracy");
  text += fmt::format("  {:<22} {}\n", "bytes up", bytes_line(mean["bytes"], "up"));
  text += fmt::format("  {:<22} {}\n", "bytes down", bytes_line(mean["bytes"], "down"));
  return text;
}

}  // namespace tern
