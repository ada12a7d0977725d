#include "compression/updates/kernels/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "compression/updates/crc32c.h"
#include "compression/updates/stages/scale.h"

namespace tern {
namespace {

/// Every length up to two vectors of 16 and then around powers of two.
std::vector<size_t> sizes() {
  std::vector<size_t> sizes;
  for (size_t n = 0; n <= 70; ++n) sizes.push_back(n);
  for (const size_t n : {127, 128, 129, 255, 256, 257, 1000, 1023, 1024, 1025, 4097})
    sizes.push_back(n);
  return sizes;
}

std::vector<float> values(size_t n, uint32_t stream) {
  std::vector<float> x(n);
  Rng rng(3, Purpose::kTest, 31, 0, stream);
  for (float& v : x) {
    const uint32_t kind = rng.below(16);
    v = static_cast<float>(rng.normal());
    if (kind == 0) v = 0;
    if (kind == 1) v = -0.0f;
    if (kind == 2) v *= 0x1p-130f;
    if (kind == 3) v *= 0x1p90f;
    if (kind == 4) v = std::round(v);
  }
  return x;
}

/// Compares like bits do: -0 is not 0.
template <typename T>
testing::AssertionResult same(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() == b.size() &&
      (a.empty() || std::memcmp(a.data(), b.data(), sizeof(T) * a.size()) == 0))
    return testing::AssertionSuccess();
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    if (std::memcmp(&a[i], &b[i], sizeof(T)) != 0)
      return testing::AssertionFailure() << "differ at " << i << " of " << a.size();
  return testing::AssertionFailure() << "lengths " << a.size() << " and " << b.size();
}

class KernelLevels : public testing::TestWithParam<CpuLevel> {
 protected:
  void SetUp() override {
    if (kernels_for(GetParam()) == nullptr)
      GTEST_SKIP() << "this machine has no " << name(GetParam());
    k_ = kernels_for(GetParam());
  }

  /// Calls f with every length and offset from alignment; x[0] is at the offset.
  template <typename F>
  void for_each_shape(F f) {
    for (const size_t n : sizes())
      for (const size_t offset : {size_t{0}, size_t{1}, size_t{3}}) {
        SCOPED_TRACE(testing::Message() << n << " values, offset " << offset);
        f(n, offset);
        if (HasFatalFailure()) return;
      }
  }

