#include "coordinator/versions.h"

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "compression/updates/frame.h"
#include "compression/updates/kernels/kernels.h"

namespace tern {

namespace {

/// The server's own number in the streams that are keyed by client.
constexpr uint32_t kServer = 0xffffffff;

const Codec& lossless() {
  static const Codec codec = *Codec::parse("float32");
  return codec;
}

}  // namespace

Status round_to_grid(std::span<float> parameters) {
  const float limit = std::ldexp(1.0f, 24 - kGridBits);
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (!(std::fabs(parameters[i]) < limit))
      return error(Code::kOutOfRange, "parameter {} is {}, published models stay within +-{}", i,
                   parameters[i], limit);
    const double scaled = std::nearbyint(std::ldexp(double{parameters[i]}, kGridBits));
    parameters[i] = static_cast<float>(std::ldexp(scaled, -kGridBits)) + 0.0f;
  }
  return {};
}

VersionedModel::VersionedModel(const ParameterSchema& schema, uint64_t seed)
    : schema_(&schema), seed_(seed), residual_(std::make_shared<const std::vector<float>>()) {
  std::vector<float> zero(schema.elements());
  initialize_parameters(schema, seed, kGridBits, zero);
  largest_zero_ = kernels().max_abs(zero.data(), zero.size());
  parameters_ = std::make_shared<const std::vector<float>>(std::move(zero));
  sha256_ = tern::sha256(parameters());
}

double VersionedModel::residual_norm() const {
  return std::sqrt(kernels().sum_squares(residual_->data(), residual_->size()));
}

Result<SharedFrame> VersionedModel::publish(std::vector<float> step, const Codec& codec,
                                            uint32_t round, CodecScratch& scratch) {
  const std::vector<float>& now = *parameters_;
  const size_t n = now.size();
  const bool keeps_remainder = codec.error_feedback() || !codec.lossy();
  std::vector<float> owed = std::move(step);
  if (keeps_remainder)
    for (size_t i = 0; i < residual_->size(); ++i) owed[i] += (*residual_)[i];
  residual_ = std::make_shared<const std::vector<float>>();
  const float largest = kernels().max_abs(owed.data(), n);
  if (!(largest <= std::ldexp(1.0f, 25 - kGridBits)))
    return error(Code::kOutOfRange,
                 "version {} would move a parameter by {}: training diverges; lower the learning "
                 "rates",
                 version_ + 1, largest);
  const FrameMeta meta{.base_version = version_,
                       .round = round,
                       .seed = Rng(seed_, Purpose::kFrameSeed, round, kServer).next64()};
  auto frame = std::make_shared<Bytes>(codec.max_encoded_bytes(*schema_));
  TERN_TRY(const size_t bytes, codec.encode(meta, *schema_, owed, scratch, *frame));
  frame->resize(bytes);
  frame->shrink_to_fit();
  TERN_TRY(const CheckedFrame checked, inspect(*frame, *schema_, {}, scratch));
  std::vector<float> next = now;
  TERN_CHECK_OK(apply_delta(checked, kGridBits, scratch, next));
  // The difference from version 0 travels, too, and has to be as short.
  const float limit = std::ldexp(1.0f, 24 - kGridBits) - largest_zero_;
  for (size_t i = 0; i < n; ++i)
    if (!(std::fabs(next[i]) < limit))
      return error(Code::kOutOfRange,
                   "parameter {} of version {} would be {}, published models stay within +-{}: "
                   "training diverges; lower "
                   "the learning rate",
                   i, version_ + 1, next[i], limit);
  // On the grid the difference of two versions is exact: it is what every client has received.
  if (keeps_remainder)
    for (size_t i = 0; i < n; ++i) owed[i] -= next[i] - now[i];
  if (!keeps_remainder) owed = {};
  residual_ = std::make_shared<const std::vector<float>>(std::move(owed));
  parameters_ = std::make_shared<const std::vector<float>>(std::move(next));
  sha256_ = tern::sha256(parameters());
  ++version_;
  snapshot_.reset();
  SharedFrame shared = std::move(frame);
  deltas_.push_back(shared);
  // A chain longer than a snapshot is never sent, so older deltas need not be kept.
  const size_t longest = lossless().max_encoded_bytes(*schema_);
  size_t chain = 0;
  auto oldest = deltas_.end();
  while (oldest != deltas_.begin() && chain + (*(oldest - 1))->size() <= longest)
    chain += (*--oldest)->size();
  deltas_.erase(deltas_.begin(), oldest);
  return shared;
}

Status VersionedModel::encode_snapshot(CodecScratch& scratch) {
  const std::vector<float>& now = *parameters_;
  std::vector<float> difference(now.size());
  initialize_parameters(*schema_, seed_, kGridBits, difference);
  for (size_t i = 0; i < now.size(); ++i) difference[i] = now[i] - difference[i];
  auto frame = std::make_shared<Bytes>(lossless().max_encoded_bytes(*schema_));
  const FrameMeta meta{.base_version = 0, .round = version_, .seed = seed_};
  TERN_TRY(const size_t bytes, lossless().encode(meta, *schema_, difference, scratch, *frame));
  frame->resize(bytes);
  snapshot_ = std::move(frame);
  return {};
}

Result<Download> VersionedModel::download(uint32_t held, CodecScratch& scratch) {
  if (held > version_)
    return error(Code::kInvalidArgument, "a client claims version {}, the newest is {}", held,
                 version_);
  if (held == version_) return Download{};
  const size_t missing = version_ - held;
  if (missing <= deltas_.size()) {  // all that are kept are no longer than a snapshot
    Download chain{.kind = DownloadKind::kDeltas};
    chain.frames.assign(deltas_.end() - static_cast<ptrdiff_t>(missing), deltas_.end());
    return chain;
  }
  if (snapshot_ == nullptr) TERN_CHECK_OK(encode_snapshot(scratch));
  return Download{.kind = DownloadKind::kSnapshot, .frames = {snapshot_}};
}

VersionsState VersionedModel::state() const {
  return {version_, parameters_, residual_, {deltas_.begin(), deltas_.end()}};
}

Status VersionedModel::restore(VersionsState state) {
  const size_t n = schema_->elements();
  if (state.parameters->size() != n || (!state.residual->empty() && state.residual->size() != n) ||
      state.deltas.size() > state.version)
    return error(Code::kCorrupt, "a saved model of {} parameters, expected {}",
                 state.parameters->size(), n);
  version_ = state.version;
  parameters_ = std::move(state.parameters);
  residual_ = std::move(state.residual);
  deltas_.assign(state.deltas.begin(), state.deltas.end());
  snapshot_.reset();
  sha256_ = tern::sha256(parameters());
  return {};
}

}  // namespace tern
