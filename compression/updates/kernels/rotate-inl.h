// Random signs and Hadamard transforms. Part of kernels-inl.h.

namespace tern {
namespace {

constexpr uint32_t kLaneBits[kLanes] = {1u << 0,  1u << 1,  1u << 2,  1u << 3, 1u << 4,  1u << 5,
                                        1u << 6,  1u << 7,  1u << 8,  1u << 9, 1u << 10, 1u << 11,
                                        1u << 12, 1u << 13, 1u << 14, 1u << 15};
constexpr uint32_t kSign = 0x80000000u;

/// x, negated where its lane's bit of `set` is 1; only the low 16 count.
TERN_INLINE Floats flip(Floats x, uint32_t set) {
#if defined(__AVX512F__)
  const __m512i v = (__m512i)x.a;
  return {(FloatPart)_mm512_mask_xor_epi32(v, static_cast<__mmask16>(set), v,
                                           _mm512_set1_epi32(static_cast<int>(kSign)))};
#else
  const Bits bit = load_as<BitsPart>(kLaneBits);
  return floats(bits(x) ^ (bits(equal(all(set) & bit, bit)) & all(kSign)));
#endif
}

/// How a pass reads and writes; element i of a block.
struct InPlace {
  float* x;
  TERN_INLINE Floats get(size_t i) const { return load(x + i); }
  TERN_INLINE void put(Floats v, size_t i) const { store(v, x + i); }
};
/// From another place, scaled and with signs, while what is at `ahead` comes nearer: as much, or
/// with `shift` 1 half of that.
struct FlipFirst {
  const float* x;
  const uint32_t* signs;
  float scale;
  const float* ahead;
  int shift;
  float* out;
  TERN_INLINE Floats get(size_t i) const {
    prefetch(ahead + (i >> shift));
    return flip(load(x + i) * all(scale), signs[i >> 5] >> (i & 16));
  }
  TERN_INLINE void put(Floats v, size_t i) const { store(v, out + i); }
};
/// In place, while 4 bytes for each value come nearer: `step` is 4, or 0 for none.
struct InPlaceFirst {
  float* x;
  const char* ahead;
  size_t step;
  TERN_INLINE Floats get(size_t i) const {
    __builtin_prefetch(ahead + i * step, 1, 2);
    return load(x + i);
  }
  TERN_INLINE void put(Floats v, size_t i) const { store(v, x + i); }
};
/// Likewise, and scaled and with signs when all is done.
struct FlipLast {
  float* x;
  const uint32_t* signs;
  float scale;
  const char* ahead;
  size_t step;
  TERN_INLINE Floats get(size_t i) const {
    __builtin_prefetch(ahead + i * step, 1, 2);
    return load(x + i);
  }
  TERN_INLINE void put(Floats v, size_t i) const {
    store(flip(v * all(scale), signs[i >> 5] >> (i & 16)), x + i);
  }
};

// Set where the lane has bit 1, 2, 4 or 8.
constexpr uint32_t kSigns[4][kLanes] = {
    {0, kSign, 0, kSign, 0, kSign, 0, kSign, 0, kSign, 0, kSign, 0, kSign, 0, kSign},
    {0, 0, kSign, kSign, 0, 0, kSign, kSign, 0, 0, kSign, kSign, 0, 0, kSign, kSign},
    {0, 0, 0, 0, kSign, kSign, kSign, kSign, 0, 0, 0, 0, kSign, kSign, kSign, kSign},
    {0, 0, 0, 0, 0, 0, 0, 0, kSign, kSign, kSign, kSign, kSign, kSign, kSign, kSign},
};
#if defined(__AVX2__)
constexpr float kFactors[4][kLanes] = {
    {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1},
    {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1},
    {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1},
    {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1},
};
#endif

/// One butterfly step inside 16 lanes: lane j becomes x[j] + x[j^h], or x[j^h] - x[j] where j has
/// bit h.
template <size_t h>
TERN_INLINE Floats butterfly(Floats x) {
  if constexpr (h >= kWidth) {
#if defined(__AVX512F__)
    return x;
#elif defined(__AVX2__)
    return {x.a + x.b, x.a - x.b};
#else
    if constexpr (h == kWidth) return {x.a + x.b, x.a - x.b, x.c + x.d, x.c - x.d};
    return {x.a + x.c, x.b + x.d, x.a - x.c, x.b - x.d};
#endif
  } else {
    return each(
        [](auto, FloatPart v) TERN_INLINE_LAMBDA {
#define TERN_SWAP(...) __builtin_shufflevector(v, v, __VA_ARGS__)
          constexpr size_t kStep = h == 1 ? 0 : h == 2 ? 1 : h == 4 ? 2 : 3;
#if defined(__AVX512F__)
          const FloatPart swapped =
              h == 1   ? TERN_SWAP(1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
              : h == 2 ? TERN_SWAP(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
              : h == 4 ? TERN_SWAP(4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
                       : TERN_SWAP(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
#elif defined(__AVX2__)
          const FloatPart swapped = h == 1   ? TERN_SWAP(1, 0, 3, 2, 5, 4, 7, 6)
                                    : h == 2 ? TERN_SWAP(2, 3, 0, 1, 6, 7, 4, 5)
                                             : TERN_SWAP(4, 5, 6, 7, 0, 1, 2, 3);
#else
          const FloatPart swapped = h == 1 ? TERN_SWAP(1, 0, 3, 2) : TERN_SWAP(2, 3, 0, 1);
#endif
#undef TERN_SWAP
#if defined(__AVX512F__)
          // One rounding, and none in the product: as an addition.
          return FloatPart(
              _mm512_fmadd_ps((__m512)v, _mm512_loadu_ps(kFactors[kStep]), (__m512)swapped));
#elif defined(__AVX2__)
          return FloatPart(
              _mm256_fmadd_ps((__m256)v, _mm256_loadu_ps(kFactors[kStep]), (__m256)swapped));
#else
          BitsPart sign;
          __builtin_memcpy(&sign, kSigns[kStep], sizeof sign);
          return swapped + FloatPart(BitsPart(v) ^ sign);
#endif
        },
        x);
  }
}

/// All steps below 16.
TERN_INLINE Floats transform_lanes(Floats a) {
  return butterfly<8>(butterfly<4>(butterfly<2>(butterfly<1>(a))));
}

/// The steps h, 2h, ... of R vectors that are h apart, all in registers; before them those below
/// 16, when asked.
template <size_t R, bool lanes_first, typename Access>
TERN_INLINE void transform_strided(const Access& x, size_t at, size_t h) {
  Floats v[R];
  for (size_t r = 0; r < R; ++r) {
    v[r] = x.get(at + r * h);
    if (lanes_first) v[r] = transform_lanes(v[r]);
  }
  for (size_t step = 1; step < R; step *= 2)
    for (size_t r = 0; r < R; ++r)
      if ((r & step) == 0) {
        const Floats a = v[r], b = v[r + step];
        v[r] = a + b;
        v[r + step] = a - b;
      }
  for (size_t r = 0; r < R; ++r) x.put(v[r], at + r * h);
}

template <size_t R, bool lanes_first = false, typename Access>
void transform_pass(const Access& x, size_t n, size_t h) {
  for (size_t i = 0; i < n; i += R * h)
    for (size_t j = 0; j < h; j += kLanes) transform_strided<R, lanes_first>(x, i + j, h);
}

// As many steps a pass as registers can hold: 8 vectors of 16 with AVX-512, 4 else.
constexpr size_t kRadix = kWidth == 16 ? 8 : 4;

/// The steps from h on, the last of them through `last`.
template <typename Access>
TERN_INLINE void transform_from(float* x, size_t n, size_t h, const Access& last) {
  for (; h * kRadix < n; h *= kRadix) transform_pass<kRadix>(InPlace{x}, n, h);
  if (h * kRadix == n) return transform_pass<kRadix>(last, n, h);
  for (; h * 2 < n; h *= 2) transform_pass<2>(InPlace{x}, n, h);
  if (h * 2 == n) return transform_pass<2>(last, n, h);
  transform_pass<1>(last, n, h);
}

void hadamard_short(float* x, size_t n) {
  for (size_t h = 1; h < n; h *= 2)
    for (size_t i = 0; i < n; i += 2 * h)
      for (size_t j = i; j < i + h; ++j) {
        const float a = x[j], b = x[j + h];
        x[j] = a + b;
        x[j + h] = a - b;
      }
}

TERN_INLINE float flip_one(float x, const uint32_t* signs, size_t i) {
  return float_of(bits_of(x) ^ (signs[i >> 5] >> (i & 31)) << 31);
}

void rotate(const float* x, const uint32_t* signs, size_t n, float scale, const float* ahead,
            bool half, float* out) {
  if (n < kLanes) {
    for (size_t i = 0; i < n; ++i) out[i] = flip_one(x[i] * scale, signs, i);
    return hadamard_short(out, n);
  }
  const FlipFirst first{x, signs, scale, ahead, half ? 1 : 0, out};
  const InPlace last{out};
  if (kLanes * kRadix > n) {
    transform_pass<1, true>(first, n, kLanes);
    if (n > kLanes) transform_from(out, n, kLanes, last);
    return;
  }
  transform_pass<kRadix, true>(first, n, kLanes);
  if (n > kLanes * kRadix) transform_from(out, n, kLanes * kRadix, last);
}

void rotate_back(float* x, const uint32_t* signs, size_t n, float scale, const int64_t* ahead) {
  if (n < kLanes) {
    hadamard_short(x, n);
    for (size_t i = 0; i < n; ++i) x[i] = flip_one(x[i] * scale, signs, i);
    return;
  }
  // Each of two passes asks for half of it: all at once would be more than can be on its way.
  const char* const from =
      ahead != nullptr ? reinterpret_cast<const char*>(ahead) : reinterpret_cast<const char*>(x);
  const size_t step = ahead != nullptr ? 4 : 0;
  const FlipLast last{x, signs, scale, from + n * step, step};
  if (kLanes * kRadix >= n) {
    if (n == kLanes) return transform_pass<1, true>(last, n, kLanes);
    transform_pass<1, true>(InPlace{x}, n, kLanes);
    return transform_from(x, n, kLanes, last);
  }
  transform_pass<kRadix, true>(InPlaceFirst{x, from, step}, n, kLanes);
  transform_from(x, n, kLanes * kRadix, last);
}

/// a * b of the low halves of 64-bit lanes, whatever the high ones hold.
TERN_INLINE WidePart multiply_low(WidePart a, WidePart b) {
#if defined(__AVX512F__)
  return (WidePart)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (WidePart)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (WidePart)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

/// Philox4x32-10 as in base/rng.h, a block in each 64-bit lane.
void random_blocks(const uint32_t* counter, const uint32_t* key, size_t blocks, uint32_t* out) {
  constexpr size_t kAtOnce = kWidth / 2;
  const WidePart none = {};
  for (size_t block = 0; block < blocks; block += kAtOnce) {
    WidePart a = none, b = none + counter[1], c = none + counter[2], d = none + counter[3];
    for (size_t j = 0; j < kAtOnce; ++j) a[j] = counter[0] + static_cast<uint32_t>(block + j);
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; ++round) {
      const WidePart low = multiply_low(a, none + 0xD2511F53u);
      const WidePart high = multiply_low(c, none + 0xCD9E8D57u);
      a = (high >> 32) ^ b ^ k0;
      b = high;
      c = (low >> 32) ^ d ^ k1;
      d = low;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    const WidePart first = (a & 0xffffffffu) | b << 32, second = (c & 0xffffffffu) | d << 32;
    const size_t count = blocks - block < kAtOnce ? blocks - block : kAtOnce;
    for (size_t j = 0; j < count; ++j) {
      const uint64_t pair[2] = {first[j], second[j]};
      __builtin_memcpy(out + 4 * (block + j), pair, sizeof pair);
    }
  }
}
}  // namespace
}  // namespace tern
