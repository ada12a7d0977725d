/// One chunk of a frame: the stages of a codec applied in order, and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "compression/updates/codec.h"
#include "compression/updates/scratch.h"
#include "compression/updates/stages/stage.h"

namespace tern {

/// How a chunk's body is to be read; in the chunk table.
enum class ChunkMode : uint8_t {
  kZero = 0,   ///< no body: every value is zero
  kCoded = 1,  ///< by the frame's stages
};

struct EncodedChunk {
  ChunkMode mode = ChunkMode::kZero;
  uint8_t parameter = 0;  ///< of the index code
  size_t bytes = 0;
};

/// A decoded chunk lies in the scratch: `values` (k of them), and `index` when it is sparse.
struct DecodedChunk {
  std::span<const float> values;
  std::span<const uint16_t> index;
  bool sparse = false;
};

/// Longest body of a chunk of n elements of which at most k are kept (k counts for topk only).
size_t max_chunk_bytes(const Codec& codec, size_t n, size_t k);

/// Encodes x into out (max_chunk_bytes long). Chunks in order: `cut` is consumed.
EncodedChunk encode_chunk(const Codec& codec, std::span<const float> x, const ChunkContext& context,
                          Selector::Cut& cut, CodecScratch& scratch, std::byte* out);

/// Decodes a hostile body for a chunk of n elements. Errors: kCorrupt.
Result<DecodedChunk> decode_chunk(const Codec& codec, std::span<const std::byte> body,
                                  uint8_t parameter, size_t n, const ChunkContext& context,
                                  CodecScratch& scratch);

}  // namespace tern
