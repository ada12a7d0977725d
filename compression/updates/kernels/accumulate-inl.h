// Integer sums of values. Part of kernels-inl.h.

namespace tern {
namespace {

TERN_INLINE int64_t fixed(float x, double scale) {
  return static_cast<int64_t>(__builtin_llrint(static_cast<double>(x) * scale));
}

void accumulate(int64_t* acc, const float* x, size_t n, double scale, int64_t m) {
  size_t i = 0;
#if defined(__AVX512DQ__)
  const __m512d factor = _mm512_set1_pd(scale);
  const __m512i weight = _mm512_set1_epi64(m);
  for (; i + 8 <= n; i += 8) {
    const __m512d v = _mm512_mul_pd(_mm512_cvtps_pd(_mm256_loadu_ps(x + i)), factor);
    const __m512i q = _mm512_mullo_epi64(_mm512_cvtpd_epi64(v), weight);
    _mm512_storeu_si512(acc + i, _mm512_add_epi64(_mm512_loadu_si512(acc + i), q));
  }
#elif defined(__AVX2__)
  // Doubles below 2^51 become integers by adding 1.5 * 2^52, in whose lowest bits they then stand.
  const __m256d factor = _mm256_set1_pd(scale), magic = _mm256_set1_pd(0x1.8p52);
  const __m256d most = _mm256_set1_pd(0x1p51), sign = _mm256_set1_pd(-0.0);
  const __m256i weight = _mm256_set1_epi64x(m);
  for (; i + 4 <= n; i += 4) {
    const __m256d v = _mm256_mul_pd(_mm256_cvtps_pd(_mm_loadu_ps(x + i)), factor);
    const __m256d small = _mm256_cmp_pd(_mm256_andnot_pd(sign, v), most, _CMP_LT_OQ);
    if (_mm256_movemask_pd(small) != 15 || static_cast<uint64_t>(m) >> 32 != 0) {
      for (size_t j = i; j < i + 4; ++j) acc[j] += m * fixed(x[j], scale);
      continue;
    }
    const __m256i q =
        _mm256_sub_epi64(_mm256_castpd_si256(_mm256_add_pd(v, magic)), _mm256_castpd_si256(magic));
    const __m256i low = _mm256_mul_epu32(q, weight);
    const __m256i high = _mm256_mul_epu32(_mm256_srli_epi64(q, 32), weight);
    const __m256i product = _mm256_add_epi64(low, _mm256_slli_epi64(high, 32));
    auto* const to = reinterpret_cast<__m256i*>(acc + i);
    _mm256_storeu_si256(to, _mm256_add_epi64(_mm256_loadu_si256(to), product));
  }
#endif
  for (; i < n; ++i) acc[i] += m * fixed(x[i], scale);
}

void accumulate_sparse(int64_t* acc, const uint16_t* index, const float* x, size_t k, double scale,
                       int64_t m) {
  for (size_t i = 0; i < k; ++i) acc[index[i]] += m * fixed(x[i], scale);
}

void divide(const int64_t* acc, size_t n, double divisor, float* out) {
  size_t i = 0;
#if defined(__AVX512DQ__)
  const __m512d by = _mm512_set1_pd(divisor);
  for (; i + 8 <= n; i += 8) {
    const __m512d v = _mm512_cvtepi64_pd(_mm512_loadu_si512(acc + i));
    _mm256_storeu_ps(out + i, _mm512_cvtpd_ps(_mm512_div_pd(v, by)));
  }
#elif defined(__AVX2__)
  // The halves of an integer become the lowest bits of doubles: its lower 32 of 2^52 and its upper
  // 32, their sign bit turned over, of 2^84. Only the last addition rounds.
  const __m256d by = _mm256_set1_pd(divisor), exponents = _mm256_set1_pd(0x1p84 + 0x1p63 + 0x1p52);
  const __m256i of_low = _mm256_castpd_si256(_mm256_set1_pd(0x1p52));
  const __m256i of_high = _mm256_castpd_si256(_mm256_set1_pd(0x1p84 + 0x1p63));
  for (; i + 4 <= n; i += 4) {
    const __m256i sum = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc + i));
    const __m256i low = _mm256_blend_epi32(sum, of_low, 0xaa);
    const __m256i high = _mm256_xor_si256(_mm256_srli_epi64(sum, 32), of_high);
    const __m256d v = _mm256_add_pd(_mm256_sub_pd(_mm256_castsi256_pd(high), exponents),
                                    _mm256_castsi256_pd(low));
    _mm_storeu_ps(out + i, _mm256_cvtpd_ps(_mm256_div_pd(v, by)));
  }
#endif
  for (; i < n; ++i) out[i] = static_cast<float>(static_cast<double>(acc[i]) / divisor);
}

}  // namespace
}  // namespace tern
