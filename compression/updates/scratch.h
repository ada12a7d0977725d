/// Memory that encoding and decoding need, about 1.2 MB; reused, so that the steady state allocates
/// nothing. Threads: one for each thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "compression/updates/codec.h"

namespace tern {

class CodecScratch {
 public:
  CodecScratch()
      : chunk(kChunkElements),
        values(kChunkElements),
        index(kChunkElements),
        symbols(kChunkElements),
        groups(kChunkElements / kGroupElements),
        histogram(size_t{1} << 16) {}

  std::vector<float> chunk;     ///< one chunk, transformed
  std::vector<float> values;    ///< its kept values
  std::vector<uint16_t> index;  ///< their positions
  std::vector<uint16_t> symbols;
  std::vector<uint32_t> groups;
  std::vector<uint32_t> histogram;  ///< of magnitudes, for topk
};

}  // namespace tern
