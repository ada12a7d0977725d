#include "compression/updates/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compression/updates/frame_header.h"
#include "tests/compression/updates/chains.h"
#include "tests/compression/updates/forged_frame.h"

namespace tern {
namespace {

using testing::HasSubstr;

Bytes bytes_of(std::initializer_list<int> numbers) {
  Bytes bytes;
  for (const int number : numbers) bytes.push_back(static_cast<std::byte>(number));
  return bytes;
}

Bytes floats(std::initializer_list<float> values) {
  Bytes bytes;
  for (const float value : values) append(bytes, value);
  return bytes;
}

/// What a receiver of one vector of so many elements says.
Status verdict(const Bytes& frame, size_t elements, const DecodeLimits& limits = {}) {
  CodecScratch scratch;
  const ParameterSchema schema =
      ParameterSchema::flat(std::min<size_t>(elements, kMaxFrameElements));
  const Result<CheckedFrame> checked = inspect(frame, schema, limits, scratch);
  return checked ? Status() : checked.error();
}

// Chunk modes.
constexpr uint8_t kPlain = 2, kRice = 3, kBitmap = 4, kRaw = 5, kHalf = 6;

// Stage lists as they stand in the header.
const std::vector<uint8_t> kFloat32 = {1, 0x30};
const std::vector<uint8_t> kFloat16 = {1, 0x31};
const std::vector<uint8_t> kInt4 = {1, 0x33, 4};
const std::vector<uint8_t> kTernary = {1, 0x34};
const std::vector<uint8_t> kTopK = {1, 0x20, 0x80, 0x96, 0x98, 0};  // topk:0.01
const std::vector<uint8_t> kTopKRice = {2, 0x20, 0x80, 0x96, 0x98, 0, 0x50};
const std::vector<uint8_t> kEden1 = {2, 0x10, 10, 0x38, 1};

TEST(Frame, IsLaidOutByteForByte) {
  CodecScratch scratch;
  const FrameMeta meta{.base_version = 0xA1A2A3A4, .round = 0xB1B2B3B4, .seed = 0xC1C2C3C4C5C6C7C8};
  std::vector<float> x(40, 0.0f);
  x[3] = 1;
  x[39] = -2;
  const auto frame = encode_frame(codec_of("ef | topk:0.05 | bfloat16"), meta, x, scratch);
  Bytes expected = bytes_of({
      'T',         'R',  'N',  'F',                           // magic
      1,           0,                                         // major, minor
      56,          0,                                         // header length
      56 + 8 + 10, 0,    0,    0,    0,    0,                 // total length
      40,          0,    0,    0,    0,    0,                 // elements
      0,           0,    0,    0,    0,    0,    0,    0,     // schema, below
      0xC8,        0xC7, 0xC6, 0xC5, 0xC4, 0xC3, 0xC2, 0xC1,  // seed
      0xA4,        0xA3, 0xA2, 0xA1,                          // base version
      0xB4,        0xB3, 0xB2, 0xB1,                          // round
      0,           0,    0,    0,                             // checksum
      3,                                                      // stages
      0x01,        0x20, 0x80, 0xF0, 0xFA, 0x02, 0x32,        // ef, topk 5e7 / 1e9, bfloat16
      10,          0,    0,    2,     // chunk 0: length, mode 2, parameter 0
      0,           0,    0,    0,     // its checksum
      1,           0,                 // count less one
      3,           0,    39,   0,     // indices
      0x80,        0x3F, 0x00, 0xC0,  // values
  });
  store(expected.data() + 20, schema_of(40).hash());
  store(expected.data() + 60, crc32c(std::span(expected).subspan(64)));
  seal_header(expected, 64);
  EXPECT_EQ(frame, expected);
}

TEST(Frame, ArgumentsTravelAsLogarithmBitsAndParts) {
  CodecScratch scratch;
  const auto frame = encode_frame(codec_of("rotate:2048 | randk:0.25 | int:7"), kMeta, {}, scratch);
  const Bytes list(frame.begin() + 48, frame.end());
  EXPECT_EQ(list, bytes_of({3, 0x10, 11, 0x22, 0x80, 0xB2, 0xE6, 0x0E, 0x33, 7}));
}

TEST(Frame, TheHeaderTakesAtMost69Bytes) {
  for (const Budget& budget : kBudgets)
    EXPECT_LE(frame_header_bytes(codec_of(budget.spec).stages()), kMaxFrameHeader);
  EXPECT_EQ(frame_header_bytes(codec_of("ef | rotate | randk:0.1 | eden:1").stages()), 59u);
  EXPECT_EQ(frame_header_bytes(codec_of("small16 | components:2 | dct:28 | lowpass:0.3 | rotate | "
                                        "randk-by-norm:0.1 | qsgd:64 | rans")
                                   .stages()),
            kMaxFrameHeader);
}

TEST(Frame, ForgedFramesAreThoseOfTheEncoderWhenNothingIsForged) {
  CodecScratch scratch;
  const std::vector<float> x = {1, 2, 3};
  EXPECT_EQ(
      (ForgedFrame{.elements = 3, .stages = kFloat32, .chunks = {{floats({1, 2, 3})}}}.bytes()),
      encode_frame(codec_of("float32"), kMeta, x, scratch));
}

TEST(Frame, AChunkOfZerosTakesItsTableEntryOnly) {
  CodecScratch scratch;
  for (const char* spec : {"float32", "rotate | eden:1", "ef | topk:0.5 | ternary | rice"}) {
    std::vector<float> x(3 * kChunkElements, 0.0f);
    x[5] = 1;
    x[2 * kChunkElements + 5] = 2;
    const Codec codec = codec_of(spec);
    const auto frame = encode_frame(codec, kMeta, x, scratch);
    const std::byte* entry = frame.data() + frame_header_bytes(codec.stages()) + 8;
    EXPECT_EQ(load<uint64_t>(entry), 0u) << spec;
    const auto decoded = decode_frame(frame, x.size(), scratch);
    for (size_t i = 0; i < kChunkElements; ++i) ASSERT_EQ(decoded[kChunkElements + i], 0.0f);
  }
}

TEST(Frame, AChunkDoesNotDependOnItsNeighbours) {
  CodecScratch scratch;
  const Codec codec = codec_of("rotate | randk:0.25 | eden:2");
  std::vector<float> x = make_input(Input::kGaussian, 3 * kChunkElements);
  const auto before = round_trip(codec, kMeta, x, scratch);
  std::fill_n(x.begin(), kChunkElements, 9.0f);
  std::fill_n(x.begin() + 2 * kChunkElements, kChunkElements, 0.0f);
  const auto after = round_trip(codec, kMeta, x, scratch);
  EXPECT_TRUE(same_bits(std::span(before).subspan(kChunkElements, kChunkElements),
                        std::span(after).subspan(kChunkElements, kChunkElements)));
}

TEST(Frame, LosslessChainsBringBackEveryBit) {
  CodecScratch scratch;
  std::vector<float> x = {0.0f, -0.0f, 0x1p-149f, -0x1p-149f, 0x1p100f, -0x1p100f, 1.1f, -0.3f};
  for (const char* spec : {"float32", "randk:1"})
    EXPECT_TRUE(same_bits(round_trip(codec_of(spec), kMeta, x, scratch), x)) << spec;
}

TEST(Frame, SaysWhatItIsAbout) {
  CodecScratch scratch;
  const auto frame =
      encode_frame(codec_of("int:4"), kMeta, make_input(Input::kGaussian, 100), scratch);
  const CheckedFrame checked = inspect_frame(frame, 100, scratch).value();
  EXPECT_EQ(checked.meta().base_version, 7u);
  EXPECT_EQ(checked.meta().round, 3u);
  EXPECT_EQ(checked.meta().seed, 42u);
  EXPECT_EQ(checked.nonzeros(), 100u);
  EXPECT_EQ(checked.codec().spec(), "int:4");
  EXPECT_EQ(checked.bytes().data(), frame.data());
}

TEST(Frame, AnotherSchemaOrLengthIsTheCallersMistake) {
  const Bytes frame =
      ForgedFrame{.elements = 2, .stages = kFloat32, .chunks = {{floats({1, 2})}}}.bytes();
  EXPECT_TRUE(verdict(frame, 2).ok());
  const auto other = ParameterSchema::make({{.name = "other", .shape = {2}}}).value();
  CodecScratch scratch;
  const Status refused = inspect(frame, other, {}, scratch).error();
  EXPECT_EQ(refused.code(), Code::kInvalidArgument);
  EXPECT_EQ(refused.message(),
            fmt::format("the frame is for schema {:016x} with 2 elements, expected {:016x} with 2",
                        ParameterSchema::flat(2).hash(), other.hash()));
  EXPECT_EQ(verdict(frame, 3).code(), Code::kInvalidArgument);
  EXPECT_EQ(verdict(frame, 2, {.max_bytes = frame.size() - 1}).code(), Code::kInvalidArgument);
}

TEST(Frame, OtherFormatsAreUnsupportedNotCorrupt) {
  ForgedFrame forged{.elements = 1, .stages = kFloat32, .chunks = {{floats({1})}}};
  forged.minor = 9;
  for (const uint8_t major : {0, 2, 255}) {
    forged.major = major;
    EXPECT_EQ(verdict(forged.bytes(), 1).code(), Code::kUnsupported);
    EXPECT_EQ(verdict(forged.bytes(), 1).message(),
              fmt::format("frame format {}.9, this reader knows 1", major));
  }
  forged.major = 1;
  EXPECT_TRUE(verdict(forged.bytes(), 1).ok()) << "a newer minor version is read";
  forged.stages = {1, 0x3F};
  EXPECT_EQ(verdict(forged.bytes(), 1).code(), Code::kUnsupported);
  EXPECT_EQ(verdict(forged.bytes(), 1).message(), "unknown stage 0x3f");
}

TEST(Frame, ReadersPassOverFieldsTheyDontKnowUnlessTheyAreCritical) {
  ForgedFrame forged{.elements = 1, .stages = kFloat32, .chunks = {{floats({1})}}};
  const auto with = [&](const std::vector<uint8_t>& fields) {
    forged.stages = kFloat32;
    forged.stages.insert(forged.stages.end(), fields.begin(), fields.end());
    return verdict(forged.bytes(), 1);
  };
  EXPECT_TRUE(with({0x01, 3, 7, 8, 9, 0x7F, 0}).ok());
  EXPECT_EQ(with({0x80, 0}).code(), Code::kUnsupported);
  EXPECT_EQ(with({0x01, 0, 0xFF, 2, 1, 1}).message(), "unknown critical header field 0xff");
  EXPECT_EQ(with({0x01}).code(), Code::kCorrupt);
  EXPECT_EQ(with({0x01, 2, 0}).code(), Code::kCorrupt);
  EXPECT_EQ(with({0x01, 0, 0x02}).code(), Code::kCorrupt);
}

TEST(Frame, TheNormBoundIsOnTheDecodedValuesAndInclusive) {
  const Bytes frame =
      ForgedFrame{.elements = 3, .stages = kFloat32, .chunks = {{floats({3, 0, -4})}}}.bytes();
  EXPECT_TRUE(verdict(frame, 3, {.norm_bound = 5}).ok());
  const DecodeLimits below{.norm_bound = std::nextafter(5.0, 0.0)};
  EXPECT_EQ(verdict(frame, 3, below).code(), Code::kOutOfRange);
  EXPECT_THAT(verdict(frame, 3, below).message(),
              HasSubstr("the update's norm 5 is above the bound"));
}

TEST(Frame, ValuesThatAreNotFiniteAreRefusedBehindRightChecksums) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity}) {
    const Bytes dense =
        ForgedFrame{.elements = 3, .stages = kFloat32, .chunks = {{floats({1, bad, 2})}}}.bytes();
    EXPECT_EQ(verdict(dense, 3).code(), Code::kOutOfRange) << bad;
    Bytes body = bytes_of({0, 0, 1, 0});
    append(body, bad);
    const Bytes sparse =
        ForgedFrame{.elements = 3, .stages = kTopK, .chunks = {{body, kPlain}}}.bytes();
    EXPECT_EQ(verdict(sparse, 3).code(), Code::kOutOfRange) << bad;
  }
  const Bytes half =
      ForgedFrame{.elements = 1, .stages = kFloat16, .chunks = {{bytes_of({0x00, 0x7C})}}}.bytes();
  EXPECT_EQ(verdict(half, 1).code(), Code::kOutOfRange);
  // Finite parts whose product isn't: the largest scale, the largest level.
  const Bytes product =
      ForgedFrame{.elements = 1, .stages = kInt4, .chunks = {{bytes_of({0x7F, 0x7F, 0x0E})}}}
          .bytes();
  EXPECT_EQ(verdict(product, 1).code(), Code::kOutOfRange);
}

