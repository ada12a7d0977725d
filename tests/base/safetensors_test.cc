#include "base/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <numeric>

#include "base/rng.h"

namespace tern {
namespace {

using testing::HasSubstr;

ParameterSchema small_schema() {
  return ParameterSchema::make({{"w", {2, 3}, TensorKind::kWeight}, {"b", {2}, TensorKind::kBias}})
      .value();
}

std::vector<std::byte> safetensors_of(std::string_view header, size_t data_bytes) {
  std::vector<std::byte> file(8 + header.size() + data_bytes);
  const uint64_t length = header.size();
  std::memcpy(file.data(), &length, 8);
  std::memcpy(file.data() + 8, header.data(), header.size());
  return file;
}

Status read(std::span<const std::byte> file, const ParameterSchema& schema = small_schema()) {
  std::vector<float> out(schema.elements());
  return from_safetensors(file, schema, out);
}

TEST(Safetensors, RoundTripsEveryBit) {
  const ParameterSchema schema = ParameterSchema::make({{"w", {2, 3}, TensorKind::kWeight},
                                                        {"none", {0, 4}, TensorKind::kWeight},
                                                        {"one", {}, TensorKind::kNorm},
                                                        {"b", {1}, TensorKind::kBias}})
                                     .value();
  const std::vector<float> parameters = {0.0f,
                                         -0.0f,
                                         std::numeric_limits<float>::denorm_min(),
                                         std::numeric_limits<float>::max(),
                                         std::numeric_limits<float>::quiet_NaN(),
                                         -std::numeric_limits<float>::infinity(),
                                         1.5f,
                                         -3.0f};
  const std::vector<std::byte> file =
      to_safetensors(schema, parameters, {{"version", "3"}, {"quote", "\"\\\n"}});
  std::vector<float> out(8);
  ASSERT_TRUE(from_safetensors(file, schema, out).ok());
  EXPECT_EQ(std::memcmp(out.data(), parameters.data(), 32), 0);
}

TEST(Safetensors, WritesTheDocumentedLayout) {
  const std::vector<float> parameters = {1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<std::byte> file = to_safetensors(small_schema(), parameters, {{"a", "b"}});
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), 8);
  EXPECT_EQ(header_bytes % 8, 0u);
  ASSERT_EQ(file.size(), 8 + header_bytes + 32);
  const std::string header(reinterpret_cast<const char*>(file.data()) + 8, header_bytes);
  EXPECT_THAT(header,
              testing::StartsWith(R"({"__metadata__":{"a":"b"},)"
                                  R"("w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                                  R"("b":{"dtype":"F32","shape":[2],"data_offsets":[24,32]}})"));
  EXPECT_EQ(std::memcmp(file.data() + 8 + header_bytes, parameters.data(), 32), 0);
}

TEST(Safetensors, AnEmptySchemaMakesAFileWithoutData) {
  const ParameterSchema schema = ParameterSchema::make({}).value();
  EXPECT_TRUE(from_safetensors(to_safetensors(schema, {}), schema, {}).ok());
}

TEST(Safetensors, ReadsTensorsInAnyOrderFromAnyAddress) {
  const std::string_view header =
      R"({"b":{"data_offsets":[0,8],"dtype":"F32","shape":[2]},)"
      R"("__metadata__":{},"w":{"shape":[2,3],"dtype":"F32","data_offsets":[8,32]}}   )";
  std::vector<std::byte> shifted(1);
  const std::vector<std::byte> file = safetensors_of(header, 32);
  shifted.insert(shifted.end(), file.begin(), file.end());
  std::vector<float> values(8);
  std::iota(values.begin(), values.end(), 0.0f);
  std::memcpy(shifted.data() + shifted.size() - 32, values.data(), 32);
  std::vector<float> out(8);
  const Status status = from_safetensors(std::span(shifted).subspan(1), small_schema(), out);
  ASSERT_TRUE(status.ok()) << status.describe();
  EXPECT_EQ(out, (std::vector<float>{2, 3, 4, 5, 6, 7, 0, 1}));
}

TEST(Safetensors, AsksForTheRightAmountOfRoom) {
  std::vector<float> out(7);
  EXPECT_EQ(
      from_safetensors(to_safetensors(small_schema(), std::vector<float>(8)), small_schema(), out)
          .code(),
      Code::kInternal);
}

constexpr std::string_view kW = R"("w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]})";