  const Kernels* k_ = nullptr;
  const Kernels& base_ = kBaselineKernels;
};

TEST_P(KernelLevels, SumsAndMaximaAreThoseOfTheBaseline) {
  for_each_shape([&](size_t n, size_t offset) {
    const std::vector<float> memory = values(n + offset, 1);
    const float* x = memory.data() + offset;
    std::vector<float> y = values(n + offset, 2);
    for (float& v : y) v = std::clamp(v, -4.0f, 4.0f);
    ASSERT_EQ(std::bit_cast<uint64_t>(k_->sum_abs(x, n)),
              std::bit_cast<uint64_t>(base_.sum_abs(x, n)));
    ASSERT_EQ(std::bit_cast<uint64_t>(k_->sum_squares(x, n)),
              std::bit_cast<uint64_t>(base_.sum_squares(x, n)));
    ASSERT_EQ(std::bit_cast<uint32_t>(k_->quick_squares(x, n)),
              std::bit_cast<uint32_t>(base_.quick_squares(x, n)));
    ASSERT_EQ(std::bit_cast<uint32_t>(k_->quick_dot(x, y.data() + offset, n)),
              std::bit_cast<uint32_t>(base_.quick_dot(x, y.data() + offset, n)));
    ASSERT_EQ(std::bit_cast<uint32_t>(k_->max_abs(x, n)),
              std::bit_cast<uint32_t>(base_.max_abs(x, n)));
  });
}

TEST_P(KernelLevels, RotationIsThatOfTheBaseline) {
  Rng rng(4, Purpose::kTest);
  for (size_t n = 1; n <= 65536; n *= 2)
    for (const size_t offset : {size_t{0}, size_t{1}}) {
      const std::vector<float> x = values(n + offset, 3);
      std::vector<uint32_t> signs((n + 31) / 32);
      for (uint32_t& word : signs) word = rng.next();
      std::vector<float> a(n + offset), b(n + offset);
      k_->rotate(x.data() + offset, signs.data(), n, 0.03125f, x.data(), false, a.data() + offset);
      base_.rotate(x.data() + offset, signs.data(), n, 0.03125f, x.data(), true, b.data() + offset);
      ASSERT_TRUE(same(a, b)) << n;
      std::vector<float> in_place = x;
      k_->rotate(in_place.data() + offset, signs.data(), n, 0.03125f, x.data(), true,
                 in_place.data() + offset);
      ASSERT_TRUE(std::equal(a.begin() + static_cast<ptrdiff_t>(offset), a.end(),
                             in_place.begin() + static_cast<ptrdiff_t>(offset)))
          << n;
      const std::vector<int64_t> sums(n);
      k_->rotate_back(a.data() + offset, signs.data(), n, 0.25f, sums.data());
      base_.rotate_back(b.data() + offset, signs.data(), n, 0.25f, nullptr);
      ASSERT_TRUE(same(a, b)) << n;
    }
}

TEST_P(KernelLevels, IntegersAreThoseOfTheBaseline) {
  for_each_shape([&](size_t n, size_t offset) {
    std::vector<float> memory = values(n + offset, 4);
    for (float& v : memory)
      if (std::abs(v) > 100) v = 4;
    const float* x = memory.data() + offset;
    for (const int limit : {1, 3, 7, 127, 32767}) {
      const float inverse = static_cast<float>(limit) / 4.5f;
      std::vector<uint16_t> a(n + offset), b(n + offset);
      k_->quantize_int(x, n, inverse, limit, 0x123456789ABCDEF, x, a.data() + offset, nullptr);
      base_.quantize_int(x, n, inverse, limit, 0x123456789ABCDEF, x, b.data() + offset, nullptr);
      ASSERT_TRUE(same(a, b)) << limit;
      std::vector<float> c(n + offset), d(n + offset);
      k_->dequantize_int(a.data() + offset, n, limit, 0.3f, c.data() + offset);
      base_.dequantize_int(a.data() + offset, n, limit, 0.3f, d.data() + offset);
      ASSERT_TRUE(same(c, d)) << limit;
    }
  });
}

TEST_P(KernelLevels, LevelsAreThoseOfTheBaseline) {
  for (int bits = 1; bits <= 8; ++bits) {
    const size_t count = size_t{1} << (bits - 1);
    std::vector<float> centroids(count), bounds(count - 1);
    for (size_t i = 0; i < count; ++i) centroids[i] = 0.1f + 3.0f * static_cast<float>(i) / count;
    for (size_t i = 0; i + 1 < count; ++i) bounds[i] = (centroids[i] + centroids[i + 1]) / 2;
    const LevelTable table(bits, bounds.data(), centroids.data());
    for_each_shape([&](size_t n, size_t offset) {
      const std::vector<float> memory = values(n + offset, 5);
      const float* x = memory.data() + offset;
      std::vector<uint16_t> a(n + offset), b(n + offset);
      std::array<double, 4> sums{};
      k_->quantize_levels(x, n, 0.9f, table, x, a.data() + offset, nullptr, &sums[0], &sums[1]);
      base_.quantize_levels(x, n, 0.9f, table, x, b.data() + offset, nullptr, &sums[2], &sums[3]);
      ASSERT_TRUE(same(a, b)) << bits;
      std::vector<float> c(n + offset), d(n + offset);
      k_->lookup_levels(a.data() + offset, n, centroids.data(), bits, 1.7f, c.data() + offset);
      base_.lookup_levels(a.data() + offset, n, centroids.data(), bits, 1.7f, d.data() + offset);
      ASSERT_TRUE(same(c, d)) << bits;
      ASSERT_EQ(std::bit_cast<uint64_t>(sums[0]), std::bit_cast<uint64_t>(sums[2]));
      ASSERT_EQ(std::bit_cast<uint64_t>(sums[1]), std::bit_cast<uint64_t>(sums[3]));
    });
  }
}

TEST_P(KernelLevels, PackedBitsAreThoseOfTheBaseline) {
  for (int bits = 1; bits <= 16; ++bits)
    for_each_shape([&](size_t n, size_t offset) {
      std::vector<uint16_t> symbols(n + offset);
      Rng rng(5, Purpose::kTest);
      for (uint16_t& s : symbols) s = static_cast<uint16_t>(rng.below(1u << bits));
      const size_t length = (n * static_cast<size_t>(bits) + 7) / 8;
      std::vector<uint8_t> a(length + offset), b(length + offset);
      k_->pack(symbols.data() + offset, n, bits, a.data() + offset);
      base_.pack(symbols.data() + offset, n, bits, b.data() + offset);
      ASSERT_TRUE(same(a, b)) << bits;
      std::vector<uint16_t> c(n + offset), d(n + offset);
      k_->unpack(a.data() + offset, n, bits, c.data() + offset);
      base_.unpack(a.data() + offset, n, bits, d.data() + offset);
      ASSERT_TRUE(same(c, d)) << bits;
    });
}

// Quantizers that pack do it from their registers for some lengths: as if pack() had done it.
TEST_P(KernelLevels, PackedQuantizersArePackedSymbols) {
  const auto same_as_packed = [&](size_t n, int bits, const auto& quantize) {
    const size_t length = (n * static_cast<size_t>(bits) + 7) / 8;
    std::vector<uint16_t> symbols(n), scratch(n);
    std::vector<uint8_t> expected(length), packed(length);
    std::array<double, 4> sums{};
    quantize(base_, symbols.data(), nullptr, &sums[0]);
    base_.pack(symbols.data(), n, bits, expected.data());
    quantize(*k_, scratch.data(), packed.data(), &sums[2]);
    ASSERT_TRUE(same(packed, expected)) << n << " symbols of " << bits << " bits";
    ASSERT_EQ(sums[0], sums[2]);
    ASSERT_EQ(sums[1], sums[3]);
  };
  for_each_shape([&](size_t n, size_t offset) {
    const std::vector<float> memory = values(n + offset, 7);
    const float* x = memory.data() + offset;
    for (const auto& [limit, bits] : {std::pair{2, 3}, {4, 4}, {7, 4}, {127, 8}, {511, 10}})
      same_as_packed(n, bits, [&](const Kernels& k, uint16_t* symbols, uint8_t* packed, double*) {
        k.quantize_int(x, n, static_cast<float>(limit) / 300, limit, 77, x, symbols, packed);
      });
    for (int bits = 1; bits <= 8; ++bits) {
      std::vector<float> centroids(size_t{1} << (bits - 1)), bounds(centroids.size() - 1);
      for (size_t i = 0; i < centroids.size(); ++i)
        centroids[i] = (static_cast<float>(i) + 0.5f) * 3 / static_cast<float>(centroids.size());
      for (size_t i = 0; i < bounds.size(); ++i) bounds[i] = (centroids[i] + centroids[i + 1]) / 2;
      const LevelTable table(bits, bounds.data(), centroids.data());
      same_as_packed(n, bits,
                     [&](const Kernels& k, uint16_t* symbols, uint8_t* packed, double* sums) {
                       k.quantize_levels(x, n, 1, table, x, symbols, packed, &sums[0], &sums[1]);
                     });
    }
  });
}

// And back: as if unpack() had done it. All bits that a hostile sender may choose.
TEST_P(KernelLevels, PackedSymbolsComeBackAsUnpackedOnes) {
  for_each_shape([&](size_t n, size_t offset) {
    Rng rng(6, Purpose::kTest, 0, 0, static_cast<uint32_t>(n));
    std::vector<uint16_t> symbols(n), scratch(n);
    std::vector<float> expected(n), values(n + offset);
    const auto packed = [&](int bits) {
      std::vector<uint8_t> bytes((n * static_cast<size_t>(bits) + 7) / 8 + offset);
      for (uint8_t& b : bytes) b = static_cast<uint8_t>(rng.below(256));
      base_.unpack(bytes.data() + offset, n, bits, symbols.data());
      return bytes;
    };
    const auto same_values = [&] {
      return n == 0 || std::memcmp(expected.data(), values.data() + offset, 4 * n) == 0;
    };
    for (const auto& [limit, bits] : {std::pair{2, 3}, {4, 4}, {7, 4}, {127, 8}, {511, 10}}) {
      const std::vector<uint8_t> bytes = packed(bits);
      base_.dequantize_int(symbols.data(), n, limit, 0.3f, expected.data());
      const uint32_t largest = k_->unpack_int(bytes.data() + offset, scratch.data(), n, limit, 0.3f,
                                              values.data() + offset);
      ASSERT_TRUE(same_values()) << bits << " bits of integers";
      ASSERT_EQ(largest, n == 0 ? 0u : *std::ranges::max_element(symbols));
    }
    for (int bits = 1; bits <= 8; ++bits) {
      std::vector<float> centroids(size_t{1} << (bits - 1));
      for (float& c : centroids) c = static_cast<float>(rng.normal());
      centroids[0] = 0;
      const std::vector<uint8_t> bytes = packed(bits);
      base_.lookup_levels(symbols.data(), n, centroids.data(), bits, 1.7f, expected.data());
      k_->unpack_levels(bytes.data() + offset, scratch.data(), n, centroids.data(), bits, 1.7f,
                        values.data() + offset);
      ASSERT_TRUE(same_values()) << bits << " bits of levels";
    }
  });
}

TEST_P(KernelLevels, HalvesAreThoseOfTheBaseline) {
  for_each_shape([&](size_t n, size_t offset) {
    const std::vector<float> memory = values(n + offset, 6);
    const float* x = memory.data() + offset;
    std::vector<uint8_t> a(2 * n + offset), b(2 * n + offset);
    std::vector<float> c(n + offset), d(n + offset);
    k_->to_float16(x, n, a.data() + offset);
    base_.to_float16(x, n, b.data() + offset);
    ASSERT_TRUE(same(a, b));
    k_->from_float16(a.data() + offset, n, c.data() + offset);
    base_.from_float16(a.data() + offset, n, d.data() + offset);
    ASSERT_TRUE(same(c, d));
    k_->to_bfloat16(x, n, a.data() + offset);
    base_.to_bfloat16(x, n, b.data() + offset);
    ASSERT_TRUE(same(a, b));
    k_->from_bfloat16(a.data() + offset, n, c.data() + offset);
    base_.from_bfloat16(a.data() + offset, n, d.data() + offset);
    ASSERT_TRUE(same(c, d));
  });
}

TEST_P(KernelLevels, AccumulationIsThatOfTheBaseline) {
  for_each_shape([&](size_t n, size_t offset) {
    std::vector<float> memory = values(n + offset, 7);
    for (float& v : memory)
      if (std::abs(v) > 1000) v = 0.5f;  // a tie
    const float* x = memory.data() + offset;
    std::vector<int64_t> a(n + offset, 5), b(n + offset, 5);
    for (const double scale : {1.0, 0x1p30, 0.3 * 0x1p40}) {
      k_->accumulate(a.data() + offset, x, n, scale, 77);
      base_.accumulate(b.data() + offset, x, n, scale, 77);
      ASSERT_TRUE(same(a, b));
      std::vector<uint16_t> index(n);
      for (size_t i = 0; i < n; ++i) index[i] = static_cast<uint16_t>(n - 1 - i);
      k_->accumulate_sparse(a.data() + offset, index.data(), x, n, scale, 65535);
      base_.accumulate_sparse(b.data() + offset, index.data(), x, n, scale, 65535);
      ASSERT_TRUE(same(a, b));
    }
  });
}

// What the kernels mean, by slow references.

double add_in_lanes(const std::vector<float>& x, double (*f)(double)) {
  double lane[16] = {};
  for (size_t i = 0; i < x.size(); ++i) lane[i % 16] += f(x[i]);
  for (size_t width = 8; width > 0; width /= 2)
    for (size_t j = 0; j < width; ++j) lane[j] += lane[j + width];
  return lane[0];
}

TEST_P(KernelLevels, SumsRunInSixteenLanesAddedPairwise) {
  for (const size_t n : sizes()) {
    const std::vector<float> x = values(n, 8);
    EXPECT_EQ(k_->sum_abs(x.data(), n), add_in_lanes(x, [](double v) { return std::abs(v); }));
    EXPECT_EQ(k_->sum_squares(x.data(), n), add_in_lanes(x, [](double v) { return v * v; }));
    float largest = 0;
    for (const float v : x) largest = std::max(largest, std::abs(v));
    EXPECT_EQ(k_->max_abs(x.data(), n), largest);
  }
}

TEST_P(KernelLevels, MaxAbsSeesNaNAndInfinity) {
  for (size_t at = 0; at < 40; ++at) {
    std::vector<float> x(40, 1.0f);
    x[at] = -std::numeric_limits<float>::infinity();
    EXPECT_TRUE(std::isinf(k_->max_abs(x.data(), x.size())));
    x[39 - at] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(k_->max_abs(x.data(), x.size())));
  }
}

