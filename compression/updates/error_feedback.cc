#include "compression/updates/error_feedback.h"

#include <cmath>

#include "compression/updates/frame.h"
#include "compression/updates/kernels/kernels.h"

namespace tern {

double Residual::norm() const {
  return std::sqrt(kernels().sum_squares(values_.data(), values_.size()));
}

void Residual::age(uint32_t rounds_without_task, uint32_t stale_after) {
  if (stale_after == 0 || rounds_without_task <= stale_after) return;
  const uint32_t halvings = (rounds_without_task - stale_after) / stale_after;
  const float factor = std::ldexp(1.0f, -static_cast<int>(std::min<uint32_t>(halvings, 200)));
  for (float& value : values_) value *= factor;
}

void Residual::commit(PendingUpdate&& pending) {
  if (!pending.residual.empty()) values_ = std::move(pending.residual);
}

Result<PendingUpdate> encode_update(const Codec& codec, const FrameMeta& meta,
                                    std::span<const float> update, const Residual& residual,
                                    CodecScratch& scratch) {
  PendingUpdate pending;
  std::span<const float> input = update;
  if (codec.error_feedback()) {
    if (!residual.empty() && residual.values().size() != update.size())
      return error(Code::kInvalidArgument, "a residual of {} elements for an update of {}",
                   residual.values().size(), update.size());
    pending.residual.assign(update.begin(), update.end());
    for (size_t i = 0; i < residual.values().size(); ++i)
      pending.residual[i] += residual.values()[i];
    input = pending.residual;
  }
  pending.frame.resize(codec.max_encoded_bytes(update.size()));
  TERN_TRY(const size_t bytes, codec.encode(meta, input, scratch, pending.frame));
  pending.frame.resize(bytes);
  pending.frame.shrink_to_fit();
  if (codec.error_feedback()) {
    // The sender checks its own frame as a receiver would: what it subtracts is exactly what they
    // decode.
    const DecodeLimits limits{.schema_hash = meta.schema_hash, .elements = update.size()};
    TERN_TRY(const CheckedFrame frame, inspect(pending.frame, limits, scratch));
    TERN_CHECK_OK(subtract_decoded(frame, scratch, pending.residual));
  }
  return pending;
}

}  // namespace tern
