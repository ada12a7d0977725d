#include "coordinator/cohort_selector.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/rng.h"
#include "coordinator/selection.h"

namespace tern {

namespace {

constexpr double kFirstExploration = 0.9, kExplorationDecay = 0.98, kLastExploration = 0.2;
/// Of Oort: how near to the best a client must be to be drawn, and where utilities are cut off.
constexpr double kNearTheBest = 0.95, kCutOff = 0.95;
/// A round waits longer than the quantile says: times vary, and whom it misses seems faster than it
/// is.
constexpr double kDeadlineMargin = 1.5;
constexpr uint32_t kMissesThatTell = 3;
/// What clients say is believed up to this.
constexpr double kLargestLoss = 1e6;
/// Scores become whole weights, so that a last bit of this machine's log() decides nothing.
constexpr double kWeightOne = 0x1p20;

double quantile(std::vector<double> values, double share) {
  const auto at = values.begin() +
                  static_cast<ptrdiff_t>(std::ceil(share * static_cast<double>(values.size()) - 1));
  std::ranges::nth_element(values, std::max(at, values.begin()));
  return *std::max(at, values.begin());
}

uint32_t share_of(double share, uint32_t count) {
  return static_cast<uint32_t>(std::lround(share * count));
}

double exploration(uint32_t round) {
  double share = kFirstExploration;
  for (uint32_t i = 1; i < round && share > kLastExploration; ++i) share *= kExplorationDecay;
  return std::max(share, kLastExploration);
}

std::vector<uint32_t> sorted(std::vector<uint32_t> clients) {
  std::ranges::sort(clients);
  return clients;
}

}  // namespace

nlohmann::ordered_json to_json(const ClientExperiences& experiences) {
  auto json = nlohmann::ordered_json::array();
  for (const auto& [client, known] : experiences)
    json.push_back(
        {client, known.round, known.misses, known.examples, known.mean_loss, known.seconds});
  return json;
}

ClientExperiences experiences_from_json(const nlohmann::ordered_json& json) {
  ClientExperiences experiences;
  for (const auto& known : json)
    experiences[known.at(0)] = {.round = known.at(1),
                                .misses = known.at(2),
                                .examples = known.at(3),
                                .mean_loss = known.at(4),
                                .seconds = known.at(5)};
  return experiences;
}

CohortSelector::CohortSelector(const Scenario& scenario, uint32_t clients)
    : rule_(parse_selection_rule(scenario.fleet.selection).value_or(SelectionRule{})),
      seed_(scenario.seed),
      clients_(clients),
      asked_a_round_(scenario.fleet.schedule == "fedbuff"
                         ? scenario.fleet.cohort  // over_select says how many are at work
                         : static_cast<uint32_t>(clients_asked(scenario.fleet))),
      quantile_(scenario.fleet.deadline_quantile) {
  if (rule_.kind != SelectionRule::Kind::kRoundRobin) return;
  std::vector<uint32_t> order(clients);
  std::iota(order.begin(), order.end(), 0u);
  Rng(seed_, Purpose::kChoice).shuffle(std::span(order));
  place_.resize(clients);
  for (uint32_t place = 0; place < clients; ++place) place_[order[place]] = place;
}

void CohortSelector::announced(uint32_t client, uint32_t examples) {
  if (rule_.kind != SelectionRule::Kind::kWeighted) return;
  if (client >= examples_.size()) examples_.resize(client + 1, 1);
  examples_[client] = std::max(examples, 1u);
}

void CohortSelector::counted(uint32_t client, uint32_t round, const TrainReport& report,
                             std::optional<double> seconds) {
  if (!remembers()) return;
  ClientExperience& known = known_[client];
  const double loss = report.mean_loss;
  known = {.round = round,
           .misses = 0,
           .examples = report.examples,
           .mean_loss = loss > 0 ? std::min(loss, kLargestLoss) : 0,
           .seconds = seconds.value_or(known.seconds)};
}

void CohortSelector::missed(uint32_t client, uint32_t round) {
  if (!remembers()) return;
  ClientExperience& known = known_[client];
  known.round = round;
  ++known.misses;
}

void CohortSelector::late(uint32_t client, uint32_t round, double seconds) {
  if (!remembers()) return;
  missed(client, round);
  ClientExperience& known = known_[client];
  known.seconds = std::max(known.seconds, seconds);
}

std::vector<uint32_t> CohortSelector::select(const std::optional<Clients>& free, uint32_t count,
                                             uint32_t round, uint32_t asked) const {
  using Kind = SelectionRule::Kind;
  if (rule_.kind == Kind::kUniform && asked == 0)
    return free ? select_available(*free, clients_, count, seed_, round)
                : select_uniform(clients_, count, seed_, round);
  Clients all;
  if (!free) {
    all.resize(clients_);
    std::iota(all.begin(), all.end(), 0u);
  }
  const Clients& there = free ? *free : all;
  count = static_cast<uint32_t>(std::min<size_t>(count, there.size()));
  switch (rule_.kind) {
    case Kind::kUniform:
      return sorted(draw_more(there, count, seed_, round, asked));
    case Kind::kWeighted:
      return sorted(weighted(there, count, round, asked));
    case Kind::kRoundRobin:
      return sorted(round_robin(there, count, round, asked));
    case Kind::kPowerOfChoice:
      return sorted(power_of_choice(there, count, round, asked));
    case Kind::kOort:
      return sorted(oort(there, count, round, asked));
  }
  return {};
}

std::vector<uint32_t> CohortSelector::weighted(const Clients& free, uint32_t count, uint32_t round,
                                               uint32_t asked) const {
  std::vector<uint64_t> weights;
  weights.reserve(free.size());
  for (const uint32_t client : free)
    weights.push_back(client < examples_.size() ? examples_[client] : 1);
  Rng rng(seed_, Purpose::kChoice, round, asked);
  return draw_weighted(free, weights, count, rng);
}

std::vector<uint32_t> CohortSelector::round_robin(const Clients& free, uint32_t count,
                                                  uint32_t round, uint32_t asked) const {
  const uint64_t start = (uint64_t{round - 1} * asked_a_round_ + asked) % clients_;
  Clients order = free;
  const auto turn = [&](uint32_t client) { return (place_[client] + clients_ - start) % clients_; };
  std::ranges::nth_element(order, order.begin() + count, {}, turn);
  order.resize(count);
  return order;
}

/// What there is to learn from a client, in the unit of `otherwise`, the mean of the others.
double CohortSelector::gain(const ClientExperience& known, double otherwise) const {
  const double weight = rule_.kind == SelectionRule::Kind::kOort ? known.examples : 1.0;
  return (known.examples > 0 ? weight * known.mean_loss : otherwise) / (1.0 + known.misses);
}

std::vector<uint32_t> CohortSelector::power_of_choice(const Clients& free, uint32_t count,
                                                      uint32_t round, uint32_t asked) const {
  const double wanted = std::ceil(rule_.candidates * count);
  Rng rng(seed_, Purpose::kChoice, round, asked);
  Clients candidates = draw_some(
      free, static_cast<uint32_t>(std::fmin(wanted, static_cast<double>(free.size()))), rng);
  const double mean = mean_gain();
  // In the order drawn, which is what equal ones are told apart by.
  std::ranges::stable_sort(candidates, std::greater<>(), [&](uint32_t client) {
    const auto known = known_.find(client);
    return known == known_.end() ? std::numeric_limits<double>::infinity()
                                 : gain(known->second, mean);
  });
  candidates.resize(count);
  return candidates;
}

std::vector<uint32_t> CohortSelector::oort(const Clients& free, uint32_t count, uint32_t round,
                                           uint32_t asked) const {
  Clients unknown, known;
  for (const uint32_t client : free) (known_.contains(client) ? known : unknown).push_back(client);
  // Whom one of the two groups lacks comes from the other.
  const auto unknown_count = static_cast<uint32_t>(unknown.size()),
             known_count = static_cast<uint32_t>(known.size());
  const uint32_t explored = std::max(std::min(share_of(exploration(round), count), unknown_count),
                                     count - std::min(count, known_count));
  Rng rng(seed_, Purpose::kChoice, round, asked);
  Clients chosen = draw_some(unknown, explored, rng);
  const uint32_t exploited = count - explored;
  if (exploited == 0) return chosen;
  std::vector<double> scores = utilities(known, round);
  std::vector<double> best = scores;
  std::ranges::nth_element(best, best.begin() + (exploited - 1), std::greater<>());
  const double near = kNearTheBest * best[exploited - 1];
  Clients candidates;
  std::vector<uint64_t> weights;
  for (size_t i = 0; i < known.size(); ++i) {
    if (scores[i] < near) continue;
    candidates.push_back(known[i]);
    weights.push_back(1 + static_cast<uint64_t>(scores[i] * kWeightOne));
  }
  std::ranges::copy(draw_weighted(candidates, weights, exploited, rng), std::back_inserter(chosen));
  return chosen;
}

std::vector<double> CohortSelector::utilities(std::span<const uint32_t> clients,
                                              uint32_t round) const {
  std::vector<double> gains, seconds;
  const double mean = mean_gain();
  for (const uint32_t client : clients) {
    const ClientExperience& known = known_.at(client);
    gains.push_back(gain(known, mean));
    seconds.push_back(known.seconds);
  }
  const double high = quantile(gains, kCutOff), low = std::min(high, std::ranges::min(gains));
  const double preferred = quantile(seconds, 0.5);
  std::vector<double> scores;
  for (size_t i = 0; i < clients.size(); ++i) {
    const double gain = high > low ? (std::min(gains[i], high) - low) / (high - low) : 1;
    const double neglect = std::sqrt(0.1 * std::log(static_cast<double>(round)) /
                                     std::max(known_.at(clients[i]).round, 1u));
    const double slower = seconds[i] > preferred ? preferred / seconds[i] : 1;
    scores.push_back((gain + neglect) * slower * slower);
  }
  return scores;
}

double CohortSelector::mean_gain() const {
  double sum = 0, clients = 0;
  for (const auto& [client, known] : known_)
    if (known.examples > 0) {
      ClientExperience faultless = known;
      faultless.misses = 0;
      sum += gain(faultless, 0);
      ++clients;
    }
  return clients > 0 ? sum / clients : 0;
}

std::optional<Duration> CohortSelector::deadline() const {
  if (!quantile_) return std::nullopt;
  std::vector<double> seconds;
  for (const auto& [client, known] : known_)
    if (known.seconds > 0 && known.misses < kMissesThatTell) seconds.push_back(known.seconds);
  if (seconds.size() < asked_a_round_) return std::nullopt;
  const double wait = kDeadlineMargin * quantile(std::move(seconds), *quantile_);
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(std::fmin(wait, 1e9)));
}

}  // namespace tern
