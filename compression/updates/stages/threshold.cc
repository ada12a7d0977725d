/// Keeps every |x| >= T, however many there are.
///
/// - Units: T in those of the update, from 2^-100 to 2^100.
/// - Error: less than T a coordinate.
/// - Cost: O(n), one pass.
/// - Paper: Strom 2015; Sahu et al. 2021, arXiv:2108.00951 (hard threshold): a fixed threshold has
/// a
///   smaller total error than top-k at the same bytes.
#include <limits>

#include "compression/updates/stages/cut.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

class Threshold : public Selector {
 public:
  explicit Threshold(uint32_t magnitude) : magnitude_(magnitude) {}

  bool seeded() const override { return false; }
  size_t kept(size_t) const override { return 0; }
  size_t most_kept(const Layout& layout) const override { return layout.main_elements; }

  void prepare(InputStream& stream, const Layout&, CodecScratch& scratch) const override {
    scratch.found.clear();
    scratch.cut = 0;
    scratch.cuts.assign(1, {.end = stream.size(),
                            .magnitude = magnitude_,
                            .ties = std::numeric_limits<size_t>::max()});
  }

  size_t select(const float* x, size_t n, size_t at, const ChunkContext&, CodecScratch& scratch,
                uint16_t* index, float* values, std::byte*) const override {
    return select_above(x, n, at, scratch, index, values);
  }

  Result<size_t> positions(size_t, const ChunkContext&, const std::byte*,
                           uint16_t*) const override {
    return size_t{0};
  }

 private:
  uint32_t magnitude_;
};

}  // namespace

std::unique_ptr<const Selector> make_threshold(uint32_t magnitude_bits) {
  return std::make_unique<Threshold>(magnitude_bits);
}

}  // namespace tern