TEST_P(KernelLevels, RandomBlocksAreThoseOfPhilox) {
  for (const size_t blocks : {0, 1, 2, 3, 7, 8, 9, 17, 2048}) {
    const std::array<uint32_t, 4> counter = {5, 0xFFFFFFFF, 7, 0x80000001};
    const std::array<uint32_t, 2> key = {0xDEADBEEF, 0x01234567};
    std::vector<uint32_t> words(4 * blocks);
    k_->random_blocks(counter.data(), key.data(), blocks, words.data());
    for (size_t i = 0; i < blocks; ++i) {
      const PhiloxBlock expected =
          philox({5 + static_cast<uint32_t>(i), counter[1], counter[2], counter[3]}, key);
      ASSERT_EQ(std::memcmp(words.data() + 4 * i, expected.data(), sizeof expected), 0) << i;
    }
  }
}

/// Where the magnitudes of `x` reach `least`.
void expect_collected(std::span<const float> x, float least, std::span<const uint32_t> index,
                      std::span<const float> kept, size_t count) {
  size_t expected = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::abs(x[i]) < least) continue;
    ASSERT_LT(expected, count);
    ASSERT_EQ(index[expected], 1000 + i);
    ASSERT_EQ(std::bit_cast<uint32_t>(kept[expected]), std::bit_cast<uint32_t>(x[i]));
    ++expected;
  }
  ASSERT_EQ(count, expected) << least;
}