TEST(Safetensors, RefusesBadHeadersAndSaysWhy) {
  const std::string w(kW);
  const std::vector<std::pair<std::string, std::pair<Code, std::string>>> cases = {
      {"[]", {Code::kCorrupt, "does not begin with '{'"}},
      {" {}", {Code::kCorrupt, "does not begin with '{'"}},
      {"{", {Code::kCorrupt, "not JSON at its byte"}},
      {"{}}", {Code::kCorrupt, "not JSON at its byte"}},
      {"{\"\xff\":1}", {Code::kCorrupt, "not JSON at its byte"}},
      {"{}", {Code::kInvalidArgument, "no tensor 'w'"}},
      {"{" + w + "}", {Code::kInvalidArgument, "no tensor 'b'"}},
      {R"({"x":{}})", {Code::kInvalidArgument, "a tensor 'x' that the model does not have"}},
      {R"({"x\n\u0007":{}})", {Code::kInvalidArgument, "a tensor 'x?\?' that"}},
      {R"({"w":1})", {Code::kCorrupt, "a number where it does not belong"}},
      {R"({"w":-1})", {Code::kCorrupt, "a negative number where"}},
      {R"({"w":null})", {Code::kCorrupt, "null where"}},
      {R"({"w":true})", {Code::kCorrupt, "a boolean where"}},
      {R"({"w":[]})", {Code::kCorrupt, "an array where"}},
      {R"({"w":"F32"})", {Code::kCorrupt, "a string where"}},
      {R"({"w":{"dtype":{}}})", {Code::kCorrupt, "an object where"}},
      {R"({"w":{"shape":[[2,3]]}})", {Code::kCorrupt, "an array where"}},
      {R"({"w":{"shape":[2,-3]}})", {Code::kCorrupt, "a negative number where"}},
      {R"({"w":{"shape":[2,3.5]}})", {Code::kCorrupt, "a fraction or a number beyond 64 bits"}},
      {R"({"w":{"shape":[18446744073709551616]}})", {Code::kCorrupt, "beyond 64 bits"}},
      {R"({"w":{"shape":[1e999]}})", {Code::kCorrupt, "not JSON at its byte"}},
      {R"({"w":{"data_offsets":[0]}})", {Code::kCorrupt, "has 1 numbers instead of 2"}},
      {R"({"w":{"data_offsets":[0,8,24]}})", {Code::kCorrupt, "has 3 numbers instead of 2"}},
      {R"({"w":{"dtype":"F32","shape":[2,3]}})", {Code::kCorrupt, "'w' lacks"}},
      {R"({"w":{"dtype":"F32","dtype":"F32"}})", {Code::kCorrupt, "repeated field 'dtype'"}},
      {R"({"w":{"stride":1}})", {Code::kCorrupt, "unknown or repeated field 'stride'"}},
      {R"({"w":{"dtype":"F16"}})", {Code::kInvalidArgument, "'w' has the type F16"}},
      {R"({"w":{"shape":[3,2]}})", {Code::kInvalidArgument, "[3, 2] in the file, [2, 3] in the"}},
      {R"({"w":{"shape":[6]}})", {Code::kInvalidArgument, "[6] in the file"}},
      {"{" + w + "," + w + "}", {Code::kCorrupt, "'w' occurs twice"}},
      {R"({"__metadata__":{},"__metadata__":{}})", {Code::kCorrupt, "occurs twice"}},
      {R"({"__metadata__":{"a":1}})", {Code::kCorrupt, "a number where"}},
      {R"({"__metadata__":{"a":{}}})", {Code::kCorrupt, "an object where"}},
  };
  for (const auto& [header, expected] : cases) {
    const Status status = read(safetensors_of(header, 32));
    EXPECT_EQ(status.code(), expected.first) << header;
    EXPECT_THAT(status.message(), HasSubstr(expected.second)) << header;
  }
}

