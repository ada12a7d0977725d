// 16 numbers side by side, in as many registers as the level needs. Part of kernels-inl.h.

#define TERN_INLINE inline __attribute__((always_inline))
#define TERN_INLINE_LAMBDA __attribute__((always_inline))

namespace tern {
namespace {

#if defined(__AVX512F__)
constexpr size_t kWidth = 16;  // 32-bit numbers in a register
#elif defined(__AVX2__)
constexpr size_t kWidth = 8;
#else
constexpr size_t kWidth = 4;
#endif
constexpr size_t kLanes = 16;

typedef float FloatPart __attribute__((vector_size(4 * kWidth)));
typedef int32_t IntPart __attribute__((vector_size(4 * kWidth)));
typedef uint32_t BitsPart __attribute__((vector_size(4 * kWidth)));
typedef uint16_t ShortPart __attribute__((vector_size(2 * kWidth)));
typedef float FloatHalf __attribute__((vector_size(2 * kWidth)));
typedef double DoublePart __attribute__((vector_size(4 * kWidth)));
typedef uint64_t WidePart __attribute__((vector_size(4 * kWidth)));

// Members and not an array: compilers keep an array in memory. each() calls f with the number of a
// part and the parts.
template <typename Part>
struct Lanes {
#if defined(__AVX512F__)
  Part a;
#elif defined(__AVX2__)
  Part a, b;
#else
  Part a, b, c, d;
#endif
};

template <size_t i>
struct Number {
  static constexpr size_t value = i;
};

template <typename F, typename... Parts>
TERN_INLINE auto each(F f, Lanes<Parts>... x) {
  using Result = Lanes<decltype(f(Number<0>(), x.a...))>;
#if defined(__AVX512F__)
  return Result{f(Number<0>(), x.a...)};
#elif defined(__AVX2__)
  return Result{f(Number<0>(), x.a...), f(Number<1>(), x.b...)};
#else
  return Result{f(Number<0>(), x.a...), f(Number<1>(), x.b...), f(Number<2>(), x.c...),
                f(Number<3>(), x.d...)};
#endif
}

using Floats = Lanes<FloatPart>;
using Ints = Lanes<IntPart>;
using Bits = Lanes<BitsPart>;

#define TERN_LANEWISE(op)                                                              \
  template <typename Part>                                                             \
  TERN_INLINE Lanes<Part> operator op(Lanes<Part> x, Lanes<Part> y) {                  \
    return each([](auto, Part a, Part b) TERN_INLINE_LAMBDA { return a op b; }, x, y); \
  }
TERN_LANEWISE(+)
TERN_LANEWISE(-)
TERN_LANEWISE(*)
TERN_LANEWISE(&)
TERN_LANEWISE(|)
TERN_LANEWISE(^)
#undef TERN_LANEWISE

TERN_INLINE Bits operator>>(Bits x, int by) {
  return each([by](auto, BitsPart a) TERN_INLINE_LAMBDA { return a >> by; }, x);
}
TERN_INLINE Bits operator<<(Bits x, int by) {
  return each([by](auto, BitsPart a) TERN_INLINE_LAMBDA { return a << by; }, x);
}

/// Masks: all ones or zero.
TERN_INLINE Ints less(Floats x, Floats y) {
  return each([](auto, FloatPart a, FloatPart b) TERN_INLINE_LAMBDA { return IntPart(a < b); }, x,
              y);
}
TERN_INLINE Ints greater(Ints x, Ints y) {
  return each([](auto, IntPart a, IntPart b) TERN_INLINE_LAMBDA { return IntPart(a > b); }, x, y);
}
TERN_INLINE Ints equal(Bits x, Bits y) {
  return each([](auto, BitsPart a, BitsPart b) TERN_INLINE_LAMBDA { return IntPart(a == b); }, x,
              y);
}
template <typename Part>
TERN_INLINE Lanes<Part> larger(Lanes<Part> x, Lanes<Part> y) {
  return each([](auto, Part a, Part b) TERN_INLINE_LAMBDA { return a > b ? a : b; }, x, y);
}
template <typename Part>
TERN_INLINE Lanes<Part> smaller(Lanes<Part> x, Lanes<Part> y) {
  return each([](auto, Part a, Part b) TERN_INLINE_LAMBDA { return a < b ? a : b; }, x, y);
}

/// z, and `by` more where x < y.
TERN_INLINE Bits add_where_less(Floats x, Floats y, Bits z, uint32_t by) {
  return each(
      [by](auto, FloatPart a, FloatPart b, BitsPart c) TERN_INLINE_LAMBDA {
#if defined(__AVX512F__)
        const __mmask16 mask = _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ);
        return BitsPart(
            _mm512_mask_add_epi32((__m512i)c, mask, (__m512i)c, (__m512i)(by + BitsPart{})));
#else
        return by == 1 ? c - BitsPart(a < b) : c + (BitsPart(a < b) & by);
#endif
      },
      x, y, z);
}

/// The same bits as another type.
TERN_INLINE Bits bits(Floats x) {
  return each([](auto, FloatPart a) TERN_INLINE_LAMBDA { return BitsPart(a); }, x);
}
TERN_INLINE Bits bits(Ints x) {
  return each([](auto, IntPart a) TERN_INLINE_LAMBDA { return BitsPart(a); }, x);
}
TERN_INLINE Ints ints(Bits x) {
  return each([](auto, BitsPart a) TERN_INLINE_LAMBDA { return IntPart(a); }, x);
}
TERN_INLINE Floats floats(Bits x) {
  return each([](auto, BitsPart a) TERN_INLINE_LAMBDA { return FloatPart(a); }, x);
}
/// The same numbers as another type.
TERN_INLINE Floats to_floats(Ints x) {
  return each(
      [](auto, IntPart a) TERN_INLINE_LAMBDA { return __builtin_convertvector(a, FloatPart); }, x);
}

/// The nearest whole number, the even one of two, for |x| < 2^31.
TERN_INLINE Ints nearest(Floats x) {
  return each(
      [](auto, FloatPart a) TERN_INLINE_LAMBDA {
#if defined(__AVX512F__)
        return IntPart(_mm512_cvtps_epi32((__m512)a));
#elif defined(__AVX2__)
        return IntPart(_mm256_cvtps_epi32((__m256)a));
#elif defined(__SSE2__)
        return IntPart(_mm_cvtps_epi32((__m128)a));
#else
        IntPart whole;
        for (size_t i = 0; i < kWidth; ++i)
          whole[i] = static_cast<int32_t>(__builtin_nearbyintf(a[i]));
        return whole;
#endif
      },
      x);
}

/// x in every lane.
TERN_INLINE Floats all(float x) {
  return each([x](auto, FloatPart) TERN_INLINE_LAMBDA { return x - FloatPart{}; }, Floats{});
}
TERN_INLINE Ints all(int32_t x) {
  return each([x](auto, IntPart) TERN_INLINE_LAMBDA { return x + IntPart{}; }, Ints{});
}
TERN_INLINE Bits all(uint32_t x) {
  return each([x](auto, BitsPart) TERN_INLINE_LAMBDA { return x + BitsPart{}; }, Bits{});
}

template <typename Part, typename T>
TERN_INLINE Lanes<Part> load_as(const T* x) {
  return each(
      [x](auto number, Part a) TERN_INLINE_LAMBDA {
        __builtin_memcpy(&a, x + number.value * kWidth, sizeof a);
        return a;
      },
      Lanes<Part>{});
}
template <typename Part, typename T>
TERN_INLINE void store_as(Lanes<Part> v, T* x) {
  each(
      [x](auto number, Part a) TERN_INLINE_LAMBDA {
        __builtin_memcpy(x + number.value * kWidth, &a, sizeof a);
        return a;
      },
      v);
}
TERN_INLINE Floats load(const float* x) { return load_as<FloatPart>(x); }
TERN_INLINE void store(Floats v, float* x) { store_as(v, x); }

/// Where store_past_caches() can store.
TERN_INLINE bool aligned(const float* x) {
  return reinterpret_cast<uintptr_t>(x) % sizeof(FloatPart) == 0;
}
/// To memory, for what is far more than caches hold and isn't read again soon: a line isn't read
/// before it is written.
TERN_INLINE void store_past_caches(Floats v, float* x) {
  each(
      [x](auto number, FloatPart a) TERN_INLINE_LAMBDA {
        float* const to = x + number.value * kWidth;
#if defined(__AVX512F__)
        _mm512_stream_ps(to, (__m512)a);
#elif defined(__AVX2__)
        _mm256_stream_ps(to, (__m256)a);
#elif defined(__SSE2__)
        _mm_stream_ps(to, (__m128)a);
#else
        __builtin_memcpy(to, &a, sizeof a);
#endif
        return a;
      },
      v);
}
/// Afterwards other threads see what was stored so, once they see anything stored later.
TERN_INLINE void order_stores() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

/// The line at x comes into the second cache.
TERN_INLINE void prefetch(const float* x) { __builtin_prefetch(x, 0, 2); }

TERN_INLINE Bits load_symbols(const uint16_t* x) {
  return each([](auto, ShortPart a)
                  TERN_INLINE_LAMBDA { return __builtin_convertvector(a, BitsPart); },
              load_as<ShortPart>(x));
}
TERN_INLINE void store_symbols(Bits v, uint16_t* x) {
  store_as(each(
               [](auto, BitsPart a) TERN_INLINE_LAMBDA {
#if defined(__AVX512F__)
                 return ShortPart(_mm512_cvtepi32_epi16((__m512i)a));  // GCC takes a step more
#else
                 return __builtin_convertvector(a, ShortPart);
#endif
               },
               v),
           x);
}

constexpr uint32_t kLaneNumbers[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
TERN_INLINE Bits lane_numbers() { return load_as<BitsPart>(kLaneNumbers); }

TERN_INLINE Floats square(Floats x) { return x * x; }
TERN_INLINE Floats magnitude(Floats x) { return floats(bits(x) & all(0x7fffffffu)); }
/// Magnitudes order like their bits, which are below 2^31.
TERN_INLINE Ints magnitude_bits(Floats x) { return ints(bits(x) & all(0x7fffffffu)); }

/// table[i] for i from 0 to 7; where kLooksUp is false, through memory.
#if defined(__AVX2__)
constexpr bool kLooksUp = true;
#else
constexpr bool kLooksUp = false;
#endif
TERN_INLINE Floats lookup(const float* table, Bits i) {
  return each(
      [table](auto, BitsPart a) TERN_INLINE_LAMBDA {
#if defined(__AVX512F__)
        const __m512 entries = _mm512_castps256_ps512(_mm256_loadu_ps(table));
        return FloatPart(_mm512_permutexvar_ps((__m512i)a, entries));
#elif defined(__AVX2__)
        return FloatPart(_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), (__m256i)a));
#else
        return FloatPart{table[a[0]], table[a[1]], table[a[2]], table[a[3]]};
#endif
      },
      i);
}

