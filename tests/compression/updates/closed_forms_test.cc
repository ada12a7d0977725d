/// Errors, sizes and sums that theory gives in closed form. The numbers in the names stand for: 1
/// top-k, 2 sparse ternary, 3 scaled sign, 4 error feedback, 5 EF21, 6 DGC, 7 Hadamard, 8 rand-k's
/// mask and the count sketch's linearity, 9 sums of integers, 10 low rank and
/// principal components, 11 Rice bound, 12
/// entropy of positions, 13 QSGD, 14 TernGrad, 15 natural compression, 16 rand-k, 17 unbiasedness,
/// 18 EDEN, 19 Rice expectation, 20 count sketch, 21 entropy coders, 22 damage. docs/codecs.md
/// lists them.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <numbers>
#include <set>

#include "compression/updates/error_feedback.h"
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/positions.h"
#include "compression/updates/stages/cabac.h"
#include "compression/updates/stages/power_iteration.h"
#include "compression/updates/stages/principal.h"
#include "compression/updates/stages/rans.h"
#include "compression/updates/stages/scale.h"
#include "compression/updates/stages/stage.h"
#include "tests/compression/updates/chains.h"

namespace tern {
namespace {

std::vector<float> normal_values(size_t n, uint32_t stream) {
  std::vector<float> x(n);
  Rng rng(5, Purpose::kTest, 1, 0, stream);
  for (float& v : x) v = static_cast<float>(rng.normal());
  return x;
}

std::vector<float> log_normal_values(size_t n, uint32_t stream) {
  std::vector<float> x = normal_values(n, stream);
  for (float& v : x) v = std::exp(v);
  return x;
}

double l1_norm(std::span<const float> x) {
  double sum = 0;
  for (const float v : x) sum += std::abs(static_cast<double>(v));
  return sum;
}

double largest_magnitude(std::span<const float> x) {
  double largest = 0;
  for (const float v : x) largest = std::max(largest, std::abs(static_cast<double>(v)));
  return largest;
}

/// The k largest magnitudes, by sorting.
std::vector<float> top_values(std::vector<float> x, size_t k) {
  std::ranges::sort(x, [](float a, float b) { return std::abs(a) > std::abs(b); });
  x.resize(k);
  return x;
}

/// Mean squared error over squared norm, of `draws` frames with different seeds.
double mean_nmse(const Codec& codec, std::span<const float> x, int draws) {
  CodecScratch scratch;
  double sum = 0;
  for (int draw = 0; draw < draws; ++draw)
    sum += nmse(x, round_trip(codec, meta_with_seed(static_cast<uint64_t>(draw)), x, scratch));
  return sum / draws;
}

/// k different positions below n, increasing; all sets equally likely.
std::vector<uint16_t> random_positions(size_t k, size_t n, Rng& rng) {
  // Selection sampling: each position is taken with probability (still wanted) / (still there).
  std::vector<uint16_t> index;
  for (size_t i = 0; i < n; ++i)
    if (rng.below(static_cast<uint32_t>(n - i)) < k - index.size())
      index.push_back(static_cast<uint16_t>(i));
  return index;
}

struct Coded {
  std::vector<std::byte> bytes;
  uint8_t parameter = 0;
};

Coded rice_encode(const std::vector<uint16_t>& index) {
  std::vector<uint16_t> gaps(index.size());
  const RicePlan plan = plan_rice(index.data(), index.size(), gaps.data());
  Coded coded{std::vector<std::byte>(plan.bytes), plan.parameter};
  encode_rice(gaps.data(), index.size(), plan, coded.bytes.data());
  return coded;
}

/// Bits of the positions of a set of a whole update, chunk by chunk, without the counts.
double position_bits(const std::vector<bool>& kept, IndexCode code) {
  double bits = 0;
  std::vector<uint16_t> index;
  std::vector<uint16_t> gaps(kChunkElements);
  for (size_t at = 0; at < kept.size(); at += kChunkElements) {
    const size_t n = std::min(kChunkElements, kept.size() - at);
    index.clear();
    for (size_t i = 0; i < n; ++i)
      if (kept[at + i]) index.push_back(static_cast<uint16_t>(i));
    if (index.empty()) continue;
    const size_t bytes = plan_positions(index.data(), index.size(), n, code, gaps.data()).bytes;
    bits += 8.0 * static_cast<double>(bytes - 2);
  }
  return bits;
}

// 1. Top-k.

TEST(ClosedForm1, TopKLosesWhatIsNotInTheTop) {
  CodecScratch scratch;
  for (const size_t n : {10u, 1000u, 70000u})
    for (const char* spec : {"topk:0.01", "topk:0.1 | rice", "topk:0.5 | rice", "topk:1"}) {
      const Codec codec = codec_of(spec);
      const std::vector<float> x = normal_values(n, 1);
      const size_t k = kept_of(codec.stages()[0].argument, n);
      const double lost = squared_norm(x) - squared_norm(top_values(x, k));
      const double error = squared_distance(x, round_trip(codec, kMeta, x, scratch));
      EXPECT_NEAR(error, lost, 1e-5 * squared_norm(x)) << spec;
      EXPECT_LE(error, (1 - static_cast<double>(k) / static_cast<double>(n)) * squared_norm(x));
    }
}

TEST(ClosedForm1, TopKReachesItsWorstCaseWhenAllMagnitudesAreEqual) {
  CodecScratch scratch;
  std::vector<float> x(70000, 0.3f);
  for (size_t i = 0; i < x.size(); i += 3) x[i] = -0.3f;
  const auto decoded = round_trip(codec_of("topk:0.1 | rice"), kMeta, x, scratch);
  EXPECT_NEAR(nmse(x, decoded), 0.9, 1e-9);
  // Exactly k are kept, and of equal ones those with the lowest indices.
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(decoded[i], i < 7000 ? x[i] : 0.0f);
}

TEST(ClosedForm1, TopKKeepsLowerIndexOnTiesAcrossChunks) {
  CodecScratch scratch;
  std::vector<float> x(140000, 0.0f);
  // 14 are kept: the four largest, then ten of the twelve that share the next magnitude.
  for (const size_t i : {5u, 70000u, 70001u, 139999u}) x[i] = 2;
  std::vector<size_t> tied(12);
  for (size_t i = 0; i < 12; ++i) tied[i] = 60000 + i * 5000;
  for (const size_t i : tied) x[i] = -1;
  const auto decoded = round_trip(codec_of("topk:0.0001 | rice"), kMeta, x, scratch);
  for (const size_t i : {5u, 70000u, 70001u, 139999u})
    EXPECT_EQ(decoded[i], x[i]) << i;  // 70000 is tied.front() + 10000: a larger one
  size_t kept = 0;
  for (const float v : decoded) kept += v != 0 ? 1 : 0;
  EXPECT_EQ(kept, 14u);
  std::erase(tied, size_t{70000});
  EXPECT_EQ(decoded[tied.back()], 0.0f);
  for (size_t i = 0; i + 1 < tied.size(); ++i) EXPECT_EQ(decoded[tied[i]], -1.0f) << tied[i];
}

// 2. Sparse ternary compression.

TEST(ClosedForm2, SparseTernaryLosesTheNormLessTheSquaredL1NormOverK) {
  CodecScratch scratch;
  const Codec codec = codec_of("topk:0.05 | ternary | rice");
  const std::vector<float> x = normal_values(20000, 2);
  const auto decoded = round_trip(codec, kMeta, x, scratch);
  const std::vector<float> top = top_values(x, 1000);
  const double mu = l1_norm(top) / 1000;
  const double expected = squared_norm(x) - l1_norm(top) * l1_norm(top) / 1000;
  const double error = squared_distance(x, decoded);
  // The scale travels as bfloat16, at most 2^-8 of it away, which adds k times that squared.
  EXPECT_GE(error, expected * (1 - 1e-6));
  EXPECT_LE(error, expected * (1 + 1e-6) + 1000 * mu * mu * 0x1p-16);
  std::set<float> magnitudes;
  for (const float v : decoded)
    if (v != 0) magnitudes.insert(std::abs(v));
  ASSERT_EQ(magnitudes.size(), 1u);
  EXPECT_NEAR(static_cast<double>(*magnitudes.begin()), mu, mu * 0x1p-8);
}

TEST(ClosedForm2, TheMeanMagnitudeIsTheBestScale) {
  const std::vector<float> top = top_values(normal_values(20000, 3), 1000);
  const double mu = l1_norm(top) / 1000;
  const auto error = [&](double scale) {
    double sum = 0;
    for (const float v : top) sum += (std::abs(v) - scale) * (std::abs(v) - scale);
    return sum;
  };
  for (const double other : {0.98, 0.999, 1.001, 1.02}) EXPECT_GT(error(other * mu), error(mu));
}

// 3. Scaled sign.

TEST(ClosedForm3, ScaledSignLosesOneLessTheSquaredL1NormOverNTimesTheSquaredNorm) {
  CodecScratch scratch;
  for (const size_t n : {1u, 7u, 1000u, 1024u}) {
    const std::vector<float> x = log_normal_values(n, 4);
    const double mean = l1_norm(x) / static_cast<double>(n);
    const double expected = squared_norm(x) - l1_norm(x) * mean;
    const double error = squared_distance(x, round_trip(codec_of("sign"), kMeta, x, scratch));
    EXPECT_GE(error, expected - 1e-6 * squared_norm(x));
    EXPECT_LE(error,
              expected + 1e-6 * squared_norm(x) + static_cast<double>(n) * mean * mean * 0x1p-16);
  }
}

// 4. Error feedback.

TEST(ClosedForm4, AResidualOfPureTopKIsZeroOrTheAccumulatedValueBitForBit) {
  const Codec codec = codec_of("ef | topk:0.05 | rice");
  CodecScratch scratch;
  SenderMemory memory;
  std::vector<float> sum(5000, 0.0f);  // of the updates since the coordinate was last sent
  for (uint32_t round = 0; round < 20; ++round) {
    const std::vector<float> update = normal_values(sum.size(), 100 + round);
    Result<PendingUpdate> pending =
        encode_update(codec, meta_with_seed(round), schema_of(sum.size()), update, memory, scratch);
    ASSERT_TRUE(pending);
    const auto decoded = decode_frame(pending->frame, sum.size(), scratch);
    memory = std::move(pending->next);
    for (size_t i = 0; i < sum.size(); ++i) {
      sum[i] = update[i] + sum[i];
      if (decoded[i] != 0) {
        ASSERT_EQ(decoded[i], sum[i]);
        sum[i] = 0;
      }
      ASSERT_EQ(memory.residual[i], sum[i]);
    }
  }
}

// 5. EF21.

TEST(ClosedForm5, Ef21ContractsTowardsAConstantUpdateByTheKeptShare) {
  // ||x - g'||^2 <= (1 - k/n) ||x - g||^2 for top-k, and values travel exactly.
  const Codec codec = codec_of("ef21 | topk:0.1 | rice");
  CodecScratch scratch;
  const std::vector<float> x = log_normal_values(2000, 5);
  SenderMemory memory;
  std::vector<float> estimate(x.size(), 0.0f);
  for (uint64_t round = 0; round < 9; ++round) {
    const double before = squared_distance(x, estimate);
    PendingUpdate pending =
        encode_update(codec, meta_with_seed(round), schema_of(x.size()), x, memory, scratch)
            .value();
    const auto decoded = decode_frame(pending.frame, x.size(), scratch);
    for (size_t i = 0; i < x.size(); ++i) estimate[i] += decoded[i];
    memory = std::move(pending.next);
    ASSERT_TRUE(same_bits(memory.residual, estimate)) << "both sides hold the same estimate";
    ASSERT_LE(squared_distance(x, estimate), 0.9 * before * (1 + 1e-6));
  }
}

// 6. DGC: tests DgcIsZeroWhereAValueWasSentAndOwesTheRest and
// DgcThatSendsEverythingIsMomentumSgdBitForBit of error_feedback_test.cc, and over many rounds:

TEST(ClosedForm6, DgcHasSentOrOwesEveryStepOfItsMomentum) {
  // Without masking v would be the sum of all momenta less what was sent. A mask takes the momentum
  // of sent coordinates away: followed here coordinate by coordinate.
  const Codec codec = codec_of("dgc:0.7 | topk:0.05 | rice");
  CodecScratch scratch;
  SenderMemory memory;
  std::vector<float> u(3000, 0.0f), v(3000, 0.0f);
  for (uint32_t round = 0; round < 30; ++round) {
    const std::vector<float> update = normal_values(u.size(), 600 + round);
    PendingUpdate pending =
        encode_update(codec, meta_with_seed(round), schema_of(u.size()), update, memory, scratch)
            .value();
    const auto decoded = decode_frame(pending.frame, u.size(), scratch);
    if (round % 7 == 3) continue;  // dropped: nothing has changed
    memory = std::move(pending.next);
    for (size_t i = 0; i < u.size(); ++i) {
      u[i] = update[i] + 0.7f * u[i];
      v[i] = u[i] + v[i];
      if (decoded[i] != 0) {
        ASSERT_EQ(decoded[i], v[i]);
        u[i] = v[i] = 0;
      }
    }
    ASSERT_TRUE(same_bits(memory.momentum, u));
    ASSERT_TRUE(same_bits(memory.residual, v));
  }
}

// 7. Hadamard.

/// In place, with all signs positive.
void hadamard(std::vector<float>& x) {
  const std::vector<uint32_t> signs((x.size() + 31) / 32, 0);
  kernels().rotate(x.data(), signs.data(), x.size(), 1, x.data(), true, x.data());
}

TEST(ClosedForm7, HadamardTwiceIsNTimesTheInput) {
  for (size_t n = 1; n <= 65536; n *= 2) {
    std::vector<float> x = normal_values(n, 7);
    const std::vector<float> before = x;
    const double norm = std::sqrt(squared_norm(x));
    hadamard(x);
    const double tolerance = 1e-6 * (1 + std::log2(static_cast<double>(n)));
    const double root = std::sqrt(static_cast<double>(n));
    EXPECT_NEAR(std::sqrt(squared_norm(x)) / root, norm, tolerance * norm) << n;
    hadamard(x);
    for (float& v : x) v /= static_cast<float>(n);
    EXPECT_LE(std::sqrt(squared_distance(x, before)), tolerance * norm) << n;
  }
}

TEST(ClosedForm7, HadamardOfAUnitVectorIsPlusOrMinusOneEverywhere) {
  for (size_t n = 1; n <= 4096; n *= 2)
    for (const size_t at : {size_t{0}, n / 2, n - 1}) {
      std::vector<float> x(n, 0.0f);
      x[at] = 1;
      hadamard(x);
      for (size_t i = 0; i < n; ++i)
        ASSERT_EQ(x[i], std::popcount(i & at) % 2 == 0 ? 1.0f : -1.0f) << n << ' ' << i;
    }
}

TEST(ClosedForm7, ARotationKeepsTheNormAndIsUndone) {
  for (const uint32_t block : {16u, 1024u, 65536u}) {
    const auto rotate = make_rotate(block);
    for (const size_t n : {1u, 9u, 1023u, 5000u, 65536u}) {
      const std::vector<float> before = log_normal_values(n, 8);
      std::vector<float> x(kChunkElements, 1e30f);
      std::ranges::copy(before, x.begin());
      std::vector<uint32_t> signs(kChunkElements / 32);
      rotate->draw(n, {.seed = 1, .chunk = 2}, signs.data());
      rotate->forward(x.data(), n, signs.data(), x, x.data());
      const size_t m = rotate->padded(n);
      ASSERT_GE(m, n);
      ASSERT_LT(m, 2 * n);
      const double norm = std::sqrt(squared_norm(before));
      EXPECT_NEAR(std::sqrt(squared_norm(std::span(x).first(m))), norm, 2e-5 * norm);
      rotate->inverse(x.data(), n, signs.data(), {});
      EXPECT_LE(std::sqrt(squared_distance(std::span(x).first(n), before)), 2e-5 * norm);
    }
  }
}

// 8. Rand-k's mask.

TEST(ClosedForm8, TheMaskOfASeedIsPinned) {
  const auto randk = make_randk(kRateOne / 10);
  std::array<uint16_t, 100> index{};
  ASSERT_EQ(randk->positions(100, {.seed = 42, .chunk = 0}, nullptr, index.data()).value(), 10u);
  EXPECT_EQ(std::vector<uint16_t>(index.begin(), index.begin() + 10),
            (std::vector<uint16_t>{13, 19, 21, 27, 28, 32, 33, 38, 46, 50}));
  ASSERT_EQ(randk->positions(100, {.seed = 42, .chunk = 1}, nullptr, index.data()).value(), 10u);
  EXPECT_EQ(std::vector<uint16_t>(index.begin(), index.begin() + 10),
            (std::vector<uint16_t>{1, 7, 13, 22, 27, 29, 58, 71, 87, 96}));
  // More than half is kept: the dropped ones are drawn.
  const auto most = make_randk(kRateOne / 10 * 9);
  ASSERT_EQ(most->positions(20, {.seed = 42, .chunk = 0}, nullptr, index.data()).value(), 18u);
  EXPECT_EQ(
      std::vector<uint16_t>(index.begin(), index.begin() + 18),
      (std::vector<uint16_t>{0, 1, 2, 3, 4, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}));
}

TEST(ClosedForm8, SenderAndReceiverKeepTheSameKPositions) {
  for (const uint32_t rate :
       {1u, kRateOne / 100, kRateOne / 4, kRateOne / 2, kRateOne / 10 * 7, kRateOne})
    for (const size_t n : {1u, 2u, 63u, 64u, 65u, 1000u, 65535u, 65536u}) {
      const auto randk = make_randk(rate);
      const ChunkContext context{.seed = 9, .chunk = 3, .error_feedback = true};
      std::vector<float> x(n);
      for (size_t i = 0; i < n; ++i) x[i] = static_cast<float>(i);
      std::vector<uint16_t> sent(kChunkElements);
      std::vector<uint16_t> received(kChunkElements);
      std::vector<float> values(kChunkElements);
      CodecScratch scratch;
      const size_t k =
          randk->select(x.data(), n, 0, context, scratch, sent.data(), values.data(), nullptr);
      ASSERT_EQ(k, randk->kept(n));
      ASSERT_EQ(k, randk->positions(n, context, nullptr, received.data()).value());
      ASSERT_EQ(sent, received);
      for (size_t i = 0; i < k; ++i) {
        ASSERT_EQ(values[i], static_cast<float>(sent[i]));
        ASSERT_LT(sent[i], n);
        ASSERT_TRUE(i == 0 || sent[i - 1] < sent[i]);
      }
    }
}

TEST(ClosedForm8, EveryPositionIsKeptEquallyOften) {
  // 4,000 masks of 25 out of 100: each position 1,000 times, deviation 27; six of them.
  const auto randk = make_randk(kRateOne / 4);
  std::array<int, 100> counts{};
  std::array<uint16_t, 100> index{};
  for (uint64_t seed = 0; seed < 4000; ++seed) {
    const size_t k =
        randk->positions(100, {.seed = seed, .chunk = 0}, nullptr, index.data()).value();
    for (size_t i = 0; i < k; ++i) ++counts[index[i]];
  }
  for (const int count : counts) EXPECT_NEAR(count, 1000, 165);
}

/// The cells of a sketch of x.
std::vector<float> sketch_of(const Projection& sketch, const std::vector<float>& x, uint64_t seed) {
  CodecScratch scratch;
  Layout layout;
  layout.main_elements = x.size();
  sketch.forward(x, layout, seed, false, {}, scratch);
  return scratch.stream;
}

TEST(ClosedForm8, SketchesOfOneSeedAddUpToThatOfTheSum) {
  const auto sketch = make_sketch(table_argument(5, 300));
  std::vector<float> a = normal_values(5000, 8), b = normal_values(5000, 9);
  // Multiples of 1/64, so that sums are exact in any order.
  for (auto* x : {&a, &b})
    for (float& v : *x) v = std::nearbyint(v * 64) / 64;
  std::vector<float> sum(a.size());
  for (size_t i = 0; i < sum.size(); ++i) sum[i] = a[i] + b[i];
  const auto of_a = sketch_of(*sketch, a, 3), of_b = sketch_of(*sketch, b, 3),
             of_sum = sketch_of(*sketch, sum, 3);
  ASSERT_EQ(of_sum.size(), 1500u);
  for (size_t i = 0; i < of_sum.size(); ++i) ASSERT_EQ(of_a[i] + of_b[i], of_sum[i]);
  EXPECT_NE(of_a, sketch_of(*sketch, a, 4));
}

// The same, spread by norms: counts travel, positions follow from them and the seed.

TEST(ClosedForm8, ByNormEachGroupKeepsItsShareWithoutMoreThanItHas) {
  // Norms 1 : 3 : 0 : 40 of 400 values: 9, 27, none and the rest, 363, which is 352 in five bits.
  std::vector<float> x(4 * kGroupElements, 0.0f);
  for (size_t i = 0; i < kGroupElements; ++i) {
    x[i] = i % 2 == 0 ? 1.0f : -1.0f;
    x[kGroupElements + i] = 3.0f;
    x[3 * kGroupElements + i] = -40.0f;
  }
  const auto counts_at = [&](double rate) {
    const auto by_norm = make_randk_by_norm(static_cast<uint32_t>(rate * kRateOne));
    CodecScratch scratch;
    InputStream stream({.update = x});
    Layout layout;
    layout.main_elements = x.size();
    by_norm->prepare(stream, layout, scratch);
    std::vector<uint16_t> index(kChunkElements);
    std::vector<float> values(kChunkElements);
    std::vector<std::byte> counts(by_norm->count_bytes(x.size()));
    const size_t k = by_norm->select(x.data(), x.size(), 0, {.seed = 5}, scratch, index.data(),
                                     values.data(), counts.data());
    std::vector<size_t> kept(4);
    for (size_t i = 0; i < k; ++i) {
      const size_t group = index[i] / kGroupElements;
      ++kept[group];
    }
    for (size_t i = 0; i < k; ++i) {
      const size_t group = index[i] / kGroupElements;
      const float scale = static_cast<float>(kGroupElements) / static_cast<float>(kept[group]);
      EXPECT_EQ(values[i], x[index[i]] * scale);
    }
    return kept;
  };
  EXPECT_EQ(counts_at(400.0 / 4096), (std::vector<size_t>{9, 27, 0, 352}));
  EXPECT_EQ(counts_at(1), (std::vector<size_t>{1024, 1024, 0, 1024}));
  // The last group has no room for more than itself, so the others share what it leaves.
  EXPECT_EQ(counts_at(0.5), (std::vector<size_t>{256, 768, 0, 1024}));
}

TEST(ClosedForm8, ByNormTheVarianceIsTheSquareOfTheSumOfNorms) {
  // 1,024 (sum of norms)^2 / k - ||x||^2. Of rand-k: (n/k - 1) ||x||^2.
  constexpr size_t kGroups = 8;
  std::vector<float> x(kGroups * kGroupElements);
  Rng rng(3, Purpose::kTest);
  double norms = 0, squares = 0;
  for (size_t g = 0; g < kGroups; ++g) {
    double group = 0;
    for (size_t i = 0; i < kGroupElements; ++i) {
      float& v = x[g * kGroupElements + i];
      v = std::ldexp(nearly_normal(rng), -static_cast<int>(g));
      group += double{v} * v;
    }
    norms += std::sqrt(group);
    squares += group;
  }
  const Codec codec = codec_of("randk-by-norm:0.1");
  const double k = 0.1 * static_cast<double>(x.size());
  CodecScratch scratch;
  double error = 0;
  constexpr int kFrames = 300;
  std::vector<double> sum(x.size());
  for (int i = 0; i < kFrames; ++i) {
    const auto frame = encode_frame(codec, meta_with_seed(static_cast<uint64_t>(i)), x, scratch);
    const std::vector<float> y = decode_frame(frame, x.size(), scratch);
    error += squared_distance(y, x) / kFrames;
    for (size_t j = 0; j < x.size(); ++j) sum[j] += y[j];
  }
  const double expected = kGroupElements * norms * norms / k - squares;
  EXPECT_NEAR(error / squares, expected / squares, 0.06 * expected / squares);
  EXPECT_LT(error, 0.5 * (1 / 0.1 - 1) * squares);  // what rand-k would lose
  // Unbiased: the mean of the frames is off by one frame's error over their number.
  double off = 0;
  for (size_t j = 0; j < x.size(); ++j) off += std::pow(sum[j] / kFrames - x[j], 2);
  EXPECT_NEAR(off / (expected / kFrames), 1, 0.1);
}

// What is left of the sum of norms without the largest must be added up, not taken off.
TEST(ClosedForm8, ByNormOneHugeGroupDoesNotUndoTheBoundOfTheFrame) {
  std::vector<float> x(100 * kGroupElements, 0.4f * 0x1p-10f);
  std::fill_n(x.begin(), kGroupElements, 0x1p42f);
  std::fill_n(x.begin() + kGroupElements, kGroupElements, 0x1p-10f);
  for (const char* spec : {"randk-by-norm:0.1", "rotate:1024 | randk-by-norm:0.1 | eden:1"}) {
    CodecScratch scratch;
    const auto frame = encode_frame(codec_of(spec), kMeta, x, scratch);
    const Result<CheckedFrame> checked = inspect_frame(frame, x.size(), scratch);
    ASSERT_TRUE(checked) << spec;
    if (std::string_view(spec).starts_with("randk")) {
      EXPECT_GT(checked->nonzeros(), 9500u);
      EXPECT_LT(checked->nonzeros(), 10340u);
    }
  }
}

// Scaling by a rotation rounds the least numbers up to twice as much.
TEST(ClosedForm8, ByNormTheBoundHoldsWhereARotationRoundsNormsUp) {
  std::vector<float> x(60 * kGroupElements, 0.0f);
  for (size_t i = 0; i < x.size(); i += kGroupElements) x[i] = 17 * 0x1p-149f;
  CodecScratch scratch;
  const auto frame = encode_frame(codec_of("rotate:1024 | randk-by-norm:0.1"), kMeta, x, scratch);
  EXPECT_TRUE(inspect_frame(frame, x.size(), scratch));
}

TEST(ClosedForm8, CountsThatNoGroupHasAreRefused) {
  const auto by_norm = make_randk_by_norm(kRateOne / 10);
  std::array<uint16_t, kChunkElements> index{};
  const auto positions = [&](size_t n, std::vector<uint8_t> counts) {
    return by_norm->positions(n, {}, reinterpret_cast<const std::byte*>(counts.data()),
                              index.data());
  };
  EXPECT_EQ(positions(1024, {112}).value(), 1024u);
  EXPECT_EQ(positions(1024, {113}).error().code(), Code::kCorrupt);
  EXPECT_EQ(positions(1024, {255}).error().code(), Code::kCorrupt);
  EXPECT_EQ(positions(1030, {0, 6}).value(), 6u);
  EXPECT_EQ(index[5], 1029u);
  EXPECT_EQ(positions(1030, {0, 7}).error().code(), Code::kCorrupt);
  EXPECT_EQ(positions(1030, {0, 0}).value(), 0u);
}

// The cosine transform.

/// One tensor of images and one of something else.
ParameterSchema images(int64_t rows, int64_t columns) {
  return ParameterSchema::make(
             {{.name = "w", .shape = {rows, columns}}, {.name = "v", .shape = {7, 5}}})
      .value();
}

std::vector<float> by_frequency(uint32_t side, const ParameterSchema& schema,
                                const std::vector<float>& x, std::vector<float>& back,
                                uint32_t percent = 100) {
  Layout layout;
  lay_out(schema, 0, layout);
  CodecScratch scratch;
  const auto dct = make_dct(side, percent);
  dct->forward(x, layout, 0, false, {}, scratch);
  const std::vector<float> stream = scratch.stream;
  EXPECT_EQ(stream.size(), dct->projected(layout));
  struct Collect : ValueSink {
    std::vector<float>* to;
    void dense(size_t at, std::span<const float> values) override {
      std::ranges::copy(values, to->begin() + static_cast<ptrdiff_t>(at));
    }
    void sparse(size_t, std::span<const uint16_t>, std::span<const float>) override {
      ADD_FAILURE() << "dense values only";
    }
  } sink;
  back.assign(x.size(), -1.0f);
  sink.to = &back;
  dct->inverse(stream, layout, 0, scratch, sink);
  return stream;
}

TEST(Dct, AWaveIsOneCoefficientAndTheLowestComeFirst) {
  // 70 rows of two blocks of 4 x 4: block b has the wave of frequencies (1, 2), b + 1 times.
  const ParameterSchema schema = images(70, 32);
  constexpr size_t kBlocks = 140;
  std::vector<float> x(schema.elements());
  const auto wave = [](size_t i, size_t k) {
    return std::sqrt((k == 0 ? 1 : 2) / 4.0) *
           std::cos(std::numbers::pi * (2.0 * static_cast<double>(i) + 1) * static_cast<double>(k) /
                    8);
  };
  for (size_t b = 0; b < kBlocks; ++b)
    for (size_t e = 0; e < 16; ++e)
      x[16 * b + e] =
          static_cast<float>(static_cast<double>(b + 1) * wave(e / 4, 1) * wave(e % 4, 2));
  for (size_t i = 16 * kBlocks; i < x.size(); ++i) x[i] = static_cast<float>(i);
  std::vector<float> back;
  const std::vector<float> stream = by_frequency(4, schema, x, back);
  // (0,0) (0,1) (1,0) (0,2) (1,1) (2,0) (0,3) (1,2): the eighth.
  for (size_t i = 0; i < 16 * kBlocks; ++i) {
    const size_t place = i / kBlocks, b = i % kBlocks;
    ASSERT_NEAR(stream[i], place == 7 ? static_cast<double>(b + 1) : 0.0,
                3e-6 * static_cast<double>(b + 1));
  }
  for (size_t i = 16 * kBlocks; i < x.size(); ++i) ASSERT_EQ(stream[i], x[i]);
}

TEST(Dct, KeepsNormsAndComesBackForEverySide) {
  for (uint32_t side = 2; side <= 32; ++side) {
    const ParameterSchema schema = images(67, int64_t{2} * side * side);
    const std::vector<float> x = make_input(Input::kGaussian, schema.elements());
    std::vector<float> back;
    const std::vector<float> stream = by_frequency(side, schema, x, back);
    const double norm = squared_norm(x);
    EXPECT_NEAR(squared_norm(stream), norm, 1e-5 * norm) << side;
    EXPECT_LE(squared_distance(back, x), 1e-11 * norm) << side;
    EXPECT_GT(squared_distance(stream, x), 0.1 * norm) << side;
  }
}

// What lowpass keeps is the projection on the lowest frequencies: done twice it is done once, what
// it takes away is at right angles to it, and it is as long as the coefficients that travel.
TEST(Dct, LowpassKeepsTheLowestFrequenciesAndNothingElse) {
  struct Row {
    uint32_t side, percent;
    size_t kept;
  };
  for (const Row row : {Row{4, 1, 1}, Row{4, 10, 2}, Row{4, 50, 8}, Row{5, 99, 25},
                        Row{28, 35, 274}, Row{32, 40, 410}}) {
    const size_t size = size_t{row.side} * row.side;
    const ParameterSchema schema = images(67, static_cast<int64_t>(2 * size));
    const size_t blocks = 134, rest = 35;
    const std::vector<float> x = make_input(Input::kGaussian, schema.elements());
    std::vector<float> whole_back, once, twice;
    const std::vector<float> whole = by_frequency(row.side, schema, x, whole_back);
    const std::vector<float> low = by_frequency(row.side, schema, x, once, row.percent);
    ASSERT_EQ(low.size(), row.kept * blocks + rest);
    EXPECT_TRUE(std::equal(low.begin(), low.end() - rest, whole.begin()));
    EXPECT_TRUE(std::equal(low.end() - rest, low.end(), whole.end() - rest)) << "no images";
    (void)by_frequency(row.side, schema, once, twice, row.percent);
    const double norm = squared_norm(x);
    EXPECT_LE(squared_distance(twice, once), 1e-11 * norm);
    EXPECT_NEAR(squared_norm(once), squared_norm(low), 1e-5 * norm);
    EXPECT_NEAR(squared_distance(once, x), norm - squared_norm(low), 1e-5 * norm);
  }
}

// Within the band nothing is lost on average, and nothing is added outside of it, but for what
// principal components hold.
TEST(Dct, LowpassIsUnbiasedForWhatItKeeps) {
  const ParameterSchema schema = images(40, 784);
  const std::vector<float> x = make_input(Input::kGaussian, schema.elements());
  std::vector<float> low;
  (void)by_frequency(28, schema, x, low, 30);
  constexpr const char* kChain = "dct:28 | lowpass:0.3 | rotate:1024 | randk-by-norm:0.5 | eden:1";
  for (const std::string& spec : {std::string(kChain), std::string("principal:3 | ") + kChain,
                                  std::string("components:3 | ") + kChain}) {
    const Codec codec = codec_of(spec);
    CodecScratch scratch;
    std::vector<double> sum(x.size(), 0.0);
    double squares = 0, outside = 0;
    constexpr int kDraws = 200;
    for (int draw = 0; draw < kDraws; ++draw) {
      std::vector<std::byte> frame(codec.max_encoded_bytes(schema));
      const FrameMeta meta{.seed = static_cast<uint64_t>(draw)};
      frame.resize(codec.encode(meta, schema, x, scratch, frame).value());
      std::vector<float> y(x.size()), in_band;
      ASSERT_TRUE(decode(*inspect(frame, schema, {}, scratch), scratch, y).ok());
      (void)by_frequency(28, schema, y, in_band, 30);
      outside += squared_distance(y, in_band);
      for (size_t i = 0; i < x.size(); ++i) {
        const double error = static_cast<double>(in_band[i]) - static_cast<double>(low[i]);
        sum[i] += error;
        squares += error * error;
      }
    }
    double of_sum = 0;
    for (const double s : sum) of_sum += s * s;
    EXPECT_LE(of_sum, 1.4 * squares) << "as in HasNoBiasUnlessItsTraitsSaySo";
    EXPECT_GT(squares / kDraws, 0.1 * squared_norm(low)) << "there is noise to speak of";
    if (spec == kChain)
      EXPECT_LT(outside, 1e-9 * squares);
    else
      EXPECT_GT(outside, 0.01 * squares);
  }
}

// Its factors are rounded from the library's cosines: where one lay so near to the middle between
// two floats that a library's last bit decides, frames would decode to other bits elsewhere.
TEST(Dct, NoFactorHangsOnTheLastBitsOfACosine) {
  double nearest = 1;
  for (int side = 2; side <= 32; ++side)
    for (int a = 0; a <= 2 * side; ++a)
      for (const double first : {1.0, 2.0}) {
        const double value =
            std::sqrt(first / side) * std::fabs(std::cos(std::numbers::pi * (a / (2.0 * side))));
        if (a == side) continue;  // 0
        int exponent = 0;
        const double fraction = std::frexp(value, &exponent) * 0x1p24;
        nearest = std::min(nearest, std::fabs(fraction - std::floor(fraction) - 0.5));
      }
  EXPECT_GT(nearest, 64 * 0x1p-29);  // 64 units in the last place of a double
}

TEST(Dct, SmoothWeightsFitInFewerValues) {
  // Each row is an image of one bright spot: a twentieth of the values holds nearly all of it.
  const ParameterSchema schema = images(100, 784);
  std::vector<float> x(schema.elements(), 0.0f);
  Rng rng(8, Purpose::kTest);
  for (size_t row = 0; row < 100; ++row) {
    const double y = 28 * rng.uniform(), z = 28 * rng.uniform();
    for (size_t e = 0; e < 784; ++e) {
      const size_t line = e / 28, column = e % 28;
      x[784 * row + e] =
          static_cast<float>(std::exp(-(std::pow(static_cast<double>(line) - y, 2) +
                                        std::pow(static_cast<double>(column) - z, 2)) /
                                      40));
    }
  }
  const auto lost = [&](const char* spec) {
    const Codec codec = codec_of(spec);
    CodecScratch scratch;
    std::vector<std::byte> frame(codec.max_encoded_bytes(schema));
    frame.resize(codec.encode(kMeta, schema, x, scratch, frame).value());
    std::vector<float> y(x.size());
    EXPECT_TRUE(decode(*inspect(frame, schema, {}, scratch), scratch, y).ok());
    return squared_distance(y, x) / squared_norm(x);
  };
  EXPECT_LT(lost("dct:28 | topk:0.05"), 0.01);
  EXPECT_GT(lost("topk:0.05"), 0.3);
}

// 9. Sums of encoded integers.

TEST(ClosedForm9, SumsOfIntegersSurviveAModulusThatHoldsThem) {
  // N symbols of b bits reach at most N(2^b - 1): modulo 2^B that is exact if it is below 2^B.
  constexpr int kBits = 5;
  constexpr uint32_t kClients = 100;
  constexpr uint32_t kModulus = 1u << 12;
  static_assert(kClients * ((1u << kBits) - 1) < kModulus);
  const int limit = (1 << (kBits - 1)) - 1;
  constexpr size_t kElements = 1000;
  std::vector<uint32_t> exact(kElements, 0);
  std::vector<uint32_t> wrapped(kElements, 0);
  std::vector<double> sum(kElements, 0.0);
  std::vector<uint16_t> symbols(kElements);
  std::vector<float> decoded(kElements);
  for (uint32_t client = 0; client < kClients; ++client) {
    const std::vector<float> x = normal_values(kElements, 200 + client);
    const float inverse = static_cast<float>(limit) / 8.0f;  // the scale is shared: nothing above 8
    kernels().quantize_int(x.data(), kElements, inverse, limit, mix(client, 1), x.data(),
                           symbols.data(), nullptr);
    kernels().dequantize_int(symbols.data(), kElements, limit, 1 / inverse, decoded.data());
    for (size_t i = 0; i < kElements; ++i) {
      ASSERT_LE(symbols[i], 2 * limit);
      exact[i] += symbols[i];
      wrapped[i] = (wrapped[i] + symbols[i]) % kModulus;
      sum[i] += static_cast<double>(decoded[i]);
    }
  }
  EXPECT_EQ(exact, wrapped);
  for (size_t i = 0; i < kElements; ++i) {
    const double of_integers = (static_cast<double>(wrapped[i]) - kClients * limit) * 8.0 / limit;
    EXPECT_NEAR(of_integers, sum[i], 1e-3);
  }
}

// 10. Low rank.

/// A matrix of 60 x 80 whose rank is `rank`, with singular values of one size.
std::vector<float> matrix_of_rank(size_t rank, uint32_t stream) {
  const std::vector<float> left = normal_values(60 * rank, stream),
                           right = normal_values(80 * rank, stream + 1);
  std::vector<float> m(60 * 80, 0.0f);
  for (size_t i = 0; i < 60; ++i)
    for (size_t j = 0; j < 80; ++j)
      for (size_t r = 0; r < rank; ++r) m[i * 80 + j] += left[i * rank + r] * right[j * rank + r];
  return m;
}

const ParameterSchema& matrix_schema() {
  static const auto schema = ParameterSchema::make({{.name = "m", .shape = {60, 8, 10}}}).value();
  return schema;
}

double lowrank_error(const Codec& codec, const std::vector<float>& m, SenderMemory& memory,
                     uint64_t seed = 1) {
  CodecScratch scratch;
  PendingUpdate pending =
      encode_update(codec, meta_with_seed(seed), matrix_schema(), m, memory, scratch).value();
  memory = std::move(pending.next);
  const CheckedFrame frame = inspect(pending.frame, matrix_schema(), {}, scratch).value();
  std::vector<float> decoded(m.size());
  EXPECT_TRUE(decode(frame, scratch, decoded).ok());
  return std::sqrt(nmse(m, decoded));
}

TEST(ClosedForm10, OneStepIsExactWhenTheRankIsHighEnough) {
  for (const size_t rank : {1, 2, 4})
    for (const char* spec : {"lowrank:4", "lowrank:8"})
      for (uint32_t stream = 0; stream < 20; ++stream) {
        SenderMemory memory;
        EXPECT_LE(lowrank_error(codec_of(spec), matrix_of_rank(rank, 1000 + 2 * stream), memory),
                  1e-5)
            << rank << ' ' << spec;
      }
}

TEST(ClosedForm10, WarmStartsApproachTheBestApproximation) {
  // Two directions of norm 10 and 5 under noise: the best rank 2 leaves the noise, and each round
  // comes no further from it.
  std::vector<float> m = matrix_of_rank(2, 1100);
  const std::vector<float> noise = normal_values(m.size(), 1102);
  double noise_squares = 0;
  for (size_t i = 0; i < m.size(); ++i) {
    m[i] += noise[i];
    noise_squares += static_cast<double>(noise[i]) * static_cast<double>(noise[i]);
  }
  const double of_noise = std::sqrt(noise_squares / squared_norm(m));
  SenderMemory memory;
  double before = lowrank_error(codec_of("lowrank:2"), m, memory);
  for (uint64_t round = 2; round < 12; ++round) {
    const double now = lowrank_error(codec_of("lowrank:2"), m, memory, round);
    EXPECT_LE(now, before * (1 + 1e-6));
    before = now;
  }
  EXPECT_LE(before, of_noise);
}

// 10b. Principal components and the rest.

const ParameterSchema& matrix_of(int64_t rows, int64_t columns) {
  static std::map<std::pair<int64_t, int64_t>, ParameterSchema> schemas;
  return schemas
      .try_emplace({rows, columns},
                   ParameterSchema::make({{.name = "m", .shape = {rows, columns}}}).value())
      .first->second;
}

/// The energy that a number of steps of the power iteration leaves of m (60 x 80).
double left_after(int steps, size_t rank, const std::vector<float>& m) {
  const PowerIteration power(rank);
  const Piece piece{.rows = 60, .columns = 80};
  std::vector<float> start(rank * piece.columns), p(rank * piece.rows), q(start.size());
  Rng rng(5, Purpose::kTest);
  power.fill_empty(start.data(), piece.columns, rng);
  for (int step = 0; step < steps; ++step) {
    power.scale(start.data(), piece.columns);
    power.step(m.data(), piece, start.data(), p.data(), q.data());
    start = q;
  }
  std::vector<float> rest = m;
  power.add_product(p.data(), q.data(), piece, -1, rest.data());
  return squared_norm(rest);
}

/// What principal leaves of it, and components with a step.
double left_by_principal(uint32_t rank, const std::vector<float>& m, float step = 0) {
  const Principal principal(rank, step);
  CodecScratch scratch;
  lay_out(matrix_schema(), 0, scratch.layout);
  if (step > 0) {
    std::vector<float> left = m;
    EXPECT_GT(principal.fit(left, scratch.layout, 7, scratch), 0);
    return squared_norm(left);
  }
  principal.factorize(m, scratch.layout, 7, scratch);
  std::vector<float> rest = m;
  principal.add(scratch.component_factors, scratch.layout, -1, rest);
  return squared_norm(rest);
}

TEST(ClosedForm10, FourStepsFindWhatManyStepsFind) {
  for (uint32_t stream = 0; stream < 10; ++stream) {
    const std::vector<float> noise = normal_values(60 * 80, 1400 + 3 * stream);
    std::vector<float> signal = matrix_of_rank(3, 1401 + 3 * stream);
    for (size_t i = 0; i < signal.size(); ++i) signal[i] += noise[i];
    EXPECT_LE(left_by_principal(3, signal), 1.001 * left_after(300, 3, signal));
    // Where nothing stands out, too.
    EXPECT_LE(left_by_principal(4, noise), 1.04 * left_after(300, 4, noise));
    EXPECT_GT(left_after(1, 4, noise), 1.04 * left_after(300, 4, noise))
        << "one step is not enough";
  }
}

// One after the other finds what all together find, and what a step loses of one is there for the
// next.
TEST(ClosedForm10, ComponentsOnAGridFindWhatManyStepsFind) {
  for (uint32_t stream = 0; stream < 10; ++stream) {
    const std::vector<float> noise = normal_values(60 * 80, 1600 + 3 * stream);
    std::vector<float> signal = matrix_of_rank(3, 1601 + 3 * stream);
    for (size_t i = 0; i < signal.size(); ++i) signal[i] += noise[i];
    EXPECT_LE(left_by_principal(3, signal, 0.05f), 1.01 * left_after(300, 3, signal));
    EXPECT_LE(left_by_principal(4, noise, 0.05f), 1.05 * left_after(300, 4, noise));
    const std::vector<float> exact = matrix_of_rank(2, 1601 + 3 * stream);
    const double once = left_by_principal(2, exact, 0.4f),
                 twice = left_by_principal(4, exact, 0.4f);
    EXPECT_LT(once, 0.15 * squared_norm(exact));
    EXPECT_LT(twice, 0.6 * once);
  }
}

// No other left factor is better for the right one that travels, whatever the step: what is left
// of the matrix has nothing of that direction but what the left factor's own rounding leaves.
TEST(ClosedForm10, LeftFactorsAreFittedToTheRightOnesThatTravel) {
  const std::vector<float> m = matrix_of_rank(6, 1700);
  for (const float step : {0.2f, 1.0f}) {
    const Principal one(1, step);
    CodecScratch scratch;
    lay_out(matrix_schema(), 0, scratch.layout);
    std::vector<float> left = m;
    const float grid = one.fit(left, scratch.layout, 7, scratch);
    const float* const q = scratch.component_factors.data() + 60;
    const double squares = squared_norm(std::span(q, 80));
    for (size_t i = 0; i < 60; ++i) {
      double dot = 0;
      for (size_t j = 0; j < 80; ++j)
        dot += static_cast<double>(left[i * 80 + j]) * static_cast<double>(q[j]);
      EXPECT_LE(std::fabs(dot / squares), 0.601 * static_cast<double>(grid)) << i;
    }
    for (const float f : scratch.component_factors) {
      ASSERT_EQ(f, std::round(f / grid) * grid);
    }
  }
}

// The rest is what the receivers lack, errors of the factors' four bits included: a chain that
// loses next to nothing has to bring everything back.
TEST(ClosedForm10, TheRestHasWhatTheFactorsLose) {
  const std::vector<float> m = matrix_of_rank(2, 1500);
  CodecScratch scratch;
  const auto error = [&](const char* spec, const ParameterSchema& schema,
                         const std::vector<float>& x) {
    const Codec codec = codec_of(spec);
    std::vector<std::byte> frame(codec.max_encoded_bytes(schema));
    frame.resize(codec.encode(kMeta, schema, x, scratch, frame).value());
    std::vector<float> y(x.size());
    EXPECT_TRUE(decode(*inspect(frame, schema, {}, scratch), scratch, y).ok());
    return nmse(x, y);
  };
  EXPECT_LT(error("principal:2 | bfloat16", matrix_schema(), m), 1e-6);
  EXPECT_GT(error("principal:2 | topk:1e-09", matrix_schema(), m), 1e-3) << "four bits lose";
  // More factors than fit in a chunk.
  const ParameterSchema& wide = matrix_of(34, 2100);
  const std::vector<float> x = normal_values(34 * 2100, 1502);
  EXPECT_LT(error("principal:32 | bfloat16", wide, x), 1e-6);
  EXPECT_LT(error("principal:32 | topk:1e-09", wide, x), 0.1);
  EXPECT_LT(error("components:2 | bfloat16", matrix_schema(), m), 1e-6);
  EXPECT_GT(error("components:2 | topk:1e-09", matrix_schema(), m), 1e-2) << "a step loses";
  EXPECT_LT(error("components:2 | topk:1e-09", matrix_schema(), m), 0.15);
  EXPECT_LT(error("components:32x0.3 | bfloat16", wide, x), 1e-5);
  EXPECT_LT(error("components:32x0.3 | topk:1e-09", wide, x), 0.15);
}

/// Squared error over squared norm of the mean of `draws` frames, and of one.
struct MeanError {
  double of_mean = 0, of_one = 0;
};

MeanError principal_error(const char* spec, const std::vector<float>& m, int draws) {
  const Codec codec = codec_of(spec);
  CodecScratch scratch;
  std::vector<double> sum(m.size(), 0.0);
  MeanError error;
  for (int draw = 0; draw < draws; ++draw) {
    std::vector<std::byte> frame(codec.max_encoded_bytes(matrix_schema()));
    const FrameMeta meta = meta_with_seed(static_cast<uint64_t>(draw));
    frame.resize(codec.encode(meta, matrix_schema(), m, scratch, frame).value());
    std::vector<float> y(m.size());
    EXPECT_TRUE(decode(*inspect(frame, matrix_schema(), {}, scratch), scratch, y).ok());
    error.of_one += nmse(m, y) / draws;
    for (size_t i = 0; i < m.size(); ++i) sum[i] += static_cast<double>(y[i]);
  }
  std::vector<float> mean(m.size());
  for (size_t i = 0; i < m.size(); ++i) mean[i] = static_cast<float>(sum[i] / draws);
  error.of_mean = nmse(m, mean);
  return error;
}

// What they hold is all but lost: the chain has only what four bits and a lower rank leave of it.
TEST(ClosedForm10, WhatFewComponentsHoldIsNotLeftToTheChain) {
  const std::vector<float> m = matrix_of_rank(2, 1200);
  const double alone = principal_error("rotate:1024 | randk:0.25 | eden:1", m, 20).of_one;
  const double with =
      principal_error("principal:2 | rotate:1024 | randk:0.25 | eden:1", m, 20).of_one;
  EXPECT_GT(alone, 5.0) << "(1 + 0.571) / 0.25 - 1";
  // Two factors of NMSE 0.0096 each, and what the chain makes of that.
  EXPECT_LT(with, 0.03 * alone);
}

// Horvath & Richtarik's lemma: the components are no bias, whatever they hold.
TEST(ClosedForm10, ComponentsAddNoBias) {
  std::vector<float> m = matrix_of_rank(5, 1300);
  const std::vector<float> noise = normal_values(m.size(), 1302);
  for (size_t i = 0; i < m.size(); ++i) m[i] += noise[i];
  constexpr int kDraws = 400;
  for (const char* spec : {"principal:1 | rotate:1024 | randk:0.25 | eden:1",
                           "principal:4 | randk-by-norm:0.3 | int:4",
                           "components:3 | rotate:1024 | randk:0.25 | eden:1",
                           "components:8x1 | randk-by-norm:0.3 | int:4"}) {
    const MeanError error = principal_error(spec, m, kDraws);
    EXPECT_GT(error.of_one, 0.05) << spec << ": there is noise to speak of";
    EXPECT_LE(error.of_mean, 1.4 * error.of_one / kDraws) << spec;
  }
}

// 11. The bound of a Rice code, and that cabac has one code for each set.

/// Anywhere, at the end, at the start, and half at either.
std::vector<std::vector<uint16_t>> awkward_positions(size_t k, size_t n, Rng& rng) {
  std::vector<std::vector<uint16_t>> sets = {random_positions(k, n, rng)};
  for (const size_t at_start : {size_t{0}, k, k / 2}) {
    sets.emplace_back();
    for (size_t i = 0; i < k; ++i)
      sets.back().push_back(static_cast<uint16_t>(i < at_start ? i : n - k + i));
  }
  return sets;
}

TEST(ClosedForm11, RiceIndicesNeverExceedTheirHardBound) {
  Rng rng(6, Purpose::kTest, 11);
  for (const size_t n : {1u, 5u, 64u, 1000u, 65536u})
    for (const double share : {0.0, 0.001, 0.02, 0.3, 0.5, 0.9, 1.0}) {
      const size_t k = std::max<size_t>(1, static_cast<size_t>(share * static_cast<double>(n)));
      for (const auto& index : awkward_positions(k, n, rng)) {
        const Coded coded = rice_encode(index);
        const size_t b = coded.parameter;
        EXPECT_LE(coded.bytes.size(), (k * (b + 1) + ((n - k) >> b) + 7) / 8);
        std::vector<uint16_t> gaps(k);
        std::vector<uint16_t> decoded(k);
        size_t used = 0;
        ASSERT_TRUE(
            decode_rice(coded.bytes, k, n, coded.parameter, gaps.data(), decoded.data(), used)
                .ok());
        EXPECT_EQ(used, coded.bytes.size());
        EXPECT_EQ(decoded, index);
      }
    }
}

TEST(ClosedForm11, CabacBringsBackAllPositionsInAsManyBytes) {
  Rng rng(6, Purpose::kTest, 111);
  std::vector<std::byte> bytes(1 << 17);
  for (const size_t n : {1u, 2u, 5u, 64u, 1000u, 65535u, 65536u})
    for (const double share : {0.0, 0.001, 0.02, 0.3, 0.5, 0.9, 0.999, 1.0}) {
      const size_t k = std::max<size_t>(1, static_cast<size_t>(share * static_cast<double>(n)));
      for (const auto& index : awkward_positions(k, n, rng)) {
        const size_t length = encode_cabac(index.data(), k, n, bytes.data(), bytes.size());
        ASSERT_GT(length, 0u);
        std::vector<std::byte> exact(length);
        EXPECT_EQ(encode_cabac(index.data(), k, n, exact.data(), length), length);
        EXPECT_TRUE(std::equal(exact.begin(), exact.end(), bytes.begin()));
        EXPECT_EQ(encode_cabac(index.data(), k, n, exact.data(), length - 1), 0u) << "no room";
        std::vector<uint16_t> decoded(k);
        size_t used = 0;
        ASSERT_TRUE(decode_cabac(bytes, k, n, decoded.data(), used).ok()) << n << ' ' << k;
        EXPECT_EQ(used, length);
        EXPECT_EQ(decoded, index);
        for (size_t less = 0; less < std::min<size_t>(length, 5); ++less)
          EXPECT_EQ(decode_cabac(std::span(bytes).first(less), k, n, decoded.data(), used).code(),
                    Code::kCorrupt);
        // A bit more at the end is no writer's.
        bytes[length - 1] ^= std::byte{1};
        EXPECT_EQ(decode_cabac(bytes, k, n, decoded.data(), used).code(), Code::kCorrupt);
      }
    }
}

// 12. The entropy of a set of positions.

double entropy(double rate) { return -(rate * std::log2(rate) + (1 - rate) * std::log2(1 - rate)); }

/// Positions of a chunk, of which the first half keeps one share and the second another.
std::vector<bool> gathered(double first, double second, Rng& rng) {
  std::vector<bool> kept(kChunkElements);
  for (size_t i = 0; i < kept.size(); ++i)
    kept[i] = rng.uniform() < (i < kept.size() / 2 ? first : second);
  return kept;
}

// What an update keeps isn't random: that is what `cabac` is for.
TEST(ClosedForm12, CabacFollowsTheDensityOfPositions) {
  Rng rng(6, Purpose::kTest, 112);
  const auto per_entropy = [&](double first, double second, IndexCode code) {
    double bits = 0;
    constexpr int kSets = 8;
    for (int set = 0; set < kSets; ++set) bits += position_bits(gathered(first, second, rng), code);
    constexpr size_t kHalf = kChunkElements / 2;
    return bits / (kSets * static_cast<double>(kHalf) * (entropy(first) + entropy(second)));
  };
  const auto record = [&](const char* what, double ratio) {
    RecordProperty(what, fmt::format("{:.3f}", ratio));
    return ratio;
  };
  // Random ones cost more than with `rice`: the probabilities go on looking for what isn't there.
  EXPECT_LE(record("random_0.01", per_entropy(0.01, 0.01, IndexCode::kCabac)), 1.09);
  EXPECT_LE(record("random_0.1", per_entropy(0.1, 0.1, IndexCode::kCabac)), 1.02);
  EXPECT_LE(record("gathered", per_entropy(0.05, 0.0005, IndexCode::kCabac)), 1.05);
  EXPECT_GE(record("gathered_rice", per_entropy(0.05, 0.0005, IndexCode::kRice)), 1.15);
  EXPECT_GE(per_entropy(0.05, 0.0005, IndexCode::kCabac), 0.98) << "too good to be true";
}

TEST(ClosedForm12, IndicesTakeTheEntropyOfRandomPositionsPlusAPerCentAndAHalf) {
  constexpr size_t kElements = size_t{1} << 20;
  Rng rng(6, Purpose::kTest, 12);
  for (const double rate : {0.25, 0.1, 0.01, 0.001}) {
    const auto k = static_cast<size_t>(std::lround(rate * kElements));
    const auto log_factorial = [](size_t m) { return std::lgamma(static_cast<double>(m) + 1); };
    const double entropy =
        (log_factorial(kElements) - log_factorial(k) - log_factorial(kElements - k)) /
        std::numbers::ln2;
    const int sets = rate < 0.01 ? 16 : 2;
    double bits = 0;
    for (int set = 0; set < sets; ++set) {
      std::vector<bool> kept(kElements);
      for (size_t i = 0, left = k; i < kElements; ++i)
        if (rng.below(static_cast<uint32_t>(kElements - i)) < left) {
          kept[i] = true;
          --left;
        }
      bits += position_bits(kept, IndexCode::kRice) / sets;
    }
    RecordProperty(fmt::format("rate_{}", rate), fmt::format("{:.4f}", bits / entropy));
    EXPECT_LE(bits, 1.015 * entropy) << "rate " << rate;
    EXPECT_GE(bits, entropy) << "too good to be true, rate " << rate;
  }
}

TEST(ClosedForm12, AWholeTernaryFrameAtOnePerCentTakesAtMost0p0940BitsAnElement) {
  constexpr size_t kElements = size_t{1} << 20;
  CodecScratch scratch;
  const auto frame = encode_frame(codec_of("ef | topk:0.01 | ternary | rice"), kMeta,
                                  normal_values(kElements, 12), scratch);
  EXPECT_LE(static_cast<double>(frame.size()) * 8 / kElements, 0.0940);
}

// 13. QSGD.

TEST(ClosedForm13, QsgdHasTheVarianceOfItsFractions) {
  const std::vector<float> x = normal_values(1024, 13);
  const double norm = std::sqrt(squared_norm(x));
  for (const int levels : {1, 4, 16, 127}) {
    // The scale is norm / levels rounded up to bfloat16.
    const double scale = static_cast<double>(
        scale_value(scale_up(static_cast<float>(norm) / static_cast<float>(levels))));
    double expected = 0;
    for (const float v : x) {
      const double y = std::abs(static_cast<double>(v)) / scale, f = y - std::floor(y);
      expected += scale * scale * f * (1 - f);
    }
    const double n = static_cast<double>(x.size()), s = levels;
    EXPECT_LE(expected, std::min(n / (s * s), std::sqrt(n) / s) * norm * norm * 1.02);
    const double measured =
        mean_nmse(codec_of(fmt::format("qsgd:{}", levels)), x, 400) * norm * norm;
    EXPECT_NEAR(measured, expected, 0.03 * expected) << levels;
  }
}

TEST(ClosedForm13, QsgdHasFewNonzerosAtFewLevels) {
  // E nnz <= s (s + sqrt(n)).
  const std::vector<float> x = normal_values(1024, 13);
  CodecScratch scratch;
  for (const double s : {1.0, 2.0, 4.0}) {
    double nonzeros = 0;
    for (uint64_t draw = 0; draw < 200; ++draw)
      for (const float v :
           round_trip(codec_of(fmt::format("qsgd:{}", s)), meta_with_seed(draw), x, scratch))
        nonzeros += v != 0 ? 1.0 / 200 : 0.0;
    EXPECT_LE(nonzeros, s * (s + 32));
  }
}

// 14. TernGrad.

TEST(ClosedForm14, DenseTernaryHasTheVarianceMaxTimesL1NormLessTheSquaredNorm) {
  std::vector<float> x = normal_values(1000, 14);
  x[17] = 3.5f;  // the largest, and a bfloat16
  ASSERT_EQ(largest_magnitude(x), 3.5);
  const double expected = 3.5 * l1_norm(x) - squared_norm(x);
  // The mean over 1,000 frames deviates by about 0.1 %.
  EXPECT_NEAR(mean_nmse(codec_of("ternary"), x, 1000) * squared_norm(x), expected, 0.01 * expected);
}

// 15. Natural compression.

TEST(ClosedForm15, NaturalHasTheVarianceOfItsTwoNeighbours) {
  const std::vector<float> x = log_normal_values(2000, 15);
  double expected = 0;
  for (const float v : x) {
    const double low = std::exp2(std::floor(std::log2(v)));
    expected += (v - low) * (2 * low - v);
  }
  EXPECT_LE(expected, squared_norm(x) / 8);
  EXPECT_NEAR(mean_nmse(codec_of("natural"), x, 400) * squared_norm(x), expected, 0.02 * expected);
  // The worst value lies at 4/3 of a power of two: an eighth of its square.
  const std::vector<float> worst(2000, 4.0f / 3);
  EXPECT_NEAR(mean_nmse(codec_of("natural"), worst, 100), 0.125, 0.002);
}

TEST(ClosedForm15, NaturalKeepsPowersOfTwoAndZeros) {
  CodecScratch scratch;
  std::vector<float> x = {0.0f, 1.0f, -2.0f, 0x1p-126f, -0x1p100f, 0.5f, -0.0f, 1024.0f};
  EXPECT_TRUE(same_bits(round_trip(codec_of("natural"), kMeta, x, scratch), x));
}

// 16. Rand-k.

TEST(ClosedForm16, RandKHasTheVarianceNOverKLessOne) {
  const std::vector<float> x = normal_values(2000, 16);
  // Over 2,000 frames the mean deviates by about 0.2 %, times 3 for the kurtosis of a normal.
  EXPECT_NEAR(mean_nmse(codec_of("randk:0.1"), x, 2000), 9, 0.15);
  EXPECT_NEAR(mean_nmse(codec_of("randk:0.25"), x, 2000), 3, 0.05);
  // 48 values pad the rotation to 2,048; the error that falls on them is dropped.
  EXPECT_NEAR(mean_nmse(codec_of("rotate:1024 | randk:0.25"), x, 2000), 3 * 2000 / 2048.0, 0.05);
}

TEST(ClosedForm16, UnderErrorFeedbackRandKLosesOneLessKOverN) {
  const std::vector<float> x = normal_values(2000, 16);
  EXPECT_NEAR(mean_nmse(codec_of("ef | randk:0.1"), x, 2000), 0.9, 0.005);
}

TEST(ClosedForm16, OneMaskForAllGivesTheMeanTheErrorOfOneClient) {
  const Codec codec = codec_of("randk:0.25");
  constexpr size_t kElements = 2000;
  constexpr uint32_t kClients = 10;
  std::vector<std::vector<float>> clients;
  std::vector<float> mean(kElements, 0.0f);
  for (uint32_t c = 0; c < kClients; ++c) {
    clients.push_back(normal_values(kElements, 300 + c));
    for (size_t i = 0; i < kElements; ++i) mean[i] += clients.back()[i] / kClients;
  }
  CodecScratch scratch;
  double shared = 0;
  double independent = 0;
  constexpr uint64_t kDraws = 200;
  for (uint64_t draw = 0; draw < kDraws; ++draw)
    for (const bool one_mask : {true, false}) {
      std::vector<float> decoded(kElements, 0.0f);
      for (uint32_t c = 0; c < kClients; ++c) {
        const uint64_t seed = one_mask ? draw : mix(draw, c);
        const auto one = round_trip(codec, meta_with_seed(seed), clients[c], scratch);
        for (size_t i = 0; i < kElements; ++i) decoded[i] += one[i] / kClients;
      }
      (one_mask ? shared : independent) += squared_distance(mean, decoded) / kDraws;
    }
  EXPECT_NEAR(shared / squared_norm(mean), 3, 0.1);
  double squares = 0;
  for (const auto& client : clients) squares += squared_norm(client);
  EXPECT_NEAR(independent / (squares / (kClients * kClients)), 3, 0.1);
}

// 17. Unbiasedness of each coordinate.

TEST(ClosedForm17, MeansOfManyFramesApproachEachCoordinate) {
  // |mean - x| <= 6 sqrt(var / T) + 16 step / T for each of 1,024 coordinates and nine chains. The
  // second term is for coordinates so small that a step happens less often than once in T / 16
  // frames: exp(-16) for one that never does. A false alarm in 1e3, and the seeds are fixed.
  constexpr size_t kElements = 1024;
  constexpr int kDraws = 2000;
  for (const char* spec :
       {"int:4", "int:8", "ternary", "qsgd:8", "qsgd:64", "natural", "rotate:1024 | eden:1",
        "rotate:1024 | eden:3", "rotate:1024 | randk:0.25 | eden:1"}) {
    const Codec codec = codec_of(spec);
    const std::vector<float> x = normal_values(kElements, 17);
    CodecScratch scratch;
    std::vector<double> sum(kElements, 0.0);
    std::vector<double> squares(kElements, 0.0);
    double step = 0;
    for (uint64_t draw = 0; draw < kDraws; ++draw) {
      const auto decoded = round_trip(codec, meta_with_seed(1000 + draw), x, scratch);
      for (size_t i = 0; i < kElements; ++i) {
        const double error = static_cast<double>(decoded[i]) - static_cast<double>(x[i]);
        sum[i] += error;
        squares[i] += error * error;
        step = std::max(step, std::abs(error));
      }
    }
    for (size_t i = 0; i < kElements; ++i)
      EXPECT_LE(std::abs(sum[i]), 6 * std::sqrt(squares[i]) + 16 * step)
          << spec << ", coordinate " << i;
  }
}

// 18. EDEN.

struct EdenRow {
  int bits;
  double distortion;  // of the Lloyd-Max levels: the error under error feedback
  double tolerance;
};
constexpr EdenRow kEdenRows[] = {{1, 0.363380, 0.03}, {2, 0.117482, 0.03}, {3, 0.034548, 0.04},
                                 {4, 0.009501, 0.05}, {5, 0.002505, 0.06}, {6, 0.000644, 0.06},
                                 {7, 0.000163, 0.06}, {8, 0.000041, 0.06}};

TEST(ClosedForm18, EdenReachesTheLloydMaxDistortion) {
  // Rounding the scale to bfloat16, whose step is at most u = 2^-7 of it, adds at most u^2/6 when
  // done at random and u^2/12 to nearest: a seventh of the error at 8 bits, nothing at 4.
  constexpr double kRandomScale = 0x1p-14 / 6;
  constexpr double kNearestScale = 0x1p-14 / 12;
  for (const auto& [bits, distortion, tolerance] : kEdenRows)
    for (const char* block : {"1024", "65536"})
      for (const bool heavy : {false, true}) {
        const std::string chain = fmt::format("rotate:{} | eden:{}", block, bits);
        const std::vector<float> x =
            heavy ? log_normal_values(65536, 18) : normal_values(65536, 18);
        const double unbiased = distortion / (1 - distortion);
        const double measured = mean_nmse(codec_of(chain), x, 3);
        const double fed_back = mean_nmse(codec_of("ef | " + chain), x, 3);
        EXPECT_GE(measured, (1 - tolerance) * unbiased) << chain;
        EXPECT_LE(measured, (1 + tolerance) * unbiased + kRandomScale) << chain;
        EXPECT_GE(fed_back, (1 - tolerance) * distortion) << chain;
        EXPECT_LE(fed_back, (1 + tolerance) * distortion + kNearestScale) << chain;
      }
}

TEST(ClosedForm18, IndependentSeedsDivideEdensErrorByTheNumberOfClients) {
  const Codec codec = codec_of("rotate:1024 | eden:1");
  const std::vector<float> x = normal_values(8192, 18);
  CodecScratch scratch;
  for (const uint64_t clients : {1u, 4u, 16u}) {
    double error = 0;
    constexpr uint64_t kDraws = 20;
    for (uint64_t draw = 0; draw < kDraws; ++draw) {
      std::vector<double> mean(x.size(), 0.0);
      for (uint64_t c = 0; c < clients; ++c) {
        const auto one = round_trip(codec, meta_with_seed(mix(draw, c)), x, scratch);
        for (size_t i = 0; i < x.size(); ++i)
          mean[i] += static_cast<double>(one[i]) / static_cast<double>(clients);
      }
      for (size_t i = 0; i < x.size(); ++i)
        error += (mean[i] - x[i]) * (mean[i] - x[i]) / squared_norm(x) / kDraws;
    }
    const double expected = 0.570796 / static_cast<double>(clients);
    EXPECT_NEAR(error, expected, 0.04 * expected);
  }
}

TEST(ClosedForm18, OneSeedForAllDoesNotDivideEdensError) {
  const Codec codec = codec_of("rotate:1024 | eden:1");
  const std::vector<float> x = normal_values(8192, 18);
  CodecScratch scratch;
  std::vector<float> mean(x.size(), 0.0f);
  for (int c = 0; c < 16; ++c) {
    const auto one = round_trip(codec, kMeta, x, scratch);
    for (size_t i = 0; i < x.size(); ++i) mean[i] += one[i] / 16;
  }
  EXPECT_GT(nmse(x, mean), 0.5);
}

TEST(ClosedForm18, TwoEqualSpikesAreAKnownFailureOfOneHadamard) {
  // Half of the rotated values are 0, which one bit can't say: the error is the norm itself.
  CodecScratch scratch;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<float> x(1024, 0.0f);
    Rng rng(seed, Purpose::kTest, 18);
    const size_t first = rng.below(1024);
    x[first] = 1;
    x[(first + 1 + rng.below(1023)) % 1024] = -1;
    const auto decoded =
        round_trip(codec_of("rotate:1024 | eden:1"), meta_with_seed(seed), x, scratch);
    EXPECT_NEAR(nmse(x, decoded), 1, 0.01);
  }
}

TEST(ClosedForm18, OneSpikeIsExactUpToTheScalesRounding) {
  CodecScratch scratch;
  for (int bits = 1; bits <= 8; ++bits) {
    std::vector<float> x(1024, 0.0f);
    x[77] = -1.7f;
    const auto decoded =
        round_trip(codec_of(fmt::format("rotate:1024 | eden:{}", bits)), kMeta, x, scratch);
    EXPECT_LE(nmse(x, decoded), 0x1p-14) << bits;
  }
}

TEST(ClosedForm18, ZerosStayZeros) {
  CodecScratch scratch;
  std::vector<float> x(4096, 0.0f);
  for (size_t i = 0; i < 1024; ++i) x[i] = 1e-38f;  // a norm too small for a scale
  x[4000] = 1;                                      // so that the chunk is coded at all
  const auto decoded = round_trip(codec_of("rotate:1024 | eden:1"), kMeta, x, scratch);
  for (size_t i = 0; i < 3072; ++i) ASSERT_EQ(decoded[i], 0.0f);
}

// 19. Golomb-Rice.

TEST(ClosedForm19, RiceCodesTakeTheBitsThatTheoryExpects) {
  struct Row {
    double p;
    int parameter;
    double bits;
  };
  constexpr Row kRows[] = {{0.25, 1, 3.286},  {0.10, 3, 4.756}, {0.04, 4, 6.085},
                           {0.02, 5, 7.100},  {0.01, 6, 8.108}, {0.0025, 8, 10.114},
                           {0.001, 9, 11.495}};
  Rng rng(6, Purpose::kTest, 19);
  for (const Row& row : kRows) {
    double bits = 0;
    double positions = 0;
    int best = 0;
    constexpr int kSets = 40;
    for (int set = 0; set < kSets; ++set) {
      std::vector<uint16_t> index;
      for (uint32_t i = 0; i < kChunkElements; ++i)
        if (rng.uniform() < row.p) index.push_back(static_cast<uint16_t>(i));
      const Coded coded = rice_encode(index);
      bits += 8.0 * static_cast<double>(coded.bytes.size());
      positions += static_cast<double>(index.size());
      best += coded.parameter == row.parameter ? 1 : 0;
    }
    EXPECT_NEAR(bits / positions, row.bits, 0.015 * row.bits) << "p = " << row.p;
    EXPECT_GE(best, kSets / 2) << "p = " << row.p;
  }
}

// 20. Count sketch.

TEST(ClosedForm20, ASketchFindsHeavyHitters) {
  CodecScratch scratch;
  for (uint32_t trial = 0; trial < 20; ++trial) {
    std::vector<float> x = normal_values(65536, 2000 + trial);
    for (float& v : x) v *= 0.01f;
    Rng rng(trial, Purpose::kTest, 20);
    std::set<size_t> heavy;
    while (heavy.size() < 20) heavy.insert(rng.below(65536));
    for (const size_t i : heavy) x[i] = rng.below(2) == 0 ? 10.0f : -10.0f;
    const auto decoded = round_trip(codec_of("sketch:5x4096"), meta_with_seed(trial), x, scratch);
    for (const size_t i : heavy) EXPECT_NEAR(decoded[i], x[i], 1) << "trial " << trial;
    const std::vector<float> top = top_values(decoded, 21);
    EXPECT_GT(std::abs(top[19]), 9);
    EXPECT_LT(std::abs(top[20]), 1);
  }
}

TEST(ClosedForm20, UnderErrorFeedbackASketchNeverLosesMoreThanItIsGiven) {
  CodecScratch scratch;
  for (const Input input : {Input::kGaussian, Input::kHeavyTail, Input::kConstant})
    for (const char* spec : {"ef | sketch:1x50", "ef | sketch:4x100", "ef | sketch:5x500"}) {
      const std::vector<float> x = make_input(input, 4000);
      EXPECT_LE(nmse(x, round_trip(codec_of(spec), kMeta, x, scratch)), 1.0001) << spec;
    }
}

// 21. Entropy coders.

TEST(ClosedForm21, RansTakesTheEntropyOfTheSymbolsPlusTwoPerCentAndItsTable) {
  CodecScratch scratch;
  Rng rng(6, Purpose::kTest, 21);
  struct Source {
    const char* name;
    std::vector<double> weights;
  };
  std::vector<Source> sources = {{"sparse ternary", {0.05, 0.9, 0.05}},
                                 {"very sparse", {0.001, 0.998, 0.001}},
                                 {"four bits", {}},
                                 {"eight bits of a normal", {}},
                                 {"uniform", std::vector<double>(16, 1.0)}};
  for (int i = -7; i <= 7; ++i) sources[2].weights.push_back(std::exp(-i * i / 8.0));
  for (int i = -127; i <= 127; ++i) sources[3].weights.push_back(std::exp(-i * i / 3000.0));
  for (const Source& source : sources) {
    double total = 0;
    for (const double w : source.weights) total += w;
    std::vector<uint16_t> symbols(kChunkElements);
    std::vector<double> counts(source.weights.size(), 0);
    for (uint16_t& symbol : symbols) {
      double at = rng.uniform() * total;
      symbol = 0;
      while (at >= source.weights[symbol] && symbol + 1u < source.weights.size())
        at -= source.weights[symbol++];
      ++counts[symbol];
    }
    double entropy = 0, range = 0;
    for (const double count : counts) {
      if (count > 0) entropy -= count * std::log2(count / kChunkElements);
      ++range;
    }
    std::vector<std::byte> coded(2 * kChunkElements);
    const size_t bytes =
        encode_rans(symbols.data(), symbols.size(), coded.size(), scratch, coded.data());
    ASSERT_GT(bytes, 0u);
    const double table = 8 * 4 + 12 * range + 8 + 8 * 16;
    EXPECT_LE(8.0 * static_cast<double>(bytes), 1.02 * entropy + table) << source.name;
    EXPECT_GE(8.0 * static_cast<double>(bytes), entropy) << source.name;
    std::vector<uint16_t> decoded(symbols.size());
    ASSERT_TRUE(decode_rans(std::span(coded).first(bytes), symbols.size(),
                            static_cast<uint32_t>(source.weights.size()), scratch, decoded.data())
                    .ok());
    EXPECT_EQ(decoded, symbols);
  }
}

TEST(ClosedForm21, RansIsLeftOutWhereItDoesNotPay) {
  CodecScratch scratch;
  std::vector<uint16_t> symbols = {3, 1, 2, 0, 3};
  std::vector<std::byte> coded(64);
  EXPECT_EQ(encode_rans(symbols.data(), symbols.size(), 2, scratch, coded.data()), 0u);
  // One symbol alone takes four bytes, however many there are.
  symbols.assign(60000, 7);
  EXPECT_EQ(encode_rans(symbols.data(), symbols.size(), 60, scratch, coded.data()), 4u);
  std::vector<uint16_t> decoded(symbols.size());
  ASSERT_TRUE(
      decode_rans(std::span(coded).first(4), symbols.size(), 8, scratch, decoded.data()).ok());
  EXPECT_EQ(decoded, symbols);
}

// 22. Damaged frames.

TEST(ClosedForm22, AnyByteChangedOrCutIsRefused) {
  CodecScratch scratch;
  Rng rng(6, Purpose::kTest, 22);
  for (const Budget& budget : kBudgets) {
    const Codec codec = codec_of(budget.spec);
    constexpr size_t kElements = 70000;
    const auto frame =
        encode_frame(codec, kMeta, make_input(Input::kHeavyTail, kElements), scratch);
    for (int trial = 0; trial < 40; ++trial) {
      std::vector<std::byte> damaged = frame;
      const size_t at = rng.below(static_cast<uint32_t>(frame.size()));
      if (trial % 4 == 0)
        damaged.resize(at);
      else
        damaged[at] ^= static_cast<std::byte>(1 + rng.below(255));
      EXPECT_FALSE(inspect_frame(damaged, kElements, scratch)) << budget.spec;
    }
  }
}

}  // namespace
}  // namespace tern
