#include "tests/bench/measured_chain.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/rng.h"

namespace tern {

namespace {

// Enough for a residual that is neither zero nor a multiple of one update.
constexpr size_t kEarlier = 3;
// Unbiased chains that drop values make the others larger, and a residual adds to the update.
constexpr double kNormRoom = 1 << 16;
constexpr FrameMeta kMeta{.base_version = 1, .round = 1, .seed = 1};

double norm_of(std::span<const float> values) {
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * value;
  return std::sqrt(squares);
}

}  // namespace

BenchmarkUpdate gaussian_update(size_t n) {
  BenchmarkUpdate update{.schema = ParameterSchema::flat(n), .values = std::vector<float>(n)};
  Rng rng(1, Purpose::kTest);
  for (float& value : update.values) value = static_cast<float>(rng.normal());
  for (size_t i = 1; i <= kEarlier; ++i) {
    std::vector<float> shifted(n);
    std::rotate_copy(update.values.begin(),
                     update.values.begin() + static_cast<ptrdiff_t>(n * i / (kEarlier + 1)),
                     update.values.end(), shifted.begin());
    update.earlier.push_back(std::move(shifted));
  }
  return update;
}

Result<FixedPointAccumulator> make_benchmark_accumulator(const BenchmarkUpdate& update) {
  const double norm = std::max(norm_of(update.values), 1e-6);
  return FixedPointAccumulator::make(
      update.values.size(), {.norm_bound = kNormRoom * norm, .largest_weights = kMostDecodes});
}

Result<MeasuredChain> MeasuredChain::make(std::string_view spec, const BenchmarkUpdate& update) {
  TERN_TRY(Codec codec, Codec::parse(spec));
  MeasuredChain chain(std::move(codec), update);
  // Otherwise their frames would be encoded for nothing.
  const bool remembers =
      std::any_of(chain.codec_.stages().begin(), chain.codec_.stages().end(),
                  [](const Stage& stage) { return stage.info->traits.stateful; });
  if (remembers) {
    for (const std::vector<float>& values : update.earlier) {
      TERN_TRY(PendingUpdate pending, encode_update(chain.codec_, kMeta, update.schema, values,
                                                    chain.memory_, chain.scratch_));
      chain.memory_ = std::move(pending.next);
    }
  }
  TERN_CHECK_OK(chain.encode());
  chain.frame_ = chain.pending_.frame;
  TERN_TRY(chain.checked_, chain.check());
  return chain;
}

double MeasuredChain::bits_per_element() const {
  return 8 * static_cast<double>(frame_.size()) / static_cast<double>(update_->values.size());
}

Result<double> MeasuredChain::nmse() {
  std::vector<float> decoded(update_->values.size());
  TERN_CHECK_OK(decode(*checked_, scratch_, decoded));
  // With ef and dgc what is pending is what got lost; under ef21 it is the estimate.
  std::vector<float> lost = update_->values;
  if (codec_.feedback() == Feedback::kNone)
    for (size_t i = 0; i < lost.size(); ++i) lost[i] -= decoded[i];
  else if (codec_.feedback() == Feedback::kEf21)
    pending_.next.add_residual(lost, -1.0f);
  else
    lost = pending_.next.residual;
  const double error = norm_of(lost);
  for (size_t i = 0; i < lost.size(); ++i) decoded[i] += lost[i];
  const double given = norm_of(decoded);
  return error * error / (given * given);
}

Status MeasuredChain::encode() {
  TERN_TRY(pending_, encode_update(codec_, kMeta, update_->schema, update_->values, memory_,
                                   scratch_, ResidualStore::kFloat32, std::move(pending_)));
  return {};
}

Result<CheckedFrame> MeasuredChain::check() {
  return tern::inspect(frame_, update_->schema,
                       {.codec = &codec_, .max_bytes = codec_.max_encoded_bytes(update_->schema)},
                       scratch_);
}

Status MeasuredChain::inspect() {
  TERN_TRY(checked_, check());
  return {};
}

Status MeasuredChain::decode_accumulate(FixedPointAccumulator& accumulator) {
  return tern::decode_accumulate(*checked_, 1, 1.0, scratch_, accumulator);
}

}  // namespace tern
