// Symbols of a few bits each, side by side in bytes. Part of kernels-inl.h.

namespace tern {
namespace {

/// The low `bits` of four 16-bit symbols next to each other, and back. bits <= 8.
TERN_INLINE uint64_t squeeze(uint64_t four, int bits) {
#if defined(__BMI2__)
  return _pext_u64(four, 0x0001000100010001u * ((1u << bits) - 1));
#else
  const uint64_t mask = (1u << bits) - 1;
  return (four & mask) | ((four >> 16) & mask) << bits | ((four >> 32) & mask) << 2 * bits |
         ((four >> 48) & mask) << 3 * bits;
#endif
}
TERN_INLINE uint64_t spread(uint64_t packed, int bits) {
#if defined(__BMI2__)
  return _pdep_u64(packed, 0x0001000100010001u * ((1u << bits) - 1));
#else
  const uint64_t mask = (1u << bits) - 1;
  return (packed & mask) | ((packed >> bits) & mask) << 16 | ((packed >> 2 * bits) & mask) << 32 |
         ((packed >> 3 * bits) & mask) << 48;
#endif
}

#if defined(__AVX2__)
/// 32 symbols of 1, 4 or 8 bits at a time, in registers.
template <int bits>
TERN_INLINE size_t pack_wide(const uint16_t* symbols, size_t n, uint8_t* out) {
  const __m256i pairs = _mm256_set1_epi16(0x1001);
  // Packing takes from the halves of both registers in turn.
  const auto in_order = [](__m256i v)
                            TERN_INLINE_LAMBDA { return _mm256_permute4x64_epi64(v, 0xD8); };
  size_t i = 0;
  for (; i + 32 <= n; i += 32, out += 4 * bits) {
    const auto* const from = reinterpret_cast<const __m256i*>(symbols + i);
    const __m256i bytes =
        in_order(_mm256_packus_epi16(_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)));
    if constexpr (bits == 8) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), bytes);
    } else if constexpr (bits == 4) {
      const __m256i two = _mm256_maddubs_epi16(bytes, pairs);
      const __m256i packed = in_order(_mm256_packus_epi16(two, two));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(packed));
    } else {
      const int word = _mm256_movemask_epi8(_mm256_slli_epi16(bytes, 7));
      __builtin_memcpy(out, &word, 4);
    }
  }
  return i;
}

template <int bits>
TERN_INLINE size_t unpack_wide(const uint8_t* in, size_t n, uint16_t* symbols) {
  const __m256i low = _mm256_set1_epi16(15),
                bit = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096,
                                        8192, 16384, -32768);
  size_t i = 0;
  for (; i + 32 <= n; i += 32, in += 4 * bits) {
    auto* const to = reinterpret_cast<__m256i*>(symbols + i);
    if constexpr (bits == 4) {
      // Each byte's two symbols next to each other: the high one moves to the high half.
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
      for (int half = 0; half < 2; ++half) {
        const __m256i wide = _mm256_cvtepu8_epi32(half == 0 ? bytes : _mm_srli_si128(bytes, 8));
        const __m256i two = _mm256_or_si256(wide, _mm256_slli_epi32(wide, 12));
        _mm256_storeu_si256(to + half, _mm256_and_si256(two, low));
      }
    } else {
      for (int half = 0; half < 2; ++half) {
        uint16_t word;
        __builtin_memcpy(&word, in + 2 * half, 2);
        const __m256i set = _mm256_and_si256(_mm256_set1_epi16(static_cast<short>(word)), bit);
        _mm256_storeu_si256(to + half, _mm256_srli_epi16(_mm256_cmpeq_epi16(set, bit), 15));
      }
    }
  }
  return i;
}
#endif

/// 16 symbols at a time, which fill 2 * bits whole bytes, so that words are written with room to
/// spare but for the last ones.
template <int bits>
size_t pack_by(const uint16_t* symbols, size_t n, uint8_t* out) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes, out += 2 * bits) {
    uint64_t four[4], packed[4];
    __builtin_memcpy(four, symbols + i, sizeof four);
    for (size_t j = 0; j < 4; ++j) packed[j] = squeeze(four[j], bits);
    const uint64_t low = packed[0] | packed[1] << 4 * bits;
    const uint64_t high = packed[2] | packed[3] << 4 * bits;
    __builtin_memcpy(out, &low, bits);
    __builtin_memcpy(out + bits, &high, bits);
  }
  return i;
}

