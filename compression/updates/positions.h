/// How the positions of a chunk's kept values travel, in the way that is shortest for the chunk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"
#include "compression/updates/chain.h"
#include "compression/updates/chunk_coder.h"
#include "compression/updates/stages/rice.h"

namespace tern {

struct PositionsPlan {
  ChunkMode mode = ChunkMode::kDense;
  RicePlan rice;
  size_t bytes = 0;  ///< of the count and the positions
};

/// k > 0 increasing positions below n, in the code of the chain. `gaps` is memory for n numbers,
/// which write_positions() still needs.
PositionsPlan plan_positions(const uint16_t* index, size_t k, size_t n, IndexCode code,
                             uint16_t* gaps);
void write_positions(const PositionsPlan& plan, const uint16_t* index, size_t k, size_t n,
                     uint16_t* gaps, std::byte* out);

/// The most bytes that count and positions take in a chunk of n.
size_t most_position_bytes(size_t n);

/// Reads the front of a hostile body: how many values there are and where; `used`: in how many
/// bytes. Errors: kCorrupt.
struct ReadPositions {
  size_t count = 0;
  size_t used = 0;
};
Result<ReadPositions> read_positions(ChunkMode mode, std::span<const std::byte> body,
                                     uint8_t parameter, size_t n, uint16_t* gaps, uint16_t* index);

}  // namespace tern
