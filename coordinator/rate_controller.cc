#include "coordinator/rate_controller.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "coordinator/warm_up.h"
#include "proto/parts.h"

namespace tern {

namespace {

/// A client moves the mean more or less than the fleet by at most the root of this: its norm is one
/// noisy number.
constexpr double kMostImportance = 16;
/// New figures move an average by this share of the difference.
constexpr double kNewShare = 0.25;

double moved(const std::map<std::string, double>& averages, const std::string& key, double value) {
  const auto found = averages.find(key);
  return found == averages.end() ? value : found->second + kNewShare * (value - found->second);
}

/// During a warm-up a chain with error feedback keeps more, never less, than it would afterwards.
Result<Codec> warmed(const Codec& codec, const std::vector<WarmUpStep>& warmup, uint32_t round) {
  if (!codec.error_feedback() || !codec.selects()) return codec;
  TERN_TRY(const Codec warm, codec_of_round(codec, warmup, round));
  const auto rate = [](const Codec& chain) {
    for (const Stage& stage : chain.stages())
      if (stage.info->argument == Argument::kRate) return stage.argument;
    return 0u;
  };
  return rate(warm) > rate(codec) ? warm : codec;
}

}  // namespace

RateController::RateController(const Scenario& scenario, const ParameterSchema& schema, Codec up,
                               std::vector<Codec> ladder, std::vector<double> uplinks)
    : config_(scenario.compression.rate_control),
      warmup_(scenario.compression.error_feedback.warmup),
      schema_(schema),
      up_(std::move(up)),
      ladder_(std::move(ladder)),
      uplinks_(std::move(uplinks)),
      rule_(parse_rate_rule(scenario.fleet.uplink)),
      seed_(scenario.seed),
      cohort_(scenario.fleet.cohort),
      keeps_state_(true) {}

Result<RateController> RateController::make(const Scenario& scenario, const ParameterSchema& schema,
                                            uint32_t clients, std::vector<double> uplinks) {
  TERN_TRY(Codec up, Codec::parse(scenario.compression.up));
  std::vector<Codec> ladder;
  if (scenario.compression.rate_control.on()) {
    TERN_TRY(ladder, parse_ladder(scenario.compression.rate_control.ladder));
  }
  RateController controller(scenario, schema, std::move(up), std::move(ladder), std::move(uplinks));
  // A residual that waits longer than this from task to task is stale before it is sent.
  const double rounds_between_tasks =
      static_cast<double>(clients) /
      static_cast<double>(std::max<uint64_t>(clients_asked(scenario.fleet), 1));
  controller.keeps_state_ = rounds_between_tasks <= scenario.compression.error_feedback.stale_after;
  return controller;
}

std::optional<double> RateController::uplink(uint32_t client) const {
  if (client < uplinks_.size() && uplinks_[client] > 0) return uplinks_[client];
  if (rule_) return rate_of(*rule_, Purpose::kUplink, seed_, client);
  const auto found = measured_uplinks_.find(client);
  return found == measured_uplinks_.end() ? std::nullopt : std::optional(found->second);
}

double RateController::importance(uint32_t client) const {
  const auto found = state_.square_norms.find(client);
  if (found == state_.square_norms.end() || !(mean_square_norm_ > 0)) return 1;
  return std::clamp(found->second / mean_square_norm_, 1 / kMostImportance, kMostImportance);
}

Result<std::vector<Rung>> RateController::ladder(uint32_t round, CodecScratch& scratch) {
  std::vector<Codec> chains;
  for (const Codec& codec : ladder_) {
    TERN_TRY(Codec warm, warmed(codec, warmup_, round));
    // At a warm-up's rate two chains may be the same.
    if (std::ranges::find(chains, warm.spec(), &Codec::spec) == chains.end())
      chains.push_back(std::move(warm));
  }
  const auto same = [](const Rung& rung, const Codec& codec) {
    return rung.codec.spec() == codec.spec();
  };
  if (!std::ranges::equal(rungs_, chains, same)) {
    TERN_TRY(rungs_, measure_ladder(chains, schema_, {}, scratch));
  }
  std::vector<Rung> rungs = rungs_;
  for (Rung& rung : rungs) {
    const std::string spec = rung.codec.spec();
    if (const auto bytes = state_.bytes.find(spec); bytes != state_.bytes.end() && !rung.exact)
      rung.bytes = bytes->second;
    if (const auto nmse = state_.nmse.find(spec); nmse != state_.nmse.end())
      rung.nmse = nmse->second;
    rung.bytes += std::ceil(rung.bytes / kPartBytes) * kPartHeaderBytes;
  }
  return rungs;
}

Result<Codec> RateController::chain_of_round(uint32_t round) const {
  if (!up_.error_feedback() || !up_.selects()) return up_;
  return codec_of_round(up_, warmup_, round);
}

Result<RoundChains> RateController::begin_round(uint32_t round, std::span<const uint32_t> asked,
                                                CodecScratch& scratch) {
  round_ = round;
  frames_.clear();
  chains_ = {};
  const auto give = [&](uint32_t client, const Codec& codec, GivenChain given) {
    const auto found = std::ranges::find(chains_.chains, codec.spec(), &Codec::spec);
    given.chain = static_cast<size_t>(found - chains_.chains.begin());
    if (found == chains_.chains.end()) chains_.chains.push_back(codec);
    chains_.given[client] = given;
  };
  TERN_TRY(const Codec up, chain_of_round(round));
  if (!config_.on()) {
    for (const uint32_t client : asked) give(client, up, {});
    return chains_;
  }
  TERN_TRY(const std::vector<Rung> rungs, ladder(round, scratch));
  double sum = 0;
  for (const auto& [client, square] : state_.square_norms) sum += square;
  mean_square_norm_ = sum / static_cast<double>(std::max<size_t>(state_.square_norms.size(), 1));
  RoundQuery query{.cohort = cohort_};
  if (config_.worst_error) query.worst_error = *config_.worst_error;

  std::vector<RateClient> known;
  for (const uint32_t client : asked)
    if (const auto rate = uplink(client))
      known.push_back({.bytes_per_second = *rate,
                       .importance = importance(client),
                       .keeps_state = keeps_state_});
  if (config_.deadline_seconds)
    chains_.deadline_seconds =
        std::max(*config_.deadline_seconds, slowest_seconds(rungs, known, query));
  else if (config_.mean_error && !known.empty())
    chains_.deadline_seconds = shortest_deadline(rungs, known, query, *config_.mean_error);

  std::vector<double> shares(asked.size(), static_cast<double>(config_.budget_bytes));
  if (config_.mean_bytes > 0) {
    std::vector<RateClient> all;
    for (const uint32_t client : asked)
      all.push_back({.importance = importance(client), .keeps_state = keeps_state_});
    shares = divide_bytes(rungs, all, query, static_cast<double>(config_.mean_bytes));
  }

  for (size_t i = 0; i < asked.size(); ++i) {
    const uint32_t client = asked[i];
    const std::optional<double> rate = uplink(client);
    if (config_.needs_links() && !rate) {
      give(client, up, {.reason = RateReason::kUnknownLink});
      continue;
    }
    const double budget = config_.needs_links() ? *rate * *chains_.deadline_seconds : shares[i];
    const RateChoice choice = choose_rung(rungs, {.budget_bytes = budget,
                                                  .cohort = cohort_,
                                                  .keeps_state = keeps_state_,
                                                  .importance = importance(client),
                                                  .worst_error = query.worst_error});
    const Rung& rung = rungs[choice.rung];
    give(client, rung.codec,
         {.reason = choice.reason, .budget_bytes = budget, .bytes = rung.bytes, .nmse = rung.nmse});
  }
  return chains_;
}

Status RateController::resume_round(uint32_t round, RoundChains chains, CodecScratch& scratch) {
  if (config_.on()) {  // end_round() measures the rungs of this round's ladder
    TERN_TRY([[maybe_unused]] const std::vector<Rung> rungs, ladder(round, scratch));
  }
  round_ = round;
  frames_.clear();
  chains_ = std::move(chains);
  return {};
}

void RateController::counted(uint32_t client, size_t bytes, double norm) {
  if (config_.on()) frames_.push_back({client, bytes, norm});
}

void RateController::measured_uplink(uint32_t client, double bytes_per_second) {
  const auto [known, first] = measured_uplinks_.try_emplace(client, bytes_per_second);
  if (!first) known->second += kNewShare * (bytes_per_second - known->second);
}

Status RateController::end_round(std::span<const float> mean, CodecScratch& scratch) {
  std::ranges::sort(frames_, {}, &Frame::client);
  std::map<std::string, std::pair<double, double>> lengths;  // sum and count
  for (const Frame& frame : frames_) {
    const auto given = chains_.given.find(frame.client);
    if (given == chains_.given.end()) continue;
    const Codec& codec = chains_.chains[given->second.chain];
    auto& [sum, count] = lengths[codec.spec()];
    sum += static_cast<double>(frame.bytes);
    ++count;
    // Unbiased noise is at right angles to the update, so it adds to the square of its norm.
    const double inflated = codec.error_feedback() ? 1 : 1 + given->second.nmse;
    state_.square_norms[frame.client] = frame.norm * frame.norm / inflated;
  }
  for (const auto& [spec, length] : lengths)
    state_.bytes[spec] = moved(state_.bytes, spec, length.first / length.second);
  frames_.clear();
  // Updates change slowly, and each look costs a few encodings: after rounds 1, 2, 4, 8 and so on.
  const bool moved_at_all = std::ranges::any_of(mean, [](float value) { return value != 0; });
  if (!config_.on() || !moved_at_all || !std::has_single_bit(round_)) return {};
  std::vector<Codec> open;
  for (const Rung& rung : rungs_)
    if (!closed_form_nmse(rung.codec)) open.push_back(rung.codec);
  if (open.empty()) return {};
  TERN_TRY(const std::vector<Rung> measured,
           measure_ladder(open, schema_, {.update = mean, .trust_update = true}, scratch));
  for (const Rung& rung : measured) state_.nmse[rung.codec.spec()] = rung.nmse;
  return {};
}

}  // namespace tern