template <int bits>
size_t unpack_by(const uint8_t* in, size_t n, uint16_t* symbols) {
  constexpr uint64_t kMask = (uint64_t{1} << 4 * bits) - 1;
  const auto put = [symbols](size_t at, uint64_t packed) {
    const uint64_t four = spread(packed & kMask, bits);
    __builtin_memcpy(symbols + at, &four, sizeof four);
  };
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes, in += 2 * bits) {
    uint64_t low = 0, high = 0;
    __builtin_memcpy(&low, in, bits);
    __builtin_memcpy(&high, in + bits, bits);
    put(i, low);
    put(i + 4, low >> 4 * bits);
    put(i + 8, high);
    put(i + 12, high >> 4 * bits);
  }
  return i;
}

void pack(const uint16_t* symbols, size_t n, int bits, uint8_t* out) {
  if (bits == 16) {
    if (n > 0) __builtin_memcpy(out, symbols, 2 * n);
    return;
  }
  size_t i = 0;
#if defined(__AVX2__)
  if (bits == 1) i = pack_wide<1>(symbols, n, out);
  if (bits == 4) i = pack_wide<4>(symbols, n, out);
  if (bits == 8) i = pack_wide<8>(symbols, n, out);
  out += i * static_cast<size_t>(bits) / 8;
  symbols += i;
  n -= i;
  i = 0;
#endif
  if (bits == 8) {
    for (; i < n; ++i) out[i] = static_cast<uint8_t>(symbols[i]);
    return;
  }
  if (bits == 1) i = pack_by<1>(symbols, n, out);
  if (bits == 2) i = pack_by<2>(symbols, n, out);
  if (bits == 3) i = pack_by<3>(symbols, n, out);
  if (bits == 4) i = pack_by<4>(symbols, n, out);
  if (bits == 5) i = pack_by<5>(symbols, n, out);
  if (bits == 6) i = pack_by<6>(symbols, n, out);
  if (bits == 7) i = pack_by<7>(symbols, n, out);
  out += i * static_cast<size_t>(bits) / 8;
  uint64_t word = 0;
  int filled = 0;
  for (; i < n; ++i) {
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
  size_t i = 0;
#if defined(__AVX2__)
  if (bits == 1) i = unpack_wide<1>(in, n, symbols);
  if (bits == 4) i = unpack_wide<4>(in, n, symbols);
  in += i * static_cast<size_t>(bits) / 8;
  symbols += i;
  n -= i;
  i = 0;
#endif
  if (bits == 1) i = unpack_by<1>(in, n, symbols);
  if (bits == 2) i = unpack_by<2>(in, n, symbols);
  if (bits == 3) i = unpack_by<3>(in, n, symbols);
  if (bits == 4) i = unpack_by<4>(in, n, symbols);
  if (bits == 5) i = unpack_by<5>(in, n, symbols);
  if (bits == 6) i = unpack_by<6>(in, n, symbols);
  if (bits == 7) i = unpack_by<7>(in, n, symbols);
  in += i * static_cast<size_t>(bits) / 8;
  const uint64_t mask = (1u << bits) - 1;
  uint64_t word = 0;
  int filled = 0;
  for (; i < n; ++i) {
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

/// Where a quantizer's symbols go, 16 at a time: side by side in 16 bits each,
struct Symbols {
  uint16_t* to;
  TERN_INLINE void put(Bits v, size_t i) const { store_symbols(v, to + i); }
  TERN_INLINE void put_signs(Floats v, size_t i) const { put(tern::bits(v) >> 31, i); }
};
/// or as pack() has them, where there is a quick way from the register.
#if defined(__AVX2__)
template <int bits>
struct PackedSymbols {
  uint8_t* to;
  TERN_INLINE void put_signs(Floats v, size_t i) const {
#if defined(__AVX512F__)
    const auto word = static_cast<uint16_t>(_mm512_movepi32_mask((__m512i)v.a));
#else
    const auto mask = [](FloatPart part) TERN_INLINE_LAMBDA {
      return static_cast<unsigned>(_mm256_movemask_ps((__m256)part));
    };
    const auto word = static_cast<uint16_t>(mask(v.a) | mask(v.b) << 8);
#endif
    __builtin_memcpy(to + i / 8, &word, sizeof word);
  }
  TERN_INLINE void put(Bits v, size_t i) const {
    static_assert(bits == 4 || bits == 8);
    auto* const out = reinterpret_cast<__m128i*>(to + i * bits / 8);
#if defined(__AVX512F__)
    const __m512i symbols = (__m512i)v.a;
    if constexpr (bits == 8) {
      _mm_storeu_si128(out, _mm512_cvtepi32_epi8(symbols));
    } else {
      // The upper one of two next to the lower one.
      const __m512i pairs = _mm512_or_si512(symbols, _mm512_srli_epi64(symbols, 28));
      _mm_storel_epi64(out, _mm512_cvtepi64_epi8(pairs));
    }
#else
    // 0 to 3 and 8 to 11, then 4 to 7 and 12 to 15.
    const __m256i shorts = _mm256_packs_epi32((__m256i)v.a, (__m256i)v.b);
    if constexpr (bits == 8) {
      const __m256i bytes = _mm256_packus_epi16(shorts, shorts);
      const __m256i in_order =
          _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
      _mm_storeu_si128(out, _mm256_castsi256_si128(in_order));
    } else {
      const __m256i pairs = _mm256_or_si256(shorts, _mm256_srli_epi32(shorts, 12));
      const __m256i bytes = _mm256_shuffle_epi8(
          pairs, _mm256_broadcastsi128_si256(
                     _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1)));
      _mm_storel_epi64(out, _mm_unpacklo_epi16(_mm256_castsi256_si128(bytes),
                                               _mm256_extracti128_si256(bytes, 1)));
    }
#endif
  }
};
#endif

#if defined(__AVX2__)
/// 16 symbols of 4 or 8 bits as the low bits of lanes; above those of 4 there is anything.
template <int bits>
TERN_INLINE Bits load_packed(const uint8_t* in) {
  static_assert(bits == 4 || bits == 8);
#if defined(__AVX512F__)
  if constexpr (bits == 8)
    return {(BitsPart)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)))};
  // A byte in 64 bits: its upper half goes to the upper lane.
  const __m512i pairs = _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(in)));
  return {(BitsPart)_mm512_or_si512(pairs, _mm512_slli_epi64(pairs, 28))};
