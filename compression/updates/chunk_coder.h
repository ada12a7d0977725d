/// One chunk of a frame: the stages of a chain applied in order, and back.
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
  kEmpty = 0,   ///< no body: every value is zero
  kDense = 1,   ///< quantized values alone: all of them, or those at seeded positions
  kPlain = 2,   ///< a count, 16-bit positions, quantized values
  kRice = 3,    ///< a count, Rice-coded positions, quantized values
  kBitmap = 4,  ///< a count, one bit an element, quantized values
  kRaw = 5,     ///< float32 elements: the stages would have been longer
  kHalf = 6,    ///< bfloat16 elements, of the small stream
  kCabac = 7,   ///< a count, positions coded by `cabac`, quantized values
};

/// A chunk's entry in the table.
struct ChunkEntry {
  uint32_t bytes = 0;  ///< of the body; below 2^24
  ChunkMode mode = ChunkMode::kEmpty;
  bool coded = false;     ///< the values went through the chain's value code
  uint8_t parameter = 0;  ///< of `rice`
  uint32_t crc = 0;       ///< CRC32C of the body
};

/// A decoded chunk lies in the scratch: `values`, and `index` when it is sparse.
struct DecodedChunk {
  std::span<const float> values;
  std::span<const uint16_t> index;
  bool sparse = false;
};

inline size_t chunk_count(size_t elements) {
  return (elements + kChunkElements - 1) / kChunkElements;
}

/// The number of a chunk of principal's components: what is drawn for it is drawn for no chunk of
/// the main stream.
inline uint32_t component_chunk(size_t number) {
  return uint32_t{1} << 31 | static_cast<uint32_t>(number);
}

/// Longest body of a chunk of n elements; where a selection spreads, without its values.
size_t most_chunk_bytes(const Chain& chain, size_t n);
/// Bytes of k values spread over chunks whose rest most_chunk_bytes() counts.
size_t most_value_bytes(const Chain& chain, size_t k);

/// A chunk's elements on their way.
struct ChunkInput {
  InputStream& stream;
  size_t begin = 0;  ///< in `stream`
  size_t size = 0;
  size_t at = 0;  ///< where the chunk begins in the main stream

  /// Errors: those of InputStream::check.
  Result<std::span<const float>> fetch(size_t offset, size_t n) const {
    const std::span<const float> x = stream.fetch(begin + offset, n);
    TERN_CHECK_OK(stream.check());
    return x;
  }
};

/// Encodes a chunk; writes at most 4 bytes an element. Chunks in order. All but the checksum of the
/// entry is set. Errors: those of InputStream::check.
Result<ChunkEntry> encode_chunk(const Chain& chain, const ChunkInput& input,
                                const ChunkContext& context, CodecScratch& scratch, std::byte* out);
/// Likewise for a chunk of the small stream.
ChunkEntry encode_half_chunk(std::span<const float> x, std::byte* out);

/// Decodes a hostile body for a chunk of n elements of the main stream. Errors: kCorrupt.
Result<DecodedChunk> decode_chunk(const Chain& chain, const ChunkEntry& entry,
                                  std::span<const std::byte> body, size_t n,
                                  const ChunkContext& context, CodecScratch& scratch);
/// The same, handed on as the elements from `at` on: in parts that stay in the first cache, where
/// every value has a symbol. After an error some may have been.
Status decode_chunk_to(ValueSink& sink, size_t at, const Chain& chain, const ChunkEntry& entry,
                       std::span<const std::byte> body, size_t n, const ChunkContext& context,
                       CodecScratch& scratch);
void hand_on(const DecodedChunk& chunk, size_t at, ValueSink& sink);
Result<DecodedChunk> decode_half_chunk(const ChunkEntry& entry, std::span<const std::byte> body,
                                       size_t n, CodecScratch& scratch);

}  // namespace tern
