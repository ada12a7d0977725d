/// float32, float16 and bfloat16 values, rounded to nearest even; float16 saturates at 65504.
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

class Float32 : public FloatFormat {
 public:
  size_t width() const override { return 4; }
  void write(const float* values, size_t k, std::byte* out) const override {
    if (k > 0) std::memcpy(out, values, 4 * k);
  }
  void read(const std::byte* in, size_t k, float* values) const override {
    if (k > 0) std::memcpy(values, in, 4 * k);
  }
};

/// Both 16-bit formats: the kernels tell them apart.
class Half : public FloatFormat {
 public:
  using To = void (*Kernels::*)(const float*, size_t, uint8_t*);
  using From = void (*Kernels::*)(const uint8_t*, size_t, float*);
  Half(To to, From from) : to_(to), from_(from) {}

  size_t width() const override { return 2; }
  void write(const float* values, size_t k, std::byte* out) const override {
    (kernels().*to_)(values, k, reinterpret_cast<uint8_t*>(out));
  }
  void read(const std::byte* in, size_t k, float* values) const override {
    (kernels().*from_)(reinterpret_cast<const uint8_t*>(in), k, values);
  }

 private:
  To to_;
  From from_;
};

}  // namespace

std::unique_ptr<const FloatFormat> make_float32() { return std::make_unique<Float32>(); }
std::unique_ptr<const FloatFormat> make_float16() {
  return std::make_unique<Half>(&Kernels::to_float16, &Kernels::from_float16);
}
std::unique_ptr<const FloatFormat> make_bfloat16() {
  return std::make_unique<Half>(&Kernels::to_bfloat16, &Kernels::from_bfloat16);
}

}  // namespace tern
