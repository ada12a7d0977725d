/// The loops over values that cost time, chosen once for the CPU (base/cpu_level.h). One plain
/// source, kernels-inl.h, is compiled for each level; results are the same bits on all: sums run in
/// 16 fixed lanes, nothing is fused or reordered. Shape: n may be 0; pointers need no alignment and
/// don't overlap unless said. Threads: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu_level.h"

namespace tern {

/// Levels of magnitudes: `bits` - 1 of a symbol's bits, below its sign.
struct LevelTable {
  /// `bounds`: 2^(bits-1) - 1, increasing; `centroids`: one more. Both stay the caller's.
  LevelTable(int bits, const float* bounds, const float* centroids);

  static constexpr size_t kCells = 16;
  static constexpr float kCellsToOne = 4;  // a power of two: products with it are exact

  int bits;
  const float* bounds;
  const float* centroids;
  // The rest is for up to 4 bits.
  /// Both once more, with room for kernels that read 8 entries from any of them on.
  float few_bounds[16] = {};
  float few_centroids[8] = {};
  /// By the cell [c, c + 1) that kCellsToOne times a magnitude is in, the last one without an end:
  /// kCellsToOne times the bound in it, or infinity, and how many bounds are below the cell.
  float cell_bound[kCells] = {};
  uint32_t cell_below[kCells] = {};
  bool has_cells = false;  ///< no cell has more than one
};

struct Kernels {
  /// Sums in double over 16 lanes (element i goes to lane i % 16), lanes added pairwise.
  double (*sum_abs)(const float* x, size_t n);
  double (*sum_squares)(const float* x, size_t n);
  double (*dot)(const float* x, const float* y, size_t n);
  /// sum_squares in float over 64 lanes; of no use where it isn't between 2^-80 and 2^120, since
  /// squares then got lost.
  float (*quick_squares)(const float* x, size_t n);
  /// dot in float over 64 lanes, which may not get beyond what a float holds.
  float (*quick_dot)(const float* x, const float* y, size_t n);
  float (*max_abs)(const float* x, size_t n);
  /// y[i] += a * x[i]
  void (*add_scaled)(float a, const float* x, size_t n, float* y);
  /// out[i] = 0 + factors[0] * x[i] + factors[1] * x[stride + i] + ..., `count` of them, in order.
  void (*combine)(const float* factors, size_t count, const float* x, size_t stride, size_t n,
                  float* out);

  /// out[i] = x[i] + sign * y[i], sign 1 or -1; returns the largest magnitude, or NaN where there
  /// is one. `out` may be x or y.
  float (*add_max)(const float* x, const float* y, size_t n, float sign, float* out);
  /// y[i] -= x[i]
  void (*subtract)(const float* x, size_t n, float* y);

  /// out = H (s x) with s[i] = scale, negated where bit i of `signs` is set (bit i of word i/32),
  /// and H the unnormalized Hadamard matrix; n is a power of two, at least 1. `out` may be x.
  /// Brings n values from `ahead`, or half of them, into the second cache meanwhile.
  void (*rotate)(const float* x, const uint32_t* signs, size_t n, float scale, const float* ahead,
                 bool half, float* out);
  /// x = s H x: the inverse, where both scales together are 1/n. Brings most of n sums from
  /// `ahead`, unless that is null, into the second cache meanwhile.
  void (*rotate_back)(float* x, const uint32_t* signs, size_t n, float scale, const int64_t* ahead);
  /// The Philox blocks of `counter` (4 words) and those after it, which count up its first word,
  /// under `key` (2 words), as base/rng.h has them: 4 words each.
  void (*random_blocks)(const uint32_t* counter, const uint32_t* key, size_t blocks, uint32_t* out);

  // quantize_int and quantize_levels write symbols to `out`, or where `packed` isn't null to that
  // as pack() has them, and anything to `out`, which has room for n in any case.

