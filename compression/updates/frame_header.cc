#include "compression/updates/frame_header.h"

#include <bit>

#include "base/bytes.h"
#include "compression/updates/crc32c.h"

namespace tern {

namespace {

// Byte offsets in the header.
constexpr size_t kMagicAt = 0, kMajorAt = 4, kMinorAt = 5, kHeaderBytesAt = 6, kTotalAt = 8,
                 kElementsAt = 14;
constexpr size_t kSchemaAt = 20, kSeedAt = 28, kBaseAt = 36, kRoundAt = 40, kCrcAt = 44,
                 kStageCountAt = 48;
constexpr size_t kStagesAt = 49;
constexpr uint32_t kMagic = 0x464E5254;  // "TRNF"
constexpr size_t kWideBytes = 6;         // lengths and element counts

size_t argument_bytes(Argument kind) {
  switch (kind) {
    case Argument::kNone:
      return 0;
    case Argument::kBlock:
    case Argument::kBits:
      return 1;
    case Argument::kRate:
      return 4;
  }
  return 0;
}

/// Over header and chunk table, with the checksum's own field taken as zero.
uint32_t checksum(std::span<const std::byte> covered) {
  // Two runs around the field, chained: CRC of the concatenation is the CRC of the second run
  // started from the first.
  std::byte head[kMaxFrameHeader] = {};
  const size_t in_head = std::min(covered.size(), kMaxFrameHeader);
  std::memcpy(head, covered.data(), in_head);
  store(head + kCrcAt, uint32_t{0});
  const uint32_t first = crc32c({head, in_head});
  return covered.size() == in_head ? first : crc32c_more(first, covered.subspan(in_head));
}

}  // namespace

size_t frame_header_bytes(const std::vector<Stage>& stages) {
  size_t bytes = kStagesAt;
  for (const Stage& stage : stages) bytes += 1 + argument_bytes(stage.info->argument);
  return bytes;
}

void write_chunk_entry(std::byte* to, const ChunkEntry& entry) {
  store_low(to, entry.bytes, 3);
  store(to + 3, static_cast<uint8_t>(static_cast<uint8_t>(entry.mode) | entry.parameter << 3));
  store(to + 4, entry.crc);
}

Result<ChunkEntry> read_chunk_entry(const std::byte* from) {
  const uint8_t packed = load<uint8_t>(from + 3);
  ChunkEntry entry{.bytes = static_cast<uint32_t>(load_low(from, 3)),
                   .mode = static_cast<ChunkMode>(packed & 7),
                   .parameter = static_cast<uint8_t>(packed >> 3),
                   .crc = load<uint32_t>(from + 4)};
  if ((packed & 7) > static_cast<uint8_t>(ChunkMode::kCoded))
    return error(Code::kUnsupported, "unknown chunk mode {}", packed & 7);
  if (entry.mode == ChunkMode::kZero && (entry.bytes != 0 || entry.parameter != 0))
    return error(Code::kCorrupt, "a zero chunk has a body");
  return entry;
}

void write_frame_header(std::byte* to, const std::vector<Stage>& stages, const FrameMeta& meta,
                        size_t elements, size_t chunks, size_t total_bytes) {
  const size_t header_bytes = frame_header_bytes(stages);
  store(to + kMagicAt, kMagic);
  store(to + kMajorAt, kFrameMajor);
  store(to + kMinorAt, kFrameMinor);
  store(to + kHeaderBytesAt, static_cast<uint16_t>(header_bytes));
  store_low(to + kTotalAt, total_bytes, kWideBytes);
  store_low(to + kElementsAt, elements, kWideBytes);
  store(to + kSchemaAt, meta.schema_hash);
  store(to + kSeedAt, meta.seed);
  store(to + kBaseAt, meta.base_version);
  store(to + kRoundAt, meta.round);
  store(to + kStageCountAt, static_cast<uint8_t>(stages.size()));
  std::byte* at = to + kStagesAt;
  for (const Stage& stage : stages) {
    store(at++, stage.info->id);
    const size_t bytes = argument_bytes(stage.info->argument);
    const uint32_t argument = stage.info->argument == Argument::kBlock
                                  ? static_cast<uint32_t>(std::countr_zero(stage.argument))
                                  : stage.argument;
    store_low(at, argument, bytes);
    at += bytes;
  }
  store(to + kCrcAt, checksum({to, header_bytes + chunks * kChunkEntryBytes}));
}

size_t frame_length(std::span<const std::byte> bytes) {
  return bytes.size() < kStagesAt ? 0 : load_low(bytes.data() + kTotalAt, kWideBytes);
}

Result<FrameHeader> read_frame_header(std::span<const std::byte> frame) {
  if (frame.size() < kStagesAt || load<uint32_t>(frame.data() + kMagicAt) != kMagic)
    return error(Code::kCorrupt, "not a frame ({} bytes)", frame.size());
  const uint8_t major = load<uint8_t>(frame.data() + kMajorAt),
                minor = load<uint8_t>(frame.data() + kMinorAt);
  if (major != kFrameMajor || minor > kFrameMinor)
    return error(Code::kUnsupported, "frame format {}.{}, this reader knows {}.0 to {}.{}", major,
                 minor, kFrameMajor, kFrameMajor, kFrameMinor);
  FrameHeader header;
  header.header_bytes = load<uint16_t>(frame.data() + kHeaderBytesAt);
  header.total_bytes = load_low(frame.data() + kTotalAt, kWideBytes);
  header.elements = load_low(frame.data() + kElementsAt, kWideBytes);
  header.meta = {.schema_hash = load<uint64_t>(frame.data() + kSchemaAt),
                 .base_version = load<uint32_t>(frame.data() + kBaseAt),
                 .round = load<uint32_t>(frame.data() + kRoundAt),
                 .seed = load<uint64_t>(frame.data() + kSeedAt)};
  if (header.total_bytes != frame.size())
    return error(Code::kCorrupt, "the frame says {} bytes, there are {}", header.total_bytes,
                 frame.size());
  if (header.header_bytes < kStagesAt || header.header_bytes > kMaxFrameHeader ||
      header.elements > kMaxFrameElements)
    return error(Code::kCorrupt, "a frame header of {} bytes for {} elements", header.header_bytes,
                 header.elements);
  header.chunks = (header.elements + kChunkElements - 1) / kChunkElements;
  if (header.header_bytes > frame.size() ||
      header.chunks > (frame.size() - header.header_bytes) / kChunkEntryBytes)
    return error(Code::kCorrupt, "{} bytes are too few for the header and the table of {} chunks",
                 frame.size(), header.chunks);
  if (checksum(frame.first(header.header_bytes + header.chunks * kChunkEntryBytes)) !=
      load<uint32_t>(frame.data() + kCrcAt))
    return error(Code::kCorrupt, "the header's checksum is wrong");

  ByteReader reader(frame.subspan(kStageCountAt, header.header_bytes - kStageCountAt));
  const uint8_t count = reader.take<uint8_t>();
  for (uint8_t i = 0; i < count && reader.ok(); ++i) {
    const uint8_t id = reader.take<uint8_t>();
    if (!reader.ok()) break;
    Stage stage{.info = find_stage(id)};
    if (stage.info == nullptr) return error(Code::kUnsupported, "unknown stage 0x{:02x}", id);
    const uint64_t argument = reader.take_low(argument_bytes(stage.info->argument));
    const bool block = stage.info->argument == Argument::kBlock;
    if (block && argument > 31)
      return error(Code::kCorrupt, "stage '{}': block 2^{}", stage.info->name, argument);
    stage.argument = block ? uint32_t{1} << argument : static_cast<uint32_t>(argument);
    if (stage.info->argument != Argument::kNone &&
        (stage.argument < stage.info->smallest || stage.argument > stage.info->largest))
      return error(Code::kCorrupt, "stage '{}' with argument {}", stage.info->name, stage.argument);
    header.stages.push_back(stage);
  }
  if (!reader.ok() || reader.left() != 0)
    return error(Code::kCorrupt, "the stage list doesn't fill the header");
  return header;
}

}  // namespace tern