TEST(Safetensors, RefusesRangesThatOverlapLeaveGapsOrRunPastTheEnd) {
  const auto message = [](std::string_view w, std::string_view b, size_t data_bytes) {
    const std::string header =
        fmt::format(R"({{"w":{{"dtype":"F32","shape":[2,3],"data_offsets":{}}},)"
                    R"("b":{{"dtype":"F32","shape":[2],"data_offsets":{}}}}})",
                    w, b);
    const Status status = read(safetensors_of(header, data_bytes));
    EXPECT_TRUE(status.ok() || status.code() == Code::kCorrupt) << status.describe();
    return status.message();
  };
  EXPECT_EQ(message("[0,24]", "[24,32]", 32), "");
  EXPECT_EQ(message("[8,32]", "[0,8]", 32), "");
  EXPECT_THAT(message("[0,24]", "[20,28]", 28), HasSubstr("'b' overlap"));
  EXPECT_THAT(message("[0,24]", "[0,8]", 32), HasSubstr("overlap"));
  EXPECT_THAT(message("[0,24]", "[28,36]", 36), HasSubstr("'b' begin after a gap"));
  EXPECT_THAT(message("[4,28]", "[28,36]", 36), HasSubstr("'w' begin after a gap"));
  EXPECT_THAT(message("[0,24]", "[24,32]", 33), HasSubstr("1 bytes at the end"));
  EXPECT_THAT(message("[0,24]", "[24,32]", 31), HasSubstr("'b' runs past the end"));
  EXPECT_THAT(message("[24,0]", "[24,32]", 32), HasSubstr("'w' runs past the end"));
  EXPECT_THAT(message("[0,20]", "[24,32]", 32), HasSubstr("20 bytes of data instead of 24"));
  EXPECT_THAT(message("[18446744073709551608,16]", "[24,32]", 32), HasSubstr("runs past the end"));
  EXPECT_THAT(message("[0,18446744073709551615]", "[24,32]", 32), HasSubstr("runs past the end"));
}

TEST(Safetensors, RefusesHeaderLengthsThatCannotBe) {
  EXPECT_EQ(read({}).code(), Code::kCorrupt);
  std::vector<std::byte> file = safetensors_of("{}", 0);
  for (uint64_t length : {uint64_t{0}, uint64_t{3}, uint64_t{100'000'001}, uint64_t{1} << 63,
                          ~uint64_t{0}, ~uint64_t{0} - 7}) {
    std::memcpy(file.data(), &length, 8);
    EXPECT_EQ(read(file).code(), Code::kCorrupt) << length;
  }
}

