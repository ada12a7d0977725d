/// rand-k with more values of the groups that have more to say: a group of 1,024 elements keeps
/// about as large a share of the rate * n values as it has of the sum of all groups' norms, which
/// makes the variance of the whole the least. Positions within a group are drawn from the frame's
/// seed; how many there are travels, a byte for each group.
///
/// - Bias: none, values are scaled by n/k of their group; under error feedback they aren't.
/// - Error: variance 1,024 (sum of norms)^2 / k - ||x||^2: that of randk where all groups have the
///   same norm, and less elsewhere.
/// - Counts travel rounded down to 5 significant bits.
/// - Paper: Wangni et al. 2018, arXiv:1710.09854 (probabilities by magnitude); here by groups, so
///   that no positions travel.
#include <algorithm>
#include <bit>
#include <cmath>

#include "compression/updates/scratch.h"
#include "compression/updates/stages/position_draws.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

// Codes below 16 are the count itself; above, 4 bits follow the leading one.
constexpr uint32_t kExact = 16;

size_t count_of(uint8_t code) {
  if (code < kExact) return code;
  return size_t{kExact + code % kExact} << (code / kExact - 1);
}

/// Of the largest count that isn't above this one.
uint8_t code_of(size_t count) {
  if (count < kExact) return static_cast<uint8_t>(count);
  const auto shift = static_cast<size_t>(std::bit_width(count)) - 5;
  return static_cast<uint8_t>((shift + 1) * kExact + (count >> shift) - kExact);
}

class RandKByNorm : public Selector {
 public:
  explicit RandKByNorm(uint32_t rate) : rate_(rate) {}

  bool seeded() const override { return true; }
  bool spreads() const override { return true; }
  size_t kept(size_t) const override { return 0; }
  size_t most_kept(const Layout& layout) const override {
    // One for each group that would have none, and some for rounding and a padded last group.
    return kept_of(rate_, layout.main_elements) + groups_of(layout.main_elements) + kGroupElements;
  }
  size_t count_bytes(size_t n) const override { return groups_of(n); }

  /// Shares what may be kept: in proportion to the norms, but no group keeps more than it has.
  void prepare(InputStream& stream, const Layout&, CodecScratch& scratch) const override {
    const std::span<const float> x = stream.fetch_all();
    const size_t k = kept_of(rate_, x.size());
    std::vector<double>& norms = scratch.norms;
    norms.clear();
    for_each_group(x.size(), [&](size_t at, size_t n) { norms.push_back(norm(x.data() + at, n)); });
    auto left = static_cast<double>(k);
    scratch.kept_per_norm = 0;
    for (bool full = true; full;) {
      // Added up anew: what is left of a sum when a large norm is taken off it again is rounding.
      double sum = 0;
      for (const double v : norms) sum += v;
      if (sum == 0) break;
      scratch.kept_per_norm = std::max(left, 0.0) / sum;
      full = false;
      size_t group = 0;
      for_each_group(x.size(), [&](size_t, size_t n) {
        double& v = norms[group++];
        const auto all = static_cast<double>(n);
        if (v == 0 || scratch.kept_per_norm * v <= all) return;
        left -= all;
        v = 0;
        full = true;
      });
    }
    scratch.kept_left = k + kGroupElements;
  }

  size_t select(const float* x, size_t n, size_t, const ChunkContext& context,
                CodecScratch& scratch, uint16_t* index, float* values,
                std::byte* counts) const override {
    size_t group = 0;
    for_each_group(n, [&](size_t at, size_t length) {
      size_t count = share(x + at, length, scratch.kept_per_norm);
      // A rotation may round norms up; the frame's bound holds all the same.
      if (count > 0) count = 1 + std::min(count - 1, scratch.kept_left);
      const uint8_t code = code_of(count);
      if (count > 0) scratch.kept_left -= count_of(code) - 1;
      counts[group++] = std::byte{code};
    });
    // Counts of its own making are never corrupt.
    const size_t k = *positions(n, context, counts, index);
    size_t i = 0;
    for_each_group(n, [&](size_t at, size_t length) {
      const size_t count = count_of(static_cast<uint8_t>(counts[at / kGroupElements]));
      const float scale = context.error_feedback || count == 0
                              ? 1.0f
                              : static_cast<float>(length) / static_cast<float>(count);
      for (const size_t end = i + count; i < end; ++i) values[i] = x[index[i]] * scale;
    });
    return k;
  }

  Result<size_t> positions(size_t n, const ChunkContext& context, const std::byte* counts,
                           uint16_t* index) const override {
    PositionMarks marks{};
    PositionDraws draws(context);
    size_t k = 0, most = 0;
    for_each_group(n, [&](size_t at, size_t length) {
      const size_t count = count_of(static_cast<uint8_t>(*counts++));
      if (count > length) most = std::max(most, count);
      if (most > 0) return;
      mark_positions(draws, at, length, count, marks);
      k += count;
    });
    if (most > 0) return error(Code::kCorrupt, "a group of fewer elements keeps {}", most);
    kernels().list_bits(marks.data(), (n + 63) / 64, k, index);
    return k;
  }

 private:
  static size_t groups_of(size_t n) { return (n + kGroupElements - 1) / kGroupElements; }

  template <typename F>
  static void for_each_group(size_t n, F f) {
    for (size_t at = 0; at < n; at += kGroupElements) f(at, std::min(kGroupElements, n - at));
  }

  /// Times the root of its length, since that is what a share depends on.
  static double norm(const float* x, size_t n) {
    return std::sqrt(kernels().sum_squares(x, n) * static_cast<double>(n));
  }

  /// What isn't zero is never left out, so that nothing is lost on average.
  static size_t share(const float* x, size_t n, double kept_per_norm) {
    const double v = norm(x, n);
    if (v == 0) return 0;
    // A rotation has rounded; what should be whole shall not fall below by that.
    constexpr double kRounding = 1e-3;
    return static_cast<size_t>(
        std::clamp(kept_per_norm * v + kRounding, 1.0, static_cast<double>(n)));
  }

  uint32_t rate_;
};

}  // namespace

std::unique_ptr<const Selector> make_randk_by_norm(uint32_t rate) {
  return std::make_unique<RandKByNorm>(rate);
}

}  // namespace tern