TEST_P(KernelLevels, ListBitsNumbersThoseThatAreSet) {
  Rng rng(12, Purpose::kTest);
  for (const size_t words : {size_t{1}, size_t{2}, size_t{1024}})
    for (const uint32_t among : {1u, 2u, 5u, 100u}) {
      std::vector<uint64_t> bits(words);
      std::vector<uint16_t> expected;
      for (size_t i = 0; i < 64 * words; ++i) {
        if (rng.below(among) != 0) continue;
        bits[i / 64] |= uint64_t{1} << (i % 64);
        expected.push_back(static_cast<uint16_t>(i));
      }
      // Nothing is written behind the last one.
      std::vector<uint16_t> listed(expected.size() + 1, 7);
      k_->list_bits(bits.data(), words, expected.size(), listed.data());
      EXPECT_EQ(listed.back(), 7);
      listed.pop_back();
      EXPECT_EQ(listed, expected) << words << " words, one of " << among;
    }
}

TEST_P(KernelLevels, CollectFindsWhatReachesAMagnitude) {
  for_each_shape([&](size_t n, size_t offset) {
    const std::vector<float> memory = values(n + offset, 9), other = values(n, 10);
    const std::span x(memory.data() + offset, n);
    for (const float least : {0x1p-140f, 0.5f, 1.0f, 0x1p120f}) {
      const auto bits = std::bit_cast<uint32_t>(least);
      std::vector<uint32_t> index(n + 16);
      std::vector<float> kept(n + 16);
      float largest = -1;
      size_t count = k_->collect(x.data(), n, bits, 1000, index.data(), kept.data(), &largest);
      expect_collected(x, least, index, kept, count);
      EXPECT_EQ(largest, base_.max_abs(x.data(), n));

      for (const float sign : {1.0f, -1.0f}) {
        for (const bool bypass : {false, true}) {
          std::vector<float> expected(n), sum(n + offset + 1, 7.0f);
          const float most = base_.add_max(x.data(), other.data(), n, sign, expected.data());
          count = k_->add_collect(x.data(), other.data(), n, sign, sum.data() + offset, bypass,
                                  bits, 1000, index.data(), kept.data(), &largest);
          expect_collected(expected, least, index, kept, count);
          EXPECT_EQ(largest, most);
          sum.erase(sum.begin(), sum.begin() + static_cast<ptrdiff_t>(offset));
          EXPECT_EQ(sum.back(), 7.0f);
          sum.pop_back();
          ASSERT_TRUE(same(sum, expected));
        }
      }
    }
  });
}

