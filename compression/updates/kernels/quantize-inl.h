// Values to symbols and back. Part of kernels-inl.h.

namespace tern {
namespace {

// The finalizer of MurmurHash3 over (key, i): 32 bits for rounding.
TERN_INLINE uint32_t hash(uint64_t key, uint32_t i) {
  uint32_t h = (i + static_cast<uint32_t>(key)) * 0x9E3779B1u ^ static_cast<uint32_t>(key >> 32);
  h ^= h >> 16;
  h *= 0x85EBCA6Bu;
  h ^= h >> 13;
  h *= 0xC2B2AE35u;
  return h ^ h >> 16;
}

void quantize_natural(const float* x, size_t n, uint64_t key, uint16_t* out) {
  for (size_t i = 0; i < n; ++i) {
    const uint32_t bits = bits_of(x[i]);
    const uint32_t up = (hash(key, static_cast<uint32_t>(i)) >> 9) < (bits & 0x7fffffu) ? 1u : 0u;
    const uint32_t exponent = ((bits >> 23) & 0xffu) + up;
    out[i] = static_cast<uint16_t>(exponent << 1 | bits >> 31);
  }
}

/// Random bits that decide about rounding to -limit..limit: with them a number fits 31 bits.
constexpr int kMostRoundingBits = 24;
TERN_INLINE int rounding_bits(int limit) {
  const int spare = __builtin_clz(static_cast<unsigned>(limit)) - 1;
  return spare < kMostRoundingBits ? spare : kMostRoundingBits;
}

/// Of a symbol from 0 to 2 * limit.
TERN_INLINE int symbol_bits(int limit) { return 33 - __builtin_clz(static_cast<unsigned>(limit)); }

/// quantize_int with d random bits, of which it returns how many `out` has taken. floor(y) +
/// (u < frac(y)) in integers, all times 2^d: of y + (1 - 2^-d - u) only the whole part stays, which
/// is one shift. Those that are left go to `symbols`.
template <typename Sink>
TERN_INLINE size_t quantize_int_by(int d, const float* x, size_t n, float inverse_scale, int limit,
                                   uint64_t key, const float* ahead, uint16_t* symbols,
                                   const Sink& out) {
  const float factor = inverse_scale * static_cast<float>(1u << d);
  const float most = static_cast<float>(limit << d);
  const uint32_t up = (static_cast<uint32_t>(limit) << d) + ((1u << d) - 1);
  const Bits high_key = all(static_cast<uint32_t>(key >> 32)),
             step = all(uint32_t{kLanes} * 0x9E3779B1u);
  // hash() in fewer steps: (i ^ k) ^ (i ^ k) >> 16 = i ^ i >> 16 ^ mixed.
  const Bits mixed = high_key ^ high_key >> 16;
  Bits index = (lane_numbers() + all(static_cast<uint32_t>(key))) * all(0x9E3779B1u);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes, index = index + step) {
    Bits h = (index ^ mixed ^ index >> 16) * all(0x85EBCA6Bu);
    h = (h ^ h >> 13) * all(0xC2B2AE35u);
    h = h ^ h >> 16;
    prefetch(ahead + i);
    const Floats y = larger(smaller(load(x + i) * all(factor), all(most)), all(-most));
    out.put((bits(nearest(y)) + all(up) - (h >> (32 - d))) >> d, i);
  }
  const size_t done = i;
  for (; i < n; ++i) {
    float y = x[i] * factor;
    y = y > most ? most : y < -most ? -most : y;
    const int32_t whole = static_cast<int32_t>(__builtin_nearbyintf(y));
    const uint32_t h = hash(key, static_cast<uint32_t>(i)) >> (32 - d);
    symbols[i] = static_cast<uint16_t>((static_cast<uint32_t>(whole) + up - h) >> d);
  }
  return done;
}

void quantize_int(const float* x, size_t n, float inverse_scale, int limit, uint64_t key,
                  const float* ahead, uint16_t* symbols, uint8_t* packed) {
  const int d = rounding_bits(limit);
  const int bits = symbol_bits(limit);
  // Shifts by a constant are the faster ones.
  constexpr int kMost = kMostRoundingBits;
  const auto quantize = [&](int random_bits, auto out) TERN_INLINE_LAMBDA {
    return quantize_int_by(random_bits, x, n, inverse_scale, limit, key, ahead, symbols, out);
  };
  size_t done = 0;  // are packed
#if defined(__AVX2__)
  if (packed != nullptr && bits == 8) done = quantize(kMost, PackedSymbols<8>{packed});
  if (packed != nullptr && bits == 4) done = quantize(kMost, PackedSymbols<4>{packed});
#endif
  if (done == 0) d == kMost ? quantize(kMost, Symbols{symbols}) : quantize(d, Symbols{symbols});
  if (packed != nullptr)
    pack(symbols + done, n - done, bits, packed + done * static_cast<size_t>(bits) / 8);
}

void dequantize_int(const uint16_t* symbols, size_t n, int limit, float scale, float* out) {
  for (size_t i = 0; i < n; ++i)
    out[i] = static_cast<float>(static_cast<int>(symbols[i]) - limit) * scale;
}

/// How many of the 2^(bits-1) - 1 increasing bounds are below y.
TERN_INLINE uint32_t level_of(float y, const float* bounds, int bits) {
  uint32_t level = 0;
  for (uint32_t step = (1u << (bits - 1)) / 2; step > 0; step /= 2)
    level += bounds[level + step - 1] < y ? step : 0;
  return level;
}

/// The same for 16 values and `bits` from 1 to 4; `table` has room for 8 bounds.
template <int bits>
TERN_INLINE Bits levels_of(Floats y, const float* table) {
  constexpr uint32_t kLevels = 1u << (bits - 1);
  Bits level = all(0u);
  if constexpr (kLooksUp) {
    // The first one is the same for all.
    if constexpr (bits > 1)
      level = add_where_less(all(table[kLevels / 2 - 1]), y, level, kLevels / 2);
    for (uint32_t step = kLevels / 4; step > 0; step /= 2)
      level = add_where_less(lookup(table + step - 1, level), y, level, step);
  } else {
    for (uint32_t b = 0; b + 1 < kLevels; ++b) level = level - tern::bits(less(all(table[b]), y));
  }
  return level;
}

#if defined(__AVX512F__)
/// The same for y times kCellsToOne, by the cell that this is in.
struct LevelCells {
  __m512 bound;
  __m512i below;

