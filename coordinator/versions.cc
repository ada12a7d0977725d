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

VersionedModel::VersionedModel(const ParameterSchema& schema, uint64_t seed, VersionTree tree)
    : schema_(&schema),
      seed_(seed),
      tree_(std::move(tree)),
      residual_(std::make_shared<const std::vector<float>>()) {
  std::vector<float> zero(schema.elements());
  initialize_parameters(schema, seed, kGridBits, zero);
  largest_zero_ = kernels().max_abs(zero.data(), zero.size());
  parameters_ = std::make_shared<const std::vector<float>>(std::move(zero));
  sha256_ = tern::sha256(parameters());
}

double VersionedModel::residual_norm() const {
  return std::sqrt(kernels().sum_squares(residual_->data(), residual_->size()));
}

const std::vector<float>& VersionedModel::model_of(uint32_t version) const {
  return version == version_ ? *parameters_ : *bases_.at(version);
}

Result<SharedFrame> VersionedModel::publish(std::vector<float> step, const Codec& codec,
                                            uint32_t round, CodecScratch& scratch) {
  const uint32_t parent = tree_.parent(version_ + 1);
  const std::vector<float>& now = *parameters_;
  const std::vector<float>& base = model_of(parent);
  const size_t n = now.size();
  const bool keeps_remainder = !tree_.periods.empty() || codec.error_feedback() || !codec.lossy();
  std::vector<float> owed = std::move(step);
  if (keeps_remainder)
    for (size_t i = 0; i < residual_->size(); ++i) owed[i] += (*residual_)[i];
  // On the grid the difference of two versions is exact.
  if (parent != version_)
    for (size_t i = 0; i < n; ++i) owed[i] += now[i] - base[i];
  residual_ = std::make_shared<const std::vector<float>>();
  const float largest = kernels().max_abs(owed.data(), n);
  if (!(largest <= std::ldexp(1.0f, 25 - kGridBits)))
    return error(Code::kOutOfRange,
                 "version {} would move a parameter by {}: training diverges; lower the learning "
                 "rates",
                 version_ + 1, largest);
  const FrameMeta meta{.base_version = parent,
                       .round = round,
                       .seed = Rng(seed_, Purpose::kFrameSeed, round, kServer).next64()};
  auto frame = std::make_shared<Bytes>(codec.max_encoded_bytes(*schema_));
  TERN_TRY(const size_t bytes, codec.encode(meta, *schema_, owed, scratch, *frame));
  frame->resize(bytes);
  frame->shrink_to_fit();
  TERN_TRY(const CheckedFrame checked, inspect(*frame, *schema_, {}, scratch));
  std::vector<float> next = base;
  TERN_CHECK_OK(apply_delta(checked, kGridBits, scratch, next));
  // The difference from version 0 travels, too, and has to be as short.
  const float limit = std::ldexp(1.0f, 24 - kGridBits) - largest_zero_;
  const auto is_short = [limit](float value) { return std::fabs(value) < limit; };
  if (!is_short(kernels().max_abs(next.data(), n))) {
    const size_t i = std::ranges::find_if_not(next, is_short) - next.begin();
    return error(Code::kOutOfRange,
                 "parameter {} of version {} would be {}, published models stay within +-{}: "
                 "training diverges; lower the learning rate",
                 i, version_ + 1, next[i], limit);
  }
  // It is what every client has received.
  if (keeps_remainder)
    for (size_t i = 0; i < n; ++i) owed[i] -= next[i] - base[i];
  if (!keeps_remainder) owed = {};
  residual_ = std::make_shared<const std::vector<float>>(std::move(owed));
  bases_[version_] = std::move(parameters_);
  parameters_ = std::make_shared<const std::vector<float>>(std::move(next));
  sha256_ = tern::sha256(parameters());
  ++version_;
  snapshot_.reset();
  SharedFrame shared = std::move(frame);
  frames_[version_] = shared;
  forget_what_nothing_stands_on();
  return shared;
}

std::vector<uint32_t> VersionedModel::stood_on(uint32_t version) const {
  std::vector<uint32_t> versions = tree_.kept(version);
  if (!tree_.periods.empty() && tree_.anchor(version) == 0) versions.insert(versions.begin(), 0);
  std::erase(versions, version);
  return versions;
}

void VersionedModel::forget_what_nothing_stands_on() {
  const std::vector<uint32_t> needed = stood_on(version_);
  std::erase_if(bases_,
                [&](const auto& base) { return !std::ranges::binary_search(needed, base.first); });
  // Of the way here, what is sent to somebody: a way to the anchor that is longer than a snapshot
  // of it never is.
  const size_t longest = lossless().max_encoded_bytes(*schema_);
  const uint32_t anchor = tree_.anchor(version_);
  std::map<uint32_t, SharedFrame> way;
  size_t to_anchor = 0;
  for (uint32_t at = version_; at != 0; at = tree_.parent(at)) {
    const auto found = frames_.find(at);
    if (found == frames_.end()) break;
    if (at <= anchor) to_anchor += found->second->size();
    if (to_anchor > longest) break;
    way.insert(*found);
  }
  frames_ = std::move(way);
}

Status VersionedModel::encode_snapshot(CodecScratch& scratch) {
  const std::vector<float>& model = model_of(tree_.anchor(version_));
  std::vector<float> difference(model.size());
  initialize_parameters(*schema_, seed_, kGridBits, difference);
  for (size_t i = 0; i < model.size(); ++i) difference[i] = model[i] - difference[i];
  auto frame = std::make_shared<Bytes>(lossless().max_encoded_bytes(*schema_));
  const FrameMeta meta{.base_version = 0, .round = tree_.anchor(version_), .seed = seed_};
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
  Download way{.kind = DownloadKind::kDeltas};
  const uint32_t anchor = tree_.anchor(version_);
  size_t from_anchor = 0;
  uint32_t at = version_;
  for (; !tree_.holds(held, at); at = tree_.parent(at)) {
    const auto found = frames_.find(at);
    if (found == frames_.end()) break;
    if (at > anchor) ++from_anchor;
    way.frames.push_back(found->second);
  }
  const bool complete = tree_.holds(held, at);
  if (!complete) {  // what is kept of the way is no longer than a snapshot
    if (snapshot_ == nullptr) TERN_CHECK_OK(encode_snapshot(scratch));
    way.kind = DownloadKind::kSnapshot;
    way.frames.resize(from_anchor);
    way.frames.push_back(snapshot_);
  }
  std::ranges::reverse(way.frames);
  return way;
}

VersionsState VersionedModel::state() const {
  return {version_, parameters_, residual_, bases_, frames_};
}

Status VersionedModel::restore(VersionsState state) {
  const size_t n = schema_->elements();
  const auto fits = [&](const auto& base) { return base.second->size() == n; };
  if (state.parameters->size() != n || (!state.residual->empty() && state.residual->size() != n) ||
      !std::ranges::all_of(state.bases, fits))
    return error(Code::kCorrupt, "a saved model of {} parameters, expected {}",
                 state.parameters->size(), n);
  for (const uint32_t version : stood_on(state.version))
    if (!state.bases.contains(version))
      return error(Code::kCorrupt, "a saved model of version {} without {}, which later ones need",
                   state.version, version);
  version_ = state.version;
  parameters_ = std::move(state.parameters);
  residual_ = std::move(state.residual);
  bases_ = std::move(state.bases);
  frames_ = std::move(state.frames);
  snapshot_.reset();
  sha256_ = tern::sha256(parameters());
  return {};
}

}  // namespace tern
