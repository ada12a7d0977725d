// Half precision. Part of kernels-inl.h.

namespace tern {
namespace {

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

}  // namespace
}  // namespace tern
