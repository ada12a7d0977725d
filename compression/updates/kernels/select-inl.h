// Finding the values above a magnitude. Part of kernels-inl.h.

namespace tern {
namespace {

/// One bit for each lane of a mask.
TERN_INLINE uint32_t mask_of(Ints set) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)set.a);
#else
  uint32_t mask = 0;
  each(
      [&mask](auto number, IntPart a) TERN_INLINE_LAMBDA {
#if defined(__AVX2__)
        const auto four = static_cast<uint32_t>(_mm256_movemask_ps((__m256)a));
#elif defined(__SSE2__)
        const auto four = static_cast<uint32_t>(_mm_movemask_ps((__m128)a));
#else
        const auto four = static_cast<uint32_t>((a[0] & 1) | (a[1] & 2) | (a[2] & 4) | (a[3] & 8));
#endif
        mask |= four << number.value * kWidth;
        return a;
      },
      set);
  return mask;
#endif
}

/// Appends where the magnitudes reach `least`, relative to `x`, and their bits.
size_t collect(const float* x, size_t n, uint32_t least, uint32_t first, uint32_t* index,
               float* values) {
  // Magnitudes are below 2^31, so a signed compare will do.
  const Ints below = all(static_cast<int32_t>(least) - 1);
  size_t count = 0, i = 0;
#if defined(__AVX512F__)
  Bits at = lane_numbers() + all(first);
  for (; i + kLanes <= n; i += kLanes, at = at + all(static_cast<uint32_t>(kLanes))) {
    const Floats v = load(x + i);
    const auto mask = static_cast<__mmask16>(mask_of(greater(magnitude_bits(v), below)));
    // Stores of whole registers: the caller leaves room for 16 more. Merging and not zeroing, which
    // waits for the result before on some CPUs.
    const __m512i where = (__m512i)at.a;
    const __m512 what = (__m512)v.a;
    _mm512_storeu_si512(index + count, _mm512_mask_compress_epi32(where, mask, where));
    _mm512_storeu_ps(values + count, _mm512_mask_compress_ps(what, mask, what));
    count += static_cast<size_t>(__builtin_popcount(mask));
  }
#else
  for (; i + kLanes <= n; i += kLanes) {
    uint32_t mask = mask_of(greater(magnitude_bits(load(x + i)), below));
    for (; mask != 0; mask &= mask - 1) {
      const size_t j = i + static_cast<size_t>(__builtin_ctz(mask));
      index[count] = first + static_cast<uint32_t>(j);
      values[count++] = x[j];
    }
  }
#endif
  for (; i < n; ++i)
    if ((bits_of(x[i]) & 0x7fffffffu) >= least) {
      index[count] = first + static_cast<uint32_t>(i);
      values[count++] = x[i];
    }
  return count;
}

}  // namespace
}  // namespace tern