  explicit LevelCells(const LevelTable& table)
      : bound(_mm512_loadu_ps(table.cell_bound)), below(_mm512_loadu_si512(table.cell_below)) {}
  TERN_INLINE Bits levels_of(Floats y) const {
    const __m512i cell =
        _mm512_cvttps_epi32(_mm512_min_ps((__m512)y.a, _mm512_set1_ps(LevelTable::kCells - 1)));
    const Floats reached = {(FloatPart)_mm512_permutexvar_ps(cell, bound)};
    const Bits level = {(BitsPart)_mm512_permutexvar_epi32(cell, below)};
    return add_where_less(reached, y, level, 1);
  }
};
#endif

template <int bits, bool with_squares, typename Sink>
size_t quantize_levels_by(const float* x, size_t n, float factor, const LevelTable& table,
                          const float* ahead, const Sink& out, Floats& products, Floats& squares) {
  constexpr uint32_t kLevels = 1u << (bits - 1);
  // Copies, since what is written could be the table.
  float bound[16], centroid[8];
  __builtin_memcpy(bound, table.few_bounds, sizeof bound);
  __builtin_memcpy(centroid, table.few_centroids, sizeof centroid);
  const auto quantize = [&](float by, auto levels) TERN_INLINE_LAMBDA {
    const Floats factors = all(by);
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      prefetch(ahead + i / 2);
      const Floats v = load(x + i), m = magnitude(v);
      const Bits level = levels(m * factors);
      if constexpr (bits == 1)
        out.put_signs(v, i);
      else
        out.put(level | (tern::bits(v) >> (32 - bits) & all(kLevels)), i);
      const Floats c = bits == 1 ? all(centroid[0]) : lookup(centroid, level);
      products = products + c * m;
      if constexpr (with_squares) squares = squares + c * c;
    }
    return i;
  };
#if defined(__AVX512F__)
  if constexpr (bits >= 3) {
    const LevelCells cells(table);
    if (table.has_cells)
      return quantize(factor * LevelTable::kCellsToOne,
                      [&](Floats y) TERN_INLINE_LAMBDA { return cells.levels_of(y); });
  }
#endif
  return quantize(factor, [&](Floats y) TERN_INLINE_LAMBDA { return levels_of<bits>(y, bound); });
}

void quantize_levels(const float* x, size_t n, float factor, const LevelTable& table,
                     const float* ahead, uint16_t* symbols, uint8_t* packed, double* dot,
                     double* squares) {
  const int bits = table.bits;
  Floats products = all(0.0f), levels = all(0.0f);
  size_t i = 0, done = 0;  // so many are packed
  const auto quantize_to = [&](auto number, auto out) {
    constexpr int kBits = number.value;
    return squares != nullptr
               ? quantize_levels_by<kBits, true>(x, n, factor, table, ahead, out, products, levels)
               : quantize_levels_by<kBits, false>(x, n, factor, table, ahead, out, products,
                                                  levels);
  };
  const auto quantize = [&](auto number) { i = quantize_to(number, Symbols{symbols}); };
  // Those of other lengths are packed when all are there.
  const auto quantize_packed = [&](auto number) {
#if defined(__AVX2__)
    if (packed == nullptr) return quantize(number);
    done = i = quantize_to(number, PackedSymbols<number.value>{packed});
#else
    quantize(number);
#endif
  };
  if (bits == 1) quantize_packed(Number<1>());
  if (bits == 2) quantize(Number<2>());
  if (bits == 3) quantize(Number<3>());
  if (bits == 4) quantize_packed(Number<4>());
  float d[kLanes], s[kLanes];
  store(products, d);
  store(levels, s);
  for (; i < n; ++i) {
    const float m = float_of(bits_of(x[i]) & 0x7fffffffu);
    const uint32_t level = level_of(m * factor, table.bounds, bits);
    symbols[i] = static_cast<uint16_t>(level | ((bits_of(x[i]) >> 31) << (bits - 1)));
    const float c = table.centroids[level];
    d[i % kLanes] += c * m;
    s[i % kLanes] += c * c;
  }
  *dot = add_lanes(d);
  if (squares != nullptr) *squares = add_lanes(s);
  if (packed != nullptr)
    pack(symbols + done, n - done, bits, packed + done * static_cast<size_t>(bits) / 8);
}