TEST(Safetensors, DeepNestingAndLongListsStopAtOnce) {
  EXPECT_EQ(read(safetensors_of("{\"w\":" + std::string(10'000'000, '['), 0)).code(),
            Code::kCorrupt);
  std::string nested;
  for (int i = 0; i < 100'000; ++i) nested += R"({"__metadata__":)";
  EXPECT_EQ(read(safetensors_of(nested, 0)).code(), Code::kCorrupt);
  std::string list = R"({"w":{"shape":[1)";
  for (int i = 0; i < 100'000; ++i) list += ",1";
  const Status status = read(safetensors_of(list + "]}}", 0));
  EXPECT_THAT(status.message(), HasSubstr("more than 32 numbers"));
}

TEST(Safetensors, WhiteSpaceMayBeAnythingOutsideOfStringsAndNothingInThem) {
  const std::string b = R"("b":{"dtype":"F32","shape":[2],"data_offsets":[24,32]})";
  EXPECT_TRUE(read(safetensors_of("{\n\t" + std::string(kW) + "\r\n,\t" + b + "\n}\n", 32)).ok());
  for (const char* name : {"w\n", "w\\\"\n", "\n", "\\\\\t"}) {
    const std::string header = fmt::format(R"({{"{}":{{}}}})", name);
    EXPECT_THAT(read(safetensors_of(header, 0)).message(), HasSubstr("not JSON at its byte"))
        << header;
    EXPECT_FALSE(safetensors_schema(safetensors_of(header, 0))) << header;
  }
}

TEST(Safetensors, EveryTruncationAndMostBitFlipsAreRefusedAndNoneCrashes) {
  const std::vector<std::byte> good =
      to_safetensors(small_schema(), std::vector<float>(8, 1.0f), {{"k", "v"}});
  ASSERT_TRUE(read(good).ok());
  for (size_t length = 0; length < good.size(); ++length)
    EXPECT_FALSE(read(std::span(good).first(length)).ok()) << length;
  Rng rng(1, Purpose::kTest);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> bad = good;
    const uint32_t flips = 1 + rng.below(4);
    for (uint32_t flip = 0; flip < flips; ++flip)
      bad[rng.below(static_cast<uint32_t>(bad.size()))] ^=
          static_cast<std::byte>(1u << rng.below(8));
    const Status status = read(bad);
    EXPECT_NE(status.code(), Code::kInternal);
  }
}

TEST(SafetensorsSchema, IsTheFilesOwnInTheOrderOfItsData) {
  const std::string_view header =
      R"({"b":{"data_offsets":[24,32],"dtype":"F32","shape":[2]},"none":{"dtype":"F32","shape":)"
      R"([0,4],"data_offsets":[24,24]},"w":{"shape":[2,3],"dtype":"F32","data_offsets":[0,24]},)"
      R"("one":{"shape":[],"dtype":"F32","data_offsets":[32,36]},"__metadata__":{"a":"b"}})";
  std::vector<std::byte> file = safetensors_of(header, 36);
  std::vector<float> values(9);
  std::iota(values.begin(), values.end(), 0.0f);
  std::memcpy(file.data() + file.size() - 36, values.data(), 36);
  const Result<ParameterSchema> schema = safetensors_schema(file);
  ASSERT_TRUE(schema) << schema.error().describe();
  EXPECT_EQ(schema->hash(),
            ParameterSchema::make({{"w", {2, 3}}, {"none", {0, 4}}, {"b", {2}}, {"one", {}}})
                .value()
                .hash());
  std::vector<float> out(schema->elements());
  ASSERT_TRUE(from_safetensors(file, *schema, out).ok());
  EXPECT_EQ(out, values);
}

TEST(SafetensorsSchema, OfWhatWasWrittenIsItsSchemaWithWeightsAlone) {
  const ParameterSchema weights = ParameterSchema::make({{"w", {2, 3}}, {"b", {2}}}).value();
  const auto file = to_safetensors(small_schema(), std::vector<float>(8), {{"version", "3"}});
  EXPECT_EQ(safetensors_schema(file).value().hash(), weights.hash());
  EXPECT_EQ(safetensors_schema(to_safetensors({}, {})).value().tensors().size(), 0u);
}

TEST(SafetensorsSchema, RefusesBadFilesAndSaysWhy) {
  const auto tensor = [](std::string_view name, std::string_view shape, std::string_view offsets) {
    return fmt::format(R"("{}":{{"dtype":"F32","shape":{},"data_offsets":{}}})", name, shape,
                       offsets);
  };
  const std::vector<std::pair<std::string, std::pair<Code, std::string>>> cases = {
      {"{", {Code::kCorrupt, "not JSON at its byte"}},
      {"{}", {Code::kCorrupt, "32 bytes at the end belong to no tensor"}},
      {tensor("", "[8]", "[0,32]"), {Code::kCorrupt, "a tensor has no name"}},
      {tensor("a", "[4]", "[0,16]") + "," + tensor("a", "[4]", "[16,32]"),
       {Code::kCorrupt, "tensor 'a' occurs twice"}},
      {tensor("a\\n", "[4]", "[0,16]") + "," + tensor("a\\n", "[4]", "[16,32]"),
       {Code::kCorrupt, "tensor 'a?' occurs twice"}},
      {tensor("a", "[4]", "[0,16]") + "," + tensor("b", "[4]", "[0,16]"),
       {Code::kCorrupt, "'b' overlap"}},
      {tensor("a", "[4]", "[0,16]") + "," + tensor("b", "[3]", "[20,32]"),
       {Code::kCorrupt, "'b' begin after a gap"}},
      {tensor("a", "[7]", "[0,28]"), {Code::kCorrupt, "4 bytes at the end"}},
      {tensor("a", "[9]", "[0,36]"), {Code::kCorrupt, "runs past the end"}},
      {tensor("a", "[9]", "[0,32]"), {Code::kCorrupt, "32 bytes of data instead of 36"}},
      {tensor("a", "[1099511627777]", "[0,32]"), {Code::kCorrupt, "more than 2^40 elements"}},
      {tensor("a", "[4294967296,4294967296]", "[0,0]"), {Code::kCorrupt, "more than 2^40"}},
      {tensor("a", "[1099511627776,2,0]", "[0,0]"), {Code::kCorrupt, "more than 2^40"}},
      {tensor("a", "[18446744073709551615]", "[0,32]"), {Code::kCorrupt, "more than 2^40"}},
      {tensor("a", "[1099511627776]", "[0,32]"), {Code::kCorrupt, "instead of 4398046511104"}},
      {tensor("a", "[-8]", "[0,32]"), {Code::kCorrupt, "a negative number"}},
      {R"("a":{"dtype":"BF16","shape":[16],"data_offsets":[0,32]})",
       {Code::kInvalidArgument, "'a' has the type BF16; only F32"}},
      {R"("a":{"dtype":"F32","shape":[8]})", {Code::kCorrupt, "'a' lacks"}},
  };
  for (const auto& [text, expected] : cases) {
    const std::string header = text.starts_with('{') ? text : "{" + text + "}";
    const Result<ParameterSchema> schema = safetensors_schema(safetensors_of(header, 32));
    ASSERT_FALSE(schema) << header;
    EXPECT_EQ(schema.error().code(), expected.first) << header;
    EXPECT_THAT(schema.error().message(), HasSubstr(expected.second)) << header;
  }
}

TEST(SafetensorsSchema, EveryTruncationIsRefusedAndNoBitFlipCrashes) {
  const std::vector<std::byte> good =
      to_safetensors(small_schema(), std::vector<float>(8, 1.0f), {{"k", "v"}});
  ASSERT_TRUE(safetensors_schema(good));
  for (size_t length = 0; length < good.size(); ++length) {
    const std::vector<std::byte> cut(good.begin(), good.begin() + static_cast<ptrdiff_t>(length));
    EXPECT_FALSE(safetensors_schema(cut)) << length;
  }
  Rng rng(2, Purpose::kTest);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> bad = good;
    const uint32_t flips = 1 + rng.below(4);
    for (uint32_t flip = 0; flip < flips; ++flip)
      bad[rng.below(static_cast<uint32_t>(bad.size()))] ^=
          static_cast<std::byte>(1u << rng.below(8));
    const Result<ParameterSchema> schema = safetensors_schema(bad);
    if (schema)
      EXPECT_EQ(schema->elements(), 8u);
    else
      EXPECT_NE(schema.error().code(), Code::kInternal);
  }
}

}  // namespace
}  // namespace tern
