/// Frames written by hand with right checksums: what a hostile sender can do. The offsets are those
/// of docs/wire_format.md, on purpose not those of the code.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/parameter_schema.h"
#include "compression/updates/crc32c.h"

namespace tern {

using Bytes = std::vector<std::byte>;

/// Puts a number's bytes, little-endian, at the end.
template <typename T>
void append(Bytes& to, T value) {
  std::array<std::byte, sizeof value> bytes;
  store(bytes.data(), value);
  for (const std::byte byte : bytes) to.push_back(byte);
}

struct ForgedChunk {
  Bytes body = {};
  uint8_t mode = 1;       ///< 0 empty, 1 dense, 2 plain, 3 rice, 4 bitmap, 5 raw, 6 half,
                          ///< 7 cabac
  uint8_t parameter = 0;  ///< of rice
  bool coded = false;
};

/// Every field is right unless a test changes it.
struct ForgedFrame {
  uint64_t elements = 0;
  std::vector<uint8_t> stages = {};  ///< the number of stages, then ids and arguments
  std::vector<ForgedChunk> chunks = {};
  Bytes after = {};  ///< behind the last body
  uint8_t major = 1;
  uint8_t minor = 0;
  std::optional<uint64_t> schema_hash = std::nullopt;  ///< nothing: of one vector
  int header_bytes = -1;                               ///< -1: what it is
  int claimed_bytes = -1;                              ///< of the first chunk; -1: what it is

  Bytes bytes() const;
};

/// Sets the header's checksum of a frame with so many header and table bytes.
inline void seal_header(std::span<std::byte> frame, size_t covered) {
  store(frame.data() + 44, uint32_t{0});
  store(frame.data() + 44, crc32c(frame.first(std::min(covered, frame.size()))));
}

inline Bytes ForgedFrame::bytes() const {
  constexpr uint64_t kMost = uint64_t{1} << 40;
  Bytes frame;
  for (const char c : {'T', 'R', 'N', 'F'}) append(frame, c);
  append(frame, major);
  append(frame, minor);
  append(frame, static_cast<uint16_t>(header_bytes >= 0 ? header_bytes
                                                        : 48 + static_cast<int>(stages.size())));
  frame.resize(14);  // total length, below
  append(frame, elements);
  frame.resize(20);
  append(frame, schema_hash         ? *schema_hash
                : elements <= kMost ? ParameterSchema::flat(elements).hash()
                                    : 0);
  append(frame, uint64_t{42});  // seed
  append(frame, uint32_t{7});   // base version
  append(frame, uint32_t{3});   // round
  append(frame, uint32_t{0});   // checksum, below
  for (const uint8_t byte : stages) append(frame, byte);
  for (size_t i = 0; i < chunks.size(); ++i) {
    const ForgedChunk& chunk = chunks[i];
    const auto length = static_cast<uint32_t>(
        i == 0 && claimed_bytes >= 0 ? static_cast<size_t>(claimed_bytes) : chunk.body.size());
    append(frame,
           length | static_cast<uint32_t>(chunk.mode | (chunk.coded ? 8 : 0) | chunk.parameter << 4)
                        << 24);
    append(frame, crc32c(chunk.body));
  }
  const size_t covered = frame.size();
  for (const ForgedChunk& chunk : chunks)
    frame.insert(frame.end(), chunk.body.begin(), chunk.body.end());
  frame.insert(frame.end(), after.begin(), after.end());
  store_low(frame.data() + 8, frame.size(), 6);
  seal_header(frame, covered);
  return frame;
}

/// Makes a damaged frame as acceptable as its fields allow: magic, version, sizes, schema, chunk
/// lengths within the frame and all checksums. What is left to judge is stages and bodies.
/// `chunks`: those that the receiver expects of the frame's stages.
inline void repair_frame(std::span<std::byte> frame, const ParameterSchema& schema, size_t chunks) {
  constexpr size_t kSmallest = 49;
  if (frame.size() < kSmallest) return;
  store(frame.data(), uint32_t{0x464E5254});
  store(frame.data() + 4, uint16_t{1});
  store_low(frame.data() + 8, frame.size(), 6);
  store_low(frame.data() + 14, schema.elements(), 6);
  store(frame.data() + 20, schema.hash());
  const size_t header = load<uint16_t>(frame.data() + 6);
  if (header < kSmallest || frame.size() < header + 8 * chunks) return;
  size_t at = header + 8 * chunks;
  for (size_t i = 0; i < chunks; ++i) {
    std::byte* entry = frame.data() + header + 8 * i;
    const bool coded = (static_cast<unsigned>(entry[3]) & 7) != 0;
    size_t length = coded ? std::min<size_t>(load_low(entry, 3), frame.size() - at) : 0;
    if (coded && i + 1 == chunks) length = std::min<size_t>(frame.size() - at, 0xFFFFFF);
    store_low(entry, length, 3);
    store(entry + 4, crc32c(frame.subspan(at, length)));
    at += length;
  }
  seal_header(frame, header + 8 * chunks);
}

}  // namespace tern
