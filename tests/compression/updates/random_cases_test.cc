/// What holds for any chain, schema and update, looked for at random: 1e5 cases, or as many as
/// TERN_RANDOM_CASES says.
#include "tests/compression/updates/random_cases.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "compression/updates/chain.h"

namespace tern {
namespace {

TEST(RandomCases, FitTheirBoundAndDecode) {
  const char* wanted = std::getenv("TERN_RANDOM_CASES");
  const uint64_t cases = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 100'000;
  CodecScratch scratch;
  std::vector<std::byte> frame;
  std::vector<float> decoded;
  uint64_t refused = 0, bytes_of_all = 0;
  size_t largest = 0, tight = 0;
  size_t least_spare = ~size_t{0};
  std::string tightest;
  for (uint64_t i = 0; i < cases; ++i) {
    Rng rng(i, Purpose::kTest, 1);
    const RandomCase random = random_case(rng);
    const size_t n = random.x.size();
    const size_t bound = random.codec.max_encoded_bytes(random.schema);
    const auto told = [&] {
      return fmt::format("case {}: {} of {} elements", i, random.codec.spec(), n);
    };
    // What is behind the bound must stay as it was.
    constexpr size_t kBehind = 64;
    constexpr std::byte kMark{0xA5};
    frame.assign(bound + kBehind, kMark);
    const Result<size_t> bytes = random.codec.encode(random.meta, random.schema, random.x, scratch,
                                                     std::span(frame).first(bound));
    if (!bytes) {  // only where sums of large numbers are the chain's business
      ASSERT_EQ(bytes.error().code(), Code::kInvalidArgument) << told();
      ASSERT_TRUE(random.codec.chain().projection || random.codec.chain().principal)
          << told() << ": " << bytes.error().message();
      ++refused;
      continue;
    }
    ASSERT_LE(*bytes, bound) << told();
    ASSERT_TRUE(std::all_of(frame.end() - kBehind, frame.end(), [](std::byte b) {
      return b == kMark;
    })) << told();
    const auto written = std::span(frame).first(*bytes);
    const Result<CheckedFrame> checked = inspect(written, random.schema, {}, scratch);
    ASSERT_TRUE(checked) << told() << ": " << checked.error().message();
    ASSERT_EQ(checked->codec().stages(), random.codec.stages()) << told();
    decoded.assign(n, -1.0f);
    const Status status = decode(*checked, scratch, decoded);
    ASSERT_TRUE(status.ok()) << told() << ": " << status.message();
    const double norm = std::sqrt(squared_norm(decoded));
    ASSERT_NEAR(checked->norm(), norm, 1e-11 * norm) << told();
    bytes_of_all += *bytes;
    largest = std::max(largest, *bytes);
    tight += bound - *bytes <= kMaxFrameHeader ? 1 : 0;
    if (bound - *bytes < least_spare) {
      least_spare = bound - *bytes;
      tightest = told();
    }
  }
  printf(
      "%llu cases, %llu of them refused for their magnitudes, %llu bytes, the longest frame %zu\n",
      static_cast<unsigned long long>(cases), static_cast<unsigned long long>(refused),
      static_cast<unsigned long long>(bytes_of_all), largest);
  printf("%zu within 64 bytes of the bound; least to spare: %zu bytes, %s\n", tight, least_spare,
         tightest.c_str());
  EXPECT_LT(refused, cases / 20 + 1);
}

}  // namespace
}  // namespace tern
