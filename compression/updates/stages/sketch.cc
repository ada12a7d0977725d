/// A count sketch: R rows of C cells, each element added with a random sign to one random cell of
/// each row. What is recovered are the heavy hitters, the C/10 elements with the largest estimates
/// (an estimate is the median over the rows); all others count as zero. An update of no more
/// elements than cells travels as it is.
///
/// - Bits: 32 R C / n with float32 cells.
/// - Error: an estimate is off by about ||tail|| / sqrt(C) in each row, and the median of R rows is
///   rarely off by much more. Biased, for what isn't recovered is lost. Under error feedback the
///   cells are scaled so that the error is never above ||x||.
/// - Cost: O(n R) to encode and to decode.
/// - Summable: the sketches of several clients with one seed add up to that of their sum.
/// - Paper: Charikar, Chen & Farach-Colton 2002; Rothchild et al. 2020, arXiv:2007.07682 (FetchSGD,
///   whose ratio of recovered elements to columns is the same tenth). Deviation: momentum and error
///   feedback are the client's and outside of the sketch; FetchSGD's, inside it on the server, need
///   sums of sketches.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/rng.h"
#include "compression/updates/scratch.h"
#include "compression/updates/stages/cut.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

constexpr size_t kMostRows = 15;
constexpr size_t kColumnsPerHeavyHitter = 10;

class Sketch : public Projection {
 public:
  Sketch(size_t rows, size_t columns) : rows_(rows), columns_(columns) {}

  size_t projected(const Layout& layout) const override {
    return std::min(rows_ * columns_, layout.main_elements);
  }

  void forward(std::span<const float> x, const Layout& layout, uint64_t seed, bool error_feedback,
               std::span<const float>, CodecScratch& scratch) const override {
    scratch.stream.assign(projected(layout), 0.0f);
    if (!sketches(x.size())) {
      std::ranges::copy(x, scratch.stream.begin());
      return;
    }
    const Keys keys = draw(seed);
    for (size_t i = 0; i < x.size(); ++i) {
      if (x[i] == 0) continue;
      for (size_t row = 0; row < rows_; ++row) {
        const Cell cell = find(keys[row], i);
        scratch.stream[row * columns_ + cell.column] += signed_value(x[i], cell);
      }
    }
    if (error_feedback) shrink(x, layout, seed, scratch);
  }

  void inverse(std::span<const float> stream, const Layout& layout, uint64_t seed,
               CodecScratch& scratch, ValueSink& sink) const override {
    const size_t n = layout.main_elements;
    if (!sketches(n)) {
      if (n > 0) sink.dense(0, stream);
      return;
    }
    const Keys keys = draw(seed);
    CodecScratch::make_room(scratch.estimates, n);
    for (size_t i = 0; i < n; ++i) {
      std::array<float, kMostRows> estimates{};
      for (size_t row = 0; row < rows_; ++row) {
        const Cell cell = find(keys[row], i);
        estimates[row] = signed_value(stream[row * columns_ + cell.column], cell);
      }
      scratch.estimates[i] = median(std::span(estimates).first(rows_));
    }
    const size_t k = std::max<size_t>(1, columns_ / kColumnsPerHeavyHitter);
    scratch.cut = 0;
    scratch.found.clear();
    scratch.cuts.assign(1, find_cut(scratch.estimates, std::min(k, n), scratch.histogram));
    scratch.cuts[0].end = n;
    for (size_t at = 0; at < n; at += kChunkElements) {
      const size_t found =
          select_above(scratch.estimates.data() + at, std::min(kChunkElements, n - at), at, scratch,
                       scratch.index.data(), scratch.values.data());
      sink.sparse(at, {scratch.index.data(), found}, {scratch.values.data(), found});
    }
  }

 private:
  using Keys = std::array<uint64_t, kMostRows>;
  struct Cell {
    size_t column = 0;
    bool negative = false;
  };

  /// What the receiver recovers beside the truth.
  class ComparisonSink : public ValueSink {
   public:
    explicit ComparisonSink(std::span<const float> truth) : truth_(truth) {}
    void dense(size_t, std::span<const float>) override {}
    void sparse(size_t offset, std::span<const uint16_t> index,
                std::span<const float> values) override {
      for (size_t i = 0; i < values.size(); ++i) {
        const double value = values[i];
        dot_ += value * static_cast<double>(truth_[offset + index[i]]);
        squares_ += value * value;
      }
    }
    /// Of the values that minimizes their error.
    float best_scale() const {
      return dot_ > 0 && squares_ > 0 ? static_cast<float>(dot_ / squares_) : 0.0f;
    }

   private:
    std::span<const float> truth_;
    double dot_ = 0;
    double squares_ = 0;
  };

  /// Scales the cells, and so what is recovered, to where its error is smallest. Without this the
  /// estimates of an update without heavy hitters are noise that may be larger than the update, and
  /// error feedback would pile it up.
  void shrink(std::span<const float> x, const Layout& layout, uint64_t seed,
              CodecScratch& scratch) const {
    ComparisonSink comparison(x);
    inverse(scratch.stream, layout, seed, scratch, comparison);
    const float scale = comparison.best_scale();
    for (float& cell : scratch.stream) cell *= scale;
  }

  bool sketches(size_t n) const { return rows_ * columns_ < n; }

  Keys draw(uint64_t seed) const {
    Keys keys{};
    for (size_t row = 0; row < rows_; ++row)
      keys[row] = Rng(seed, Purpose::kSketch, 0, 0, static_cast<uint32_t>(row)).next64();
    return keys;
  }

  /// The column from the upper half of a hash of the element's number, the sign from its lowest
  /// bit.
  Cell find(uint64_t key, size_t i) const {
    const uint64_t hash = mix(key, i);
    return {.column = static_cast<size_t>((hash >> 32) * columns_ >> 32),
            .negative = (hash & 1) != 0};
  }

  static float signed_value(float x, Cell cell) { return cell.negative ? -x : x; }

  static float median(std::span<float> values) {
    std::ranges::sort(values);
    const size_t middle = values.size() / 2;
    if (values.size() % 2 == 1) return values[middle];
    return 0.5f * (values[middle - 1] + values[middle]);
  }

  size_t rows_;
  size_t columns_;
};

}  // namespace

std::unique_ptr<const Projection> make_sketch(uint32_t table) {
  return std::make_unique<Sketch>(table_rows(table), table_columns(table));
}

}  // namespace tern
