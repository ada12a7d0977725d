// Sums and maxima. Part of kernels-inl.h.

namespace tern {
namespace {

template <typename T>
TERN_INLINE double add_lanes(const T* lane) {
  double s[8], t[4];
  for (size_t j = 0; j < 8; ++j)
    s[j] = static_cast<double>(lane[j]) + static_cast<double>(lane[j + 8]);
  for (size_t j = 0; j < 4; ++j) t[j] = s[j] + s[j + 4];
  return (t[0] + t[2]) + (t[1] + t[3]);
}

/// The lanes of `sums` and then the elements from i to n, each added to its lane, as one number.
template <typename F>
TERN_INLINE double finish(const Sums& sums, size_t i, size_t n, F term) {
  double lane[kLanes];
  sums.write(lane);
  for (size_t j = 0; i + j < n; ++j) lane[j] += term(i + j);
  return add_lanes(lane);
}

double sum_abs(const float* x, size_t n) {
  Sums sums;
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sums.add(magnitude(load(x + i)));
  return finish(sums, i, n, [x](size_t j) { return __builtin_fabs(static_cast<double>(x[j])); });
}

double dot(const float* x, const float* y, size_t n) {
  Sums sums;
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sums.add(load(x + i), load(y + i));
  return finish(sums, i, n,
                [x, y](size_t j) { return static_cast<double>(x[j]) * static_cast<double>(y[j]); });
}

double sum_squares(const float* x, size_t n) {
  Sums sums;
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sums.add_squares(load(x + i));
  return finish(sums, i, n,
                [x](size_t j) { return static_cast<double>(x[j]) * static_cast<double>(x[j]); });
}

float quick_squares(const float* x, size_t n) {
  Floats a = all(0.0f), b = a, c = a, d = a;
  size_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    a = a + square(load(x + i));
    b = b + square(load(x + i + kLanes));
    c = c + square(load(x + i + 2 * kLanes));
    d = d + square(load(x + i + 3 * kLanes));
  }
  float lane[kLanes], rest = 0;
  store((a + c) + (b + d), lane);
  for (; i < n; ++i) rest += x[i] * x[i];
  return static_cast<float>(add_lanes(lane)) + rest;
}

void add_scaled(float a, const float* x, size_t n, float* y) {
  for (size_t i = 0; i < n; ++i) y[i] += a * x[i];
}

void combine(const float* factors, size_t count, const float* x, size_t stride, size_t n,
             float* out) {
  size_t i = 0;
  // Two sums at a time: one alone waits for itself.
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    Floats a = all(0.0f), b = all(0.0f);
    const float* from = x + i;
    for (size_t j = 0; j < count; ++j, from += stride) {
      const Floats factor = all(factors[j]);
      a = a + factor * load(from);
      b = b + factor * load(from + kLanes);
    }
    store(a, out + i);
    store(b, out + i + kLanes);
  }
  for (; i < n; ++i) {
    float sum = 0;
    for (size_t j = 0; j < count; ++j) sum += factors[j] * x[j * stride + i];
    out[i] = sum;
  }
}

float quick_dot(const float* x, const float* y, size_t n) {
  Floats a = all(0.0f), b = a, c = a, d = a;
  size_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    a = a + load(x + i) * load(y + i);
    b = b + load(x + i + kLanes) * load(y + i + kLanes);
    c = c + load(x + i + 2 * kLanes) * load(y + i + 2 * kLanes);
    d = d + load(x + i + 3 * kLanes) * load(y + i + 3 * kLanes);
  }
  for (; i + kLanes <= n; i += kLanes) a = a + load(x + i) * load(y + i);
  float lane[kLanes], rest = 0;
  store((a + c) + (b + d), lane);
  for (; i < n; ++i) rest += x[i] * y[i];
  return static_cast<float>(add_lanes(lane)) + rest;
}

TERN_INLINE float largest_of(Ints lanes) {
  int32_t lane[kLanes], largest = 0;
  store_as(lanes, lane);
  for (size_t j = 0; j < kLanes; ++j) largest = lane[j] > largest ? lane[j] : largest;
  return float_of(static_cast<uint32_t>(largest));
}

float max_abs(const float* x, size_t n) {
  Ints a = all(0), b = all(0);
  size_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    a = larger(a, magnitude_bits(load(x + i)));
    b = larger(b, magnitude_bits(load(x + i + kLanes)));
  }
  float largest = largest_of(larger(a, b));
  for (; i < n; ++i) {
    const uint32_t m = bits_of(x[i]) & 0x7fffffffu;
    largest = m > bits_of(largest) ? float_of(m) : largest;
  }
  return largest;
}

float add_max(const float* x, const float* y, size_t n, float sign, float* out) {
  Ints a = all(0);
  const Floats signs = all(sign);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Floats sum = load(x + i) + signs * load(y + i);
    store(sum, out + i);
    a = larger(a, magnitude_bits(sum));
  }
  float largest = largest_of(a);
  for (; i < n; ++i) {
    out[i] = x[i] + sign * y[i];
    const uint32_t m = bits_of(out[i]) & 0x7fffffffu;
    largest = m > bits_of(largest) ? float_of(m) : largest;
  }
  return largest;
}

void subtract(const float* x, size_t n, float* y) {
  for (size_t i = 0; i < n; ++i) y[i] -= x[i];
}

}  // namespace
}  // namespace tern