TEST_P(KernelLevels, TheResidualMayBeReplacedByTheSum) {
  const std::vector<float> x = values(1000, 1), residual = values(1000, 2);
  std::vector<float> expected(1000);
  base_.add_max(x.data(), residual.data(), 1000, 1, expected.data());
  for (const bool bypass : {false, true}) {
    std::vector<float> sum = residual, kept(1016);
    std::vector<uint32_t> index(1016);
    float largest = 0;
    const size_t count =
        k_->add_collect(x.data(), sum.data(), 1000, 1, sum.data(), bypass,
                        std::bit_cast<uint32_t>(1.0f), 1000, index.data(), kept.data(), &largest);
    EXPECT_TRUE(same(sum, expected));
    expect_collected(expected, 1.0f, index, kept, count);
  }
}

TEST_P(KernelLevels, SumsDifferencesAndSignsAreThoseOfTheBaseline) {
  for_each_shape([&](size_t n, size_t offset) {
    const std::vector<float> memory = values(n + offset, 10), other = values(n, 11);
    const float* x = memory.data() + offset;
    for (const float sign : {1.0f, -1.0f}) {
      std::vector<float> sum(n + 1), expected(n + 1);
      float largest = 0;
      for (size_t i = 0; i < n; ++i) {
        expected[i] = x[i] + sign * other[i];
        largest = std::max(largest, std::abs(expected[i]));
      }
      EXPECT_EQ(k_->add_max(x, other.data(), n, sign, sum.data()), largest);
      ASSERT_TRUE(same(sum, expected));
    }
    std::vector<float> rest = other, expected = other;
    k_->subtract(x, n, rest.data());
    for (size_t i = 0; i < n; ++i) expected[i] -= x[i];
    ASSERT_TRUE(same(rest, expected));
    std::vector<uint16_t> signs(n);
    k_->quantize_signs(x, n, signs.data());
    std::vector<float> back(n);
    k_->lookup_signs(signs.data(), n, 0.5f, back.data());
    for (size_t i = 0; i < n; ++i) {
      ASSERT_EQ(signs[i], x[i] < 0 ? 1 : 0);
      ASSERT_EQ(back[i], x[i] < 0 ? -0.5f : 0.5f);
    }
  });
}

TEST_P(KernelLevels, CombineAddsInOrderWithoutFusing) {
  for_each_shape([&](size_t n, size_t offset) {
    constexpr size_t kCount = 5;
    const size_t stride = n + 3;
    const std::vector<float> memory = values(kCount * stride + offset, 12);
    const std::vector<float> factors = values(kCount, 13);
    const float* x = memory.data() + offset;
    for (const size_t count : {size_t{0}, size_t{1}, kCount}) {
      std::vector<float> sums(n, 7.0f), expected(n, 0.0f);
      k_->combine(factors.data(), count, x, stride, n, sums.data());
      for (size_t j = 0; j < count; ++j)
        for (size_t i = 0; i < n; ++i) {
          const volatile float product = factors[j] * x[j * stride + i];
          expected[i] += product;
        }
      ASSERT_TRUE(same(sums, expected)) << n << ", " << count;
    }
  });
}

TEST_P(KernelLevels, ARotationIsTheMatrixOfSignsAfterTheRandomOnes) {
  for (const size_t n : {1u, 2u, 4u, 8u, 16u, 32u, 64u, 128u, 256u, 512u}) {
    // Small integers: every sum is exact.
    std::vector<float> x(n);
    Rng rng(6, Purpose::kTest);
    for (float& v : x) v = static_cast<float>(static_cast<int>(rng.below(201)) - 100);
    std::vector<uint32_t> signs((n + 31) / 32);
    for (uint32_t& word : signs) word = rng.next();
    const auto flipped = [&](size_t i) { return (signs[i / 32] >> (i % 32) & 1) != 0; };
    std::vector<float> expected(n, 0.0f);
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j)
        expected[i] += 0.5f * ((std::popcount(i & j) % 2 == 0) != flipped(j) ? x[j] : -x[j]);
    std::vector<float> rotated(n);
    k_->rotate(x.data(), signs.data(), n, 0.5f, x.data(), true, rotated.data());
    EXPECT_EQ(rotated, expected) << n;
    k_->rotate_back(rotated.data(), signs.data(), n, 2.0f, nullptr);
    for (size_t i = 0; i < n; ++i) EXPECT_EQ(rotated[i], x[i] * static_cast<float>(n));
  }
}

TEST_P(KernelLevels, QuantizeIntRoundsToANeighbourAndKeepsWholeNumbers) {
  constexpr int kLimit = 7;
  const std::vector<float> x = {0, -0.0f, 1, -1, 7, -7, 0.25f, -0.25f, 6.9f, -6.9f, 7.0001f, -7.5f};
  for (uint64_t key = 0; key < 200; ++key) {
    std::vector<uint16_t> symbols(x.size());
    k_->quantize_int(x.data(), x.size(), 1, kLimit, mix(key, 0), x.data(), symbols.data(), nullptr);
    for (size_t i = 0; i < x.size(); ++i) {
      const float q = static_cast<float>(symbols[i]) - kLimit;
      EXPECT_LE(std::abs(q), kLimit);
      EXPECT_TRUE(std::abs(q - x[i]) < 1 || std::abs(x[i]) > kLimit) << x[i];
    }
  }
}

