// Compiled once for each CPU level; the including file defines TERN_KERNEL_TABLE. Only raw pointers
// and builtins: an inline function of the standard library, built here with AVX flags, could be
// linked into code for older CPUs.

namespace tern {
namespace {

constexpr size_t kLanes = 16;
typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));

inline uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

inline float float_of(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

inline double add_lanes(const double* lane) {
  double s[8], t[4];
  for (size_t j = 0; j < 8; ++j) s[j] = lane[j] + lane[j + 8];
  for (size_t j = 0; j < 4; ++j) t[j] = s[j] + s[j + 4];
  return (t[0] + t[2]) + (t[1] + t[3]);
}

double sum_abs(const float* x, size_t n) {
  double lane[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (size_t j = 0; j < kLanes; ++j) lane[j] += __builtin_fabs(static_cast<double>(x[i + j]));
  for (size_t j = 0; i + j < n; ++j) lane[j] += __builtin_fabs(static_cast<double>(x[i + j]));
  return add_lanes(lane);
}

double sum_squares(const float* x, size_t n) {
  double lane[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (size_t j = 0; j < kLanes; ++j) {
      const double v = x[i + j];
      lane[j] += v * v;
    }
  for (size_t j = 0; i + j < n; ++j) {
    const double v = x[i + j];
    lane[j] += v * v;
  }
  return add_lanes(lane);
}

double dot(const float* x, const float* y, size_t n) {
  double lane[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (size_t j = 0; j < kLanes; ++j)
      lane[j] += static_cast<double>(x[i + j]) * static_cast<double>(y[i + j]);
  for (size_t j = 0; i + j < n; ++j)
    lane[j] += static_cast<double>(x[i + j]) * static_cast<double>(y[i + j]);
  return add_lanes(lane);
}

void add_scaled(float a, const float* x, size_t n, float* y) {
  for (size_t i = 0; i < n; ++i) y[i] += a * x[i];
}

float max_abs(const float* x, size_t n) {
  // Magnitudes order like their bits.
  uint32_t largest = 0;
  for (size_t i = 0; i < n; ++i) {
    const uint32_t magnitude = bits_of(x[i]) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  return float_of(largest);
}

void flip_signs(float* x, const uint32_t* signs, size_t n, float scale) {
  for (size_t i = 0; i < n; ++i) {
    const uint32_t sign = (signs[i >> 5] >> (i & 31)) << 31;
    x[i] = float_of(bits_of(x[i] * scale) ^ sign);
  }
}

// One butterfly step inside 16 lanes: lane j becomes x[j] + x[j^h], or x[j^h] - x[j] where j has
// bit h.
#define TERN_BUTTERFLY(v, h, ...)                                            \
  {                                                                          \
    const Lanes swapped = __builtin_shufflevector(v, v, __VA_ARGS__);        \
    Lanes signs;                                                             \
    for (size_t j = 0; j < kLanes; ++j) signs[j] = (j & (h)) ? -1.0f : 1.0f; \
    v = swapped + signs * v;                                                 \
  }

void hadamard(float* x, size_t n) {
  if (n < kLanes) {
    for (size_t h = 1; h < n; h *= 2)
      for (size_t i = 0; i < n; i += 2 * h)
        for (size_t j = i; j < i + h; ++j) {
          const float a = x[j], b = x[j + h];
          x[j] = a + b;
          x[j + h] = a - b;
        }
    return;
  }
  for (size_t i = 0; i < n; i += kLanes) {
    Lanes v;
    __builtin_memcpy(&v, x + i, sizeof v);
    TERN_BUTTERFLY(v, 1, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
    TERN_BUTTERFLY(v, 2, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
    TERN_BUTTERFLY(v, 4, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
    TERN_BUTTERFLY(v, 8, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
    __builtin_memcpy(x + i, &v, sizeof v);
  }
  for (size_t h = kLanes; h < n; h *= 2)
    for (size_t i = 0; i < n; i += 2 * h) {
      float* __restrict a = x + i;
      float* __restrict b = x + i + h;
      for (size_t j = 0; j < h; ++j) {
        const float sum = a[j] + b[j], difference = a[j] - b[j];
        a[j] = sum;
        b[j] = difference;
      }
    }
}
#undef TERN_BUTTERFLY

// The finalizer of MurmurHash3 over (key, i): 32 bits for rounding.
inline uint32_t hash(uint64_t key, uint32_t i) {
  uint32_t h = (i + static_cast<uint32_t>(key)) * 0x9E3779B1u ^ static_cast<uint32_t>(key >> 32);
  h ^= h >> 16;
  h *= 0x85EBCA6Bu;
  h ^= h >> 13;
  h *= 0xC2B2AE35u;
  return h ^ h >> 16;
}

inline float uniform(uint64_t key, uint32_t i) {
  return static_cast<float>(static_cast<int32_t>(hash(key, i) >> 8)) * 0x1p-24f;
}

void quantize_natural(const float* x, size_t n, uint64_t key, uint16_t* out) {
  for (size_t i = 0; i < n; ++i) {
    const uint32_t bits = bits_of(x[i]);
    const uint32_t up = (hash(key, static_cast<uint32_t>(i)) >> 9) < (bits & 0x7fffffu) ? 1u : 0u;
    const uint32_t exponent = ((bits >> 23) & 0xffu) + up;
    out[i] = static_cast<uint16_t>(exponent << 1 | bits >> 31);
  }
}

void quantize_int(const float* x, size_t n, float inverse_scale, int limit, uint64_t key,
                  uint16_t* out) {
  for (size_t i = 0; i < n; ++i) {
    const float y = x[i] * inverse_scale;
    // floor without <cmath>: |y| <= limit + a little, far inside int.
    const int truncated = static_cast<int>(y);
    const int whole = truncated - (static_cast<float>(truncated) > y ? 1 : 0);
    const float fraction = y - static_cast<float>(whole);
    int q = whole + (uniform(key, static_cast<uint32_t>(i)) < fraction ? 1 : 0);
    q = q > limit ? limit : q;
    q = q < -limit ? -limit : q;
    out[i] = static_cast<uint16_t>(q + limit);
  }
}

void dequantize_int(const uint16_t* symbols, size_t n, int limit, float scale, float* out) {
  for (size_t i = 0; i < n; ++i)
    out[i] = static_cast<float>(static_cast<int>(symbols[i]) - limit) * scale;
}

void quantize_levels(const float* x, size_t n, float factor, const float* bounds, int bits,
                     uint16_t* out) {
  const uint32_t top = 1u << (bits - 1);
  if (bits <= 4) {
    const size_t count = top - 1;
    for (size_t i = 0; i < n; ++i) {
      const float y = float_of(bits_of(x[i]) & 0x7fffffffu) * factor;
      uint32_t level = 0;
      for (size_t b = 0; b < count; ++b) level += bounds[b] < y ? 1u : 0u;
      out[i] = static_cast<uint16_t>(level | ((bits_of(x[i]) >> 31) << (bits - 1)));
    }
    return;
  }
  for (size_t i = 0; i < n; ++i) {
    const float y = float_of(bits_of(x[i]) & 0x7fffffffu) * factor;
    uint32_t level = 0;
    for (uint32_t step = top / 2; step > 0; step /= 2)
      level += bounds[level + step - 1] < y ? step : 0;
    out[i] = static_cast<uint16_t>(level | ((bits_of(x[i]) >> 31) << (bits - 1)));
  }
}

void lookup_levels(const uint16_t* symbols, size_t n, const float* centroids, int bits, float scale,
                   float* out) {
  const uint32_t mask = (1u << (bits - 1)) - 1;
  for (size_t i = 0; i < n; ++i) {
    const uint32_t sign = (static_cast<uint32_t>(symbols[i]) >> (bits - 1)) << 31;
    out[i] = float_of(bits_of(scale * centroids[symbols[i] & mask]) ^ sign);
  }
}

void dot_levels(const float* x, const uint16_t* symbols, size_t n, const float* centroids, int bits,
                double* dot, double* squares) {
  const uint32_t mask = (1u << (bits - 1)) - 1;
  double d[kLanes] = {}, s[kLanes] = {};
  for (size_t i = 0; i < n; ++i) {
    const double c = centroids[symbols[i] & mask];
    d[i % kLanes] += c * __builtin_fabs(static_cast<double>(x[i]));
    s[i % kLanes] += c * c;
  }
  *dot = add_lanes(d);
  *squares = add_lanes(s);
}

void pack(const uint16_t* symbols, size_t n, int bits, uint8_t* out) {
  if (bits == 16) {
    if (n > 0) __builtin_memcpy(out, symbols, 2 * n);
    return;
  }
  if (bits == 8) {
    for (size_t i = 0; i < n; ++i) out[i] = static_cast<uint8_t>(symbols[i]);
    return;
  }
  uint64_t word = 0;
  int filled = 0;
  for (size_t i = 0; i < n; ++i) {
    word |= static_cast<uint64_t>(symbols[i]) << filled;
    filled += bits;
    if (filled >= 32) {
      const uint32_t low = static_cast<uint32_t>(word);
      __builtin_memcpy(out, &low, 4);
      out += 4;
      word >>= 32;
      filled -= 32;
    }
  }
  for (; filled > 0; filled -= 8, word >>= 8) *out++ = static_cast<uint8_t>(word);
}

void unpack(const uint8_t* in, size_t n, int bits, uint16_t* symbols) {
  if (bits == 16) {
    if (n > 0) __builtin_memcpy(symbols, in, 2 * n);
    return;
  }
  if (bits == 8) {
    for (size_t i = 0; i < n; ++i) symbols[i] = in[i];
    return;
  }
  const uint8_t* const end = in + (n * static_cast<size_t>(bits) + 7) / 8;
  const uint64_t mask = (1u << bits) - 1;
  uint64_t word = 0;
  int filled = 0;
  for (size_t i = 0; i < n; ++i) {
    if (filled < bits) {
      if (end - in >= 4) {
        uint32_t next;
        __builtin_memcpy(&next, in, 4);
        word |= static_cast<uint64_t>(next) << filled;
        in += 4;
        filled += 32;
      } else {
        for (; in < end; filled += 8) word |= static_cast<uint64_t>(*in++) << filled;
      }
    }
    symbols[i] = static_cast<uint16_t>(word & mask);
    word >>= bits;
    filled -= bits;
  }
}

void to_float16(const float* x, size_t n, uint8_t* out) {
  for (size_t i = 0; i < n; ++i) {
    float v = x[i];
    v = v > 65504.0f ? 65504.0f : v;
    v = v < -65504.0f ? -65504.0f : v;
    const _Float16 half = static_cast<_Float16>(v);
    __builtin_memcpy(out + 2 * i, &half, 2);
  }
}

void from_float16(const uint8_t* in, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) {
    _Float16 half;
    __builtin_memcpy(&half, in + 2 * i, 2);
    out[i] = static_cast<float>(half);
  }
}

void to_bfloat16(const float* x, size_t n, uint8_t* out) {
  for (size_t i = 0; i < n; ++i) {
    const uint32_t bits = bits_of(x[i]);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
    // Saturate: the largest floats would round up to infinity.
    rounded = (rounded & 0x7fffu) == 0x7f80u ? rounded - 1 : rounded;
    const uint16_t half = static_cast<uint16_t>(rounded);
    __builtin_memcpy(out + 2 * i, &half, 2);
  }
}

void from_bfloat16(const uint8_t* in, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) {
    uint16_t half;
    __builtin_memcpy(&half, in + 2 * i, 2);
    out[i] = float_of(static_cast<uint32_t>(half) << 16);
  }
}

void accumulate(int64_t* acc, const float* x, size_t n, double scale, int64_t m) {
  for (size_t i = 0; i < n; ++i)
    acc[i] += m * static_cast<int64_t>(__builtin_llrint(static_cast<double>(x[i]) * scale));
}

void accumulate_sparse(int64_t* acc, const uint16_t* index, const float* x, size_t k, double scale,
                       int64_t m) {
  for (size_t i = 0; i < k; ++i)
    acc[index[i]] += m * static_cast<int64_t>(__builtin_llrint(static_cast<double>(x[i]) * scale));
}

}  // namespace

const Kernels TERN_KERNEL_TABLE = {
    .sum_abs = sum_abs,
    .sum_squares = sum_squares,
    .dot = dot,
    .max_abs = max_abs,
    .add_scaled = add_scaled,
    .flip_signs = flip_signs,
    .hadamard = hadamard,
    .quantize_int = quantize_int,
    .dequantize_int = dequantize_int,
    .quantize_natural = quantize_natural,
    .quantize_levels = quantize_levels,
    .lookup_levels = lookup_levels,
    .dot_levels = dot_levels,
    .pack = pack,
    .unpack = unpack,
    .to_float16 = to_float16,
    .from_float16 = from_float16,
    .to_bfloat16 = to_bfloat16,
    .from_bfloat16 = from_bfloat16,
    .accumulate = accumulate,
    .accumulate_sparse = accumulate_sparse,
};

}  // namespace tern
