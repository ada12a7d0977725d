#include "coordinator/views/metrics.h"

#include <algorithm>
#include <utility>

namespace tern {

using nlohmann::ordered_json;

namespace {

/// Of a round, in its row: more can't be looked at one by one.
constexpr uint64_t kMostTasks = 50;

template <typename T>
ordered_json or_null(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

template <typename T = uint64_t>
std::optional<T> none_or(const ordered_json& json) {
  return json.is_null() ? std::nullopt : std::optional(json.get<T>());
}

ordered_json null_if_empty(const std::map<std::string, uint64_t>& counts) {
  return counts.empty() ? ordered_json(nullptr) : ordered_json(counts);
}

}  // namespace

ordered_json to_json(const RunTotals& totals) {
  ordered_json json{{"bytes_up", totals.bytes_up},
                    {"bytes_down", totals.bytes_down},
                    {"control_up", totals.control_up},
                    {"control_down", totals.control_down},
                    {"wire_up", or_null(totals.wire_up)},
                    {"wire_down", or_null(totals.wire_down)},
                    {"dense_up", totals.dense_up},
                    {"dense_down", totals.dense_down},
                    {"client_trainings", totals.client_trainings},
                    {"samples_trained", totals.samples_trained},
                    {"void_rounds", totals.void_rounds},
                    {"transfer_rounds", or_null(totals.transfer_rounds)},
                    {"transfer_clients", or_null(totals.transfer_clients)},
                    {"virtual_seconds", or_null(totals.virtual_seconds)},
                    {"chains", totals.chains},
                    {"reasons", totals.reasons},
                    {"evaluations", ordered_json::array()},
                    {"reached", nullptr}};
  for (const auto& point : totals.evaluations)
    json["evaluations"].push_back({point.round, point.accuracy, point.loss});
  if (totals.reached)
    json["reached"] = {totals.reached->round, totals.reached->bytes_up, totals.reached->bytes_down,
                       or_null(totals.reached->transfer_rounds),
                       or_null(totals.reached->virtual_seconds)};
  return json;
}

RunTotals totals_from_json(const ordered_json& json) {
  RunTotals totals{.bytes_up = json.at("bytes_up"),
                   .bytes_down = json.at("bytes_down"),
                   .control_up = json.at("control_up"),
                   .control_down = json.at("control_down"),
                   .wire_up = none_or(json.at("wire_up")),
                   .wire_down = none_or(json.at("wire_down")),
                   .dense_up = json.at("dense_up"),
                   .dense_down = json.at("dense_down"),
                   .client_trainings = json.at("client_trainings"),
                   .samples_trained = json.at("samples_trained"),
                   .void_rounds = json.at("void_rounds"),
                   .transfer_rounds = none_or<double>(json.at("transfer_rounds")),
                   .transfer_clients = none_or<double>(json.at("transfer_clients")),
                   .virtual_seconds = none_or<double>(json.at("virtual_seconds")),
                   .chains = json.at("chains"),
                   .reasons = json.at("reasons"),
                   .evaluations = {},
                   .reached = {}};
  for (const auto& point : json.at("evaluations"))
    totals.evaluations.push_back({point.at(0), point.at(1), point.at(2)});
  const auto& reached = json.at("reached");
  if (!reached.is_null())
    totals.reached =
        RunTotals::Reached{reached.at(0), reached.at(1), reached.at(2),
                           none_or<double>(reached.at(3)), none_or<double>(reached.at(4))};
  return totals;
}

void MetricsView::on(const Event& event) {
  const auto text = [&](std::string_view field) {
    for (const auto& [key, value] : event.fields)
      if (key == field) return std::get<std::string>(value);
    return std::string();
  };
  const auto whole = [&](std::string_view field) {
    return static_cast<uint64_t>(event.number(field));
  };
  if (event.name == "round_started" || event.name == "round_resumed") {
    row_ = {{"round", whole("round")}, {"cohort", whole("asked")}};
    loss_sum_ = norm_sum_ = 0;
    norms_ = updates_ = 0;
    counted_ = static_cast<uint32_t>(event.number("counted"));
    refused_ = failed_ = 0;
    staleness_sum_ = staleness_max_ = 0;
    slowest_.reset();
    transfers_.reset();
    chains_.clear();
    reasons_.clear();
    tasks_ = ordered_json::array();
    ends_ = ends_counted_ = 0;
    timed_ = timed_counted_ = 0;
  } else if (event.name == "chain_given") {
    ++chains_[text("chain")];
    ++reasons_[text("reason")];
    ++totals_.chains[text("chain")];
    ++totals_.reasons[text("reason")];
  } else if (event.name == "deadline_set") {
    row_["deadline"] = event.number("seconds");
  } else if (event.name == "download_sent") {
    round_down_ += whole("bytes");
    totals_.bytes_down += whole("bytes");
    totals_.dense_down += whole("dense_bytes");
  } else if (event.name == "update_sent") {
    ++updates_;
    loss_sum_ += event.number("loss");
    if (event.has("norm")) {
      norm_sum_ += event.number("norm");
      ++norms_;
    }
    round_up_ += whole("bytes");
    totals_.bytes_up += whole("bytes");
    totals_.dense_up += whole("dense_bytes");
    ++totals_.client_trainings;
    totals_.samples_trained += whole("samples");
    last_transfer_ = event.number("transfer_seconds");
    if (event.has("transfer_seconds")) {
      transfers_ = transfers_.value_or(0) + last_transfer_;
      totals_.transfer_clients = totals_.transfer_clients.value_or(0) + last_transfer_;
    }
  } else if (event.name == "update_ignored") {
    round_up_ += whole("bytes");
    totals_.bytes_up += whole("bytes");
    totals_.dense_up += whole("dense_bytes");
  } else if (event.name == "control_bytes") {
    round_control_up_ += whole("up");
    round_control_down_ += whole("down");
    totals_.control_up += whole("up");
    totals_.control_down += whole("down");
  } else if (event.name == "virtual_time") {
    totals_.virtual_seconds = event.number("seconds");
  } else if (event.name == "wire_bytes") {
    totals_.wire_up = whole("up");
    totals_.wire_down = whole("down");
  } else if (event.name == "update_counted") {
    ++counted_;
    staleness_sum_ += whole("staleness");
    staleness_max_ = std::max(staleness_max_, whole("staleness"));
    if (last_transfer_ > slowest_.value_or(0)) {
      totals_.transfer_rounds =
          totals_.transfer_rounds.value_or(0) + last_transfer_ - slowest_.value_or(0);
      slowest_ = last_transfer_;
    }
  } else if (event.name == "update_refused") {
    ++refused_;
  } else if (event.name == "task_failed") {
    ++failed_;
  } else if (event.name == "task_timed") {
    const double until = event.number("until");
    ends_ = std::max(ends_, until);
    if (text("end") == "counted") {
      ends_counted_ += until;
      ++timed_counted_;
    }
    if (timed_++ < kMostTasks)
      tasks_.push_back({whole("client"), event.number("from"), until, text("end")});
  } else if (event.name == "round_void") {
    row_["void"] = true;
    ++totals_.void_rounds;
  } else if (event.name == "version_published") {
    row_["version"] = whole("version");
    row_["delta_bytes"] = whole("delta_bytes");
    row_["residual_norm"] = event.number("residual_norm");
  } else if (event.name == "model_evaluated" && whole("scheduled") == 1) {
    // An evaluation that only an interruption caused must not count: a resumed run has none.
    const auto round = static_cast<uint32_t>(whole("round"));
    const double accuracy = event.number("accuracy"), loss = event.number("loss");
    row_["accuracy"] = accuracy;
    row_["loss"] = loss;
    totals_.evaluations.push_back({round, accuracy, loss});
    if (target_.accuracy && accuracy >= *target_.accuracy && !totals_.reached)
      totals_.reached = RunTotals::Reached{round, totals_.bytes_up, totals_.bytes_down,
                                           totals_.transfer_rounds, totals_.virtual_seconds};
  }
}

const ordered_json& MetricsView::finish_round(double wall_seconds) {
  const auto mean = [](double sum, uint64_t count) {
    return count > 0 ? ordered_json(sum / static_cast<double>(count)) : ordered_json(nullptr);
  };
  // Where nothing takes time there is nothing to tell.
  const bool timed = ends_ > 0;
  const double waited = static_cast<double>(timed_counted_) * ends_ - ends_counted_;
  const auto known = [this](const char* key, ordered_json otherwise) {
    return row_.contains(key) ? row_[key] : std::move(otherwise);
  };
  rows_.push_back({{"round", row_["round"]},
                   {"cohort", row_["cohort"]},
                   {"updates", counted_},
                   {"refused", refused_},
                   {"failed", failed_},
                   {"staleness", mean(static_cast<double>(staleness_sum_), counted_)},
                   {"staleness_max", staleness_max_},
                   {"void", known("void", false)},
                   {"version", known("version", nullptr)},
                   {"bytes_up", std::exchange(round_up_, 0)},
                   {"bytes_down", std::exchange(round_down_, 0)},
                   {"control_up", std::exchange(round_control_up_, 0)},
                   {"control_down", std::exchange(round_control_down_, 0)},
                   {"delta_bytes", known("delta_bytes", nullptr)},
                   {"deadline", known("deadline", nullptr)},
                   {"transfer_slowest", or_null(slowest_)},
                   {"transfer_sum", or_null(transfers_)},
                   {"virtual_seconds", or_null(totals_.virtual_seconds)},
                   {"waiting", timed ? mean(waited, timed_counted_) : nullptr},
                   {"tasks", timed ? std::exchange(tasks_, ordered_json::array()) : nullptr},
                   {"chains", null_if_empty(chains_)},
                   {"reasons", null_if_empty(reasons_)},
                   {"train_loss", mean(loss_sum_, updates_)},
                   {"update_norm", mean(norm_sum_, norms_)},
                   {"residual_norm", known("residual_norm", nullptr)},
                   {"accuracy", known("accuracy", nullptr)},
                   {"loss", known("loss", nullptr)},
                   {"seconds", wall_seconds}});
  return rows_.back();
}

void MetricsView::restore(RunTotals totals, std::vector<ordered_json> rows) {
  totals_ = std::move(totals);
  rows_ = std::move(rows);
}

}  // namespace tern
