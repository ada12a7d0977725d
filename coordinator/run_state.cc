#include "coordinator/run_state.h"

#include <algorithm>
#include <utility>

#include "compression/updates/frame.h"
#include "config/downlink.h"
#include "coordinator/strategies/ef21.h"
#include "coordinator/strategies/staleness.h"
#include "coordinator/warm_up.h"

namespace tern {

namespace {

VersionTree tree_of(const RunState::Setup& setup) {
  VersionTree tree = version_tree(setup.scenario.compression);
  tree.root = setup.initial.empty() ? 0 : 1;
  return tree;
}

}  // namespace

RunState::RunState(const Setup& setup, Codec up, std::vector<Codec> down, RateController rates)
    : scenario_(setup.scenario),
      schema_(setup.schema),
      up_(std::move(up)),
      down_(std::move(down)),
      rates_(std::move(rates)),
      selector_(setup.scenario, setup.clients),
      model_(schema_, scenario_.seed, tree_of(setup)),
      scratch_(std::max<size_t>(setup.workers, 1)) {}

Result<std::unique_ptr<RunState>> RunState::make(const Setup& setup) {
  TERN_TRY(Codec up, Codec::parse(setup.scenario.compression.up));
  TERN_TRY(std::vector<Codec> down, downlink_codecs(setup.scenario.compression));
  TERN_TRY(RateController rates,
           RateController::make(setup.scenario, setup.schema, setup.clients, setup.uplinks));
  std::unique_ptr<RunState> state(
      new RunState(setup, std::move(up), std::move(down), std::move(rates)));
  if (!setup.initial.empty()) TERN_CHECK_OK(state->publish_initial(setup.initial));
  return state;
}

Status RunState::publish_initial(std::span<const float> initial) {
  if (initial.size() != model_.parameters().size())
    return error(Code::kInvalidArgument, "the initial model has {} parameters, expected {}",
                 initial.size(), model_.parameters().size());
  std::vector<float> step(initial.size());
  for (size_t i = 0; i < step.size(); ++i) step[i] = initial[i] - model_.parameters()[i];
  TERN_TRY(const Codec lossless, Codec::parse("float32"));
  parent_sha256_ = model_.sha256();
  TERN_TRY([[maybe_unused]] const SharedFrame frame,
           model_.publish(std::move(step), lossless, 0, scratch(0)));
  return {};
}

Status RunState::settle_weights(uint32_t largest_examples) {
  const int shift = fedavg_weight_shift(largest_examples);
  const uint64_t largest =
      scenario_.fleet.equal_weights() ? 1 : fedavg_weight(largest_examples, shift);
  const AccumulatorBounds bounds{.norm_bound = scenario_.strategy.norm_bound,
                                 .largest_weights = scenario_.fleet.cohort * largest};
  TERN_TRY(sum_, FixedPointAccumulator::make(schema_.elements(), bounds));
  largest_examples_ = largest_examples;
  return {};
}

UpdateRules RunState::rules(const OpenTask& task, const Codec& codec,
                            uint32_t newest_version) const {
  return {.codec = codec,
          .schema = &schema_,
          .round = task.round,
          .base_version = task.version,
          .newest_version = newest_version,
          .norm_bound = scenario_.strategy.norm_bound,
          .largest_examples = largest_examples_,
          .weight_shift = fedavg_weight_shift(largest_examples_),
          .equal_weights = scenario_.fleet.equal_weights()};
}

void RunState::count(const UpdateMessage& message, CheckedUpdate& update, size_t bytes,
                     std::optional<double> seconds) {
  update.factor = staleness_factor(model_.version() - update.base_version(),
                                   scenario_.strategy.staleness_exponent);
  if (up_.feedback() == Feedback::kEf21)
    optimizer_.estimate_weights.try_emplace(message.client, update.weight);
  rates_.counted(message.client, bytes, update.frame.norm() * update.weight);
  selector_.counted(message.client, update.frame.meta().round, message.report, seconds);
}

Status RunState::add(size_t worker, const CheckedUpdate& update) {
  return decode_accumulate(update.frame, update.weight, update.factor, scratch(worker), sum_);
}

Status RunState::drop_round(CodecScratch& scratch) {
  sum_.clear();
  return rates_.end_round({}, scratch);
}

Result<std::vector<float>> RunState::aggregate(size_t worker) {
  const uint64_t weight = sum_.total_weight();
  std::vector<float> step = sum_.take_mean();
  if (up_.feedback() == Feedback::kEf21) ef21_step(optimizer_, weight, step);
  TERN_CHECK_OK(rates_.end_round(step, scratch(worker)));
  fedavg_step(scenario_.strategy, optimizer_, step);
  return step;
}

Result<SharedFrame> RunState::publish(size_t worker, uint32_t round, std::vector<float> step) {
  const Codec& chain = down_[model_.tree().level(model_.version() + 1)];
  TERN_TRY(const Codec down,
           codec_of_round(chain, scenario_.compression.error_feedback.warmup_down, round));
  parent_sha256_ = model_.sha256();
  return model_.publish(std::move(step), down, round, scratch(worker));
}

CoordinatorState RunState::state(uint32_t round) const {
  return {round,          model_.state(),   optimizer_, rates_.state(), selector_.state(),
          parent_sha256_, largest_examples_};
}

Status RunState::restore(CoordinatorState state) {
  const auto fits = [n = schema_.elements()](size_t size) { return size == 0 || size == n; };
  const ServerOptimizerState& optimizer = state.optimizer;
  if (!fits(optimizer.momentum.size()) || !fits(optimizer.lag.size()) ||
      !fits(optimizer.estimate.size()))
    return error(Code::kCorrupt, "a saved state of the server's step has {}, {} and {} values",
                 optimizer.momentum.size(), optimizer.lag.size(), optimizer.estimate.size());
  TERN_CHECK_OK(model_.restore(std::move(state.model)));
  optimizer_ = std::move(state.optimizer);
  rates_.restore(std::move(state.rate));
  selector_.restore(std::move(state.experiences));
  parent_sha256_ = state.parent_sha256;
  return state.largest_examples == 0 ? Status() : settle_weights(state.largest_examples);
}

}  // namespace tern
