/// Error feedback: what a lossy chain loses of one update is added to the next. Transactional:
/// encoding gives a frame and a pending residual; the residual counts only once the receiver has
/// acknowledged the frame. Law: sum of committed decoded frames + residual = sum of committed
/// updates (each aged as below). Paper: Seide et al. 2014; Stich et al. 2018, arXiv:1809.07599;
/// Karimireddy et al. 2019, arXiv:1901.09847 (EF14: one residual, added before the chain).
/// Deviation: commit and rollback, and ageing of residuals of clients rarely asked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "compression/updates/codec.h"
#include "compression/updates/scratch.h"

namespace tern {

/// An encoded update whose fate is open. Drop it to roll back.
struct PendingUpdate {
  std::vector<std::byte> frame;
  std::vector<float> residual;  ///< empty for chains without ef
};

/// One sender's committed residual; empty until the first commit, which counts as zeros. Threads:
/// one at a time.
class Residual {
 public:
  Residual() = default;
  explicit Residual(std::vector<float> values) : values_(std::move(values)) {}

  std::span<const float> values() const { return values_; }
  bool empty() const { return values_.empty(); }
  double norm() const;

  /// Halves the residual once for each further `stale_after` rounds without a task beyond the
  /// first; 0: never.
  void age(uint32_t rounds_without_task, uint32_t stale_after);
  void commit(PendingUpdate&& pending);

 private:
  std::vector<float> values_;
};

/// Encodes update (+ residual under ef). The bytes depend on codec, meta, update and residual
/// alone. Errors: as Codec::encode; kInvalidArgument when the residual has another length. Cost:
/// O(n).
Result<PendingUpdate> encode_update(const Codec& codec, const FrameMeta& meta,
                                    std::span<const float> update, const Residual& residual,
                                    CodecScratch& scratch);

}  // namespace tern
