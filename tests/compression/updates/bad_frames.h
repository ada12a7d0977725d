/// Frames that a reader must refuse, one for each fault, with right checksums wherever the fault
/// isn't in them. A frame is easily refused for another reason than the one that is meant: `good`
/// has the frames that most of them were made of by one change.
#pragma once

#include <array>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "compression/updates/frame.h"
#include "tests/compression/updates/forged_frame.h"

namespace tern {

struct BadFrame {
  std::string name;
  Code code;
  std::string why;
  std::string schema_name;
  ParameterSchema schema;
  Bytes frame;
};

namespace forging {

using StageBytes = std::vector<uint8_t>;

inline StageBytes stage(uint8_t id) { return {id}; }
inline StageBytes stage1(uint8_t id, uint8_t argument) { return {id, argument}; }
inline StageBytes stage2(uint8_t id, uint16_t argument) {
  return {id, static_cast<uint8_t>(argument), static_cast<uint8_t>(argument >> 8)};
}
inline StageBytes stage4(uint8_t id, uint32_t argument) {
  StageBytes bytes = {id};
  for (int shift = 0; shift < 32; shift += 8)
    bytes.push_back(static_cast<uint8_t>(argument >> shift));
  return bytes;
}

// Stages that faults are planted around; ids and arguments as on the wire.
inline const StageBytes kEf = stage(0x01), kEf21 = stage(0x02);
inline const StageBytes kDgc = stage1(0x03, 90);
inline const StageBytes kSmall2 = stage1(0x08, 1);
inline const StageBytes kDct2 = stage1(0x0C, 2), kByNorm = stage4(0x24, 500'000'000);
inline const StageBytes kLowpass = stage1(0x0D, 50);
inline const StageBytes kRotate16 = stage1(0x10, 4), kRotate512 = stage1(0x10, 9);
inline const StageBytes kPrincipal1 = stage1(0x0A, 1);
inline const StageBytes kComponents1 = stage2(0x0B, 40 << 8 | 1);
inline const StageBytes kLowRank1 = stage1(0x12, 1);
inline const StageBytes kSketch2x1 = stage4(0x13, 2u << 28 | 1);
inline const StageBytes kTopK = stage4(0x20, 500'000'000), kRandK = stage4(0x22, 500'000'000);
inline const StageBytes kFloat32 = stage(0x30), kFloat16 = stage(0x31), kBfloat16 = stage(0x32);
inline const StageBytes kTernary = stage(0x34), kSign = stage(0x35), kNatural = stage(0x37);
inline const StageBytes kRice = stage(0x50), kCabac = stage(0x51), kRans = stage(0x60),
                        kZstd = stage(0x61);
inline StageBytes int_stage(uint8_t bits) { return stage1(0x33, bits); }
inline StageBytes qsgd_stage(uint16_t levels) { return stage2(0x36, levels); }
inline StageBytes eden_stage(uint8_t bits) { return stage1(0x38, bits); }

inline std::vector<uint8_t> chain_of(std::initializer_list<StageBytes> stages) {
  std::vector<uint8_t> bytes = {static_cast<uint8_t>(stages.size())};
  for (const StageBytes& one : stages)
    for (const uint8_t byte : one) bytes.push_back(byte);
  return bytes;
}

inline Bytes bytes_of(std::initializer_list<int> values) {
  Bytes bytes;
  for (const int value : values) append(bytes, static_cast<uint8_t>(value));
  return bytes;
}

inline Bytes join(std::initializer_list<Bytes> parts) {
  Bytes bytes;
  for (const Bytes& part : parts) bytes.insert(bytes.end(), part.begin(), part.end());
  return bytes;
}

template <typename T>
Bytes repeat(T value, size_t times) {
  Bytes bytes;
  for (size_t i = 0; i < times; ++i) append(bytes, value);
  return bytes;
}

/// A body of `rans`, as section 2.5 of docs/wire_format.md has it.
struct RansBody {
  uint16_t low = 7;
  uint16_t high = 9;
  std::vector<uint32_t> frequencies = {1366, 1365, 1365};
  std::array<uint32_t, 4> states = {65536, 65536, 65536, 65536};
  std::vector<uint16_t> words = {};
  uint8_t padding = 0;  ///< of the table

  /// Of symbols 7, 8, 9 in turn, `count` of them.
  static RansBody of(size_t count) {
    RansBody body;
    for (size_t i = count; i-- > 0;) {
      uint32_t& x = body.states[i % 4];
      const size_t s = i % 3;
      const uint32_t frequency = body.frequencies[s];
      uint32_t start = 0;
      for (size_t t = 0; t < s; ++t) start += body.frequencies[t];
      if (x >= uint64_t{frequency} << 20) {
        body.words.insert(body.words.begin(), static_cast<uint16_t>(x));
        x >>= 16;
      }
      x = (x / frequency << 12) + x % frequency + start;
    }
    return body;
  }

  Bytes bytes() const {
    Bytes to;
    append(to, low);
    append(to, high);
    unsigned held = 0;
    int bits = 0;
    for (const uint32_t frequency : frequencies) {
      held |= frequency << bits;
      for (bits += 12; bits >= 8; bits -= 8, held >>= 8) append(to, static_cast<uint8_t>(held));
    }
    if (bits > 0) append(to, static_cast<uint8_t>(held | static_cast<unsigned>(padding) << bits));
    for (const uint32_t state : states) append(to, state);
    for (const uint16_t word : words) append(to, word);
    return to;
  }
};

/// All faults, and frames without them, which must be accepted.
class List {
 public:
  std::vector<BadFrame> bad;
  std::vector<BadFrame> good;

