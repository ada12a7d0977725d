#include "client/replica.h"

#include "compression/updates/frame.h"

namespace tern {

uint64_t max_download_bytes(const ParameterSchema& schema) {
  return Codec::parse("float32")->max_encoded_bytes(schema);
}

Replica::Replica(const ParameterSchema& schema, std::vector<float> version_zero)
    : schema_(&schema),
      version_zero_(std::move(version_zero)),
      parameters_(version_zero_),
      sha256_(tern::sha256(std::span<const float>(parameters_))) {}

Status Replica::apply(const RoundPlan& plan, DownloadKind kind, std::span<const std::byte> transfer,
                      CodecScratch& scratch) {
  std::vector<float> next;
  uint32_t version = version_;
  switch (kind) {
    case DownloadKind::kNothing:
      next = parameters_;
      break;
    case DownloadKind::kDeltas: {
      next = parameters_;
      if (plan.version < version_)
        return error(Code::kInvalidArgument, "the plan goes back from version {} to {}", version_,
                     plan.version);
      TERN_TRY(const auto frames, split_frames(transfer, plan.version));
      for (const auto& frame : frames) {
        TERN_TRY(const CheckedFrame checked, inspect(frame, *schema_, {}, scratch));
        if (checked.meta().base_version < version_) continue;
        if (checked.meta().base_version != version)
          return error(Code::kInvalidArgument, "a delta from version {}, this replica holds {}",
                       checked.meta().base_version, version);
        TERN_CHECK_OK(apply_delta(checked, plan.grid_bits, scratch, next));
        ++version;
      }
      break;
    }
    case DownloadKind::kSnapshot: {
      next = version_zero_;
      TERN_TRY(const CheckedFrame checked, inspect(transfer, *schema_, {}, scratch));
      if (checked.meta().base_version != 0 || checked.codec().lossy())
        return error(Code::kInvalidArgument,
                     "a snapshot must be lossless and relative to version 0");
      TERN_CHECK_OK(apply_delta(checked, plan.grid_bits, scratch, next));
      version = plan.version;
      break;
    }
  }
  if (version != plan.version)
    return error(Code::kInvalidArgument, "the download leads to version {}, the plan wants {}",
                 version, plan.version);
  const Digest digest =
      kind == DownloadKind::kNothing ? sha256_ : tern::sha256(std::span<const float>(next));
  if (digest != plan.model_sha256)
    return error(Code::kCorrupt, "version {} has SHA-256 {} here, the plan says {}", version,
                 to_hex(digest), to_hex(plan.model_sha256));
  parameters_ = std::move(next);
  version_ = version;
  sha256_ = digest;
  return {};
}

Status Replica::restore(uint32_t version, std::vector<float> parameters) {
  if (parameters.size() != parameters_.size())
    return error(Code::kCorrupt, "a saved replica of {} parameters, expected {}", parameters.size(),
                 parameters_.size());
  version_ = version;
  parameters_ = std::move(parameters);
  sha256_ = tern::sha256(std::span<const float>(parameters_));
  return {};
}

}  // namespace tern
