/// The fixed part of a frame: header and chunk table, as docs/wire_format.md lays them out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "compression/updates/chunk_coder.h"
#include "compression/updates/frame.h"

namespace tern {

struct ChunkEntry {
  uint32_t bytes = 0;  ///< of the body; below 2^24
  ChunkMode mode = ChunkMode::kZero;
  uint8_t parameter = 0;  ///< 0..31
  uint32_t crc = 0;       ///< CRC32C of the body
};

size_t frame_header_bytes(const std::vector<Stage>& stages);
void write_chunk_entry(std::byte* to, const ChunkEntry& entry);
/// Errors: kCorrupt for an unknown mode or a zero chunk with a body.
Result<ChunkEntry> read_chunk_entry(const std::byte* from);

/// Writes the header before a finished chunk table and the checksum over both.
void write_frame_header(std::byte* to, const std::vector<Stage>& stages, const FrameMeta& meta,
                        size_t elements, size_t chunks, size_t total_bytes);

struct FrameHeader {
  std::vector<Stage> stages;
  FrameMeta meta;
  size_t elements = 0;
  size_t chunks = 0;
  size_t header_bytes = 0;
  size_t total_bytes = 0;
};

/// What a frame's header claims as its length; 0 when there are too few bytes for one.
size_t frame_length(std::span<const std::byte> bytes);

/// Reads header and checksum of hostile bytes; the chunk table lies at header_bytes and is whole.
/// Errors: kCorrupt, kUnsupported (another major, newer minor, unknown stage).
Result<FrameHeader> read_frame_header(std::span<const std::byte> frame);

}  // namespace tern
