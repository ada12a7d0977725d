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

constexpr size_t kMostHeaderBytes = 255;  // that a reader takes; a writer ends at 66
constexpr uint8_t kCritical = 0x80;       // bit of an extension's type

size_t argument_bytes(Argument kind) {
  switch (kind) {
    case Argument::kNone:
      return 0;
    case Argument::kPowerOfTwo:
    case Argument::kBits:
    case Argument::kSide:
    case Argument::kRank:
    case Argument::kPercent:
      return 1;
    case Argument::kLevels:
    case Argument::kComponents:
      return 2;
    case Argument::kRate:
    case Argument::kThreshold:
    case Argument::kTable:
      return 4;
  }
  return 0;
}

/// For arguments of two parts, of which the upper one decides in a comparison.
bool parts_in_range(const StageInfo& info, uint32_t argument) {
  if (info.argument == Argument::kTable)
    return table_rows(argument) > 0 && table_columns(argument) > 0;
  if (info.argument == Argument::kComponents)
    return components_rank(argument) >= components_rank(info.smallest) &&
           components_rank(argument) <= components_rank(info.largest);
  return true;
}

/// Over header and chunk table, with the checksum's own field taken as zero.
uint32_t checksum(std::span<const std::byte> covered) {
  constexpr std::byte kNothing[4] = {};
  const uint32_t before = crc32c(covered.first(kCrcAt));
  return crc32c_more(crc32c_more(before, kNothing), covered.subspan(kCrcAt + sizeof kNothing));
}

Result<Stage> read_stage(ByteReader& reader) {
  const uint8_t id = reader.take<uint8_t>();
  if (!reader.ok()) return error(Code::kCorrupt, "the stage list is longer than the header");
  Stage stage{.info = find_stage(id)};
  if (stage.info == nullptr) return error(Code::kUnsupported, "unknown stage 0x{:02x}", id);
  const StageInfo& info = *stage.info;
  const uint64_t argument = reader.take_low(argument_bytes(info.argument));
  const bool power = info.argument == Argument::kPowerOfTwo;
  if (power && argument > 31)
    return error(Code::kCorrupt, "stage '{}' with 2^{}", info.name, argument);
  stage.argument = power ? uint32_t{1} << argument : static_cast<uint32_t>(argument);
  if (info.argument != Argument::kNone &&
      (stage.argument < info.smallest || stage.argument > info.largest ||
       !parts_in_range(info, stage.argument)))
    return error(Code::kCorrupt, "stage '{}' with argument {}", info.name, stage.argument);
  return stage;
}

/// Fields that a later minor version may add: passed over, unless they are critical.
Status skip_extensions(ByteReader& reader) {
  while (reader.ok() && reader.left() > 0) {
    const auto type = reader.take<uint8_t>(), length = reader.take<uint8_t>();
    reader.take_bytes(length);
    if ((type & kCritical) != 0)
      return error(Code::kUnsupported, "unknown critical header field 0x{:02x}", type);
  }
  if (!reader.ok()) return error(Code::kCorrupt, "the fields don't fill the header");
  return {};
}

}  // namespace

size_t frame_header_bytes(const std::vector<Stage>& stages) {
  size_t bytes = kStagesAt;
  for (const Stage& stage : stages) bytes += 1 + argument_bytes(stage.info->argument);
  return bytes;
}

void write_chunk_entry(std::byte* to, const ChunkEntry& entry) {
  store_low(to, entry.bytes, 3);
  store(to + 3, static_cast<uint8_t>(static_cast<uint8_t>(entry.mode) | (entry.coded ? 8u : 0u) |
                                     static_cast<unsigned>(entry.parameter) << 4));
  store(to + 4, entry.crc);
}

