/// float32, float16 and bfloat16 values, rounded to nearest even; float16 saturates at 65504.
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

size_t total(Groups groups) { return groups.empty() ? 0 : groups.back(); }

class Float32 : public Quantizer {
 public:
  size_t bytes(size_t k, size_t, bool) const override { return 4 * k; }
  void encode(const float* values, Groups groups, bool, const ChunkContext&, uint16_t*,
              std::byte* out) const override {
    std::memcpy(out, values, 4 * total(groups));
  }
  Status decode(const std::byte* in, Groups groups, bool, const ChunkContext&, uint16_t*,
                float* values) const override {
    std::memcpy(values, in, 4 * total(groups));
    return {};
  }
};

/// Both 16-bit formats: the kernels tell them apart.
class Half : public Quantizer {
 public:
  using To = void (*Kernels::*)(const float*, size_t, uint8_t*);
  using From = void (*Kernels::*)(const uint8_t*, size_t, float*);
  Half(To to, From from) : to_(to), from_(from) {}

  size_t bytes(size_t k, size_t, bool) const override { return 2 * k; }
  void encode(const float* values, Groups groups, bool, const ChunkContext&, uint16_t*,
              std::byte* out) const override {
    (kernels().*to_)(values, total(groups), reinterpret_cast<uint8_t*>(out));
  }
  Status decode(const std::byte* in, Groups groups, bool, const ChunkContext&, uint16_t*,
                float* values) const override {
    (kernels().*from_)(reinterpret_cast<const uint8_t*>(in), total(groups), values);
    return {};
  }

 private:
  To to_;
  From from_;
};

}  // namespace

std::shared_ptr<const Quantizer> make_float32() { return std::make_shared<Float32>(); }
std::shared_ptr<const Quantizer> make_float16() {
  return std::make_shared<Half>(&Kernels::to_float16, &Kernels::from_float16);
}
std::shared_ptr<const Quantizer> make_bfloat16() {
  return std::make_shared<Half>(&Kernels::to_bfloat16, &Kernels::from_bfloat16);
}

}  // namespace tern
