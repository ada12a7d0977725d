#include "coordinator/warm_up.h"

namespace tern {

Result<Codec> codec_of_round(const Codec& codec, const std::vector<WarmUpStep>& warmup,
                             uint32_t round) {
  uint64_t last = 0;
  for (const WarmUpStep& step : warmup) {
    last += step.rounds;
    if (round <= last) return codec.with_rate(step.rate);
  }
  return codec;
}

}  // namespace tern
