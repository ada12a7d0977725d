#include "coordinator/update_check.h"

#include "coordinator/strategies/fedavg.h"

namespace tern {

size_t max_update_bytes(const UpdateRules& rules) {
  return rules.codec.max_encoded_bytes(*rules.schema);
}

Result<CheckedUpdate> check_update(const UpdateRules& rules, const UpdateMessage& message,
                                   std::span<const std::byte> transfer, CodecScratch& scratch) {
  const DecodeLimits limits{
      .codec = &rules.codec, .max_bytes = max_update_bytes(rules), .norm_bound = rules.norm_bound};
  TERN_TRY(CheckedFrame frame, inspect(transfer, *rules.schema, limits, scratch));
  const uint32_t base = frame.meta().base_version;
  if (frame.meta().round != rules.round || base < rules.base_version || base > rules.newest_version)
    return error(Code::kInvalidArgument,
                 "the update is of round {} from version {}, the plan of round {} from version {}",
                 frame.meta().round, base, rules.round, rules.base_version);
  const uint32_t examples = message.report.examples;
  if (examples == 0 || examples > rules.largest_examples)
    return error(Code::kInvalidArgument,
                 "the client says that it holds {} examples; clients hold 1 to {}", examples,
                 rules.largest_examples);
  const uint32_t weight = rules.equal_weights ? 1 : fedavg_weight(examples, rules.weight_shift);
  return CheckedUpdate{std::move(frame), weight};
}

}  // namespace tern
