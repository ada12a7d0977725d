/// A client's copy of the published model, moved from version to version by what it downloads.
/// Threads: one at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/parameter_schema.h"
#include "base/sha256.h"
#include "base/status.h"
#include "compression/updates/scratch.h"
#include "proto/messages.h"

namespace tern {

/// The longest download that any plan for such a model needs: its snapshot.
uint64_t max_download_bytes(const ParameterSchema& schema);

class Replica {
 public:
  /// Version 0, as the model card computes it from the run's seed. `schema` outlives it.
  Replica(const ParameterSchema& schema, std::vector<float> version_zero);

  uint32_t version() const { return version_; }
  std::span<const float> parameters() const { return parameters_; }
  const Digest& sha256() const { return sha256_; }

  /// Applies a download (frames back to back, hostile bytes) that must lead to plan.version with
  /// plan.model_sha256. Deltas to versions up to its own are passed over: who sent them may not
  /// know yet how far this replica has come. Errors: kCorrupt, kInvalidArgument, kOutOfRange; the
  /// replica then is as it was before.
  Status apply(const RoundPlan& plan, DownloadKind kind, std::span<const std::byte> transfer,
               CodecScratch& scratch);

  /// Errors: kCorrupt when the length differs.
  Status restore(uint32_t version, std::vector<float> parameters);

 private:
  const ParameterSchema* schema_;
  std::vector<float> version_zero_;
  std::vector<float> parameters_;
  uint32_t version_ = 0;
  Digest sha256_;
};

}  // namespace tern
