/// The decoders of the stages, behind a header, table and checksums that are always right. An input
/// has a byte that chooses the chain (the environment variable TERN_FUZZ_CHAIN=SPEC fixes it), one
/// for the schema, one for the frame's seed, then the chunks: each has the byte of mode, flag and
/// parameter as in the chunk table, the length of its body in 3 bytes if it isn't the last, and its
/// body. What a chain's reader would refuse at once is made acceptable: modes, and while bit 7 of
/// the schema's byte is clear, the lengths of bodies that follow from counts.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "compression/updates/chunk_coder.h"
#include "compression/updates/crc32c.h"
#include "compression/updates/frame_header.h"
#include "compression/updates/positions.h"
#include "compression/updates/stages/cabac.h"
#include "tests/fuzz/fuzz_frames.h"

namespace {

using namespace tern;

constexpr size_t kScriptHeader = 3;  // chain, schema, seed
constexpr size_t kLengthBytes = 3;

size_t chain_choices() {
  return std::getenv("TERN_FUZZ_CHAIN") != nullptr ? 1 : fuzz_codecs().size();
}

const Codec& codec_of(uint8_t choice) {
  static const std::optional<Codec> fixed = []() -> std::optional<Codec> {
    const char* spec = std::getenv("TERN_FUZZ_CHAIN");
    if (spec == nullptr) return std::nullopt;
    Result<Codec> codec = Codec::parse(spec);
    if (!codec) std::fprintf(stderr, "TERN_FUZZ_CHAIN: %s\n", codec.error().message().c_str());
    TERN_FUZZ_CHECK(codec);
    return *std::move(codec);
  }();
  return fixed ? *fixed : fuzz_codecs()[choice % fuzz_codecs().size()];
}

/// The schema's choice without the bit for lengths; the large ones are at the end again.
uint8_t schema_choice(uint8_t byte) {
  const uint8_t choice = byte & 0x7F;
  return choice >= 126 ? static_cast<uint8_t>(kFirstLarge + choice % 2) : choice;
}

struct Chunk {
  size_t elements = 0;
  const Chain* chain = nullptr;  ///< what codes it; null: of the small stream
  bool on_grid = false;          ///< factors of components
};

/// The chunks that a receiver expects.
std::vector<Chunk> chunks_of(const Chain& chain, const ParameterSchema& schema) {
  Layout layout;
  lay_out(chain, schema, layout);
  std::vector<Chunk> chunks;
  const auto add = [&](size_t elements, const Chain* by, bool on_grid = false) {
    for (size_t at = 0; at < elements; at += kChunkElements)
      chunks.push_back({std::min(kChunkElements, elements - at), by, on_grid});
  };
  add(coded_elements(chain, layout), &chain);
  add(layout.small_elements, nullptr);
  add(component_elements(chain, layout), chain.component_chain.get(),
      chain.principal && chain.principal->on_grid());
  return chunks;
}

/// Mode, flag and parameter that a reader of the chunk looks at.
ChunkEntry acceptable_entry(const Chunk& chunk, uint8_t packed) {
  ChunkEntry entry{.mode = static_cast<ChunkMode>(packed & 7)};
  if (entry.mode == ChunkMode::kEmpty) return entry;
  if (chunk.on_grid)
    return entry.mode == ChunkMode::kRaw ? entry
                                         : ChunkEntry{.mode = ChunkMode::kDense, .coded = true};
  if (chunk.chain == nullptr) return {.mode = ChunkMode::kHalf};
  const Chain& chain = *chunk.chain;
  const ChunkMode positions = chain.index_code == IndexCode::kRice    ? ChunkMode::kRice
                              : chain.index_code == IndexCode::kCabac ? ChunkMode::kCabac
                                                                      : ChunkMode::kPlain;
  const bool known =
      entry.mode == ChunkMode::kDense || entry.mode == ChunkMode::kRaw ||
      (chain.indexed() && (entry.mode == positions || entry.mode == ChunkMode::kBitmap));
  if (!known) entry.mode = chain.indexed() ? positions : ChunkMode::kDense;
  if (entry.mode == ChunkMode::kRaw) return entry;
  entry.coded = (packed & 8) != 0 && chain.value_code != ValueCode::kNone;
  if (entry.mode == ChunkMode::kRice) entry.parameter = packed >> 4;
  return entry;
}

/// As the counts at its beginning say.
void fit_counted_body(const Chain& chain, size_t n, std::vector<std::byte>& body) {
  static std::vector<uint16_t> index(kChunkElements);
  const size_t m = chain.transform ? chain.transform->padded(n) : n;
  const size_t counts = chain.selector->count_bytes(m);
  if (body.size() < counts) body.resize(counts);
  constexpr uint8_t kCodes = 113;  // of the counts that a whole group may have
  for (size_t i = 0; i < counts; ++i)
    body[i] = std::byte{static_cast<uint8_t>(load<uint8_t>(body.data() + i) % kCodes)};
  const Result<size_t> kept = chain.selector->positions(m, {}, body.data(), index.data());
  if (kept) body.resize(most_chunk_bytes(chain, n) - 1 + most_value_bytes(chain, *kept));
}

/// Nobody can say the same positions in two ways.
void check_one_code(ChunkMode mode, std::span<const std::byte> read, size_t n,
                    std::span<const uint16_t> index) {
  if (mode != ChunkMode::kCabac) return;
  std::vector<std::byte> again(read.size() - 2);
  TERN_FUZZ_CHECK(encode_cabac(index.data(), index.size(), n, again.data(), again.size()) ==
                  again.size());
  TERN_FUZZ_CHECK(std::ranges::equal(again, read.subspan(2)));
}

/// Gives a body the length that goes with its mode and count. Coded values end where they end.
void fit_body(const Chunk& chunk, const ChunkEntry& entry, std::vector<std::byte>& body) {
  const size_t n = chunk.elements;
  if (chunk.on_grid) {
    if (entry.mode == ChunkMode::kRaw) body.resize(4 * n);
    return;
  }
  if (chunk.chain == nullptr) return body.resize(2 * n);
  const Chain& chain = *chunk.chain;
  if (entry.mode == ChunkMode::kRaw) return body.resize(4 * n);
  if (entry.coded) return;
  if (!chain.spreads()) return body.resize(most_chunk_bytes(chain, n));
  if (!chain.indexed()) return fit_counted_body(chain, n, body);
  size_t used = 0, count = n;
  if (entry.mode != ChunkMode::kDense) {
    if (body.size() < 2) body.resize(2);
    store(body.data(), static_cast<uint16_t>(load<uint16_t>(body.data()) % n));
    static std::vector<uint16_t> gaps(kChunkElements), index(kChunkElements);
    const Result<ReadPositions> read =
        read_positions(entry.mode, body, entry.parameter, n, gaps.data(), index.data());
    if (!read) return;
    check_one_code(entry.mode, std::span(body).first(read->used), n,
                   std::span(index).first(read->count));
    used = read->used;
    count = read->count;
  }
  const size_t scale = chain.quantizer && chain.quantizer->scaled() ? 2 : 0;
  body.resize(used + scale + most_value_bytes(chain, count));
}

/// The frame that a script describes.
std::vector<std::byte> make_frame(const Codec& codec, const ParameterSchema& schema, bool fit,
                                  uint8_t seed, std::span<const std::byte> script) {
  const Chain& chain = codec.chain();
  const std::vector<Chunk> chunks = chunks_of(chain, schema);
  const size_t header = frame_header_bytes(codec.stages());
  std::vector<std::byte> table(header + kChunkEntryBytes * chunks.size());
  std::vector<std::byte> bodies, body;
  ByteReader reader(script);
  for (size_t i = 0; i < chunks.size(); ++i) {
    ChunkEntry entry = acceptable_entry(chunks[i], reader.take<uint8_t>());
    body.clear();
    if (entry.mode != ChunkMode::kEmpty) {
      size_t length = reader.left();
      if (i + 1 < chunks.size()) length = std::min(reader.take_low(kLengthBytes), reader.left());
      const auto taken = reader.take_bytes(std::min<size_t>(length, 0xFFFFFF));
      body.assign(taken.begin(), taken.end());
      if (fit) fit_body(chunks[i], entry, body);
    }
    entry.bytes = static_cast<uint32_t>(body.size());
    entry.crc = crc32c(body);
    write_chunk_entry(table.data() + header + kChunkEntryBytes * i, entry);
    bodies.insert(bodies.end(), body.begin(), body.end());
  }
  const size_t total = table.size() + bodies.size();
  write_frame_header(table.data(), codec.stages(), {.seed = seed}, schema, chunks.size(), total);
  std::vector<std::byte> frame(total);  // exactly: a sanitizer sees a read beyond it
  std::ranges::copy(table, frame.begin());
  std::ranges::copy(bodies, frame.begin() + static_cast<ptrdiff_t>(table.size()));
  return frame;
}

/// The script of a real frame.
std::vector<uint8_t> fresh_script(uint8_t schema_byte, uint32_t seed) {
  Rng rng(seed, Purpose::kTest);
  const auto choice = static_cast<uint8_t>(rng.below(static_cast<uint32_t>(chain_choices())));
  const auto frame_seed = static_cast<uint8_t>(rng.below(4));
  const Codec& codec = codec_of(choice);
  const ParameterSchema& schema = receiver_of(schema_choice(schema_byte)).schema();
  const std::vector<std::byte> frame = real_frame(codec, schema, frame_seed, rng);
  const size_t chunks = chunks_of(codec.chain(), schema).size();
  const std::byte* entry = frame.data() + frame_header_bytes(codec.stages());
  const std::byte* body = entry + kChunkEntryBytes * chunks;
  std::vector<uint8_t> script = {choice, schema_byte, frame_seed};
  const auto append = [&](const std::byte* from, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) script.push_back(static_cast<uint8_t>(from[i]));
  };
  for (size_t i = 0; i < chunks; ++i, entry += kChunkEntryBytes) {
    const size_t bytes = load_low(entry, kLengthBytes);
    append(entry + 3, 1);
    if (load_low(entry + 3, 1) % 8 == 0) continue;
    if (i + 1 < chunks) append(entry, kLengthBytes);
    append(body, bytes);
    body += bytes;
  }
  return script;
}

}  // namespace

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most,
                                          unsigned int seed) {
  if (size < kScriptHeader || seed % 32 == 0) {
    const uint8_t choice = seed % 32768 == 32 ? 126 + seed / 32768 % 2 : (seed >> 20) % 126;
    const std::vector<uint8_t> fresh =
        fresh_script(static_cast<uint8_t>(choice | (seed >> 19 & 1) << 7), seed);
    if (fresh.size() <= most) {
      std::memcpy(data, fresh.data(), fresh.size());
      size = fresh.size();
    }
  }
  const size_t from = size <= kScriptHeader || seed % 8 == 1 ? 0 : kScriptHeader;
  size = from + LLVMFuzzerMutate(data + from, size - from, most - from);
  // Large schemas cost a thousand times more: one in a thousand.
  if (size > 1 && (data[1] & 0x7F) >= 126 && seed % 1024 != 32)
    data[1] = static_cast<uint8_t>((data[1] & 0x80) | (seed >> 20) % 126);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kScriptHeader) return 0;
  Receiver& receiver = receiver_of(schema_choice(data[1]));
  const Codec& codec = codec_of(data[0]);
  const std::vector<std::byte> frame =
      make_frame(codec, receiver.schema(), (data[1] & 0x80) == 0, data[2],
                 std::as_bytes(std::span(data, size)).subspan(kScriptHeader));
  if (receiver.receive(frame))
    TERN_FUZZ_CHECK(receiver.scratch().last_codec->stages() == codec.stages());
  return 0;
}