TEST_P(KernelLevels, QuantizeIntComparesTheFractionWithTheHashOfItsPlace) {
  // The definition in whole numbers, where nothing can overflow; values at the limit, beyond it by
  // rounding, between multiples of 2^-24, and a length with a rest.
  constexpr uint64_t kKey = 0xFEDCBA9876543210;
  const auto hash = [](uint32_t i) {
    uint32_t h =
        (i + static_cast<uint32_t>(kKey)) * 0x9E3779B1u ^ static_cast<uint32_t>(kKey >> 32);
    h = (h ^ h >> 16) * 0x85EBCA6Bu;
    h = (h ^ h >> 13) * 0xC2B2AE35u;
    return h ^ h >> 16;
  };
  Rng rng(1, Purpose::kTest);
  for (const int limit : {1, 2, 7, 127, 128, 2047, 32767}) {
    const int bits = limit <= 127 ? 24 : 31 - std::bit_width(static_cast<unsigned>(limit));
    const auto full = static_cast<float>(limit);
    std::vector<float> x = {full, -full, std::nextafter(full, 1e9f), std::nextafter(-full, -1e9f)};
    while (x.size() < 10'007)
      x.push_back(
          static_cast<float>((2 * rng.uniform() - 1) * limit * std::exp2(-40 * rng.uniform())));
    std::vector<uint16_t> symbols(x.size());
    k_->quantize_int(x.data(), x.size(), 1, limit, kKey, x.data(), symbols.data(), nullptr);
    for (size_t i = 0; i < x.size(); ++i) {
      const double y = std::clamp<double>(x[i], -limit, limit);
      const int64_t scaled = std::llrint(std::ldexp(y, bits));
      const int64_t whole = scaled >> bits, fraction = scaled - (whole << bits);
      const int64_t up = hash(static_cast<uint32_t>(i)) >> (32 - bits) < fraction ? 1 : 0;
      ASSERT_EQ(symbols[i] - limit, whole + up) << x[i] << " at " << i << ", limit " << limit;
    }
  }
}

TEST_P(KernelLevels, QuantizeIntIsUnbiasedForEveryFraction) {
  // 65,536 draws for each of 20 fractions and 3 keys; deviation at most 1/512, six of them.
  constexpr size_t kDraws = 65536;
  std::vector<uint16_t> symbols(kDraws);
  for (const uint64_t key : {uint64_t{0}, uint64_t{1}, mix(1, 2)})
    for (int step = -10; step <= 10; ++step) {
      const float value = 0.1f * static_cast<float>(step);
      const std::vector<float> x(kDraws, value);
      k_->quantize_int(x.data(), kDraws, 1, 1, key, x.data(), symbols.data(), nullptr);
      double sum = 0;
      for (const uint16_t s : symbols) sum += s - 1.0;
      EXPECT_NEAR(sum / kDraws, value, 6.0 / 512) << key;
    }
}

TEST_P(KernelLevels, QuantizeLevelsCountsTheBoundsBelow) {
  for (int bits = 1; bits <= 8; ++bits) {
    const size_t count = (size_t{1} << (bits - 1)) - 1;
    std::vector<float> bounds(count);
    for (size_t i = 0; i < count; ++i) bounds[i] = static_cast<float>(i + 1);
    std::vector<float> x;
    for (size_t i = 0; i <= 2 * count + 4; ++i) {
      x.push_back(static_cast<float>(i) / 2);  // halves, and values on a bound
      x.push_back(-static_cast<float>(i) / 2);
    }
    std::vector<uint16_t> symbols(x.size());
    std::vector<float> centroids(count + 1);
    for (size_t i = 0; i <= count; ++i) centroids[i] = static_cast<float>(i) + 0.5f;
    double dot = 0, squares = 0;
    k_->quantize_levels(x.data(), x.size(), 1, {bits, bounds.data(), centroids.data()}, x.data(),
                        symbols.data(), nullptr, &dot, &squares);
    // Multiples of a quarter: the sums are exact in any order.
    double expected_dot = 0, expected_squares = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double c = centroids[symbols[i] & count];
      expected_dot += std::abs(x[i]) * c;
      expected_squares += c * c;
    }
    EXPECT_EQ(dot, expected_dot);
    EXPECT_EQ(squares, expected_squares);
    for (size_t i = 0; i < x.size(); ++i) {
      uint32_t below = 0;
      for (const float bound : bounds) below += bound < std::abs(x[i]) ? 1 : 0;
      ASSERT_EQ(symbols[i], below | (std::signbit(x[i]) ? 1u << (bits - 1) : 0u)) << x[i];
    }
  }
}

