/// The chain of a round while a warm-up lasts: error feedback starts from dense updates and gets to
/// its rate in steps (Lin et al. 2018, arXiv:1712.01887).
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "compression/updates/codec.h"
#include "config/scenario.h"

namespace tern {

/// `codec` with the rate of the step that `round` (from 1) falls into, or as it is after the last
/// step. Errors: kInvalidArgument when a step is due and the chain has no stage with a rate, or a
/// rate that no stage takes. Threads: pure.
Result<Codec> codec_of_round(const Codec& codec, const std::vector<WarmUpStep>& warmup,
                             uint32_t round);

}  // namespace tern
