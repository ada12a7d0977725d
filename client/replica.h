/// A client's copy of the published model, moved from version to version by what it downloads, with
/// the keyframes that later downloads build on. Threads: one at a time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/parameter_schema.h"
#include "base/sha256.h"
#include "base/status.h"
#include "compression/updates/scratch.h"
#include "proto/messages.h"

namespace tern {

/// The longest download that any plan for such a model needs: a snapshot of the root, a
/// keyframe of each level and a refinement.
uint64_t max_download_bytes(const ParameterSchema& schema);

/// Of one version; never changed once made, so that clients of one process can share it.
struct PublishedModel {
  uint32_t version = 0;
  std::vector<float> parameters;
  Digest sha256{};
};
using SharedModel = std::shared_ptr<const PublishedModel>;
/// By version; the last one is the version that their holder is at.
using HeldModels = std::map<uint32_t, SharedModel>;

class Replica {
 public:
  /// Version 0, as the model card computes it from the run's seed. `schema` outlives it.
  Replica(const ParameterSchema& schema, std::vector<float> version_zero);

  /// That it is at.
  const SharedModel& current() const { return current_; }
  uint32_t version() const { return current_->version; }
  std::span<const float> parameters() const { return current_->parameters; }
  const Digest& sha256() const { return current_->sha256; }
  /// All that it holds, version 0 excepted, by version.
  const HeldModels& models() const { return models_; }

  /// Applies a download (frames back to back, hostile bytes) that must lead to plan.version with
  /// plan.model_sha256, and keeps what later ones build on (VersionTree::kept). Frames of versions
  /// that it holds are passed over: who sent them may not know yet how far this replica has come.
  /// Errors: kCorrupt, kInvalidArgument, kOutOfRange; the replica then is as it was before.
  Status apply(const RoundPlan& plan, DownloadKind kind, std::span<const std::byte> transfer,
               CodecScratch& scratch);

  /// The same, but stays where it is and forgets nothing: the version and the keyframes on the way
  /// to it are added to what it holds.
  Result<SharedModel> reach(const RoundPlan& plan, DownloadKind kind,
                            std::span<const std::byte> transfer, CodecScratch& scratch);
  /// Goes to a version that it holds; all others but those of `keep` are forgotten.
  void move_to(uint32_t version, std::span<const uint32_t> keep);

  /// What an earlier replica held. Errors: kCorrupt when a length differs, or there is none.
  Status restore(const HeldModels& models);

 private:
  /// Null when it doesn't.
  SharedModel held(uint32_t version) const;

  const ParameterSchema* schema_;
  SharedModel zero_;
  SharedModel current_;
  HeldModels models_;  // without version 0
};

}  // namespace tern
