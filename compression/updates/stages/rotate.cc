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

  size_t padded(size_t n) const override {
    const size_t rest = n % block_;
    return n - rest + (rest == 0 ? 0 : std::bit_ceil(rest));
  }

  void forward(const float* x, size_t n, const ChunkContext& context, float* out) const override {
    const size_t m = padded(n);
    const Signs signs = draw(m, context);
    for_each_block(m, [&](size_t at, size_t length) {
      const float* from = x + at;
      if (at + length > n) {  // only the last block is padded
        std::copy(from, x + n, out + at);
        std::fill(out + n, out + m, 0.0f);
        from = out + at;
      }
      flip(from, signs, at, length, out + at);
      kernels().hadamard(out + at, length);
    });
  }

  void inverse(float* x, size_t n, const ChunkContext& context) const override {
    const size_t m = padded(n);
    const Signs signs = draw(m, context);
    for_each_block(m, [&](size_t at, size_t length) {
      kernels().hadamard(x + at, length);
      flip(x + at, signs, at, length, x + at);
    });
  }

 private:
  using Signs = std::array<uint32_t, kChunkElements / 32>;

  static Signs draw(size_t m, const ChunkContext& context) {
    Signs signs;
    const std::array<uint32_t, 2> key = rng_key(context.seed, Purpose::kRotate);
    const std::array<uint32_t, 4> counter = {0, 0, 0, context.chunk};
    kernels().random_blocks(counter.data(), key.data(), (m + 127) / 128, signs.data());
    return signs;
  }

  /// Blocks of at least 32 start at a whole word; a shorter one, which is the last or the block
  /// length is 16, is shifted.
  static void flip(const float* x, const Signs& signs, size_t at, size_t length, float* out) {
    const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(length)));
    if (at % 32 == 0) {
      kernels().flip_signs(x, signs.data() + at / 32, length, scale, out);
    } else {
      const uint32_t shifted = signs[at / 32] >> (at % 32);
      kernels().flip_signs(x, &shifted, length, scale, out);
    }
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