Result<ChunkEntry> read_chunk_entry(const std::byte* from) {
  const uint8_t packed = load<uint8_t>(from + 3);
  ChunkEntry entry{.bytes = static_cast<uint32_t>(load_low(from, 3)),
                   .mode = static_cast<ChunkMode>(packed & 7),
                   .coded = (packed & 8) != 0,
                   .parameter = static_cast<uint8_t>(packed >> 4),
                   .crc = load<uint32_t>(from + 4)};
  if (entry.mode == ChunkMode::kEmpty && entry.bytes != 0)
    return error(Code::kCorrupt, "an empty chunk has a body");
  return entry;
}

void write_frame_header(std::byte* to, const std::vector<Stage>& stages, const FrameMeta& meta,
                        const ParameterSchema& schema, size_t chunks, size_t total_bytes) {
  const size_t header_bytes = frame_header_bytes(stages);
  store(to + kMagicAt, kMagic);
  store(to + kMajorAt, kFrameMajor);
  store(to + kMinorAt, kFrameMinor);
  store(to + kHeaderBytesAt, static_cast<uint16_t>(header_bytes));
  store_low(to + kTotalAt, total_bytes, kWideBytes);
  store_low(to + kElementsAt, schema.elements(), kWideBytes);
  store(to + kSchemaAt, schema.hash());
  store(to + kSeedAt, meta.seed);
  store(to + kBaseAt, meta.base_version);
  store(to + kRoundAt, meta.round);
  store(to + kStageCountAt, static_cast<uint8_t>(stages.size()));
  std::byte* at = to + kStagesAt;
  for (const Stage& stage : stages) {
    store(at++, stage.info->id);
    const size_t bytes = argument_bytes(stage.info->argument);
    const uint32_t argument = stage.info->argument == Argument::kPowerOfTwo
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
  const uint8_t major = load<uint8_t>(frame.data() + kMajorAt);
  if (major != kFrameMajor)
    return error(Code::kUnsupported, "frame format {}.{}, this reader knows {}", major,
                 load<uint8_t>(frame.data() + kMinorAt), kFrameMajor);
  FrameHeader header;
  header.header_bytes = load<uint16_t>(frame.data() + kHeaderBytesAt);
  const size_t total = load_low(frame.data() + kTotalAt, kWideBytes);
  header.elements = load_low(frame.data() + kElementsAt, kWideBytes);
  header.schema_hash = load<uint64_t>(frame.data() + kSchemaAt);
  header.meta = {.base_version = load<uint32_t>(frame.data() + kBaseAt),
                 .round = load<uint32_t>(frame.data() + kRoundAt),
                 .seed = load<uint64_t>(frame.data() + kSeedAt)};
  if (total != frame.size())
    return error(Code::kCorrupt, "the frame says {} bytes, there are {}", total, frame.size());
  if (header.header_bytes < kStagesAt || header.header_bytes > kMostHeaderBytes ||
      header.header_bytes > frame.size() || header.elements > kMaxFrameElements)
    return error(Code::kCorrupt, "a frame header of {} bytes for {} elements", header.header_bytes,
                 header.elements);
  ByteReader reader(frame.subspan(kStageCountAt, header.header_bytes - kStageCountAt));
  header.stage_count = reader.take<uint8_t>();
  if (header.stage_count > kMostStages)
    return error(Code::kCorrupt, "a chain of {} stages", header.stage_count);
  for (size_t i = 0; i < header.stage_count; ++i) {
    TERN_TRY(header.stages[i], read_stage(reader));
  }
  TERN_CHECK_OK(skip_extensions(reader));
  return header;
}

Status check_frame_table(std::span<const std::byte> frame, const FrameHeader& header,
                         size_t chunks) {
  if (chunks > (frame.size() - header.header_bytes) / kChunkEntryBytes)
    return error(Code::kCorrupt, "{} bytes are too few for the table of {} chunks", frame.size(),
                 chunks);
  if (checksum(frame.first(header.header_bytes + chunks * kChunkEntryBytes)) !=
      load<uint32_t>(frame.data() + kCrcAt))
    return error(Code::kCorrupt, "the header's checksum is wrong");
  return {};
}

}  // namespace tern
