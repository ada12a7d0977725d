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
#endif
  for (; i < n; ++i) acc[i] += m * fixed(x[i], scale);
}

void accumulate_sparse(int64_t* acc, const uint16_t* index, const float* x, size_t k, double scale,
                       int64_t m) {
  for (size_t i = 0; i < k; ++i) acc[index[i]] += m * fixed(x[i], scale);
}

}  // namespace
}  // namespace tern
