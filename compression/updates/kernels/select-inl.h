// Finding the values above a magnitude. Part of kernels-inl.h.

namespace tern {
namespace {

/// One bit for each lane where x > y.
TERN_INLINE uint32_t greater_bits(Ints x, Ints y) {
#if defined(__AVX512F__)
  return _mm512_cmpgt_epi32_mask((__m512i)x.a, (__m512i)y.a);
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
      greater(x, y));
  return mask;
#endif
}

// What is read comes from memory: 8 KiB ahead, since the CPU's own prefetching stops at pages.
constexpr size_t kAhead = 2048;

/// Elements between looking for what reaches the least magnitude and taking it: a branch on values
/// that are still on their way from memory would hold up those behind them.
constexpr size_t kStretch = 1024;

/// See Kernels::collect and Kernels::add_collect.
template <bool adds, bool bypass>
TERN_INLINE size_t collect_by(const float* x, const float* y, size_t n, float sign, float* out,
                              uint32_t least, uint32_t first, uint32_t* index, float* values,
                              float* largest) {
  const Floats signs = all(sign);
  // Magnitudes are below 2^31, so a signed compare will do.
  const Ints below = all(static_cast<int32_t>(least) - 1);
  Ints most = all(0);
  uint32_t most_of_rest = 0;
  size_t count = 0, i = 0;
  const auto one = [&](size_t j) TERN_INLINE_LAMBDA {
    const float v = adds ? x[j] + sign * y[j] : x[j];
    if (adds) out[j] = v;
    const uint32_t m = bits_of(v) & 0x7fffffffu;
    most_of_rest = m > most_of_rest ? m : most_of_rest;
    if (m < least) return;
    index[count] = first + static_cast<uint32_t>(j);
    values[count++] = v;
  };
  if (bypass)
    for (; i < n && !aligned(out + i); ++i) one(i);
  while (i + kLanes <= n) {
    const size_t begin = i;
    const size_t end = begin + (n - begin < kStretch ? (n - begin) / kLanes * kLanes : kStretch);
    uint64_t found[kStretch / 64] = {};
    float sums[adds ? kStretch : 1];
    const auto look = [&](uint32_t lane) TERN_INLINE_LAMBDA {
      __builtin_prefetch(x + i + kAhead);
      Floats v = load(x + i);
      if (adds) {
        __builtin_prefetch(y + i + kAhead);
        v = v + signs * load(y + i);
        if (bypass) {
          store(v, sums + (i - begin));
          store_past_caches(v, out + i);
        } else {
          store(v, out + i);
        }
      }
      const Ints m = magnitude_bits(v);
      most = larger(most, m);
      i += kLanes;
      return uint64_t{greater_bits(m, below)} << lane;
    };
    // Whole words are stored: one that is read before its parts have left the store buffer has to
    // wait for them.
    size_t word = 0;
    for (; word < (end - begin) / 64; ++word) {
      uint64_t bits = look(0);
      bits |= look(kLanes);
      bits |= look(2 * kLanes);
      found[word] = bits | look(3 * kLanes);
    }
    for (uint32_t lane = 0; lane < (end - begin) % 64; lane += kLanes) found[word] |= look(lane);
    const float* const from = !adds ? x + begin : bypass ? sums : out + begin;
    for (word = 0; word * 64 < end - begin; ++word)
      for (uint64_t bits = found[word]; bits != 0; bits &= bits - 1) {
        const size_t j = word * 64 + static_cast<size_t>(__builtin_ctzll(bits));
        index[count] = first + static_cast<uint32_t>(begin + j);
        values[count++] = from[j];
      }
  }
  for (; i < n; ++i) one(i);
  if (bypass) order_stores();
  const float in_lanes = largest_of(most);
  *largest = most_of_rest > bits_of(in_lanes) ? float_of(most_of_rest) : in_lanes;
  return count;
}

size_t collect(const float* x, size_t n, uint32_t least, uint32_t first, uint32_t* index,
               float* values, float* largest) {
  return collect_by<false, false>(x, nullptr, n, 1, nullptr, least, first, index, values, largest);
}

size_t add_collect(const float* x, const float* y, size_t n, float sign, float* out, bool bypass,
                   uint32_t least, uint32_t first, uint32_t* index, float* values, float* largest) {
  return bypass ? collect_by<true, true>(x, y, n, sign, out, least, first, index, values, largest)
                : collect_by<true, false>(x, y, n, sign, out, least, first, index, values, largest);
}

}  // namespace
}  // namespace tern