struct Hostile {
  const char* what;
  ForgedFrame frame;
};

std::vector<Hostile> hostile_frames() {
  std::vector<Hostile> all;
  const auto add = [&](const char* what, ForgedFrame frame) {
    all.push_back({what, std::move(frame)});
  };
  const auto with_chunk = [](std::vector<uint8_t> stages, Bytes body, uint64_t elements = 8,
                             uint8_t mode = 1, uint8_t parameter = 0) {
    return ForgedFrame{.elements = elements,
                       .stages = std::move(stages),
                       .chunks = {{std::move(body), mode, parameter}}};
  };
  const auto with_stages = [](std::vector<uint8_t> stages) {
    return ForgedFrame{.elements = 1, .stages = std::move(stages), .chunks = {{floats({1})}}};
  };
  // Header.
  add("no stages", with_stages({0}));
  add("fewer stages than counted", with_stages({2, 0x30}));
  add("255 stages", with_stages({255, 0x30}));
  add("bytes behind the stages", with_stages({1, 0x30, 0}));
  add("a stage without its argument", with_stages({1, 0x33}));
  add("a rate cut off", with_stages({2, 0x30, 0x20, 1, 0}));
  add("block 2^31", with_stages({2, 0x10, 31, 0x30}));
  add("block 2^32", with_stages({2, 0x10, 32, 0x30}));
  add("block 2^255", with_stages({2, 0x10, 255, 0x30}));
  add("block 2^3", with_stages({2, 0x10, 3, 0x30}));
  add("block 2^17", with_stages({2, 0x10, 17, 0x30}));
  add("no bits", with_stages({1, 0x33, 0}));
  add("1 bit int", with_stages({1, 0x33, 1}));
  add("17 bits", with_stages({1, 0x33, 17}));
  add("9 bits eden", with_stages({2, 0x10, 10, 0x38, 9}));
  add("rate 0", with_stages({1, 0x20, 0, 0, 0, 0}));
  add("rate above 1", with_stages({1, 0x20, 0x01, 0xCA, 0x9A, 0x3B}));
  add("largest rate", with_stages({1, 0x22, 0xFF, 0xFF, 0xFF, 0xFF}));
  add("two quantizers", with_stages({2, 0x30, 0x31}));
  add("rice alone", with_stages({1, 0x50}));
  add("eden without rotation", with_stages({1, 0x38, 1}));
  add("eden in small blocks", with_stages({2, 0x10, 4, 0x38, 1}));
  add("ef last", with_stages({2, 0x31, 0x01}));
  for (const int header_bytes : {0, 48, 49, 51, 64, 65, 65535}) {
    ForgedFrame frame = with_stages({1, 0x30});
    frame.header_bytes = header_bytes;
    add("a wrong header length", frame);
    frame.elements = 0;
    frame.chunks.clear();
    add("a wrong header length without chunks", frame);
  }
  ForgedFrame frame = with_chunk(kFloat32, floats({1}), (uint64_t{1} << 40) + 1);
  add("too many elements", frame);
  frame = with_chunk(kFloat32, floats({1}), 65537);
  add("a table that is too short", frame);
  frame = with_chunk(kFloat32, floats({1}), uint64_t{1} << 40);
  add("2^40 elements in few bytes", frame);
  // Chunk table.
  frame = with_chunk(kFloat32, floats({1}), 1);
  frame.claimed_bytes = 5;
  add("a chunk beyond the frame", frame);
  frame.claimed_bytes = 0xFFFFFF;
  add("a chunk of 16 MiB", frame);
  frame.claimed_bytes = 3;
  add("a chunk cut short", frame);
  frame = with_chunk(kFloat32, floats({1}), 1);
  frame.after = bytes_of({0});
  add("a byte behind the last chunk", frame);
  frame = with_chunk(kFloat32, floats({1}), 1);
  frame.chunks[0].mode = 0;
  add("an empty chunk with a body", frame);
  frame.chunks[0].body.clear();
  frame.chunks[0].parameter = 1;
  add("an empty chunk with a parameter", frame);
  frame.chunks[0] = {.mode = 0, .coded = true};
  add("an empty chunk that is coded", frame);
  for (const uint8_t mode : {kPlain, kRice, kBitmap, kHalf, uint8_t{7}}) {
    frame = with_chunk(kFloat32, floats({1}), 1);
    frame.chunks[0].mode = mode;
    add("a mode that isn't of this chain", frame);
  }
  frame = with_chunk(kFloat32, floats({1}), 1);
  frame.chunks[0].coded = true;
  add("coded values without a value code", frame);
  frame = with_chunk(kInt4, floats({1}), 1);
  frame.chunks[0] = {.body = floats({1, 2}), .mode = kRaw};
  add("a raw value too many", frame);
  frame.chunks[0] = {.body = floats({1}), .mode = kRaw, .coded = true};
  add("raw values that are coded", frame);
  add("an index parameter without indices", with_chunk(kFloat32, floats({1}), 1, 1, 1));
  add("a coded chunk without a body", with_chunk(kFloat32, {}, 1));
  add("a value too few", with_chunk(kFloat32, floats({1}), 2));
  add("a value too many", with_chunk(kFloat32, floats({1, 2}), 1));
  // Counts and plain indices: count - 1, indices, values.
  const auto sparse = [](uint16_t count_less_one, std::initializer_list<uint16_t> index,
                         std::initializer_list<float> values) {
    Bytes body;
    append(body, count_less_one);
    for (const uint16_t i : index) append(body, i);
    for (const float v : values) append(body, v);
    return body;
  };
  const auto plain = [&](const char* what, Bytes body, uint64_t elements = 64,
                         uint8_t parameter = 0) {
    add(what, with_chunk(kTopK, std::move(body), elements, kPlain, parameter));
  };
  plain("no count", {});
  plain("half a count", bytes_of({0}));
  plain("more values than elements", sparse(2, {0, 1, 2}, {1, 2, 3}), 2);
  plain("65536 values claimed", sparse(65535, {0}, {1}), 65536);
  plain("indices out of order", sparse(1, {5, 4}, {1, 2}));
  plain("an index twice", sparse(1, {4, 4}, {1, 2}));
  plain("an index beyond the chunk", sparse(1, {4, 64}, {1, 2}));
  plain("too few values", sparse(1, {4, 5}, {1}));
  plain("too many values", sparse(1, {4, 5}, {1, 2, 3}));
  plain("a parameter for plain indices", sparse(0, {4}, {1}), 64, 1);
  add("plain indices where the chain has rice",
      with_chunk(kTopKRice, sparse(0, {4}, {1}), 64, kPlain));
  // A bitmap: count - 1, a bit an element, values.
  const auto bitmap = [&](const char* what, std::initializer_list<int> head,
                          std::initializer_list<float> values) {
    Bytes body = bytes_of(head);
    for (const float v : values) append(body, v);
    add(what, with_chunk(kTopK, std::move(body), 12, kBitmap));
  };
  bitmap("a bitmap cut short", {0, 0, 1}, {});
  bitmap("a bitmap of more values than the count", {0, 0, 3, 0}, {1});
  bitmap("a bitmap of fewer values than the count", {1, 0, 1, 0}, {1, 2});
  bitmap("a bit beyond the elements", {1, 0, 1, 0x10}, {1, 2});
  bitmap("a value of a bitmap too few", {1, 0, 3, 0}, {1});
  // Scales: bfloat16, then values.
  for (const int high : {0x80, 0xBF, 0xFF}) {
    add("a negative scale", with_chunk(kInt4, bytes_of({0x80, high, 0}), 1));
    add("a negative scale of signs", with_chunk({1, 0x35}, bytes_of({0x80, high, 0}), 1));
    add("a negative scale of levels", with_chunk(kEden1, bytes_of({0x80, high, 0}), 1));
    add("a negative ternary scale", with_chunk(kTernary, bytes_of({0x80, high, 0}), 1));
  }
  add("an infinite scale", with_chunk(kInt4, bytes_of({0x80, 0x7F, 0}), 1));
  add("a NaN scale", with_chunk(kInt4, bytes_of({0xC0, 0x7F, 0}), 1));
  for (const int packed : {243, 255})
    add("no five ternary values", with_chunk(kTernary, bytes_of({0x80, 0x3F, packed}), 5));
  add("a ternary value too many", with_chunk(kTernary, bytes_of({0x80, 0x3F, 3}), 1));
  for (const int symbol : {15}) {
    add("a symbol beyond the alphabet", with_chunk(kInt4, bytes_of({0x80, 0x3F, symbol}), 1));
    add("a padding bit", with_chunk(kInt4, bytes_of({0x80, 0x3F, 0x17}), 1));
  }
  add("a padding bit of signs", with_chunk({1, 0x35}, bytes_of({0x80, 0x3F, 0x02}), 1));
  // Rice: count - 1, low bits, unary quotients, float32 values.
  const auto rice = [&](const char* what, uint16_t count_less_one, std::initializer_list<int> code,
                        uint64_t elements = 64, uint8_t parameter = 1) {
    Bytes body;
    append(body, count_less_one);
    const Bytes bits = bytes_of(code);
    body.insert(body.end(), bits.begin(), bits.end());
    for (int i = 0; i <= count_less_one; ++i) append(body, 1.0f);
    add(what, with_chunk(kTopKRice, std::move(body), elements, kRice, parameter));
  };
  add("Rice without a code", with_chunk(kTopKRice, bytes_of({0, 0}), 64, kRice, 1));
  rice("a Rice run beyond the chunk", 0, {0x20}, 8);
  rice("a Rice run to a later index", 1, {0x04, 0x04}, 8);
  rice("padding behind Rice", 0, {0x06});
  rice("a byte behind the last Rice index", 0, {0x02, 0x00});
  rice("Rice low bits cut off", 9, {0x01}, 60000, 15);
  rice("Rice parameter 0", 0, {0x01}, 64, 0);
  add("Rice zeros to the end", with_chunk(kTopKRice, Bytes(100, std::byte{0}), 64, kRice, 1));
  Bytes long_run(70000, std::byte{0});
  long_run.back() = std::byte{0x80};
  add("a Rice run of half a million", with_chunk(kTopKRice, long_run, 65536, kRice, 15));
  // zstd: the same 8 floats in the format of zstd 0.7, which libzstd still decodes.
  frame = with_chunk({2, 0x30, 0x61}, bytes_of({0x27, 0xB5, 0x2F, 0xFD, 0x20, 32,  // header
                                                0x80, 0, 32, 0x3D,                 // 32 times 0x3D
                                                0xC0, 0, 0}));                     // end
  frame.chunks[0].coded = true;
  add("a zstd format from before RFC 8878", frame);
  return all;
}