  /// out[i] = limit + floor(y) + (u_i < frac(y)), y = x[i]*inverse_scale clamped to -limit..limit;
  /// u_i uniform from (key, i), and both it and frac(y) multiples of 2^-24, or for a limit above
  /// 127 of 2^-(31 - its bits): unbiased but for half of that. limit: 1 to 32,767. Brings n values
  /// from `ahead` into the second cache meanwhile.
  void (*quantize_int)(const float* x, size_t n, float inverse_scale, int limit, uint64_t key,
                       const float* ahead, uint16_t* out, uint8_t* packed);
  /// out[i] = (symbols[i] - limit) * scale
  void (*dequantize_int)(const uint16_t* symbols, size_t n, int limit, float scale, float* out);
  /// unpack() of so many bits as symbols up to 2 * limit have, and dequantize_int; anything in
  /// `symbols`, which has room for n. Returns the largest symbol.
  uint32_t (*unpack_int)(const uint8_t* packed, uint16_t* symbols, size_t n, int limit, float scale,
                         float* out);
  /// out[i] = 2 * exponent + sign of one of the two powers of two around x[i]: unbiased.
  void (*quantize_natural)(const float* x, size_t n, uint64_t key, uint16_t* out);
  /// out[i] = x[i] < 0 in the top bit, below it the number of the table's bounds under
  /// |x[i]|*factor. *dot = the sum of |x[i]| * its centroid, *squares, unless null, that of the
  /// squared centroids, both over the lanes of sum_squares but in float: for a thousand values.
  /// Brings n / 2 values from `ahead` into the second cache meanwhile.
  void (*quantize_levels)(const float* x, size_t n, float factor, const LevelTable& table,
                          const float* ahead, uint16_t* out, uint8_t* packed, double* dot,
                          double* squares);
  /// Inverse of quantize_levels: +-scale * centroids[low bits].
  void (*lookup_levels)(const uint16_t* symbols, size_t n, const float* centroids, int bits,
                        float scale, float* out);
  /// unpack() and lookup_levels; anything in `symbols`, which has room for n.
  void (*unpack_levels)(const uint8_t* packed, uint16_t* symbols, size_t n, const float* centroids,
                        int bits, float scale, float* out);
  /// out[i] = x[i] < 0, and back: +-scale.
  void (*quantize_signs)(const float* x, size_t n, uint16_t* out);
  void (*lookup_signs)(const uint16_t* symbols, size_t n, float scale, float* out);

  /// n symbols of `bits` (1..16) bits, least significant first; writes/reads (n*bits + 7) / 8
  /// bytes, padding bits 0.
  void (*pack)(const uint16_t* symbols, size_t n, int bits, uint8_t* out);
  void (*unpack)(const uint8_t* in, size_t n, int bits, uint16_t* symbols);

  /// Writes the numbers of the bits that are set in at most 1,024 words, in order: `count` of them.
  void (*list_bits)(const uint64_t* bits, size_t words, size_t count, uint16_t* out);

  void (*to_float16)(const float* x, size_t n, uint8_t* out);
  void (*from_float16)(const uint8_t* in, size_t n, float* out);
  void (*to_bfloat16)(const float* x, size_t n, uint8_t* out);
  void (*from_bfloat16)(const uint8_t* in, size_t n, float* out);

  /// Writes first + i and x[i] for the i, in order, whose magnitude's bits are at least `least` >
  /// 0; returns how many. *largest as max_abs.
  size_t (*collect)(const float* x, size_t n, uint32_t least, uint32_t first, uint32_t* index,
                    float* values, float* largest);
  /// add_max and collect of its sums in one pass. `bypass`: `out` is not kept in the caches, which
  /// is faster where it is more than they hold.
  size_t (*add_collect)(const float* x, const float* y, size_t n, float sign, float* out,
                        bool bypass, uint32_t least, uint32_t first, uint32_t* index, float* values,
                        float* largest);

  /// acc[i] += m * llrint(x[i] * scale)
  void (*accumulate)(int64_t* acc, const float* x, size_t n, double scale, int64_t m);
  void (*accumulate_sparse)(int64_t* acc, const uint16_t* index, const float* x, size_t k,
                            double scale, int64_t m);
  /// out[i] = acc[i] / divisor, in double, then in float
  void (*divide)(const int64_t* acc, size_t n, double divisor, float* out);
};

/// The table in use: that of cpu_level(), until use_kernels().
const Kernels& kernels();
/// Changes the table for the whole process, so that one run can compare levels; false where this
/// CPU or this build doesn't have it. Results are the same with any table.
bool use_kernels(CpuLevel level);
/// A given level's table, for tests; null if it wasn't built for this architecture.
const Kernels* kernels_for(CpuLevel level);

extern const Kernels kBaselineKernels;
#ifdef TERN_X86_LEVELS
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace tern
