/// A cosine transform of weights that belong to images: those of one output to the pixels of an
/// image, S x S of them, change smoothly from pixel to pixel because the images do. By frequency,
/// most of an update lies in few coefficients, the low ones.
///
/// - Shape: tensors whose rows (layout.h) are whole blocks of S x S; others stay as they are. The
///   stream has as many numbers as before, a tensor's coefficients by frequency: first the lowest
///   of all its blocks, so that neighbours in the stream are alike, as groups that share a scale
///   want.
/// - Error: rounding; the transform is orthonormal. With `lowpass` only the lowest of a block's
///   frequencies are in the stream, and the others come back as zeros: what is left is the update's
///   projection on them.
/// - Cost: 4 S operations an element.
/// - Paper: Peng et al. 2024, arXiv:2411.19870 (DeMo), for blocks of any tensor; here for what is
/// an
///   image, and by frequency.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "compression/updates/kernels/kernels.h"
#include "compression/updates/scratch.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

class Dct : public Projection {
 public:
  Dct(size_t side, size_t percent)
      : side_(side),
        size_(side * side),
        band_(std::max<size_t>(1, (size_ * percent + 50) / 100)),
        rows_(size_),
        columns_(size_) {
    const double n = static_cast<double>(side);
    for (size_t k = 0; k < side; ++k)
      for (size_t i = 0; i < side; ++i) {
        // In quarters of a turn over `side`; a right angle's cosine is 0 and no rounding of pi.
        const size_t angle = (2 * i + 1) * k % (4 * side);
        const double cosine =
            angle % (2 * side) == side
                ? 0
                : std::cos(std::numbers::pi * (static_cast<double>(angle) / (2 * n)));
        const double value = std::sqrt((k == 0 ? 1 : 2) / n) * cosine;
        rows_[k * side + i] = static_cast<float>(value);
        columns_[i * side + k] = static_cast<float>(value);
      }
    for (size_t sum = 0; sum < 2 * side; ++sum)
      for (size_t u = 0; u < side; ++u)
        if (sum >= u && sum - u < side) order_.push_back(u * side + sum - u);
  }

  size_t projected(const Layout& layout) const override {
    size_t elements = 0;
    for (const Piece& piece : layout.main) elements += projected(piece);
    return elements;
  }

  std::string idle(const Layout& layout) const override {
    if (std::ranges::any_of(layout.main, [&](const Piece& piece) { return has_images(piece); }))
      return {};
    return fmt::format("no weight has rows of whole {0} x {0} images", side_);
  }

  void forward(std::span<const float> x, const Layout& layout, uint64_t, bool,
               std::span<const float>, CodecScratch& scratch) const override {
    scratch.stream.resize(projected(layout));
    float* to = scratch.stream.data();
    for (const Piece& piece : layout.main) {
      const float* from = x.data() + piece.at;
      if (!has_images(piece)) {
        to = std::copy_n(from, piece.size(), to);
        continue;
      }
      const size_t blocks = piece.size() / size_;
      for_each_batch(blocks, [&](size_t first, size_t n) {
        float* batch = scratch.chunk.data();
        for (size_t j = 0; j < n; ++j)
          for (size_t e = 0; e < size_; ++e) batch[e * n + j] = from[(first + j) * size_ + e];
        transform(rows_, n, scratch, batch);
        for (size_t place = 0; place < band_; ++place)
          std::copy_n(batch + order_[place] * n, n, to + place * blocks + first);
      });
      to += projected(piece);
    }
  }

  void inverse(std::span<const float> stream, const Layout& layout, uint64_t, CodecScratch& scratch,
               ValueSink& sink) const override {
    const float* from = stream.data();
    for (const Piece& piece : layout.main) {
      if (!has_images(piece)) {
        sink.dense(piece.at, {from, piece.size()});
        from += piece.size();
        continue;
      }
      const size_t blocks = piece.size() / size_;
      for_each_batch(blocks, [&](size_t first, size_t n) {
        float* batch = scratch.chunk.data();
        for (size_t place = 0; place < band_; ++place)
          std::copy_n(from + place * blocks + first, n, batch + order_[place] * n);
        for (size_t place = band_; place < size_; ++place)
          std::fill_n(batch + order_[place] * n, n, 0.0f);
        transform(columns_, n, scratch, batch);
        float* images = scratch.values.data();
        for (size_t j = 0; j < n; ++j)
          for (size_t e = 0; e < size_; ++e) images[j * size_ + e] = batch[e * n + j];
        sink.dense(piece.at + first * size_, {images, n * size_});
      });
      from += projected(piece);
    }
  }

 private:
  /// Blocks side by side, so that kernels have some length to work on and all fits in a chunk.
  static constexpr size_t kBatch = 64;
  static_assert(32 * 32 * kBatch <= kChunkElements);

  bool has_images(const Piece& piece) const { return piece.columns % size_ == 0; }
  size_t projected(const Piece& piece) const {
    return has_images(piece) ? piece.size() / size_ * band_ : piece.size();
  }

  template <typename F>
  static void for_each_batch(size_t blocks, F f) {
    for (size_t at = 0; at < blocks; at += kBatch) f(at, std::min(kBatch, blocks - at));
  }

  /// M X M^T for each of n blocks X, of which element e of block j is batch[e n + j].
  void transform(const std::vector<float>& m, size_t n, CodecScratch& scratch, float* batch) const {
    for (size_t line = 0; line < side_; ++line) along(m, side_ * n, n, scratch, batch + line * n);
    for (size_t line = 0; line < side_; ++line) along(m, n, n, scratch, batch + line * side_ * n);
  }

  /// One line of all blocks, of which neighbours are `step` apart.
  void along(const std::vector<float>& m, size_t step, size_t n, CodecScratch& scratch,
             float* line) const {
    float* sums = scratch.values.data();
    for (size_t k = 0; k < side_; ++k)
      kernels().combine(m.data() + k * side_, side_, line, step, n, sums + k * n);
    for (size_t k = 0; k < side_; ++k) std::copy_n(sums + k * n, n, line + k * step);
  }

  size_t side_;
  size_t size_;                 ///< elements of a block
  size_t band_;                 ///< of its frequencies those in the stream
  std::vector<float> rows_;     ///< row k is frequency k
  std::vector<float> columns_;  ///< its transpose, the inverse
  std::vector<size_t> order_;   ///< of a block's coefficients in the stream
};

}  // namespace

std::unique_ptr<const Projection> make_dct(uint32_t side, uint32_t percent_of_band) {
  return std::make_unique<Dct>(side, percent_of_band);
}

}  // namespace tern