TEST_P(KernelLevels, PackIsLeastSignificantBitFirstAndWritesNoMore) {
  Rng rng(7, Purpose::kTest);
  for (int bits = 1; bits <= 16; ++bits)
    for (const size_t n : sizes()) {
      std::vector<uint16_t> symbols(n);
      for (uint16_t& s : symbols) s = static_cast<uint16_t>(rng.below(1u << bits));
      const size_t length = (n * static_cast<size_t>(bits) + 7) / 8;
      std::vector<uint8_t> expected(length + 8, 0);
      for (size_t i = 0; i < n; ++i)
        for (size_t b = 0; b < static_cast<size_t>(bits); ++b) {
          const size_t at = i * static_cast<size_t>(bits) + b;
          if ((symbols[i] >> b & 1) != 0)
            expected[at / 8] = static_cast<uint8_t>(expected[at / 8] | 1u << (at % 8));
        }
      std::fill_n(expected.begin() + static_cast<ptrdiff_t>(length), 8, uint8_t{0xAA});
      std::vector<uint8_t> packed(length + 8, 0xAA);
      k_->pack(symbols.data(), n, bits, packed.data());
      ASSERT_EQ(packed, expected) << bits << " bits, " << n;
      packed.resize(length);  // unpack must not read on: a sanitizer sees it
      packed.shrink_to_fit();
      std::vector<uint16_t> unpacked(n + 4, 0xAAAA);
      k_->unpack(packed.data(), n, bits, unpacked.data());
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(unpacked[i], symbols[i]) << bits << " bits";
      for (size_t i = n; i < n + 4; ++i) ASSERT_EQ(unpacked[i], 0xAAAA);
    }
}

/// IEEE half precision to nearest even by exact arithmetic in double, saturating.
uint16_t slow_float16(float value) {
  const double magnitude = std::abs(static_cast<double>(value));
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (magnitude >= 65504) return sign | 0x7BFF;
  if (magnitude < 0x1p-14)  // denormal: multiples of 2^-24
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24)));
  const int exponent = std::ilogb(magnitude);
  const auto mantissa = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
  return static_cast<uint16_t>(sign | (((exponent + 15) << 10) + mantissa - 1024));
}

double slow_from_float16(uint16_t half) {
  const int exponent = half >> 10 & 31, mantissa = half & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST_P(KernelLevels, Float16IsRightForAllHalvesAndAroundThem) {
  std::vector<uint8_t> bytes(2);
  const auto convert = [&](float value) {
    k_->to_float16(&value, 1, bytes.data());
    return static_cast<uint16_t>(bytes[0] | bytes[1] << 8);
  };
  std::vector<uint8_t> all(2 * 65536);
  for (size_t h = 0; h < 65536; ++h) {
    all[2 * h] = static_cast<uint8_t>(h);
    all[2 * h + 1] = static_cast<uint8_t>(h >> 8);
  }
  std::vector<float> decoded(65536);
  k_->from_float16(all.data(), decoded.size(), decoded.data());
  for (uint32_t h = 0; h < 65536; ++h) {
    const auto half = static_cast<uint16_t>(h);
    if ((half >> 10 & 31) == 31) {
      ASSERT_EQ(std::isnan(decoded[h]), (half & 1023) != 0) << h;
      ASSERT_FALSE(std::isfinite(decoded[h]));
      continue;
    }
    ASSERT_EQ(static_cast<double>(decoded[h]), slow_from_float16(half)) << h;
    ASSERT_EQ(convert(decoded[h]), half);
    // Half way to the next one, and a little to each side.
    if ((half & 0x7FFF) == 0x7BFF) continue;
    const float next = decoded[h + 1], middle = (decoded[h] + next) / 2;
    for (const float value :
         {middle, std::nextafter(middle, decoded[h]), std::nextafter(middle, next)})
      ASSERT_EQ(convert(value), slow_float16(value)) << value;
  }
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float large : {65504.0f, 65519.0f, 65520.0f, 1e30f, infinity}) {
    EXPECT_EQ(convert(large), 0x7BFF) << large;
    EXPECT_EQ(convert(-large), 0xFBFF) << large;
  }
  for (const float small : {0x1p-25f, 0x1.000002p-25f, 0x1p-149f, 0x1p-126f})
    EXPECT_EQ(convert(small), slow_float16(small)) << small;
}

TEST_P(KernelLevels, BFloat16IsTheNearestEvenUpperHalf) {
  std::vector<uint8_t> bytes(2);
  for (uint32_t upper = 0; upper < 65536; ++upper) {
    if ((upper & 0x7F80) == 0x7F80) continue;
    float exact = 0;
    const uint16_t half = static_cast<uint16_t>(upper);
    std::memcpy(bytes.data(), &half, 2);
    k_->from_bfloat16(bytes.data(), 1, &exact);
    ASSERT_EQ(std::bit_cast<uint32_t>(exact), upper << 16);
    for (const uint32_t lower : {0u, 1u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      const auto value = std::bit_cast<float>(upper << 16 | lower);
      k_->to_bfloat16(&value, 1, bytes.data());
      uint32_t expected = upper + (lower > 0x8000 || (lower == 0x8000 && upper % 2 == 1) ? 1 : 0);
      if ((expected & 0x7FFF) == 0x7F80) --expected;  // saturates
      ASSERT_EQ(bytes[0] | bytes[1] << 8, static_cast<int>(expected)) << upper << ' ' << lower;
    }
  }
}

TEST_P(KernelLevels, AccumulateRoundsTiesToEven) {
  const std::vector<float> x = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 0.49f, 3, -7.51f};
  std::vector<int64_t> acc(x.size(), 0);
  k_->accumulate(acc.data(), x.data(), x.size(), 1, 10);
  EXPECT_EQ(acc, (std::vector<int64_t>{0, 20, 20, 0, -20, 0, 30, -80}));
  const std::vector<uint16_t> index = {7, 0};
  k_->accumulate_sparse(acc.data(), index.data(), x.data(), 2, 2, 65535);
  EXPECT_EQ(acc[7], -80 + 65535);
  EXPECT_EQ(acc[0], int64_t{3} * 65535);
}

