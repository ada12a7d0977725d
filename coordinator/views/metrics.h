/// metrics.jsonl and the running totals, as a view of the event stream.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/event.h"
#include "config/scenario.h"

namespace tern {

/// What a run has cost and reached so far. Byte counts are lengths of what was sent, part headers
/// included.
struct RunTotals {
  uint64_t bytes_up = 0;
  uint64_t bytes_down = 0;
  uint64_t control_up = 0;  ///< messages that aren't transfers
  uint64_t control_down = 0;
  std::optional<uint64_t> wire_up = {};  ///< on the sockets; none without sockets
  std::optional<uint64_t> wire_down = {};
  uint64_t dense_up = 0;
  uint64_t dense_down = 0;
  uint64_t client_trainings = 0;
  uint64_t samples_trained = 0;
  uint32_t void_rounds = 0;
  /// Seconds that links take for the updates, by bytes a second: of each round the slowest that was
  /// counted, which the round waits for, and of all that were sent. None while no link is known.
  std::optional<double> transfer_rounds = {};
  std::optional<double> transfer_clients = {};
  std::optional<double> virtual_seconds = {};  ///< since the run began, where devices take time
  /// Updates asked for with each chain, and why, under rate control.
  std::map<std::string, uint64_t> chains = {};
  std::map<std::string, uint64_t> reasons = {};

  struct Point {
    uint32_t round = 0;
    double accuracy = 0;
    double loss = 0;
  };
  std::vector<Point> evaluations;

  /// When the target was first reached.
  struct Reached {
    uint32_t round = 0;
    uint64_t bytes_up = 0;
    uint64_t bytes_down = 0;
    std::optional<double> transfer_rounds = {};
    std::optional<double> virtual_seconds = {};
  };
  std::optional<Reached> reached;
};

nlohmann::ordered_json to_json(const RunTotals& totals);
/// Throws nlohmann::json::exception on another shape.
RunTotals totals_from_json(const nlohmann::ordered_json& json);

/// Collects one row a round. Threads: one.
class MetricsView : public EventSink {
 public:
  explicit MetricsView(const TargetConfig& target) : target_(target) {}

  void on(const Event& event) override;

  const RunTotals& totals() const { return totals_; }
  const std::vector<nlohmann::ordered_json>& rows() const { return rows_; }
  /// Ends the row of the round at hand; call once a round, after its evaluation.
  const nlohmann::ordered_json& finish_round(double wall_seconds);
  void restore(RunTotals totals, std::vector<nlohmann::ordered_json> rows);

 private:
  TargetConfig target_;
  RunTotals totals_;
  std::vector<nlohmann::ordered_json> rows_;
  // Of the round at hand.
  nlohmann::ordered_json row_;
  double loss_sum_ = 0;
  double norm_sum_ = 0;
  uint64_t updates_ = 0;
  uint64_t norms_ = 0;     // updates whose norm is known: those that passed the check
  uint64_t round_up_ = 0;  // since the last row: late updates and messages come between rounds, too
  uint64_t round_down_ = 0;
  uint64_t round_control_up_ = 0;
  uint64_t round_control_down_ = 0;
  uint32_t counted_ = 0;
  uint64_t staleness_sum_ = 0, staleness_max_ = 0;  // of those that were counted
  uint32_t refused_ = 0;
  uint32_t failed_ = 0;
  nlohmann::ordered_json tasks_ = nlohmann::ordered_json::array();
  double ends_ = 0, ends_counted_ = 0;  // when the last task ended; sum over those counted
  uint64_t timed_ = 0, timed_counted_ = 0;
  double last_transfer_ = 0;  // of the update that was sent last: it is counted next, or not at all
  std::optional<double> slowest_, transfers_;
  std::map<std::string, uint64_t> chains_, reasons_;
};

}  // namespace tern
