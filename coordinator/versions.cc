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

VersionedModel::VersionedModel(const ParameterSchema& schema, std::vector<float> version_zero,
                               uint64_t seed)
    : schema_(&schema),
      seed_(seed),
      version_zero_(std::move(version_zero)),
      parameters_(version_zero_),
      sha256_(tern::sha256(std::span<const float>(parameters_))) {}

double VersionedModel::residual_norm() const {
  return std::sqrt(kernels().sum_squares(residual_.data(), residual_.size()));
}

Result<SharedFrame> VersionedModel::publish(std::span<const float> step, const Codec& codec,
                                            uint32_t round, CodecScratch& scratch) {
  const size_t n = parameters_.size();
  const bool keeps_remainder = codec.error_feedback() || !codec.lossy();
  std::vector<float> owed(step.begin(), step.end());
  if (keeps_remainder)
    for (size_t i = 0; i < residual_.size(); ++i) owed[i] += residual_[i];
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
  std::vector<float> next = parameters_;
  TERN_CHECK_OK(apply_delta(checked, kGridBits, scratch, next));
  const float limit = std::ldexp(1.0f, 24 - kGridBits);
  for (size_t i = 0; i < n; ++i)
    if (!(std::fabs(next[i]) < limit) || !(std::fabs(next[i] - version_zero_[i]) < limit))
      return error(Code::kOutOfRange,
                   "parameter {} of version {} would be {}, published models stay within +-{}: "
                   "training diverges; lower "
                   "the learning rate",
                   i, version_ + 1, next[i], limit);
  // On the grid the difference of two versions is exact: it is what every client has received.
  if (keeps_remainder)
    for (size_t i = 0; i < n; ++i) owed[i] -= next[i] - parameters_[i];
  residual_ = keeps_remainder ? std::move(owed) : std::vector<float>();
  parameters_ = std::move(next);
  sha256_ = tern::sha256(std::span<const float>(parameters_));
  ++version_;
  snapshot_.reset();
  SharedFrame shared = std::move(frame);
  deltas_.push_back(shared);
  // A chain longer than a snapshot is never sent, so older deltas need not be kept.
  size_t chain = 0, keep = 0;
  while (keep < deltas_.size() && chain <= lossless().max_encoded_bytes(*schema_))
    chain += (*(deltas_.end() - 1 - static_cast<ptrdiff_t>(keep++)))->size();
  deltas_.erase(deltas_.begin(), deltas_.end() - static_cast<ptrdiff_t>(keep));
  return shared;
}

Status VersionedModel::encode_snapshot(CodecScratch& scratch) {
  const size_t n = parameters_.size();
  std::vector<float> difference(n);
  for (size_t i = 0; i < n; ++i) difference[i] = parameters_[i] - version_zero_[i];
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
  Download chain{.kind = DownloadKind::kDeltas};
  size_t chain_bytes = 0;
  if (missing <= deltas_.size()) {
    chain.frames.assign(deltas_.end() - static_cast<ptrdiff_t>(missing), deltas_.end());
    for (const SharedFrame& frame : chain.frames) chain_bytes += frame->size();
  }
  if (snapshot_ == nullptr) TERN_CHECK_OK(encode_snapshot(scratch));
  if (!chain.frames.empty() && chain_bytes <= snapshot_->size()) return chain;
  return Download{.kind = DownloadKind::kSnapshot, .frames = {snapshot_}};
}

VersionsState VersionedModel::state() const {
  return {version_, parameters_, residual_, {deltas_.begin(), deltas_.end()}};
}

Status VersionedModel::restore(VersionsState state) {
  const size_t n = version_zero_.size();
  if (state.parameters.size() != n || (!state.residual.empty() && state.residual.size() != n) ||
      state.deltas.size() > state.version)
    return error(Code::kCorrupt, "a saved model of {} parameters, expected {}",
                 state.parameters.size(), n);
  version_ = state.version;
  parameters_ = std::move(state.parameters);
  residual_ = std::move(state.residual);
  deltas_.assign(state.deltas.begin(), state.deltas.end());
  snapshot_.reset();
  sha256_ = tern::sha256(std::span<const float>(parameters_));
  return {};
}

}  // namespace tern