/// 16 sums in double, one for each lane.
struct Sums {
  Lanes<DoublePart> low = {}, high = {};

  TERN_INLINE void add(Floats x, Floats y) {
    low = each(Add<0>(), low, x, y);
    high = each(Add<1>(), high, x, y);
  }
  TERN_INLINE void add(Floats x) {
    low = each(Add<0>(), low, x);
    high = each(Add<1>(), high, x);
  }
  TERN_INLINE void add_squares(Floats x) { add(x, x); }
  /// lane[i] = the sum of lane i.
  TERN_INLINE void write(double* lane) const {
    const auto put = [lane](size_t half) {
      return [lane, half](auto number, DoublePart a) TERN_INLINE_LAMBDA {
        __builtin_memcpy(lane + number.value * kWidth + half * (kWidth / 2), &a, sizeof a);
        return a;
      };
    };
    each(put(0), low);
    each(put(1), high);
  }

 private:
  template <size_t half>
  struct Add {
    TERN_INLINE DoublePart operator()(auto, DoublePart sum, FloatPart a, FloatPart b) const {
      return sum + widen(a) * widen(b);
    }
    TERN_INLINE DoublePart operator()(auto, DoublePart sum, FloatPart a) const {
      return sum + widen(a);
    }
    static TERN_INLINE DoublePart widen(FloatPart a) {
#if defined(__AVX512F__)
      // Compilers make four registers of a conversion by __builtin_convertvector.
      return DoublePart(_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)a, half)));
#elif defined(__AVX2__)
      return DoublePart(_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)a, half)));
#else
      const FloatHalf h =
          half == 0 ? __builtin_shufflevector(a, a, 0, 1) : __builtin_shufflevector(a, a, 2, 3);
      return __builtin_convertvector(h, DoublePart);
#endif
    }
  };
};

TERN_INLINE uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

TERN_INLINE float float_of(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

}  // namespace
}  // namespace tern
