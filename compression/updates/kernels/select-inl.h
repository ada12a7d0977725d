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
  // A branch, not a compress of registers: few vectors hold one, and with all of them compressed
  // this took four times as long.
  for (; i + kLanes <= n; i += kLanes) {
    uint32_t mask = mask_of(greater(magnitude_bits(load(x + i)), below));
    for (; mask != 0; mask &= mask - 1) {
      const size_t j = i + static_cast<size_t>(__builtin_ctz(mask));
      index[count] = first + static_cast<uint32_t>(j);
      values[count++] = x[j];
    }
  }
  for (; i < n; ++i)
    if ((bits_of(x[i]) & 0x7fffffffu) >= least) {
      index[count] = first + static_cast<uint32_t>(i);
      values[count++] = x[i];
    }
  return count;
}

}  // namespace
}  // namespace tern