TEST(Frame, HostileFramesWithRightChecksumsAreCorrupt) {
  for (const Hostile& hostile : hostile_frames()) {
    const Bytes frame = hostile.frame.bytes();
    // A buffer of exactly this size, so that a sanitizer sees a read past its end.
    const Bytes exact(frame.begin(), frame.end());
    const Status status = verdict(exact, hostile.frame.elements);
    EXPECT_EQ(status.code(), Code::kCorrupt) << hostile.what << ": " << status.message();
  }
}

TEST(Frame, WhatIsNearTheHostileFramesIsAccepted) {
  const auto accepted = [](const ForgedFrame& frame) {
    const Status status = verdict(frame.bytes(), frame.elements);
    EXPECT_TRUE(status.ok()) << status.message();
  };
  accepted({.elements = 0, .stages = kFloat32});
  accepted({.elements = 8,
            .stages = kTopK,
            .chunks = {{bytes_of({0, 0, 7, 0, 0, 0, 128, 63}), kPlain}}});
  accepted({.elements = 12,
            .stages = kTopK,
            .chunks = {{bytes_of({0, 0, 0, 8, 0, 0, 128, 63}), kBitmap}}});
  accepted({.elements = 8,
            .stages = kTopKRice,
            .chunks = {{bytes_of({0, 0, 0x11, 0, 0, 128, 63}), kRice, 1}}});
  accepted({.elements = 1, .stages = kTopK, .chunks = {{floats({1})}}});
  accepted({.elements = 1, .stages = kInt4, .chunks = {{floats({1}), kRaw}}});
  accepted({.elements = 5, .stages = kTernary, .chunks = {{bytes_of({0x80, 0x3F, 242})}}});
  accepted({.elements = 1, .stages = kInt4, .chunks = {{bytes_of({0x80, 0x3F, 0x0E})}}});
  accepted({.elements = 1, .stages = kEden1, .chunks = {{bytes_of({0x80, 0x3F, 1})}}});
}

