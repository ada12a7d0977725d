/// What the factors of components cost, and what their code refuses. That frames come back as they
/// were is a law over every chain (laws_test.cc); here are integers that no component would have.
#include "compression/updates/stages/factor_code.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>
#include <map>

#include "base/bytes.h"
#include "base/rng.h"
#include "compression/updates/stages/range_coder.h"
#include "compression/updates/stages/scale.h"
#include "tests/compression/updates/chains.h"

namespace tern {
namespace {

using testing::HasSubstr;

constexpr float kStep = 0x1p-7f;

std::vector<float> on_grid(const std::vector<int>& steps) {
  std::vector<float> x(steps.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(steps[i]) * kStep;
  return x;
}

struct Coded {
  ChunkEntry entry;
  std::vector<std::byte> body;
};

Coded coded(const std::vector<float>& x, size_t at, ColumnEnds ends, CodecScratch& scratch) {
  Coded out;
  out.body.resize(4 * x.size());
  out.entry = encode_factors(x, at, ends, kStep, scratch, out.body.data());
  out.body.resize(out.entry.bytes);
  return out;
}

void expect_back(const std::vector<float>& x, size_t at, ColumnEnds ends, ChunkMode mode) {
  SCOPED_TRACE(fmt::format("{} from {} on", x.size(), at));
  CodecScratch scratch;
  const Coded out = coded(x, at, ends, scratch);
  EXPECT_EQ(out.entry.mode, mode);
  fill_with_garbage(scratch);
  const Result<DecodedChunk> back =
      decode_factors(out.entry, out.body, at, x.size(), ends, scratch);
  ASSERT_TRUE(back) << back.error().message();
  if (mode == ChunkMode::kEmpty)
    EXPECT_TRUE(back->sparse && back->values.empty());
  else
    EXPECT_TRUE(same_bits(back->values, x));
}

std::vector<int> laplacian(size_t n, double scale, Rng& rng) {
  std::vector<int> steps(n);
  for (int& s : steps) {
    const double u = (rng.next() + 0.5) * 0x1p-32;
    s = static_cast<int>(std::lround(-scale * std::log(u))) * (rng.below(2) == 0 ? 1 : -1);
  }
  return steps;
}

/// Bytes of the entropy of all integers together.
double entropy_bytes(const std::vector<int>& steps) {
  std::map<int, double> counts;
  for (const int s : steps) counts[s] += 1;
  double bits = 0;
  const auto n = static_cast<double>(steps.size());
  for (const auto& [step, count] : counts) bits += count * std::log2(n / count);
  return bits / 8;
}

// Chunks begin and end anywhere in a column, and columns are of any length.
TEST(FactorCode, BringsIntegersBackWhereverAChunkBegins) {
  Rng rng(1, Purpose::kTest, 40);
  const std::vector<size_t> ends = {5, 10, 15, 22, 29, 36, 37, 38, 39, 200, 70'200, 140'200};
  for (const size_t at : {0, 3, 5, 35, 36, 38, 39, 199, 200, 3000, 70'100})
    for (const size_t n : {16, 100, 5000, 65'536})
      if (at + n <= ends.back())
        expect_back(on_grid(laplacian(n, 2, rng)), at, ends, ChunkMode::kDense);
}

// The largest that there are, behind the unary part and in each part of the Exp-Golomb code.
TEST(FactorCode, BringsLargeIntegersBack) {
  std::vector<int> steps(4000, 0);
  for (size_t i = 0; i <= kLargestFactor; ++i)
    steps[3 * i] = static_cast<int>(i) * (i % 2 == 0 ? 1 : -1);
  const std::vector<size_t> ends = {1000, 4000};
  expect_back(on_grid(steps), 0, ends, ChunkMode::kDense);
}

TEST(FactorCode, SaysNothingOfZerosAndFallsBackToFloats) {
  const std::vector<size_t> ends = {3, 64};
  expect_back(std::vector<float>(64, 0.0f), 0, ends, ChunkMode::kEmpty);
  expect_back(on_grid({1000}), 2, ends, ChunkMode::kRaw);
  expect_back(on_grid({-900, 1001, 640}), 0, ends, ChunkMode::kRaw);
}

// Random integers cost their entropy and what learning their frequencies costs. Where the places
// that were large stay large they cost less than the entropy of all together.
TEST(FactorCode, CostsTheEntropyOrLess) {
  CodecScratch scratch;
  Rng rng(2, Purpose::kTest, 41);
  constexpr size_t kLength = 2000, kColumns = 20;
  std::vector<size_t> ends;
  for (size_t c = 1; c <= kColumns; ++c) ends.push_back(c * kLength);
  for (const double scale : {0.3, 1.0, 3.0}) {
    const std::vector<int> alike = laplacian(kLength * kColumns, scale, rng);
    const auto bytes = static_cast<double>(coded(on_grid(alike), 0, ends, scratch).body.size());
    EXPECT_LT(bytes, 1.02 * entropy_bytes(alike)) << scale;
    EXPECT_GT(bytes, 0.99 * entropy_bytes(alike)) << scale << ": there is nothing to learn";
  }
  std::vector<int> by_place;
  for (size_t c = 0; c < kColumns; ++c) {
    Rng places(3, Purpose::kTest, 42);  // the same for all columns
    for (size_t i = 0; i < kLength; ++i) {
      const double scale = places.below(4) == 0 ? 4.0 : 0.4;
      by_place.push_back(laplacian(1, scale, rng)[0]);
    }
  }
  EXPECT_LT(static_cast<double>(coded(on_grid(by_place), 0, ends, scratch).body.size()),
            0.92 * entropy_bytes(by_place));
}

// A byte more or less, another step's sign, a magnitude that no writer has.
TEST(FactorCode, RefusesWhatNoWriterWrites) {
  CodecScratch scratch;
  Rng rng(4, Purpose::kTest, 43);
  const std::vector<size_t> ends = {100, 400};
  const std::vector<float> x = on_grid(laplacian(400, 1.5, rng));
  const Coded good = coded(x, 0, ends, scratch);
  ASSERT_EQ(good.entry.mode, ChunkMode::kDense);
  const auto refused = [&](ChunkEntry entry, std::span<const std::byte> body, const char* why) {
    const Result<DecodedChunk> read = decode_factors(entry, body, 0, x.size(), ends, scratch);
    ASSERT_FALSE(read) << why;
    EXPECT_EQ(read.error().code(), Code::kCorrupt);
    EXPECT_THAT(std::string(read.error().message()), HasSubstr(why));
  };
  std::vector<std::byte> body = good.body;
  body.push_back(std::byte{0});
  refused(good.entry, body, "don't end as a writer ends");
  for (size_t length = kScaleBytes + 4; length < good.body.size(); ++length)
    refused(good.entry, std::span(good.body).first(length), "don't end as a writer ends");
  refused(good.entry, std::span(good.body).first(kScaleBytes + 3), "too few for coded bits");
  refused(good.entry, std::span(good.body).first(1), "coded bytes for 400 factors");
  body.assign(4 * x.size(), std::byte{0});
  refused(good.entry, body, "coded bytes for 400 factors");
  body = good.body;
  body[1] = std::byte{0xBF};
  refused(good.entry, body, "a scale is negative");
  body[0] = body[1] = std::byte{0};
  refused(good.entry, body, "steps of 0");
  body = good.body;
  std::fill(body.begin() + 2, body.end(), std::byte{0xFF});
  refused(good.entry, body, "begin outside of the range");

  body.assign(4 * x.size(), std::byte{0});
  body[1] = std::byte{0x3F};
  RangeEncoder encoder(body.data() + kScaleBytes, body.size() - kScaleBytes);
  std::array<AdaptiveBit, 4> bits;
  for (uint32_t level = 0; level < 15; ++level) encoder.put(true, bits[std::min(level, 3u)]);
  encoder.put_even(0, 10);  // the code of 2^10 or more
  encoder.put_even(1, 1);
  body.resize(kScaleBytes + encoder.finish());
  refused(good.entry, body, "a factor of more than 1023 steps");

  body.assign(4 * x.size(), std::byte{0});
  body[1] = std::byte{0x3F};
  RangeEncoder zeros(body.data() + kScaleBytes, body.size() - kScaleBytes);
  AdaptiveBit above;
  for (size_t i = 0; i < x.size(); ++i) zeros.put(false, above);
  body.resize(kScaleBytes + zeros.finish());
  refused(good.entry, body, "400 coded factors that are all zero");

  ChunkEntry entry = good.entry;
  entry.coded = false;
  refused(entry, good.body, "chunk mode 1 among factors");
  entry = {.mode = ChunkMode::kRaw, .coded = true};
  refused(entry, good.body, "chunk mode 5 (coded) among factors");
  refused({.mode = ChunkMode::kCabac, .coded = true}, good.body, "chunk mode 7 (coded)");
  entry = good.entry;
  entry.parameter = 1;
  refused(entry, good.body, "chunk mode 1 (coded)");
  refused({.mode = ChunkMode::kRaw}, std::span(good.body).first(8), "8 bytes for 400 raw elements");
}

}  // namespace
}  // namespace tern