void lookup_levels(const uint16_t* symbols, size_t n, const float* centroids, int bits, float scale,
                   float* out) {
  const uint32_t mask = (1u << (bits - 1)) - 1;
  size_t i = 0;
  if (bits <= 4) {
    float scaled[8] = {};
    for (uint32_t level = 0; level <= mask; ++level) scaled[level] = scale * centroids[level];
    for (; i + kLanes <= n; i += kLanes) {
      const Bits symbol = load_symbols(symbols + i);
      const Bits sign = symbol >> (bits - 1) << 31;
      store(floats(tern::bits(lookup(scaled, symbol & all(mask))) ^ sign), out + i);
    }
  }
  for (; i < n; ++i) {
    const uint32_t sign = (static_cast<uint32_t>(symbols[i]) >> (bits - 1)) << 31;
    out[i] = float_of(bits_of(scale * centroids[symbols[i] & mask]) ^ sign);
  }
}

#if defined(__AVX2__)
/// unpack_levels of whole vectors; returns how many that is.
template <int bits>
size_t unpack_levels_by(const uint8_t* packed, size_t n, const float* centroids, float scale,
                        float* out) {
  float scaled[16] = {};
  for (uint32_t level = 0; level < 1u << (bits - 1); ++level) {
    scaled[level] = scale * centroids[level];
    scaled[level + 8] = float_of(bits_of(scaled[level]) ^ kSign);
  }
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    if constexpr (bits == 1) {
      uint16_t word;
      __builtin_memcpy(&word, packed + i / 8, sizeof word);
      store(flip(all(scaled[0]), word), out + i);
    } else {
      const Bits symbol = load_packed<bits>(packed + i * bits / 8);
#if defined(__AVX512F__)  // looks at the four low bits of a symbol, and so at its sign, too
      store({(FloatPart)_mm512_permutexvar_ps((__m512i)symbol.a, _mm512_loadu_ps(scaled))},
            out + i);
#else
      store(floats(tern::bits(lookup(scaled, symbol)) ^ ((symbol << 28) & all(kSign))), out + i);
#endif
    }
  }
  return i;
}

/// unpack_int of whole vectors; returns how many that is.
template <int bits>
TERN_INLINE size_t unpack_int_by(const uint8_t* packed, size_t n, int limit, float scale,
                                 uint32_t* largest, float* out) {
  Ints most = all(0);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Ints symbol = ints(load_packed<bits>(packed + i * bits / 8) & all((1u << bits) - 1));
    most = larger(most, symbol);
    store(to_floats(symbol - all(limit)) * all(scale), out + i);
  }
  *largest = bits_of(largest_of(most));
  return i;
}
#endif

void unpack_levels(const uint8_t* packed, uint16_t* symbols, size_t n, const float* centroids,
                   int bits, float scale, float* out) {
  size_t done = 0;
#if defined(__AVX2__)
  if (bits == 1) done = unpack_levels_by<1>(packed, n, centroids, scale, out);
  if (bits == 4) done = unpack_levels_by<4>(packed, n, centroids, scale, out);
#endif
  unpack(packed + done * static_cast<size_t>(bits) / 8, n - done, bits, symbols);
  lookup_levels(symbols, n - done, centroids, bits, scale, out + done);
}

uint32_t unpack_int(const uint8_t* packed, uint16_t* symbols, size_t n, int limit, float scale,
                    float* out) {
  const int bits = symbol_bits(limit);
  uint32_t largest = 0;
  size_t done = 0;
#if defined(__AVX2__)
  if (bits == 4) done = unpack_int_by<4>(packed, n, limit, scale, &largest, out);
  if (bits == 8) done = unpack_int_by<8>(packed, n, limit, scale, &largest, out);
#endif
  unpack(packed + done * static_cast<size_t>(bits) / 8, n - done, bits, symbols);
  uint16_t rest = 0;
  for (size_t i = 0; i < n - done; ++i) rest = symbols[i] > rest ? symbols[i] : rest;
  dequantize_int(symbols, n - done, limit, scale, out + done);
  return rest > largest ? rest : largest;
}

void quantize_signs(const float* x, size_t n, uint16_t* out) {
  for (size_t i = 0; i < n; ++i) out[i] = x[i] < 0 ? 1 : 0;
}

void lookup_signs(const uint16_t* symbols, size_t n, float scale, float* out) {
  for (size_t i = 0; i < n; ++i)
    out[i] = float_of(bits_of(scale) ^ static_cast<uint32_t>(symbols[i] != 0) << 31);
}

}  // namespace
}  // namespace tern