TEST(Frame, GarbageOfEveryLengthIsCorrupt) {
  Rng rng(1, Purpose::kTest);
  for (size_t length = 0; length < 200; ++length) {
    Bytes garbage(length);
    for (std::byte& byte : garbage) byte = static_cast<std::byte>(rng.next());
    EXPECT_EQ(verdict(garbage, 10).code(), Code::kCorrupt);
  }
}

TEST(Frame, DecodingReportsBytesThatWereChangedAfterTheCheck) {
  Bytes frame = ForgedFrame{.elements = 8,
                            .stages = kTopK,
                            .chunks = {{bytes_of({0, 0, 7, 0, 0, 0, 128, 63}), kPlain}}}
                    .bytes();
  CodecScratch scratch;
  const CheckedFrame checked = inspect_frame(frame, 8, scratch).value();
  frame[frame.size() - 6] = std::byte{8};  // the index
  std::vector<float> out(8);
  const Status status = decode(checked, scratch, out);
  EXPECT_EQ(status.code(), Code::kInternal);
  EXPECT_THAT(status.message(), HasSubstr("a frame was changed after its check"));
}

TEST(ApplyDelta, MovesByMultiplesOfTheGridTiesToEven) {
  CodecScratch scratch;
  const std::vector<float> delta = {0.5f, 1.5f, -0.5f, 0.26f, 0.24f, 0, -0.25f, 0.75f};
  const auto frame = encode_frame(codec_of("float32"), kMeta, delta, scratch);
  const CheckedFrame checked = inspect_frame(frame, delta.size(), scratch).value();
  std::vector<float> halves(delta.size(), 10.0f);
  ASSERT_TRUE(apply_delta(checked, 1, scratch, halves).ok());
  EXPECT_EQ(halves, (std::vector<float>{10.5f, 11.5f, 9.5f, 10.5f, 10, 10, 10, 11}));
  std::vector<float> wholes(delta.size(), 10.0f);
  ASSERT_TRUE(apply_delta(checked, 0, scratch, wholes).ok());
  EXPECT_EQ(wholes, (std::vector<float>{10, 12, 10, 10, 10, 10, 10, 11}));
}

