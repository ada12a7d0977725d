// Compiled once for each CPU level; the including file defines TERN_KERNEL_TABLE. Only raw pointers
// and builtins: an inline function of the standard library, built here with AVX flags, could be
// linked into code for older CPUs. Vectors are the compiler's; intrinsics only for what it has no
// word for (a lookup in a register, compress, bits of a mask).

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "compression/updates/kernels/lanes-inl.h"
// The others need it.
#include "compression/updates/kernels/accumulate-inl.h"
#include "compression/updates/kernels/floats-inl.h"
#include "compression/updates/kernels/pack-inl.h"
#include "compression/updates/kernels/rotate-inl.h"
#include "compression/updates/kernels/sums-inl.h"
// After sums.
#include "compression/updates/kernels/quantize-inl.h"
#include "compression/updates/kernels/select-inl.h"

namespace tern {

const Kernels TERN_KERNEL_TABLE = {
    .sum_abs = sum_abs,
    .sum_squares = sum_squares,
    .dot = dot,
    .quick_squares = quick_squares,
    .quick_dot = quick_dot,
    .max_abs = max_abs,
    .add_scaled = add_scaled,
    .combine = combine,
    .add_max = add_max,
    .subtract = subtract,
    .rotate = rotate,
    .rotate_back = rotate_back,
    .random_blocks = random_blocks,
    .quantize_int = quantize_int,
    .dequantize_int = dequantize_int,
    .unpack_int = unpack_int,
    .quantize_natural = quantize_natural,
    .quantize_levels = quantize_levels,
    .lookup_levels = lookup_levels,
    .unpack_levels = unpack_levels,
    .quantize_signs = quantize_signs,
    .lookup_signs = lookup_signs,
    .pack = pack,
    .unpack = unpack,
    .list_bits = list_bits,
    .to_float16 = to_float16,
    .from_float16 = from_float16,
    .to_bfloat16 = to_bfloat16,
    .from_bfloat16 = from_bfloat16,
    .collect = collect,
    .add_collect = add_collect,
    .accumulate = accumulate,
    .accumulate_sparse = accumulate_sparse,
    .divide = divide,
};

}  // namespace tern