  void fault(std::string name, Code code, std::string why, const ForgedFrame& frame) {
    fault(std::move(name), code, std::move(why), frame.elements, frame.bytes());
  }
  void fault(std::string name, Code code, std::string why, uint64_t elements, Bytes frame) {
    bad.push_back({std::move(name), code, std::move(why), "flat" + std::to_string(elements),
                   ParameterSchema::flat(elements), std::move(frame)});
  }
  void accepted(const ForgedFrame& frame) {
    good.push_back({"accepted " + std::to_string(good.size()), Code::kOk, "", "",
                    ParameterSchema::flat(frame.elements), frame.bytes()});
  }
};

inline void header_faults(List& list) {
  const ForgedFrame good{
      .elements = 8, .stages = chain_of({kFloat32}), .chunks = {{.body = repeat(1.0f, 8)}}};
  list.accepted(good);
  const auto sealed = [&](const char* name, Code code, const char* why, auto change) {
    Bytes frame = good.bytes();
    change(frame);
    seal_header(frame, 50 + 8);
    list.fault(name, code, why, 8, frame);
  };
  const auto forged = [&](const char* name, Code code, const char* why, auto change) {
    ForgedFrame frame = good;
    change(frame);
    list.fault(name, code, why, 8, frame.bytes());
  };
  list.fault("header_nothing", Code::kCorrupt, "no bytes at all", 8, {});
  {
    Bytes frame = good.bytes();
    frame.resize(48);
    list.fault("header_short", Code::kCorrupt, "48 bytes, the smallest header has 49", 8, frame);
  }
  sealed("header_magic", Code::kCorrupt, "the magic is TRNP",
         [](Bytes& frame) { frame[3] = std::byte{'P'}; });
  forged("header_major", Code::kUnsupported, "major version 2", [](auto& f) { f.major = 2; });
  forged("header_major_0", Code::kUnsupported, "major version 0", [](auto& f) { f.major = 0; });
  forged("header_length_48", Code::kCorrupt, "a header of 48 bytes",
         [](auto& f) { f.header_bytes = 48; });
  forged("header_length_beyond", Code::kCorrupt, "a header longer than the frame",
         [](auto& f) { f.header_bytes = 200; });
  {
    ForgedFrame longer = good;  // unknown fields up to the longest header that a reader takes
    longer.stages.insert(longer.stages.end(), {0x01, 201});
    longer.stages.insert(longer.stages.end(), 201, 0x00);
    longer.stages.insert(longer.stages.end(), {0x02, 0});
    list.accepted(longer);  // 255 bytes
    longer.stages.insert(longer.stages.end(), {0x02, 0});
    list.fault("header_length_256", Code::kCorrupt, "a header of more than 255 bytes", longer);
  }
  sealed("header_total_more", Code::kCorrupt, "the frame says one byte more than there are",
         [](Bytes& frame) { store_low(frame.data() + 8, frame.size() + 1, 6); });
  sealed("header_total_less", Code::kCorrupt, "the frame says one byte less than there are",
         [](Bytes& frame) { store_low(frame.data() + 8, frame.size() - 1, 6); });
  sealed("header_elements", Code::kInvalidArgument, "7 elements for a schema of 8",
         [](Bytes& frame) { store_low(frame.data() + 14, 7, 6); });
  sealed("header_elements_many", Code::kCorrupt, "more than 2^40 elements",
         [](Bytes& frame) { store_low(frame.data() + 14, (uint64_t{1} << 40) + 8, 6); });
  sealed("header_schema", Code::kInvalidArgument, "the hash of another schema",
         [](Bytes& frame) { frame[20] ^= std::byte{1}; });
  {
    Bytes frame = good.bytes();
    frame[44] ^= std::byte{1};
    list.fault("header_checksum", Code::kCorrupt, "the checksum of header and table is wrong", 8,
               frame);
  }
  {
    Bytes frame = good.bytes();
    frame[28] ^= std::byte{1};
    list.fault("header_seed_changed", Code::kCorrupt, "the checksum doesn't fit the seed", 8,
               frame);
  }
  forged("header_no_stages", Code::kCorrupt, "a chain without stages",
         [](auto& f) { f.stages = {0}; });
  forged("header_eight_stages", Code::kCorrupt, "8 stages of one family",
         [](auto& f) { f.stages = {8, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30}; });
  forged("header_nine_stages", Code::kCorrupt, "9 stages",
         [](auto& f) { f.stages = {9, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30}; });
  forged("header_stages_beyond", Code::kCorrupt, "two stages in a header with room for one",
         [](auto& f) {
           f.stages = {2, 0x30};
         });
  forged("header_argument_beyond", Code::kCorrupt, "the header ends in an argument", [](auto& f) {
    f.stages = {1, 0x20, 0x00, 0x65};
  });
  forged("header_unknown_stage", Code::kUnsupported, "stage 0x7f", [](auto& f) {
    f.stages = {1, 0x7f};
  });
  forged("extension_critical", Code::kUnsupported, "an unknown critical field",
         [](auto& f) { f.stages = {1, 0x30, 0x81, 2, 0, 0}; });
  forged("extension_critical_second", Code::kUnsupported, "a critical field behind another one",
         [](auto& f) { f.stages = {1, 0x30, 0x01, 1, 0, 0x80, 0}; });
  forged("extension_beyond", Code::kCorrupt, "a field that is longer than the header",
         [](auto& f) { f.stages = {1, 0x30, 0x01, 3, 0, 0}; });
  forged("extension_no_length", Code::kCorrupt, "a field without its length", [](auto& f) {
    f.stages = {1, 0x30, 0x01};
  });
}

inline void argument_faults(List& list) {
  const auto argument = [&](const char* name, const char* why,
                            std::initializer_list<StageBytes> stages) {
    list.fault(std::string("argument_") + name, Code::kCorrupt, why,
               {.elements = 8, .stages = chain_of(stages), .chunks = {{.mode = 0}}});
  };
  argument("dgc_0", "dgc with momentum 0", {stage1(0x03, 0), kTopK});
  argument("dgc_100", "dgc with momentum 1", {stage1(0x03, 100), kTopK});
  argument("small16_1", "small16:1", {stage1(0x08, 0), kFloat16});
  argument("small16_2p25", "small16:2^25", {stage1(0x08, 25), kFloat16});
  argument("dct_1", "dct:1", {stage1(0x0C, 1), kFloat16});
  argument("dct_33", "dct:33", {stage1(0x0C, 33), kFloat16});
  argument("lowpass_0", "lowpass:0", {kDct2, stage1(0x0D, 0), kFloat16});
  argument("lowpass_100", "lowpass:1", {kDct2, stage1(0x0D, 100), kFloat16});
  argument("by_norm_0", "randk-by-norm:0", {stage4(0x24, 0)});
  argument("by_norm_more_than_all", "a rate above 1", {stage4(0x24, 1'000'000'001)});
  argument("rotate_8", "rotate:8", {stage1(0x10, 3), kSign});
  argument("rotate_2p17", "rotate:2^17", {stage1(0x10, 17), kSign});
  argument("rotate_2p36", "rotate:2^36, which is 16 modulo 2^32", {stage1(0x10, 36), kSign});
  argument("principal_0", "principal:0", {stage1(0x0A, 0), kFloat16});
  argument("principal_33", "principal:33", {stage1(0x0A, 33), kFloat16});
  argument("components_0", "components of no rank", {stage2(0x0B, 40 << 8), kFloat16});
  argument("components_65", "components:65", {stage2(0x0B, 40 << 8 | 65), kFloat16});
  argument("components_fine", "a step of 0.04", {stage2(0x0B, 4 << 8 | 1), kFloat16});
  argument("components_coarse", "a step of 2.01", {stage2(0x0B, 201 << 8 | 1), kFloat16});
  argument("lowrank_0", "lowrank:0", {stage1(0x12, 0)});
  argument("lowrank_33", "lowrank:33", {stage1(0x12, 33)});
  argument("sketch_no_rows", "a sketch of no rows", {stage4(0x13, 4)});
  argument("sketch_no_columns", "a sketch of no columns", {stage4(0x13, 3u << 28)});
  argument("topk_0", "topk:0", {stage4(0x20, 0)});
  argument("topk_more_than_all", "a rate above 1", {stage4(0x20, 1'000'000'001)});
  argument("topk_per_tensor_0", "topk-per-tensor:0", {stage4(0x21, 0)});
  argument("randk_more_than_all", "a rate above 1", {stage4(0x22, 1'000'000'001)});
  argument("threshold_small", "a threshold of 2^-101", {stage4(0x23, 0x0D000000)});
  argument("threshold_large", "a threshold above 2^100", {stage4(0x23, 0x71800001)});
  argument("threshold_nan", "a threshold that is NaN", {stage4(0x23, 0x7FC00000)});
  argument("threshold_negative", "a threshold of -1", {stage4(0x23, 0xBF800000)});
  argument("int_1", "int:1", {int_stage(1)});
  argument("int_17", "int:17", {int_stage(17)});
  argument("qsgd_0", "qsgd:0", {qsgd_stage(0)});
  argument("qsgd_32768", "qsgd:32768", {qsgd_stage(32768)});
  argument("eden_0", "eden:0", {stage1(0x10, 10), eden_stage(0)});
  argument("eden_9", "eden:9", {stage1(0x10, 10), eden_stage(9)});
}

inline void chain_faults(List& list) {
  const auto chain = [&](const char* name, const char* why,
                         std::initializer_list<StageBytes> stages) {
    list.fault(std::string("chain_") + name, Code::kCorrupt, why,
               {.elements = 8, .stages = chain_of(stages), .chunks = {{.mode = 0}}});
  };
  chain("order", "a quantize stage before a select stage", {kSign, kTopK});
  chain("state_last", "a state stage that isn't first", {kTopK, kEf});
  chain("two_of_a_family", "two quantize stages", {kFloat16, kSign});
  chain("same_twice", "the same stage twice", {kTopK, kTopK});
  chain("float32_second", "float32 where it isn't the first stage", {kTopK, kFloat32});
  chain("state_alone", "a state stage alone", {kEf});
  chain("codes_alone", "a value code alone", {kZstd});
  chain("rice_without_select", "rice without positions", {kFloat16, kRice});
  chain("rice_and_cabac", "two index codes", {kTopK, kRice, kCabac});
  chain("cabac_after_randk", "cabac where positions follow from the seed", {kRandK, kCabac});
  chain("rice_after_randk", "rice where positions follow from the seed", {kRandK, kRice});
  chain("rotate_topk", "rotate where positions travel", {kRotate16, kTopK});
  chain("rotate_threshold", "rotate where positions travel", {kRotate16, stage4(0x23, 0x3F800000)});
  chain("rotate_alone", "rotate without select or quantize", {kRotate16});
  chain("rotate_zstd", "rotate without select or quantize", {kRotate16, kZstd});
  chain("lowrank_topk", "lowrank with a select stage", {kLowRank1, kTopK});
  chain("lowrank_sign", "lowrank with sign", {kLowRank1, kSign});
  chain("sketch_randk", "sketch with a select stage", {kSketch2x1, kRandK});
  chain("sketch_ternary", "sketch with ternary", {kSketch2x1, kTernary});
  chain("dct_alone", "dct without select or quantize", {kDct2});
  chain("dct_rotate_alone", "dct and rotate without select or quantize", {kDct2, kRotate16});
  chain("dct_after_rotate", "a basis after a transform stage", {kRotate16, kDct2, kSign});
  chain("dct_lowrank", "dct with lowrank", {kDct2, kLowRank1, kFloat16});
  chain("dct_sketch", "dct with sketch", {kDct2, kSketch2x1, kFloat16});
  chain("principal_alone", "principal without select or quantize", {kPrincipal1});
  chain("principal_rotate", "principal and rotate alone", {kPrincipal1, kRotate16});
  chain("principal_lowrank", "principal with lowrank", {kPrincipal1, kLowRank1, kFloat16});
  chain("principal_after_dct", "principal after a basis", {kDct2, kPrincipal1, kFloat16});
  chain("dgc_principal", "dgc with principal components", {kDgc, kPrincipal1, kTopK});
  chain("components_alone", "components without select or quantize", {kComponents1});
  chain("components_twice", "principal and components", {kPrincipal1, kComponents1, kFloat16});
  chain("components_sketch", "components with sketch", {kComponents1, kSketch2x1, kFloat16});
  chain("lowpass_alone", "lowpass without dct", {kLowpass, kFloat16});
  chain("lowpass_before_dct", "a band before its basis", {kLowpass, kDct2, kFloat16});
  chain("dct_lowpass_alone", "dct and lowpass without select or quantize", {kDct2, kLowpass});
  chain("lowpass_per_tensor", "lowpass with topk-per-tensor",
        {kDct2, kLowpass, stage4(0x21, 100'000'000)});
  chain("ef_lowpass", "lowpass under error feedback", {kEf, kDct2, kLowpass, kFloat16});
  chain("by_norm_rice", "rice where positions follow from counts", {kByNorm, kRice});
  chain("by_norm_small_blocks", "randk-by-norm after rotate:512", {kRotate512, kByNorm});
  chain("dgc_dct", "dgc with a basis stage", {kDgc, kDct2, kTopK});
  chain("eden_alone", "eden without rotate", {eden_stage(2)});
  chain("eden_small_blocks", "eden after rotate:512", {kRotate512, eden_stage(2)});
  chain("rans_sign", "rans of signs", {kSign, kRans});
  chain("rans_int_10", "rans of 1,023 symbols", {int_stage(10), kRans});
  chain("rans_qsgd_256", "rans of 513 symbols", {qsgd_stage(256), kRans});
  chain("rans_eden_1", "rans of signs", {stage1(0x10, 10), eden_stage(1), kRans});
  chain("rans_ternary_topk", "rans of signs", {kTopK, kTernary, kRans});
  chain("rans_float32", "rans of floats", {kFloat32, kRans});
  chain("rans_topk", "rans of floats", {kTopK, kRans});
  chain("zstd_int", "zstd of symbols", {int_stage(8), kZstd});
  chain("zstd_natural", "zstd of symbols", {kNatural, kZstd});
  chain("ef_ternary", "ternary after ef where no positions travel", {kEf, kTernary});
  chain("ef21_int_2", "int:2 after ef21 where no positions travel", {kEf21, int_stage(2)});
  chain("ef_randk_ternary", "ternary after ef where no positions travel", {kEf, kRandK, kTernary});
  chain("ef_qsgd_31", "qsgd:31 after ef", {kEf, qsgd_stage(31)});
  chain("ef_topk_qsgd_255", "qsgd:255 after ef where positions travel",
        {kEf, kTopK, qsgd_stage(255)});
  chain("dgc_alone", "dgc without a select stage", {kDgc, kFloat16});
  chain("dgc_small16", "dgc with an exempt stage", {kDgc, kSmall2, kTopK});
  chain("dgc_rotate", "dgc with a transform stage", {kDgc, kRotate16, kRandK});
}

inline void table_faults(List& list) {
  const auto fault = [&](const char* name, const char* why, const ForgedFrame& frame) {
    list.fault(std::string("table_") + name, Code::kCorrupt, why, frame);
  };
  const ForgedFrame floats{
      .elements = 8, .stages = chain_of({kFloat32}), .chunks = {{.body = repeat(1.0f, 8)}}};
  {
    ForgedFrame frame = floats;
    frame.chunks = {};
    fault("missing", "the chunk table is missing", frame);
  }
  {
    ForgedFrame frame = floats;
    frame.claimed_bytes = 33;
    fault("body_beyond", "a body that is longer than the frame", frame);
    frame.claimed_bytes = 31;
    fault("body_short", "a body that is said to be a byte shorter", frame);
  }
  {
    ForgedFrame frame = floats;
    frame.after = bytes_of({0});
    fault("bytes_behind", "a byte behind the last body", frame);
  }
  {
    Bytes frame = floats.bytes();
    frame.back() ^= std::byte{1};
    list.fault("table_checksum", Code::kCorrupt, "the checksum of a body is wrong", 8, frame);
  }
  {
    Bytes frame =
        ForgedFrame{.elements = 8, .stages = chain_of({kFloat32}), .chunks = {{.mode = 0}}}.bytes();
    frame[50 + 4] = std::byte{1};
    seal_header(frame, 58);
    list.fault("table_checksum_empty", Code::kCorrupt, "the checksum of an empty body isn't 0", 8,
               frame);
  }
  const auto entry = [&](const char* name, const char* why, std::vector<uint8_t> stages,
                         ForgedChunk chunk, uint64_t elements = 8) {
    fault(name, why,
          {.elements = elements, .stages = std::move(stages), .chunks = {std::move(chunk)}});
  };
  const Bytes eight = repeat(1.0f, 8);
  // Of the first and the second element, by positions.
  const Bytes plain = join({bytes_of({1, 0, 0, 0, 1, 0}), repeat(1.0f, 2)});
  const Bytes rice = join({bytes_of({1, 0, 0x0C}), repeat(1.0f, 2)});
  const Bytes cabac = join({bytes_of({1, 0, 0, 0, 0, 0}), repeat(1.0f, 2)});
  const Bytes bitmap = join({bytes_of({1, 0, 0x03}), repeat(1.0f, 2)});
  list.accepted(
      {.elements = 8, .stages = chain_of({kTopK}), .chunks = {{.body = plain, .mode = 2}}});
  list.accepted(
      {.elements = 8, .stages = chain_of({kTopK}), .chunks = {{.body = bitmap, .mode = 4}}});
  list.accepted(
      {.elements = 8, .stages = chain_of({kTopK}), .chunks = {{.body = eight, .mode = 1}}});
  list.accepted(
      {.elements = 8, .stages = chain_of({kTopK}), .chunks = {{.body = eight, .mode = 5}}});
  list.accepted(
      {.elements = 8, .stages = chain_of({kRandK}), .chunks = {{.body = repeat(1.0f, 4)}}});
  list.accepted({.elements = 8,
                 .stages = chain_of({kTopK, kRice}),
                 .chunks = {{.body = rice, .mode = 3, .parameter = 1}}});
  list.accepted(
      {.elements = 8, .stages = chain_of({kTopK, kCabac}), .chunks = {{.body = cabac, .mode = 7}}});
  entry("mode_7", "mode 7", chain_of({kFloat32}), {.body = eight, .mode = 7});
  entry("empty_with_body", "mode empty with a body", chain_of({kFloat32}),
        {.body = eight, .mode = 0});
  entry("empty_with_parameter", "mode empty with a parameter", chain_of({kTopK, kRice}),
        {.mode = 0, .parameter = 1});
  entry("half_in_main", "mode half in the main stream", chain_of({kBfloat16}),
        {.body = repeat(uint16_t{0x3F80}, 8), .mode = 6});
  entry("plain_without_select", "mode plain where no positions travel", chain_of({kFloat32}),
        {.body = plain, .mode = 2});
  entry("plain_after_randk", "mode plain where positions follow from the seed", chain_of({kRandK}),
        {.body = plain, .mode = 2});
  entry("bitmap_after_randk", "mode bitmap where positions follow from the seed",
        chain_of({kRandK}), {.body = bitmap, .mode = 4});
  entry("plain_with_rice", "mode plain in a chain with rice", chain_of({kTopK, kRice}),
        {.body = plain, .mode = 2});
  entry("rice_without_rice", "mode rice in a chain without", chain_of({kTopK}),
        {.body = rice, .mode = 3, .parameter = 1});
  entry("plain_with_cabac", "mode plain in a chain with cabac", chain_of({kTopK, kCabac}),
        {.body = plain, .mode = 2});
  entry("rice_with_cabac", "mode rice in a chain with cabac", chain_of({kTopK, kCabac}),
        {.body = rice, .mode = 3, .parameter = 1});
  entry("cabac_with_rice", "mode cabac in a chain with rice", chain_of({kTopK, kRice}),
        {.body = cabac, .mode = 7});
  entry("cabac_with_parameter", "mode cabac with a parameter", chain_of({kTopK, kCabac}),
        {.body = cabac, .mode = 7, .parameter = 1});
  entry("rice_parameter_0", "mode rice with parameter 0", chain_of({kTopK, kRice}),
        {.body = rice, .mode = 3});
  entry("dense_with_parameter", "mode dense with a parameter", chain_of({kFloat32}),
        {.body = eight, .mode = 1, .parameter = 1});
  entry("bitmap_with_parameter", "mode bitmap with a parameter", chain_of({kTopK, kRice}),
        {.body = bitmap, .mode = 4, .parameter = 2});
  entry("raw_with_parameter", "mode raw with a parameter", chain_of({kFloat32}),
        {.body = eight, .mode = 5, .parameter = 1});
  entry("coded_without_code", "coded values in a chain without a value code", chain_of({kFloat32}),
        {.body = eight, .coded = true});
  entry("coded_raw", "mode raw with coded values", chain_of({kFloat32, kZstd}),
        {.body = eight, .mode = 5, .coded = true});
  entry("coded_empty", "mode empty with coded values", chain_of({kFloat32, kZstd}),
        {.mode = 0, .coded = true});
  entry("raw_short", "mode raw of 7 elements for 8", chain_of({kFloat32}),
        {.body = repeat(1.0f, 7), .mode = 5});
  entry("raw_long", "mode raw of 9 elements for 8", chain_of({kFloat32}),
        {.body = repeat(1.0f, 9), .mode = 5});
  // A chunk of 65,536 elements, and one of a single element.
  const ForgedFrame two{.elements = 65537,
                        .stages = chain_of({kSign}),
                        .chunks = {{.mode = 0}, {.body = bytes_of({0x80, 0x3F, 0})}}};
  list.accepted(two);
  {
    ForgedFrame frame = two;
    frame.chunks.pop_back();
    fault("second_missing", "the entry of the second chunk is missing", frame);
  }
  {
    ForgedFrame frame = two;
    frame.chunks.push_back({.mode = 0});
    fault("third", "an entry of a third chunk", frame);
  }
}

inline void small_faults(List& list) {
  const ParameterSchema schema =
      ParameterSchema::make(
          {{.name = "w", .shape = {4, 4}}, {.name = "b", .shape = {5}, .kind = TensorKind::kBias}})
          .value();
  const ForgedFrame good{
      .elements = 21,
      .stages = chain_of({kSmall2}),
      .chunks = {{.body = repeat(1.0f, 16)}, {.body = repeat(uint16_t{0x3F80}, 5), .mode = 6}},
      .schema_hash = schema.hash()};
  list.good.push_back({"small", Code::kOk, "", "weight_and_bias", schema, good.bytes()});
  const auto fault = [&](const char* name, Code code, const char* why, ForgedChunk chunk) {
    ForgedFrame frame = good;
    frame.chunks[1] = std::move(chunk);
    list.bad.push_back(
        {std::string("small_") + name, code, why, "weight_and_bias", schema, frame.bytes()});
  };
  fault("dense", Code::kCorrupt, "mode dense in the small stream", {.body = repeat(1.0f, 5)});
  fault("raw", Code::kCorrupt, "mode raw in the small stream",
        {.body = repeat(1.0f, 5), .mode = 5});
  fault("coded", Code::kCorrupt, "coded values in the small stream",
        {.body = repeat(uint16_t{0x3F80}, 5), .mode = 6, .coded = true});
  fault("parameter", Code::kCorrupt, "a parameter in the small stream",
        {.body = repeat(uint16_t{0x3F80}, 5), .mode = 6, .parameter = 1});
  fault("short", Code::kCorrupt, "four values for five elements",
        {.body = repeat(uint16_t{0x3F80}, 4), .mode = 6});
  fault("long", Code::kCorrupt, "a byte behind the values",
        {.body = join({repeat(uint16_t{0x3F80}, 5), bytes_of({0})}), .mode = 6});
  fault("nan", Code::kOutOfRange, "NaN in the small stream",
        {.body = repeat(uint16_t{0x7FC0}, 5), .mode = 6});
  fault("infinity", Code::kOutOfRange, "infinity in the small stream",
        {.body = repeat(uint16_t{0xFF80}, 5), .mode = 6});
}

inline void position_faults(List& list) {
  const auto fault = [&](const char* name, const char* why, std::vector<uint8_t> stages,
                         uint8_t mode, const Bytes& head, size_t values, uint8_t parameter = 0) {
    list.fault(
        std::string("positions_") + name, Code::kCorrupt, why,
        {.elements = 20,
         .stages = std::move(stages),
         .chunks = {
             {.body = join({head, repeat(1.0f, values)}), .mode = mode, .parameter = parameter}}});
  };
  const auto topk = chain_of({kTopK}), with_rice = chain_of({kTopK, kRice}),
             with_cabac = chain_of({kTopK, kCabac});
  // Good ones: positions 3 and 19.
  list.accepted(
      {.elements = 20,
       .stages = topk,
       .chunks = {{.body = join({bytes_of({1, 0, 3, 0, 19, 0}), repeat(1.0f, 2)}), .mode = 2}}});
  list.accepted(
      {.elements = 20,
       .stages = topk,
       .chunks = {{.body = join({bytes_of({1, 0, 0x08, 0, 0x08}), repeat(1.0f, 2)}), .mode = 4}}});
  // Gaps 3 and 15 with b = 2: low bits 11 11, quotients 0 and 3: 1 0001.
  list.accepted({.elements = 20,
                 .stages = with_rice,
                 .chunks = {{.body = join({bytes_of({1, 0, 0x1F, 0x01}), repeat(1.0f, 2)}),
                             .mode = 3,
                             .parameter = 2}}});
  fault("no_count", "a body of one byte has no count", topk, 2, bytes_of({1}), 0);
  fault("count_above", "21 values of 20 elements", topk, 4, bytes_of({20, 0, 0xFF, 0xFF, 0x0F}),
        21);
  fault("plain_equal", "the same position twice", topk, 2, bytes_of({1, 0, 3, 0, 3, 0}), 2);
  fault("plain_falling", "positions that fall", topk, 2, bytes_of({1, 0, 4, 0, 3, 0}), 2);
  fault("plain_beyond", "position 20 of 20", topk, 2, bytes_of({1, 0, 3, 0, 20, 0}), 2);
  fault("plain_short", "the body ends in the positions", topk, 2, bytes_of({1, 0, 3, 0, 19}), 0);
  fault("bitmap_fewer", "one bit is set for two values", topk, 4, bytes_of({1, 0, 0x08, 0, 0}), 2);
  fault("bitmap_more", "three bits are set for two values", topk, 4,
        bytes_of({1, 0, 0x0C, 0, 0x08}), 2);
  fault("bitmap_padding", "a bit behind the bitmap's last element", topk, 4,
        bytes_of({1, 0, 0x08, 0, 0x18}), 2);
  fault("bitmap_short", "the body ends in the bitmap", topk, 4, bytes_of({1, 0, 0x08, 0}), 0);
  fault("rice_beyond", "position 20 of 20", with_rice, 3, bytes_of({1, 0, 0x13, 0x02}), 2, 2);
  fault("rice_padding", "a bit behind the last quotient", with_rice, 3,
        bytes_of({1, 0, 0x1F, 0x03}), 2, 2);
  fault("rice_no_end", "the last quotient doesn't end", with_rice, 3, bytes_of({1, 0, 0x1F, 0x00}),
        0, 2);
  fault("rice_short", "the body ends in the low bits", with_rice, 3, bytes_of({9, 0, 0xFF}), 0, 15);
  fault("cabac_beyond", "20 positions are dropped", with_cabac, 7,
        bytes_of({0, 0, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF}), 0);
  // 60 of 90, whose code is just within the range, and the only other one that 32 bits would take
  // for it.
  const auto at_the_top = [&](uint8_t last) {
    return ForgedFrame{
        .elements = 90,
        .stages = with_cabac,
        .chunks = {
            {.body = join({bytes_of({59, 0, 0xFF, 0xFF, 0xFF, last, 0x0B, 0x36, 0x89, 0, 0, 0}),
                           repeat(1.0f, 60)}),
             .mode = 7}}};
  };
  list.accepted(at_the_top(0xFE));
  list.fault("positions_cabac_outside", Code::kCorrupt, "the code is the end of the range",
             at_the_top(0xFF));
  fault("cabac_end", "not at the low end of the last range", with_cabac, 7,
        bytes_of({1, 0, 0, 0, 0, 1}), 2);
  fault("cabac_short", "the body ends in the code", with_cabac, 7, bytes_of({1, 0, 0, 0, 0}), 0);
}

inline void value_faults(List& list) {
  const auto fault = [&](const char* name, Code code, const char* why, std::vector<uint8_t> stages,
                         Bytes body, uint64_t elements = 8, uint8_t mode = 1) {
    list.fault(std::string("values_") + name, code, why,
               {.elements = elements,
                .stages = std::move(stages),
                .chunks = {{.body = std::move(body), .mode = mode}}});
  };
  const Bytes one = bytes_of({0x80, 0x3F});  // the scale 1
  const auto accepted = [&](std::vector<uint8_t> stages, Bytes body, uint64_t elements = 8) {
    list.accepted(
        {.elements = elements, .stages = std::move(stages), .chunks = {{.body = std::move(body)}}});
  };
  accepted(chain_of({int_stage(3)}), join({one, bytes_of({0, 0, 0})}));
  accepted(chain_of({kTernary}), join({one, bytes_of({242, 26})}));
  accepted(chain_of({kSign}), join({one, bytes_of({0x1F})}), 5);
  accepted(chain_of({kNatural}), bytes_of({0xFD, 0x01}), 1);
  fault("none", Code::kCorrupt, "a body without values", chain_of({kFloat32}), {});
  fault("short", Code::kCorrupt, "7 floats for 8 elements", chain_of({kFloat32}), repeat(1.0f, 7));
  fault("long", Code::kCorrupt, "a byte behind the values", chain_of({kFloat32}),
        join({repeat(1.0f, 8), bytes_of({0})}));
  fault("no_scale", Code::kCorrupt, "a body that ends in the scales", chain_of({kSign}),
        bytes_of({0x80}));
  fault("one_scale_of_two", Code::kCorrupt, "one scale for 1,025 elements, which are two groups",
        chain_of({kSign}), join({one, repeat(uint8_t{0}, 128), bytes_of({0})}), 1025);
  fault("symbols_short", Code::kCorrupt, "symbols that end too early", chain_of({int_stage(3)}),
        join({one, bytes_of({0, 0})}));
  fault("symbols_long", Code::kCorrupt, "a byte behind the symbols", chain_of({int_stage(3)}),
        join({one, bytes_of({0, 0, 0, 0})}));
  fault("alphabet_int", Code::kCorrupt, "symbol 7 of an alphabet of 7", chain_of({int_stage(3)}),
        join({one, bytes_of({0x07, 0, 0})}));
  fault("alphabet_int_16", Code::kCorrupt, "symbol 65,535 of an alphabet of 65,535",
        chain_of({int_stage(16)}), join({one, bytes_of({0xFF, 0xFF})}), 1);
  fault("alphabet_qsgd", Code::kCorrupt, "symbol 9 of an alphabet of 9", chain_of({qsgd_stage(4)}),
        join({one, bytes_of({0x09, 0, 0, 0})}));
  fault("alphabet_natural", Code::kCorrupt, "symbol 510, which would be infinity",
        chain_of({kNatural}), bytes_of({0xFE, 0x01}), 1);
  fault("alphabet_ternary", Code::kCorrupt, "a byte of 243 for five digits", chain_of({kTernary}),
        join({one, bytes_of({243, 0})}));
  fault("alphabet_int_2", Code::kCorrupt, "a byte of 255 for five digits", chain_of({int_stage(2)}),
        join({one, bytes_of({255, 0})}));
  fault("padding_ternary", Code::kCorrupt, "a digit behind the last symbol", chain_of({kTernary}),
        join({one, bytes_of({0, 27})}));
  fault("padding_sign", Code::kCorrupt, "a bit behind the last symbol", chain_of({kSign}),
        join({one, bytes_of({0x20})}), 5);
  fault("padding_int", Code::kCorrupt, "a bit behind the last symbol", chain_of({int_stage(4)}),
        join({one, bytes_of({0x10})}), 1);
  fault("padding_natural", Code::kCorrupt, "a bit behind the last symbol", chain_of({kNatural}),
        bytes_of({0x02, 0x02}), 1);
  fault("padding_eden", Code::kCorrupt, "a bit behind the last symbol",
        chain_of({stage1(0x10, 10), eden_stage(2)}), join({one, bytes_of({0x04})}), 1);
  fault("scale_negative", Code::kCorrupt, "a scale of -1", chain_of({kSign}),
        bytes_of({0x80, 0xBF, 0}));
  fault("scale_negative_zero", Code::kCorrupt, "a scale of -0", chain_of({kSign}),
        bytes_of({0x00, 0x80, 0}));
  fault("scale_infinite", Code::kCorrupt, "an infinite scale", chain_of({int_stage(4)}),
        join({bytes_of({0x80, 0x7F}), repeat(uint8_t{0x77}, 4)}));
  fault("scale_nan", Code::kCorrupt, "a scale that is NaN", chain_of({qsgd_stage(1)}),
        join({bytes_of({0xC0, 0x7F}), bytes_of({0, 0})}));
  fault("scale_unused", Code::kCorrupt, "an infinite scale of a group without values",
        chain_of({stage4(0x22, 1), kSign}),
        join({bytes_of({0x80, 0x7F, 0x80, 0x7F}), bytes_of({0})}), 1025);
  const Bytes nan = repeat(uint32_t{0x7FC00000}, 8), infinity = repeat(uint32_t{0xFF800000}, 8);
  fault("nan", Code::kOutOfRange, "NaN", chain_of({kFloat32}), nan);
  fault("infinity", Code::kOutOfRange, "negative infinity", chain_of({kFloat32}), infinity);
  fault("nan_raw", Code::kOutOfRange, "NaN in mode raw", chain_of({kSign}), nan, 8, 5);
  fault("infinity_float16", Code::kOutOfRange, "an infinite float16", chain_of({kFloat16}),
        repeat(uint16_t{0x7C00}, 8));
  fault("nan_bfloat16", Code::kOutOfRange, "a bfloat16 that is NaN", chain_of({kBfloat16}),
        repeat(uint16_t{0x7F81}, 8));
  fault("overflow_int", Code::kOutOfRange, "a scale times a symbol is above what a float32 holds",
        chain_of({int_stage(16)}), join({bytes_of({0x7F, 0x7F}), repeat(uint16_t{0}, 8)}));
  fault("overflow_rotate", Code::kOutOfRange, "infinity arises in the rotation",
        chain_of({kRotate16, kBfloat16}), repeat(uint16_t{0x7F7F}, 16), 16);
  {
    const ParameterSchema matrix = ParameterSchema::make({{.name = "w", .shape = {3, 3}}}).value();
    const auto lowrank = [&](uint32_t bits) {
      return ForgedFrame{.elements = 9,
                         .stages = chain_of({kLowRank1}),
                         .chunks = {{.body = repeat(bits, 6)}},
                         .schema_hash = matrix.hash()}
          .bytes();
    };
    list.good.push_back({"lowrank", Code::kOk, "", "matrix", matrix, lowrank(0x3F800000)});
    list.bad.push_back({"values_overflow_lowrank", Code::kOutOfRange,
                        "a product of factors is infinite", "matrix", matrix, lowrank(0x7F000000)});
    list.bad.push_back({"values_nan_lowrank", Code::kOutOfRange, "a factor that is NaN", "matrix",
                        matrix, lowrank(0x7FC00000)});
  }
  {
    const ParameterSchema matrix = ParameterSchema::make({{.name = "w", .shape = {3, 3}}}).value();
    // The rest, then the factors of one component.
    const ForgedChunk rest{.body = repeat(uint16_t{0x3F80}, 9)};
    const auto principal = [&](std::vector<ForgedChunk> chunks) {
      return ForgedFrame{.elements = 9,
                         .stages = chain_of({kPrincipal1, kBfloat16}),
                         .chunks = std::move(chunks),
                         .schema_hash = matrix.hash()}
          .bytes();
    };
    const Bytes dense = join({bytes_of({0x80, 0x3F}), repeat(uint8_t{0x77}, 4)});
    const ForgedChunk raw{.body = repeat(1.0f, 6), .mode = 5};
    list.good.push_back(
        {"principal", Code::kOk, "", "matrix", matrix, principal({rest, {.body = dense}})});
    list.good.push_back({"principal_raw", Code::kOk, "", "matrix", matrix, principal({rest, raw})});
    list.good.push_back({"principal_empty", Code::kOk, "", "matrix", matrix,
                         principal({rest, {.body = {}, .mode = 0}})});
    const auto refused = [&](const char* name, Code code, const char* why, ForgedChunk chunk) {
      list.bad.push_back({name, code, why, "matrix", matrix, principal({rest, std::move(chunk)})});
    };
    refused("principal_short", Code::kCorrupt, "five bytes for eight factors and their scale",
            {.body = repeat(uint8_t{0x77}, 5)});
    refused("principal_long", Code::kCorrupt, "one byte more than the factors need",
            {.body = join({dense, bytes_of({0})})});
    refused("principal_half", Code::kCorrupt, "factors as bfloat16",
            {.body = repeat(uint16_t{0x3F80}, 6), .mode = 6});
    refused("principal_plain", Code::kCorrupt, "factors with positions",
            {.body = join({bytes_of({0, 0, 0, 0}), dense}), .mode = 2});
    refused("principal_coded", Code::kCorrupt, "factors with a value code",
            {.body = dense, .coded = true});
    refused("principal_nan", Code::kOutOfRange, "a factor that is NaN",
            {.body = repeat(uint32_t{0x7FC00000}, 6), .mode = 5});
    refused("principal_overflow", Code::kOutOfRange, "a product of factors is infinite",
            {.body = repeat(uint32_t{0x7F000000}, 6), .mode = 5});
    list.bad.push_back({"principal_missing", Code::kCorrupt, "no chunk of the components", "matrix",
                        matrix, principal({rest})});
    list.bad.push_back({"principal_twice", Code::kCorrupt, "a chunk too many", "matrix", matrix,
                        principal({rest, raw, raw})});

    // Factors on a grid.
    const auto components = [&](ForgedChunk chunk) {
      return ForgedFrame{.elements = 9,
                         .stages = chain_of({kComponents1, kBfloat16}),
                         .chunks = {rest, std::move(chunk)},
                         .schema_hash = matrix.hash()}
          .bytes();
    };
    list.good.push_back({"components_raw", Code::kOk, "", "matrix", matrix, components(raw)});
    list.good.push_back(
        {"components_none", Code::kOk, "", "matrix", matrix, components({.body = {}, .mode = 0})});
    // A step of 1 and six factors of -15 steps: in zeros all bits are 1.
    const Bytes grid = join({bytes_of({0x80, 0x3F}), repeat(uint8_t{0}, 13)});
    list.good.push_back({"components_coded", Code::kOk, "", "matrix", matrix,
                         components({.body = grid, .coded = true})});
    const auto off_grid = [&](const char* name, Code code, const char* why, ForgedChunk chunk) {
      list.bad.push_back({name, code, why, "matrix", matrix, components(std::move(chunk))});
    };
    off_grid("components_uncoded", Code::kCorrupt, "factors on a grid that aren't coded",
             {.body = grid});
    off_grid("components_half", Code::kCorrupt, "factors on a grid as bfloat16",
             {.body = repeat(uint16_t{0x3F80}, 6), .mode = 6});
    off_grid("components_positions", Code::kCorrupt, "factors on a grid with positions",
             {.body = grid, .mode = 7, .coded = true});
    off_grid("components_parameter", Code::kCorrupt, "factors on a grid with a parameter",
             {.body = grid, .parameter = 1, .coded = true});
    off_grid("components_no_code", Code::kCorrupt, "a step and three bytes",
             {.body = bytes_of({0x80, 0x3F, 0, 0, 0}), .coded = true});
    off_grid("components_outside", Code::kCorrupt, "a code outside of its range",
             {.body = join({bytes_of({0x80, 0x3F}), repeat(uint8_t{0xFF}, 4)}), .coded = true});
    off_grid("components_short", Code::kCorrupt, "a code that goes on behind its end",
             {.body = join({bytes_of({0x80, 0x3F}), repeat(uint8_t{0}, 12)}), .coded = true});
    off_grid("components_more", Code::kCorrupt, "a byte behind the code",
             {.body = join({grid, bytes_of({0})}), .coded = true});
    off_grid(
        "components_many_steps", Code::kCorrupt, "a factor of 1,024 steps",
        {.body = bytes_of({0x80, 0x3F, 0, 0, 0, 6, 7, 0xF8, 0x98, 0xF7, 0x5F, 1}), .coded = true});
    off_grid("components_all_zero", Code::kCorrupt, "coded factors that are all zero",
             {.body = bytes_of({0x80, 0x3F, 0xFA, 0xBC, 0xF0, 0xC4}), .coded = true});
    off_grid("components_as_floats", Code::kCorrupt, "as many coded bytes as floats take",
             {.body = join({grid, repeat(uint8_t{0}, 9)}), .coded = true});
    off_grid("components_step_nan", Code::kCorrupt, "a step that is NaN",
             {.body = join({bytes_of({0xC0, 0x7F}), repeat(uint8_t{0}, 13)}), .coded = true});
    off_grid("components_step_0", Code::kCorrupt, "a step of 0",
             {.body = repeat(uint8_t{0}, 15), .coded = true});
    off_grid("components_nan", Code::kOutOfRange, "a factor that is NaN",
             {.body = repeat(uint32_t{0x7FC00000}, 6), .mode = 5});
    off_grid("components_overflow", Code::kOutOfRange, "a product of factors is infinite",
             {.body = repeat(uint32_t{0x7F000000}, 6), .mode = 5});
  }
  accepted(chain_of({kByNorm}), join({bytes_of({2}), repeat(1.0f, 2)}));
  accepted(chain_of({kByNorm}), bytes_of({0}));
  fault("by_norm_nine", Code::kCorrupt, "nine values of a group of eight", chain_of({kByNorm}),
        join({bytes_of({9}), repeat(1.0f, 9)}));
  fault("by_norm_short", Code::kCorrupt, "three values where the count says two",
        chain_of({kByNorm}), join({bytes_of({2}), repeat(1.0f, 3)}));
  fault("by_norm_no_counts", Code::kCorrupt, "a body without counts", chain_of({kByNorm}), Bytes{});
  {
    const ParameterSchema matrix = ParameterSchema::make({{.name = "w", .shape = {2, 4}}}).value();
    const auto dct = [&](uint32_t bits) {
      return ForgedFrame{.elements = 8,
                         .stages = chain_of({kDct2, kBfloat16}),
                         .chunks = {{.body = repeat(static_cast<uint16_t>(bits >> 16), 8)}},
                         .schema_hash = matrix.hash()}
          .bytes();
    };
    list.good.push_back({"dct", Code::kOk, "", "images_2x2", matrix, dct(0x3F800000)});
    list.bad.push_back({"values_overflow_dct", Code::kOutOfRange, "a sum of waves is infinite",
                        "images_2x2", matrix, dct(0x7F7F0000)});
  }
  accepted(chain_of({kSketch2x1}), repeat(1.0f, 2));
  fault("nan_sketch", Code::kOutOfRange, "a cell that is NaN", chain_of({kSketch2x1}),
        repeat(uint32_t{0x7FC00000}, 2));
  fault("overflow_sketch", Code::kOutOfRange, "the sum of two cells is infinite",
        chain_of({kSketch2x1}), repeat(uint32_t{0x7F7FFFFF}, 2));
  fault("sketch_long", Code::kCorrupt, "three cells of a sketch of two", chain_of({kSketch2x1}),
        repeat(1.0f, 3));
}

inline void rans_faults(List& list) {
  constexpr size_t kCount = 96;
  const auto frame = [&](const Bytes& coded) {
    return ForgedFrame{.elements = kCount,
                       .stages = chain_of({int_stage(4), kRans}),
                       .chunks = {{.body = join({bytes_of({0x80, 0x3F}), coded}), .coded = true}}};
  };
  const RansBody good = RansBody::of(kCount);
  list.accepted(frame(good.bytes()));
  const auto fault = [&](const char* name, const char* why, auto change) {
    RansBody body = good;
    change(body);
    list.fault(std::string("rans_") + name, Code::kCorrupt, why, frame(body.bytes()));
  };
  const auto bytes = [&](const char* name, const char* why, const Bytes& coded) {
    list.fault(std::string("rans_") + name, Code::kCorrupt, why, frame(coded));
  };
  list.accepted(frame(bytes_of({7, 0, 7, 0})));
  bytes("range_short", "three bytes", bytes_of({7, 0, 7}));
  bytes("single_long", "a byte behind a single symbol", bytes_of({7, 0, 7, 0, 0}));
  bytes("single_alphabet", "a single symbol 15 of an alphabet of 15", bytes_of({15, 0, 15, 0}));
  fault("range_falls", "the lowest symbol is above the highest", [](RansBody& b) {
    b.low = 9;
    b.high = 7;
  });
  fault("alphabet", "symbol 15 of an alphabet of 15", [](RansBody& b) {
    b.low = 13;
    b.high = 15;
  });
  fault("sum_less", "frequencies add up to 4,095", [](RansBody& b) { --b.frequencies[1]; });
  fault("sum_more", "frequencies add up to 4,097", [](RansBody& b) { ++b.frequencies[1]; });
  fault("first_zero", "the lowest symbol has frequency 0", [](RansBody& b) {
    b.frequencies = {0, 2731, 1365};
  });
  fault("last_zero", "the highest symbol has frequency 0", [](RansBody& b) {
    b.frequencies = {1366, 2730, 0};
  });
  fault("table_padding", "a bit behind the table", [](RansBody& b) { b.padding = 8; });
  fault("state_low", "a state below 65,536", [](RansBody& b) { b.states[2] &= 0xFFFF; });
  fault("word_missing", "the last word is missing", [](RansBody& b) { b.words.pop_back(); });
  fault("word_more", "a word too many", [](RansBody& b) { b.words.push_back(0); });
  fault("word_changed", "another last word, so the last states aren't 65,536",
        [](RansBody& b) { b.words.back() ^= 1; });
  fault("state_changed", "another first state, so the last states aren't 65,536",
        [](RansBody& b) { b.states[0] ^= 1; });
  bytes("half_word", "half a word at the end", join({good.bytes(), bytes_of({0})}));
  {
    Bytes cut = good.bytes();
    cut.resize(4 + 5 + 15);
    bytes("states_short", "the body ends in the states", cut);
    cut.resize(4 + 4);
    bytes("table_short", "the body ends in the table", cut);
  }
  // Four symbols that take 22 bytes coded and 2 bytes packed.
  list.fault("rans_longer", Code::kCorrupt, "coded symbols that are longer than packed ones",
             {.elements = 4,
              .stages = chain_of({int_stage(4), kRans}),
              .chunks = {{.body = join({bytes_of({0x80, 0x3F}), RansBody::of(4).bytes()}),
                          .coded = true}}});
  list.fault("rans_as_long", Code::kCorrupt, "coded symbols that are as long as packed ones",
             {.elements = 8,
              .stages = chain_of({int_stage(4), kRans}),
              .chunks = {{.body = bytes_of({0x80, 0x3F, 7, 0, 7, 0}), .coded = true}}});
}

inline void zstd_faults(List& list) {
  // Sixteen bfloat16 values: 32 bytes, in a block that repeats one.
  const auto frame = [&](const Bytes& coded) {
    return ForgedFrame{.elements = 16,
                       .stages = chain_of({kBfloat16, kZstd}),
                       .chunks = {{.body = coded, .coded = true}}};
  };
  const auto fault = [&](const char* name, const char* why, const Bytes& coded) {
    list.fault(std::string("zstd_") + name, Code::kCorrupt, why, frame(coded));
  };
  const Bytes magic = bytes_of({0x28, 0xB5, 0x2F, 0xFD}),
              block = bytes_of({0x03, 0x01, 0x00, 0x3F});
  const Bytes good = join({magic, bytes_of({0x20, 32}), block});
  list.accepted(frame(good));
  list.accepted(frame(join({magic, bytes_of({0x00 | 0x80, 0x40, 32, 0, 0, 0}), block})));
  list.accepted(frame(join({magic, bytes_of({0x21, 0x00, 32}), block})));  // dictionary 0 is none
  fault("nothing", "coded values of no bytes", {});
  fault("magic", "another magic", join({bytes_of({0x28, 0xB5, 0x2F, 0xFC, 0x20, 32}), block}));
  fault("legacy", "the frame format of zstd 0.7, which isn't that of RFC 8878",
        bytes_of({0x27, 0xB5, 0x2F, 0xFD, 0x20, 32, 0x80, 0x00, 32, 0x3F, 0xC0, 0x00, 0x00}));
  fault("skippable", "a skippable frame before the frame",
        join({bytes_of({0x50, 0x2A, 0x4D, 0x18, 1, 0, 0, 0, 0}), good}));
  fault("trailing", "a byte behind the frame", join({good, bytes_of({0})}));
  fault("two_frames", "two frames",
        join({magic, bytes_of({0x20, 16, 0x83, 0x00, 0x00, 0x3F}), magic,
              bytes_of({0x20, 16, 0x83, 0x00, 0x00, 0x3F})}));
  fault("truncated", "the frame ends in its block",
        join({magic, bytes_of({0x20, 32, 0x03, 0x01})}));
  fault("no_last_block", "no last block",
        join({magic, bytes_of({0x20, 32, 0x02, 0x01, 0x00, 0x3F})}));
  fault("no_content_size", "no content size", join({magic, bytes_of({0x00, 0x40}), block}));
  fault("content_size_more", "a content size of 33 bytes, not 32",
        join({magic, bytes_of({0x20, 33, 0x0B, 0x01, 0x00, 0x3F})}));
  fault("content_size_less", "a content size of 31 bytes, not 32",
        join({magic, bytes_of({0x20, 31, 0xFB, 0x00, 0x00, 0x3F})}));
  fault("content_more", "33 bytes where the content size is 32",
        join({magic, bytes_of({0x20, 32, 0x0B, 0x01, 0x00, 0x3F})}));
  fault("content_less", "31 bytes where the content size is 32",
        join({magic, bytes_of({0x20, 32, 0xFB, 0x00, 0x00, 0x3F})}));
  fault("dictionary", "dictionary 1", join({magic, bytes_of({0x21, 0x01, 32}), block}));
  fault("checksum", "a wrong checksum of the content",
        join({magic, bytes_of({0x24, 32}), block, bytes_of({1, 2, 3, 4})}));
  fault("reserved_bit", "the reserved bit of the frame header",
        join({magic, bytes_of({0x28, 32}), block}));
  fault("reserved_block", "a block of the reserved type",
        join({magic, bytes_of({0x20, 32, 0x07, 0x01, 0x00, 0x3F})}));
  fault("longer", "coded values that are as long as floats",
        join({magic, bytes_of({0x20, 32, 0x01, 0x01, 0x00}), repeat(uint8_t{0x3F}, 32)}));
  list.fault("zstd_nan", Code::kOutOfRange, "values that are NaN",
             frame(join({magic, bytes_of({0x20, 32, 0x03, 0x01, 0x00, 0xFF})})));
}

inline List all() {
  List list;
  header_faults(list);
  argument_faults(list);
  chain_faults(list);
  table_faults(list);
  small_faults(list);
  position_faults(list);
  value_faults(list);
  rans_faults(list);
  zstd_faults(list);
  return list;
}

}  // namespace forging
}  // namespace tern