#else
  const auto part = [](const uint8_t* from) TERN_INLINE_LAMBDA {
    if constexpr (bits == 8)
      return (BitsPart)_mm256_cvtepu8_epi32(
          _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    uint32_t four;
    __builtin_memcpy(&four, from, sizeof four);
    const __m256i pairs = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(static_cast<int>(four)));
    return (BitsPart)_mm256_or_si256(pairs, _mm256_slli_epi64(pairs, 28));
  };
  return {part(in), part(in + bits)};
#endif
}
#endif

/// Which bits of a byte are set, and how many.
struct BitLists {
  uint8_t of[256][8] = {};
  uint8_t count[256] = {};
  constexpr BitLists() {
    for (int byte = 0; byte < 256; ++byte)
      for (uint8_t bit = 0; bit < 8; ++bit)
        if ((byte >> bit & 1) != 0) of[byte][count[byte]++] = bit;
  }
};
constexpr BitLists kBitLists;

/// Eight bits at a time by a table, and always eight results, of which the next byte's overwrite
/// those that don't count: how many bits are set can't be guessed, so branches on it are slow.
void list_bits(const uint64_t* bits, size_t words, size_t count, uint16_t* out) {
  typedef uint8_t Bytes __attribute__((vector_size(8)));
  typedef uint16_t Shorts __attribute__((vector_size(16)));
  size_t done = 0, byte = 0;
  for (; byte < 8 * words && done + 8 <= count; ++byte) {
    const auto set = static_cast<uint8_t>(bits[byte / 8] >> 8 * (byte % 8));
    Bytes list;
    __builtin_memcpy(&list, kBitLists.of[set], sizeof list);
    const Shorts numbers = __builtin_convertvector(list, Shorts) + static_cast<uint16_t>(8 * byte);
    __builtin_memcpy(out + done, &numbers, sizeof numbers);
    done += kBitLists.count[set];
  }
  for (; byte < 8 * words; ++byte)
    for (size_t bit = 0; bit < 8; ++bit)
      if ((bits[byte / 8] >> (8 * (byte % 8) + bit) & 1) != 0)
        out[done++] = static_cast<uint16_t>(8 * byte + bit);
}

}  // namespace
}  // namespace tern
