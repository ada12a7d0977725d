#include "client/replica.h"

#include <algorithm>
#include <utility>

#include "compression/updates/frame.h"

namespace tern {

namespace {

SharedModel make_model(uint32_t version, std::vector<float> parameters) {
  PublishedModel model{.version = version, .parameters = std::move(parameters)};
  model.sha256 = tern::sha256(std::span<const float>(model.parameters));
  return std::make_shared<const PublishedModel>(std::move(model));
}

/// The versions that the last `frames` frames on the way to `version` lead to, in order. Errors:
/// kInvalidArgument when the way is shorter.
Result<std::vector<uint32_t>> way_to(const VersionTree& tree, uint32_t version, size_t frames) {
  std::vector<uint32_t> versions;
  for (uint32_t at = version; versions.size() < frames; at = tree.parent(at)) {
    if (at == 0)
      return error(Code::kInvalidArgument, "{} frames, the way to version {} has only {}", frames,
                   version, versions.size());
    versions.push_back(at);
  }
  std::ranges::reverse(versions);
  return versions;
}

}  // namespace

uint64_t max_download_bytes(const ParameterSchema& schema) {
  return (2 + VersionTree::kMostLevels) *
         static_cast<uint64_t>(Codec::parse("float32")->max_encoded_bytes(schema));
}

Replica::Replica(const ParameterSchema& schema, std::vector<float> version_zero)
    : schema_(&schema), zero_(make_model(0, std::move(version_zero))), current_(zero_) {}

Status Replica::apply(const RoundPlan& plan, DownloadKind kind, std::span<const std::byte> transfer,
                      CodecScratch& scratch) {
  if (plan.version < version())
    return error(Code::kInvalidArgument, "the plan goes back from version {} to {}", version(),
                 plan.version);
  TERN_TRY([[maybe_unused]] const SharedModel model, reach(plan, kind, transfer, scratch));
  move_to(plan.version, plan.versions.kept(plan.version));
  return {};
}

void Replica::move_to(uint32_t version, std::span<const uint32_t> keep) {
  current_ = held(version);
  std::erase_if(models_, [&](const auto& model) {
    return model.first != version && !std::ranges::binary_search(keep, model.first);
  });
}

Result<SharedModel> Replica::reach(const RoundPlan& plan, DownloadKind kind,
                                   std::span<const std::byte> transfer, CodecScratch& scratch) {
  const VersionTree& tree = plan.versions;
  const bool snapshot = kind == DownloadKind::kSnapshot;
  std::vector<std::span<const std::byte>> frames;
  if (kind != DownloadKind::kNothing) {
    TERN_TRY(frames, split_frames(transfer, plan.version));
  }
  // The first frame of a snapshot leads to the anchor, the others on from there.
  TERN_TRY(std::vector<uint32_t> versions,
           way_to(tree, plan.version, frames.size() - (snapshot && !frames.empty())));
  const uint32_t anchor = tree.anchor(plan.version);
  if (snapshot) {
    const uint32_t end = versions.empty() ? plan.version : tree.parent(versions.front());
    if (frames.empty() || end != anchor)
      return error(Code::kInvalidArgument,
                   "a snapshot of version {} and {} frames do not lead to version {}", anchor,
                   versions.size(), plan.version);
    versions.insert(versions.begin(), anchor);
  }

  // frames[i] leads from stations[i] to the next one. Nothing before the last one that this replica
  // holds is needed.
  std::vector<uint32_t> stations{snapshot         ? 0
                                 : frames.empty() ? plan.version
                                                  : tree.parent(versions.front())};
  stations.insert(stations.end(), versions.begin(), versions.end());
  size_t at = stations.size();
  SharedModel from;
  while (from == nullptr && at > 0) from = held(stations[--at]);
  if (from == nullptr && frames.empty())
    return error(Code::kInvalidArgument,
                 "nothing comes with a plan of version {}, this replica is at version {}",
                 plan.version, version());
  if (from == nullptr)
    return error(Code::kInvalidArgument,
                 "the download leads from version {} to {}, this replica is at version {}",
                 stations.front(), plan.version, version());

  const std::vector<uint32_t> kept = tree.kept(plan.version);
  std::vector<SharedModel> made;
  std::vector<float> next;
  for (; at < frames.size(); ++at) {
    const uint32_t base = stations[at], version = stations[at + 1];
    TERN_TRY(const CheckedFrame frame, inspect(frames[at], *schema_, {}, scratch));
    if (frame.meta().base_version != base)
      return error(Code::kInvalidArgument,
                   "a frame from version {}, the way to version {} leads from version {}",
                   frame.meta().base_version, version, base);
    if (snapshot && at == 0 && frame.codec().lossy())
      return error(Code::kInvalidArgument, "a snapshot must be lossless");
    if (next.empty()) next = from->parameters;
    TERN_CHECK_OK(apply_delta(frame, plan.grid_bits, scratch, next));
    if (!std::ranges::binary_search(kept, version)) continue;
    from = make_model(version, std::exchange(next, {}));
    made.push_back(from);
  }
  if (from->sha256 != plan.model_sha256)
    return error(Code::kCorrupt, "version {} has SHA-256 {} here, the plan says {}", plan.version,
                 to_hex(from->sha256), to_hex(plan.model_sha256));
  for (SharedModel& model : made) {
    const uint32_t version = model->version;
    models_[version] = std::move(model);
  }
  return from;
}

SharedModel Replica::held(uint32_t version) const {
  if (version == 0) return zero_;
  const auto found = models_.find(version);
  return found == models_.end() ? nullptr : found->second;
}

Status Replica::restore(const HeldModels& models) {
  if (models.empty()) return error(Code::kCorrupt, "a saved replica without a model");
  HeldModels restored;
  for (const auto& [version, model] : models) {
    if (model->parameters.size() != zero_->parameters.size())
      return error(Code::kCorrupt, "a saved replica of {} parameters, expected {}",
                   model->parameters.size(), zero_->parameters.size());
    restored[version] = make_model(version, model->parameters);
  }
  models_ = std::move(restored);
  current_ = models_.rbegin()->second;
  return {};
}

}  // namespace tern
