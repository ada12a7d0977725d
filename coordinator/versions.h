/// The global model as a chain of published versions. What is published is exactly what clients
/// hold: every version is a multiple of 2^-grid_bits, so a chain of deltas and a lossless snapshot
/// give the same bits. Which version each is coded against says the VersionTree. Threads: one at a
/// time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/parameter_schema.h"
#include "base/sha256.h"
#include "base/status.h"
#include "compression/updates/codec.h"
#include "compression/updates/scratch.h"
#include "config/model_card.h"
#include "proto/messages.h"
#include "proto/parts.h"
#include "proto/transfer.h"
#include "proto/version_tree.h"

namespace tern {

/// Rounds parameters to the grid, ties to even; zero is always +0, as a sum of deltas would give
/// it. Errors: kOutOfRange for a value that isn't finite or isn't below 2^(24 - kGridBits).
Status round_to_grid(std::span<float> parameters);

/// What brings one client to the current version.
struct Download {
  DownloadKind kind = DownloadKind::kNothing;
  std::vector<SharedFrame> frames;
};

/// Of a version; never changed once made, so that nothing has to be copied to be kept.
using SharedFloats = std::shared_ptr<const std::vector<float>>;

/// Everything needed to go on from a version after a restart. Nothing in it is null.
struct VersionsState {
  uint32_t version = 0;
  SharedFloats parameters;
  SharedFloats residual;  ///< what is still owed to the clients; empty for chains without memory
  std::map<uint32_t, SharedFloats> bases;  ///< keyframes that later versions stand on
  std::map<uint32_t, SharedFrame> frames;  ///< that lead to versions on the way to `version`
};

class VersionedModel {
 public:
  /// Version 0 follows from the run's seed, for everybody. `schema` outlives it.
  VersionedModel(const ParameterSchema& schema, uint64_t seed, VersionTree tree = {});

  const VersionTree& tree() const { return tree_; }
  uint32_t version() const { return version_; }
  std::span<const float> parameters() const { return *parameters_; }
  const Digest& sha256() const { return sha256_; }
  double residual_norm() const;

  /// Publishes the next version: encodes what it is ahead of the version that it stands on, step
  /// and residual included, applies what clients will decode, keeps what is still owed. A plain
  /// chain without ef that loses something owes nothing: what it lost is lost. Returns the frame.
  /// Errors: kOutOfRange when a parameter leaves the grid's range (the model has diverged); nothing
  /// is published then, and what was owed is gone. Memory: the next version's beside this one's,
  /// the step's, and a model for each level of keyframes.
  Result<SharedFrame> publish(std::vector<float> step, const Codec& codec, uint32_t round,
                              CodecScratch& scratch);

  /// The frames from what a client has that was brought to `held`; or a lossless snapshot of the
  /// keyframe that this version stands on (without keyframes of itself) and the frames from there,
  /// when that is fewer bytes. Cost: O(1), or O(n) once a version for a snapshot. Errors:
  /// kInvalidArgument for a version that was never published.
  Result<Download> download(uint32_t held, CodecScratch& scratch);

  VersionsState state() const;
  /// Errors: kCorrupt when the lengths don't fit the schema.
  Status restore(VersionsState state);

 private:
  const std::vector<float>& model_of(uint32_t version) const;
  Status encode_snapshot(CodecScratch& scratch);
  /// What versions and snapshots after `version` need, itself excepted; in increasing order.
  std::vector<uint32_t> stood_on(uint32_t version) const;
  void forget_what_nothing_stands_on();

  const ParameterSchema* schema_;
  uint64_t seed_;
  VersionTree tree_;
  float largest_zero_ = 0;  // of version 0's parameters, by magnitude
  SharedFloats parameters_;
  SharedFloats residual_;
  uint32_t version_ = 0;
  Digest sha256_;
  std::map<uint32_t, SharedFloats> bases_;  // not version_ itself
  std::map<uint32_t, SharedFrame> frames_;
  SharedFrame snapshot_;  // of the anchor of version_; made when first asked for
};

}  // namespace tern
