/// The coordinator's receipt of an update: is this the answer to the plan, may it be counted, and
/// what does it weigh?
#pragma once

#include <cstdint>
#include <span>

#include "base/status.h"
#include "compression/updates/frame.h"
#include "proto/messages.h"
#include "proto/parts.h"

namespace tern {

/// What is expected of the update of a task.
struct UpdateRules {
  Codec codec;                              ///< of its round: a warm-up changes its rate
  const ParameterSchema* schema = nullptr;  ///< never null
  uint32_t round = 0;                       ///< in which it was asked for
  uint32_t base_version = 0;    ///< that it may be based on: the newest when it was asked for,
  uint32_t newest_version = 0;  ///< or a later one, which a client got that came back
  double norm_bound = 0;
  uint32_t largest_examples = 0;  ///< that a client of this fleet can hold
  int weight_shift = 0;           ///< see fedavg_weight
  bool equal_weights = false;     ///< 1 for everybody, whatever it holds
};

struct CheckedUpdate {
  CheckedFrame frame;  ///< a view of the transfer's bytes
  uint32_t weight = 0;
  double factor = 1;  ///< for its age; see staleness.h

  uint32_t base_version() const { return frame.meta().base_version; }
};

/// Longest transfer that an update of these rules can have.
size_t max_update_bytes(const UpdateRules& rules);

/// The dry decode of a transfer, and whether it is what the plan asked for.
/// Errors: those of inspect; kInvalidArgument for another codec, round, base version, or a number
/// of examples that no client of the fleet holds. Cost: O(bytes + elements). Threads: safe, each
/// with its own scratch.
Result<CheckedUpdate> check_update(const UpdateRules& rules, const UpdateMessage& message,
                                   std::span<const std::byte> transfer, CodecScratch& scratch);

}  // namespace tern
