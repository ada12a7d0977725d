#include "base/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <numeric>
#include <string>

#include "base/rng.h"

namespace tern {
namespace {

using testing::HasSubstr;
using Bytes = std::vector<std::byte>;
using Shape = std::vector<int64_t>;

/// A file with this header as it stands, of version 1, 2 or 3.
Bytes npy_of(std::string_view header, size_t data_bytes, int version = 1) {
  const size_t length_bytes = version == 1 ? 2 : 4;
  Bytes file(8 + length_bytes + header.size() + data_bytes);
  std::memcpy(file.data(), "\x93NUMPY", 6);
  file[6] = static_cast<std::byte>(version);
  const auto length = static_cast<uint32_t>(header.size());
  std::memcpy(file.data() + 8, &length, length_bytes);
  std::memcpy(file.data() + 8 + length_bytes, header.data(), header.size());
  return file;
}

std::string header_of(std::string_view shape) {
  return fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': {}, }}\n", shape);
}

void expect_refused(const Bytes& file, Code code, std::string_view message, std::string_view what) {
  const Result<NpyArray> array = parse_npy(file);
  ASSERT_FALSE(array) << what;
  EXPECT_EQ(array.error().code(), code) << what;
  EXPECT_THAT(array.error().message(), HasSubstr(std::string(message))) << what;
}

TEST(Npy, RoundTripsEveryBitOfEveryShape) {
  const std::vector<float> values = {0.0f,
                                     -0.0f,
                                     std::numeric_limits<float>::denorm_min(),
                                     std::numeric_limits<float>::max(),
                                     std::numeric_limits<float>::quiet_NaN(),
                                     -std::numeric_limits<float>::infinity()};
  for (const Shape& shape : {Shape{6}, Shape{2, 3}, Shape{3, 1, 2}, Shape{1, 1, 6, 1}}) {
    const Result<Bytes> file = to_npy(shape, values);
    ASSERT_TRUE(file);
    const Result<NpyArray> array = parse_npy(*file);
    ASSERT_TRUE(array) << array.error().describe();
    EXPECT_EQ(array->shape, shape);
    const std::vector<float> read = array->values();
    ASSERT_EQ(read.size(), values.size());
    EXPECT_EQ(std::memcmp(read.data(), values.data(), 24), 0);
  }
}

TEST(Npy, WritesWhatNumPyWrites) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const Bytes file = to_npy(Shape{2, 3}, values).value();
  // numpy.save of numpy.arange(1, 7, dtype='<f4').reshape(2, 3)
  const std::string expected = std::string("\x93NUMPY\x01\0\x76\0", 10) +
                               "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" +
                               std::string(58, ' ') + "\n";
  ASSERT_EQ(expected.size(), 128u);
  ASSERT_EQ(file.size(), 128u + 24);
  EXPECT_EQ(std::memcmp(file.data(), expected.data(), 128), 0);
  EXPECT_EQ(std::memcmp(file.data() + 128, values.data(), 24), 0);
}

TEST(Npy, ScalarsAndEmptyArraysHaveFilesToo) {
  const Bytes scalar = to_npy({}, std::vector<float>{7}).value();
  const Result<NpyArray> one = parse_npy(scalar);
  ASSERT_TRUE(one) << one.error().describe();
  EXPECT_EQ(one->shape, Shape{});
  EXPECT_EQ(one->values(), std::vector<float>{7});

  const Bytes empty = to_npy(Shape{3, 0, 2}, {}).value();
  const Result<NpyArray> none = parse_npy(empty);
  ASSERT_TRUE(none) << none.error().describe();
  EXPECT_EQ(none->shape, (Shape{3, 0, 2}));
  EXPECT_TRUE(none->values().empty());
}

TEST(Npy, ThirtyTwoDimensionsFitTheFirstFormat) {
  const Bytes file = to_npy(Shape(32, 1), std::vector<float>{1}).value();
  EXPECT_EQ(parse_npy(file).value().shape.size(), 32u);
  EXPECT_EQ((file.size() - 4) % 64, 0u);
}

TEST(Npy, RefusesToWriteWhatItWouldNotRead) {
  const std::vector<float> one = {1};
  EXPECT_EQ(to_npy(Shape(33, 1), one).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(to_npy(Shape{2}, one).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(to_npy(Shape{-1, -1}, one).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(to_npy(Shape{int64_t{1} << 40, 2, 0}, {}).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(to_npy(Shape{int64_t{1} << 32, int64_t{1} << 32}, {}).error().code(),
            Code::kInvalidArgument);
}

TEST(Npy, ReadsEveryFormatFromAnyAddress) {
  for (const int version : {1, 2, 3}) {
    const Bytes file = npy_of(header_of("(2,)"), 8, version);
    Bytes shifted(1);
    shifted.insert(shifted.end(), file.begin(), file.end());
    const float values[] = {5, 6};
    std::memcpy(shifted.data() + shifted.size() - 8, values, 8);
    const Result<NpyArray> array = parse_npy(std::span(shifted).subspan(1));
    ASSERT_TRUE(array) << version << ": " << array.error().describe();
    EXPECT_EQ(array->values(), (std::vector<float>{5, 6}));
  }
}

TEST(Npy, ReadsTheDictionaryInAnyOrderQuotesAndSpacing) {
  const std::string long_padding(70'000, ' ');
  const std::vector<std::pair<std::string, Shape>> headers = {
      {"{'shape':(2,3),'fortran_order':False,'descr':'<f4'}", {2, 3}},
      {"  {\t'shape'\n: ( 2 ,\r3 , ) , \"descr\" :\f\"<f4\",'fortran_order' : False}  \n", {2, 3}},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}", {6}},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (6 , ) ,}", {6}},
      {"{'descr': '<f4', 'shape': (1, 2, 3,), 'fortran_order': False,\n}", {1, 2, 3}},
      {"{'descr': '<f4', 'shape': (0000006,), 'fortran_order': False}", {}},
  };
  for (size_t i = 0; i + 1 < headers.size(); ++i) {
    const auto& [header, shape] = headers[i];
    const Bytes file = npy_of(header, 24);
    const Result<NpyArray> array = parse_npy(file);
    ASSERT_TRUE(array) << header << ": " << array.error().describe();
    EXPECT_EQ(array->shape, shape) << header;
  }
  EXPECT_FALSE(parse_npy(npy_of(headers.back().first, 24)));
  EXPECT_TRUE(parse_npy(npy_of(header_of("(6,)") + long_padding, 24, 2)));
}

TEST(Npy, RefusesOtherElementsAndSaysWhichItFound) {
  const std::vector<std::pair<std::string, std::string>> types = {
      {"'<f8'", "of type '<f8'; expected '<f4' (float32, little-endian)"},
      {"'>f4'", "of type '>f4'; expected '<f4'"},
      {"'=f4'", "of type '=f4'"},
      {"'f4'", "of type 'f4'"},
      {"'<f2'", "of type '<f2'"},
      {"'<i4'", "of type '<i4'"},
      {"'|O'", "of type '|O'"},
      {"'|b1'", "of type '|b1'"},
      {"'<U7'", "of type '<U7'"},
      {"''", "of type ''"},
      {"'<f4\xC3\xA9\x07'", "of type '<f4?\?\?'"},
      {"[('x', '<f4'), ('y', '<f4')]", "structures, [('x', '<f4'), ('y', '<f4')]"},
      {"[('\xCF\x80', '<f4')]", "structures, [('?\?', '<f4')]"},
      {"('<f4', (2,))", "structures, ('<f4', (2,))"},
      {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "[[[[..."},
  };
  for (const auto& [type, message] : types)
    for (const int version : {1, 3})
      expect_refused(
          npy_of("{'descr': " + type + ", 'fortran_order': False, 'shape': (2,), }\n", 8, version),
          Code::kUnsupported, message, type);
}

TEST(Npy, RefusesFortranOrder) {
  const std::string header = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n";
  expect_refused(npy_of(header, 24), Code::kUnsupported,
                 "fortran_order is True; expected False (C order", header);
}

TEST(Npy, RefusesOtherFormats) {
  for (const auto& [major, minor] : {std::pair{0, 0}, {4, 0}, {1, 1}, {3, 7}, {255, 255}}) {
    Bytes file = npy_of(header_of("(2,)"), 8);
    file[6] = static_cast<std::byte>(major);
    file[7] = static_cast<std::byte>(minor);
    expect_refused(file, Code::kUnsupported, fmt::format("format {}.{}; expected", major, minor),
                   "version");
  }
}

TEST(Npy, RefusesBadHeadersAndSaysWhy) {
  const std::vector<std::pair<std::string, std::string>> headers = {
      {"", "byte 0: expected '{', found its end"},
      {"[]", "expected '{', found '[]'"},
      {"{", "expected a string, found its end"},
      {"{}", "lacks 'descr'"},
      {"{,}", "expected a string, found ',}'"},
      {"{'descr': '<f4'}", "lacks 'fortran_order'"},
      {"{'descr': '<f4', 'fortran_order': False}", "lacks 'shape'"},
      {"{'descr' '<f4'}", "expected ':', found ''<f4'}'"},
      {"{'descr': 4}", "expected a string, found '4}'"},
      {"{'descr': '<f4}", "a string that ends and has no escapes"},
      {"{'descr': '<f4\"}", "a string that ends"},
      {"{'descr': '\\x3cf4'}", "a string that ends and has no escapes"},
      {"{'descr': '<f4' 'x'}", "expected '}', found ''x'}'"},
      {"{'descr': '<f4', 'descr': '<f4'}", "unknown or repeated key 'descr'"},
      {"{'order': 1}", "unknown or repeated key 'order'"},
      {"{'d\xC3\xA9scr': '<f4'}", "unknown or repeated key 'd?\?scr'"},
      {"{'fortran_order': 0}", "expected True or False, found '0}'"},
      {"{'fortran_order': false}", "expected True or False"},
      {"{'fortran_order': Falsehood}", "expected True or False"},
      {header_of("(2,)") + "x", "expected nothing after the dictionary, found 'x'"},
      {header_of("(2,)") + std::string(1, '\0'), "expected nothing after the dictionary"},
      {header_of("(2)"), "a shape of one dimension as '(N,)'"},
      {header_of("2"), "expected '(', found '2"},
      {header_of("[2]"), "expected '(', found '[2]"},
      {header_of("(,)"), "expected a number"},
      {header_of("(2,,)"), "expected a number"},
      {header_of("(2 3)"), "expected ',' or ')'"},
      {header_of("(-2,)"), "expected a number without sign, from 0 to 2^40, found '-2"},
      {header_of("(+2,)"), "expected a number"},
      {header_of("(2.0,)"), "expected ',' or ')'"},
      {header_of("(2L,)"), "expected ',' or ')'"},
      {header_of("(02,)"), "expected a number"},
      {header_of("((2,),)"), "expected a number"},
      {header_of("('2',)"), "expected a number"},
      {header_of("(2,"), "expected a number"},
      {std::string("{'descr': '<f4', 'shape': (2"), "expected ',' or ')', found its end"},
  };
  for (const auto& [header, message] : headers)
    for (const int version : {1, 2, 3})
      expect_refused(npy_of(header, 8, version), Code::kCorrupt, message, header);
}

TEST(Npy, RefusesAbsurdShapes) {
  const std::vector<std::pair<std::string, std::string>> shapes = {
      {"(1099511627777,)", "dimension 0 of the shape is above 2^40"},
      {"(2, 18446744073709551616)", "dimension 1 of the shape is above 2^40"},
      {"(99999999999999999999999999999999999999999,)", "above 2^40"},
      {"(1099511627776, 2)", "more than 2^40 elements"},
      {"(4294967296, 4294967296)", "more than 2^40 elements"},  // 2^64 wraps to 0
      {"(65536, 65536, 65536, 65536)", "more than 2^40 elements"},
      {"(1099511627776, 2, 0)", "more than 2^40 elements"},
      {"(0, 1099511627776, 1099511627776)", "more than 2^40 elements"},
      {"(1099511627776,)", "needs 4398046511104 bytes of data, the file has 0"},
      {"(2,)", "the shape (2,) needs 8 bytes of data, the file has 0"},
      {"()", "the shape () needs 4 bytes of data, the file has 0"},
      {fmt::format("({})", fmt::join(std::vector<int>(33, 1), ", ")), "more than 32 dimensions"},
  };
  for (const auto& [shape, message] : shapes)
    expect_refused(npy_of(header_of(shape), 0), Code::kCorrupt, message, shape);
  std::string many = "(";
  for (int i = 0; i < 100'000; ++i) many += "0,";
  expect_refused(npy_of(header_of(many + ")"), 0, 2), Code::kCorrupt, "more than 32 dimensions",
                 "100000 dimensions");
}

TEST(Npy, RefusesDataOfAnotherLength) {
  for (const size_t length : {0, 1, 4, 7, 9, 12, 16}) {
    expect_refused(npy_of(header_of("(2,)"), length), Code::kCorrupt,
                   fmt::format("needs 8 bytes of data, the file has {}", length), "length");
  }
}

TEST(Npy, RefusesHeaderLengthsThatCannotBe) {
  Bytes file = npy_of(header_of("(2,)"), 8, 2);
  for (const uint32_t length : {0u, 1u, 100'000u, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFFu}) {
    std::memcpy(file.data() + 8, &length, 4);
    const Result<NpyArray> array = parse_npy(file);
    ASSERT_FALSE(array) << length;
    EXPECT_EQ(array.error().code(), Code::kCorrupt) << length;
  }
}

TEST(Npy, EveryTruncationIsRefusedAndNoBitFlipCrashes) {
  for (const int version : {1, 2, 3}) {
    const Bytes good = npy_of(header_of("(2, 3)"), 24, version);
    ASSERT_TRUE(parse_npy(good));
    for (size_t length = 0; length < good.size(); ++length) {
      // A copy, so that a sanitizer sees a read beyond it.
      const Bytes cut(good.begin(), good.begin() + static_cast<ptrdiff_t>(length));
      const Result<NpyArray> array = parse_npy(cut);
      ASSERT_FALSE(array) << length;
      EXPECT_EQ(array.error().code(), Code::kCorrupt) << length;
    }
    Bytes longer = good;
    longer.push_back({});
    EXPECT_FALSE(parse_npy(longer));
  }
  const Bytes good = npy_of(header_of("(2, 3)"), 24);
  Rng rng(1, Purpose::kTest);
  for (int i = 0; i < 20'000; ++i) {
    Bytes bad = good;
    const uint32_t flips = 1 + rng.below(4);
    for (uint32_t flip = 0; flip < flips; ++flip)
      bad[rng.below(static_cast<uint32_t>(bad.size()))] ^=
          static_cast<std::byte>(1u << rng.below(8));
    const Result<NpyArray> array = parse_npy(bad);
    if (array)
      EXPECT_EQ(array->data.size(), 24u);
    else
      EXPECT_NE(array.error().code(), Code::kInternal);
  }
}

}  // namespace
}  // namespace tern
