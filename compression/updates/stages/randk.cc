/// Keeps k = max(1, round(rate * n)) positions of each chunk, drawn without replacement from the
/// frame's seed, so that no indices travel. n counts a rotation's padding.
///
/// - Bias: none, values are scaled by n/k; under error feedback they aren't, since the residual
///   brings back the rest.
/// - Error: variance (n/k - 1)||x||^2.
/// - Paper: Konecny et al. 2016, arXiv:1610.05492 (random mask); Stich et al. 2018,
///   arXiv:1809.07599 (rand-k).
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/position_draws.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

class RandK : public Selector {
 public:
  explicit RandK(uint32_t rate) : rate_(rate) {}

  bool seeded() const override { return true; }
  size_t kept(size_t n) const override { return kept_of(rate_, n); }
  size_t most_kept(const Layout&) const override { return 0; }
  void prepare(InputStream&, const Layout&, CodecScratch&) const override {}

  size_t select(const float* x, size_t n, size_t, const ChunkContext& context, CodecScratch&,
                uint16_t* index, float* values, std::byte*) const override {
    const size_t k = draw(n, context, index);
    const float scale =
        context.error_feedback ? 1.0f : static_cast<float>(n) / static_cast<float>(k);
    for (size_t i = 0; i < k; ++i) values[i] = x[index[i]] * scale;
    return k;
  }

  Result<size_t> positions(size_t n, const ChunkContext& context, const std::byte*,
                           uint16_t* index) const override {
    return draw(n, context, index);
  }

 private:
  size_t draw(size_t n, const ChunkContext& context, uint16_t* index) const {
    const size_t k = kept(n);
    PositionMarks marks{};
    PositionDraws draws(context);
    mark_positions(draws, 0, n, k, marks);
    kernels().list_bits(marks.data(), (n + 63) / 64, k, index);
    return k;
  }

  uint32_t rate_;
};

}  // namespace

std::unique_ptr<const Selector> make_randk(uint32_t rate) { return std::make_unique<RandK>(rate); }

}  // namespace tern