TEST(ApplyDelta, AChainGivesTheSameBitsInAnyOrder) {
  // On the grid every sum is exact: that is what lets merged deltas stand for a chain.
  constexpr int kGrid = 12;
  constexpr size_t kElements = 2000;
  CodecScratch scratch;
  std::vector<Bytes> frames(6);
  for (uint32_t round = 0; round < 6; ++round)
    frames[round] = encode_frame(
        codec_of(round % 2 == 0 ? "ef | topk:0.1 | ternary | rice" : "rotate | eden:2"),
        meta_with_seed(round), make_input(Input::kGaussian, kElements, round), scratch);
  std::vector<float> start = make_input(Input::kGaussian, kElements, 100);
  for (float& v : start) v = std::nearbyint(v * 4096) / 4096;
  const auto apply_all = [&](const std::vector<size_t>& order) {
    std::vector<float> model = start;
    for (const size_t i : order) {
      const CheckedFrame checked = inspect_frame(frames[i], kElements, scratch).value();
      EXPECT_TRUE(apply_delta(checked, kGrid, scratch, model).ok());
    }
    return model;
  };
  const std::vector<float> forwards = apply_all({0, 1, 2, 3, 4, 5});
  EXPECT_TRUE(same_bits(forwards, apply_all({5, 4, 3, 2, 1, 0})));
  EXPECT_TRUE(same_bits(forwards, apply_all({2, 0, 5, 1, 4, 3})));
  EXPECT_FALSE(same_bits(forwards, start));
}

}  // namespace
}  // namespace tern
