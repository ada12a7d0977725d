/// Two factors in place of each matrix: M (m x n) becomes P (m x r, orthonormal columns) and
/// Q = M^T P (n x r), one step of the power iteration from the Q of the sender's last committed
/// frame, or from random numbers. Vectors, and matrices that the factors wouldn't make smaller,
/// travel as they are.
///
/// - Shape: matrices as in layout.h; r (m + n) floats in place of m n.
/// - Error: that of the best approximation of rank r, approached from round to round while M's
///   column space moves slowly; exact at once when M has rank r or less. Biased.
/// - Cost: 2 m n r multiplications to encode, m n r to decode.
/// - Layout: for each tensor P column by column, then Q column by column.
/// - Paper: Vogels et al. 2019, arXiv:1905.13727 (PowerSGD), for one client, where the paper sums
///   factors; a column without a direction of its own becomes zero, and starts at random in the
///   next round.
#include <fmt/format.h>

#include <algorithm>

#include "compression/updates/kernels/kernels.h"
#include "compression/updates/scratch.h"
#include "compression/updates/stages/power_iteration.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

class LowRank : public Projection {
 public:
  explicit LowRank(uint32_t rank) : power_(rank) {}

  bool stateful() const override { return true; }

  size_t projected(const Layout& layout) const override {
    size_t elements = 0;
    for (const Piece& piece : layout.main) elements += projected(piece);
    return elements;
  }

  void forward(std::span<const float> x, const Layout& layout, uint64_t seed, bool,
               std::span<const float> before, CodecScratch& scratch) const override {
    scratch.stream.resize(projected(layout));
    size_t factor_elements = 0;
    for (const Piece& piece : layout.main)
      factor_elements += power_.shortens(piece) ? rank() * piece.columns : 0;
    const bool warm = before.size() == factor_elements;
    scratch.factors.resize(factor_elements);
    float* out = scratch.stream.data();
    float* factor = scratch.factors.data();
    for (size_t i = 0; i < layout.main.size(); ++i) {
      const Piece& piece = layout.main[i];
      const float* m = x.data() + piece.at;
      if (!power_.shortens(piece)) {
        out = std::copy_n(m, piece.size(), out);
        continue;
      }
      const size_t length = rank() * piece.columns;
      if (warm)
        std::copy_n(before.data() + (factor - scratch.factors.data()), length, factor);
      else
        std::fill_n(factor, length, 0.0f);
      Rng rng(seed, Purpose::kLowRank, 0, 0, static_cast<uint32_t>(i));
      power_.fill_empty(factor, piece.columns, rng);
      float* const q = out + rank() * piece.rows;
      power_.step(m, piece, factor, out, q);
      std::copy_n(q, length, factor);
      out += projected(piece);
      factor += length;
    }
  }

  void inverse(std::span<const float> stream, const Layout& layout, uint64_t, CodecScratch& scratch,
               ValueSink& sink) const override {
    const float* in = stream.data();
    for (const Piece& piece : layout.main) {
      if (!power_.shortens(piece)) {
        sink.dense(piece.at, {in, piece.size()});
        in += piece.size();
        continue;
      }
      const float* p = in;
      const float* q = in + rank() * piece.rows;
      for (size_t row = 0; row < piece.rows; ++row)
        for (size_t column = 0; column < piece.columns; column += kChunkElements) {
          const size_t width = std::min(kChunkElements, piece.columns - column);
          float* values = scratch.chunk.data();
          std::fill_n(values, width, 0.0f);
          for (size_t r = 0; r < rank(); ++r)
            kernels().add_scaled(p[r * piece.rows + row], q + r * piece.columns + column, width,
                                 values);
          sink.dense(piece.at + row * piece.columns + column, {values, width});
        }
      in += projected(piece);
    }
  }

  std::string idle(const Layout& layout) const override {
    if (std::ranges::any_of(layout.main,
                            [&](const Piece& piece) { return power_.shortens(piece); }))
      return {};
    return fmt::format("no weight is larger than its factors of rank {}", rank());
  }

 private:
  size_t rank() const { return power_.rank(); }
  size_t projected(const Piece& piece) const {
    return power_.shortens(piece) ? power_.elements(piece) : piece.size();
  }

  PowerIteration power_;
};

}  // namespace

std::unique_ptr<const Projection> make_lowrank(uint32_t rank) {
  return std::make_unique<LowRank>(rank);
}

}  // namespace tern
