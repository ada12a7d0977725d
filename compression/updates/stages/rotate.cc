/// Random rotation: signs drawn from the seed, then a Hadamard transform of each block, scaled to
/// keep norms. It makes every coordinate of a block look like a draw from a normal, which is what
/// eden's levels are made for. The last block is the smallest power of two that holds the rest, so
/// at most one block is padded.
///
/// - Paper: Suresh et al. 2017, arXiv:1611.00429; blocks instead of one transform of the vector.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/rng.h"
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

class Rotate : public Transform {
 public:
  explicit Rotate(size_t block) : block_(block) {}

  size_t block() const override { return block_; }

  size_t padded(size_t n) const override {
    const size_t rest = n % block_;
    return n - rest + (rest == 0 ? 0 : std::bit_ceil(rest));
  }

  void draw(size_t n, const ChunkContext& context, uint32_t* signs) const override {
    const std::array<uint32_t, 2> key = rng_key(context.seed, Purpose::kRotate);
    const std::array<uint32_t, 4> counter = {0, 0, 0, context.chunk};
    kernels().random_blocks(counter.data(), key.data(), (padded(n) + 127) / 128, signs);
  }

  void forward(const float* x, size_t n, const uint32_t* signs, std::span<const float> ahead,
               float* out) const override {
    const bool half = ahead.size() < n;
    for_each_block(padded(n), [&](size_t at, size_t length) {
      const float* from = x + at;
      if (at + length > n) {  // only the last block is padded
        std::copy(from, x + n, out + at);
        std::fill(out + n, out + at + length, 0.0f);
        from = out + at;
      }
      with_signs(signs, at, [&](const uint32_t* own) {
        kernels().rotate(from, own, length, scale(length), ahead.data() + (half ? at / 2 : at),
                         half, out + at);
      });
    });
  }

  void inverse(float* x, size_t n, const uint32_t* signs,
               std::span<const int64_t> target) const override {
    for_each_block(padded(n), [&](size_t at, size_t length) {
      with_signs(signs, at, [&](const uint32_t* own) {
        const bool known = at + length <= target.size();
        kernels().rotate_back(x + at, own, length, scale(length),
                              known ? target.data() + at : nullptr);
      });
    });
  }

 private:
  static float scale(size_t length) {
    return static_cast<float>(1.0 / std::sqrt(static_cast<double>(length)));
  }

  /// Blocks of at least 32 start at a whole word; a shorter one, which is the last or the block
  /// length is 16, is shifted.
  template <typename F>
  static void with_signs(const uint32_t* signs, size_t at, F f) {
    if (at % 32 == 0) return f(signs + at / 32);
    const uint32_t shifted = signs[at / 32] >> (at % 32);
    f(&shifted);
  }

  template <typename F>
  void for_each_block(size_t m, F f) const {
    size_t at = 0;
    for (; at + block_ <= m; at += block_) f(at, block_);
    if (at < m) f(at, m - at);
  }

  size_t block_;
};

}  // namespace

std::unique_ptr<const Transform> make_rotate(uint32_t block) {
  return std::make_unique<Rotate>(block);
}

}  // namespace tern
