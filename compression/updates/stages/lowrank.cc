/// Two factors in place of each matrix: M (m x n) becomes P (m x r, orthonormal columns) and
/// Q = M^T P (n x r), one step of the power iteration from the Q of the sender's last committed
/// frame, or from random numbers. Vectors, and matrices that the factors wouldn't make smaller,
/// travel as they are.
///
/// - Shape: matrices as in layout.h; r (m + n) floats in place of m n.
/// - Error: that of the best approximation of rank r, approached from round to round while M's
///   column space moves slowly; exact at once when M has rank r or less. Biased.
/// - Cost: 4 m n r multiplications to encode, 2 m n r to decode.
/// - Layout: for each tensor P column by column, then Q column by column.
/// - Paper: Vogels et al. 2019, arXiv:1905.13727 (PowerSGD), for one client instead of an
/// all-reduce
///   of the factors; a column without a direction of its own becomes zero, and starts at random in
///   the next round.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/scratch.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

// What is left of a column after the others are taken out counts as rounding below this share.
constexpr double kIndependent = 1e-5;

class LowRank : public Projection {
 public:
  explicit LowRank(uint32_t rank) : rank_(rank) {}

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
      factor_elements += factored(piece) ? rank_ * piece.columns : 0;
    const bool warm = before.size() == factor_elements;
    scratch.factors.resize(factor_elements);
    float* out = scratch.stream.data();
    float* factor = scratch.factors.data();
    for (size_t i = 0; i < layout.main.size(); ++i) {
      const Piece& piece = layout.main[i];
      const float* m = x.data() + piece.at;
      if (!factored(piece)) {
        out = std::copy_n(m, piece.size(), out);
        continue;
      }
      const size_t length = rank_ * piece.columns;
      if (warm)
        std::copy_n(before.data() + (factor - scratch.factors.data()), length, factor);
      else
        std::fill_n(factor, length, 0.0f);
      Rng rng(seed, Purpose::kLowRank, 0, 0, static_cast<uint32_t>(i));
      fill_empty(factor, piece.columns, rng);
      factorize(m, piece, factor, out);
      std::copy_n(out + rank_ * piece.rows, length, factor);
      out += projected(piece);
      factor += length;
    }
  }

  void inverse(std::span<const float> stream, const Layout& layout, uint64_t, CodecScratch& scratch,
               ValueSink& sink) const override {
    const float* in = stream.data();
    for (const Piece& piece : layout.main) {
      if (!factored(piece)) {
        sink.dense(piece.at, {in, piece.size()});
        in += piece.size();
        continue;
      }
      const float* p = in;
      const float* q = in + rank_ * piece.rows;
      for (size_t row = 0; row < piece.rows; ++row)
        for (size_t column = 0; column < piece.columns; column += kChunkElements) {
          const size_t width = std::min(kChunkElements, piece.columns - column);
          float* values = scratch.chunk.data();
          std::fill_n(values, width, 0.0f);
          for (size_t r = 0; r < rank_; ++r)
            kernels().add_scaled(p[r * piece.rows + row], q + r * piece.columns + column, width,
                                 values);
          sink.dense(piece.at + row * piece.columns + column, {values, width});
        }
      in += projected(piece);
    }
  }

  std::string idle(const Layout& layout) const override {
    if (std::ranges::any_of(layout.main, [&](const Piece& piece) { return factored(piece); }))
      return {};
    return fmt::format("no weight is larger than its factors of rank {}", rank_);
  }

 private:
  bool factored(const Piece& piece) const {
    return rank_ * (piece.rows + piece.columns) < piece.size();
  }
  size_t projected(const Piece& piece) const {
    return factored(piece) ? rank_ * (piece.rows + piece.columns) : piece.size();
  }

  /// Random directions for the columns of Q that have none.
  void fill_empty(float* q, size_t n, Rng& rng) const {
    for (size_t r = 0; r < rank_; ++r) {
      float* column = q + r * n;
      if (kernels().max_abs(column, n) > 0) continue;
      for (size_t j = 0; j < n; ++j)
        column[j] = static_cast<float>(static_cast<int32_t>(rng.next())) * 0x1p-31f;
    }
  }

  /// Writes P and Q of m to `out`; `start` is the Q to begin with.
  void factorize(const float* m, const Piece& piece, const float* start, float* out) const {
    float* p = out;
    float* q = out + rank_ * piece.rows;
    for (size_t r = 0; r < rank_; ++r)
      for (size_t row = 0; row < piece.rows; ++row)
        p[r * piece.rows + row] = static_cast<float>(
            kernels().dot(m + row * piece.columns, start + r * piece.columns, piece.columns));
    orthonormalize(p, piece.rows);
    std::fill_n(q, rank_ * piece.columns, 0.0f);
    for (size_t row = 0; row < piece.rows; ++row)
      for (size_t r = 0; r < rank_; ++r)
        kernels().add_scaled(p[r * piece.rows + row], m + row * piece.columns, piece.columns,
                             q + r * piece.columns);
  }

  /// Gram-Schmidt, each column twice against those before it.
  void orthonormalize(float* p, size_t m) const {
    for (size_t r = 0; r < rank_; ++r) {
      float* column = p + r * m;
      const double before = std::sqrt(kernels().sum_squares(column, m));
      for (int pass = 0; pass < 2; ++pass)
        for (size_t other = 0; other < r; ++other) {
          const double shared = kernels().dot(column, p + other * m, m);
          kernels().add_scaled(static_cast<float>(-shared), p + other * m, m, column);
        }
      const double after = std::sqrt(kernels().sum_squares(column, m));
      const bool empty = !(after > kIndependent * before) || after < 0x1p-100;
      for (size_t i = 0; i < m; ++i)
        column[i] = empty ? 0.0f : static_cast<float>(static_cast<double>(column[i]) / after);
    }
  }

  size_t rank_;
};

}  // namespace

std::unique_ptr<const Projection> make_lowrank(uint32_t rank) {
  return std::make_unique<LowRank>(rank);
}

}  // namespace tern
