/// The fixed part of a frame: header and chunk table, as docs/wire_format.md lays them out.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "compression/updates/chunk_coder.h"
#include "compression/updates/frame.h"

namespace tern {

size_t frame_header_bytes(const std::vector<Stage>& stages);
void write_chunk_entry(std::byte* to, const ChunkEntry& entry);
/// Errors: kCorrupt for an unknown mode or an empty chunk with a body.
Result<ChunkEntry> read_chunk_entry(const std::byte* from);

/// Writes the header before a finished chunk table and the checksum over both.
void write_frame_header(std::byte* to, const std::vector<Stage>& stages, const FrameMeta& meta,
                        const ParameterSchema& schema, size_t chunks, size_t total_bytes);

inline constexpr size_t kMostStages = 8;  ///< that go together

struct FrameHeader {
  std::array<Stage, kMostStages> stages{};
  size_t stage_count = 0;
  FrameMeta meta;
  uint64_t schema_hash = 0;
  size_t elements = 0;
  size_t header_bytes = 0;

  std::span<const Stage> chain() const { return std::span(stages).first(stage_count); }
};

/// What a frame's header claims as its length; 0 when there are too few bytes for one.
size_t frame_length(std::span<const std::byte> bytes);

/// Reads the header of hostile bytes; its checksum is still to be checked.
/// Errors: kCorrupt, kUnsupported (another major, unknown stage or critical extension).
Result<FrameHeader> read_frame_header(std::span<const std::byte> frame);
/// Errors: kCorrupt when the table of so many chunks isn't whole, or the checksum over header and
/// table is wrong.
Status check_frame_table(std::span<const std::byte> frame, const FrameHeader& header,
                         size_t chunks);

}  // namespace tern