TEST_P(KernelLevels, DivisionRoundsAsOneConversionAndOneDivision) {
  // Odd ones beyond 2^53 are where a conversion rounds, some of them to a tie of the float.
  std::vector<int64_t> acc = {0,
                              1,
                              -1,
                              INT64_MAX,
                              INT64_MIN,
                              INT64_MIN + 1,
                              (1LL << 53) + 1,
                              -(1LL << 53) - 1,
                              (1LL << 54) + 2,
                              (1LL << 62) + (1LL << 38),
                              0xffffffff,
                              -0xffffffffLL,
                              1LL << 32,
                              -(1LL << 32)};
  Rng rng(1, Purpose::kTest);
  for (int shift = 0; shift < 64; ++shift)
    for (int i = 0; i < 9; ++i) acc.push_back(static_cast<int64_t>(rng.next64()) >> shift);
  for (const double divisor : {1.0, 3.0, 600.0 * 0x1p30, 0x1.23456789abcdep45, 0x1p-20}) {
    std::vector<float> out(acc.size());
    k_->divide(acc.data(), acc.size(), divisor, out.data());
    for (size_t i = 0; i < acc.size(); ++i) {
      const auto expected = static_cast<float>(static_cast<double>(acc[i]) / divisor);
      ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(expected)) << acc[i];
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, KernelLevels,
                         testing::Values(CpuLevel::kBaseline, CpuLevel::kAvx2, CpuLevel::kAvx512),
                         [](const auto& level) { return std::string(name(level.param)); });

TEST(Kernels, AreThoseOfTheChosenLevel) {
  EXPECT_EQ(&kernels(), kernels_for(cpu_level()));
  EXPECT_EQ(kernels_for(CpuLevel::kBaseline), &kBaselineKernels);
  for (const CpuLevel level : {CpuLevel::kAvx2, CpuLevel::kAvx512})
    EXPECT_TRUE(level <= best_cpu_level() || kernels_for(level) == nullptr);
}

TEST(Scale, NearestUpAndRandomStayWithinOneStep) {
  Rng rng(8, Purpose::kTest);
  for (int i = 0; i < 10000; ++i) {
    const auto scale = std::bit_cast<float>(rng.below(0x7F7F0000));
    const auto below = static_cast<uint16_t>(std::bit_cast<uint32_t>(scale) >> 16);
    EXPECT_GE(scale_value(scale_up(scale)), scale);
    EXPECT_LE(scale_up(scale), below + 1);
    EXPECT_LE(std::abs(scale_value(scale_nearest(scale)) - scale),
              std::abs(scale_value(static_cast<uint16_t>(below + 1)) - scale));
    EXPECT_LE(std::abs(scale_value(scale_nearest(scale)) - scale),
              std::abs(scale_value(below) - scale));
    const uint16_t random = scale_unbiased(scale, rng.next());
    EXPECT_TRUE(random == below || random == below + 1);
  }
  EXPECT_EQ(scale_up(1.0f), 0x3F80);
  EXPECT_EQ(scale_nearest(std::numeric_limits<float>::max()), kLargestScale);
  EXPECT_EQ(scale_up(std::numeric_limits<float>::max()), kLargestScale);
  EXPECT_EQ(scale_unbiased(std::numeric_limits<float>::max(), 0xFFFF), kLargestScale);
}

TEST(Scale, RandomRoundingIsUnbiased) {
  const float scale = 1.2345f;
  double sum = 0;
  for (uint32_t random = 0; random < 65536; ++random)
    sum += static_cast<double>(scale_value(scale_unbiased(scale, random)));
  EXPECT_NEAR(sum / 65536, static_cast<double>(scale), 1e-7);
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span<const char>(text));
}

uint32_t slow_crc32c(std::span<const std::byte> bytes) {
  uint32_t crc = ~0u;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc % 2 == 1 ? 0x82F63B78u : 0);
  }
  return ~crc;
}

TEST(Crc32c, GivesTheKnownAnswers) {
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xE3069283u);
  EXPECT_EQ(crc32c({}), 0u);
  // RFC 3720, B.4.
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0})), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0xFF})), 0x62A8AB43u);
}

TEST(Crc32c, IsTheBitwiseOneAtEveryLengthAndAlignmentAndContinues) {
  std::vector<std::byte> memory(2100);
  Rng rng(9, Purpose::kTest);
  for (std::byte& byte : memory) byte = static_cast<std::byte>(rng.next());
  const std::span<const std::byte> all(memory);
  for (size_t length = 0; length < 2048; length += length < 80 ? 1 : 61)
    for (size_t offset = 0; offset < 9; ++offset) {
      const auto part = all.subspan(offset, length);
      const uint32_t expected = slow_crc32c(part);
      ASSERT_EQ(crc32c(part), expected);
      const size_t cut = length / 3;
      ASSERT_EQ(crc32c_more(crc32c(part.first(cut)), part.subspan(cut)), expected);
    }
}

}  // namespace
}  // namespace tern
