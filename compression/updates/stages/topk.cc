/// Keeps the k = max(1, round(rate * n)) largest |x| of the whole update, or with `topk-per-tensor`
/// of each tensor; ties go to the lower index; zeros never travel.
///
/// - Shape: in n floats; out at most k positions and values.
/// - Units: rate in (0, 1], a multiple of 1e-9.
/// - Error: ||x||^2 less the squares kept, at most (1 - k/n) ||x||^2.
/// - Cost: O(n), one pass where k is at most n/8, else four; the k-th magnitude is exact.
/// - Paper: Aji & Heafield 2017, arXiv:1704.05021; they estimate the threshold from a sample, here
/// a
///   sample only tells which values need a closer look. Per tensor: Lin et al. 2018,
///   arXiv:1712.01887.
#include "compression/updates/stages/cut.h"
#include "compression/updates/stages/stage.h"

namespace tern {

size_t kept_of(uint32_t rate, size_t n) {
  if (n == 0) return 0;
  // n <= 2^40 and rate <= 1e9 < 2^30: the product needs more than 64 bits.
  const auto product = static_cast<unsigned __int128>(n) * rate + kRateOne / 2;
  return std::max<size_t>(1, static_cast<size_t>(product / kRateOne));
}

namespace {

class TopK : public Selector {
 public:
  TopK(uint32_t rate, bool per_tensor) : rate_(rate), per_tensor_(per_tensor) {}

  bool seeded() const override { return false; }
  size_t kept(size_t) const override { return 0; }

  size_t most_kept(const Layout& layout) const override {
    if (!per_tensor_) return kept_of(rate_, layout.main_elements);
    size_t k = 0;
    for (const Piece& piece : layout.main) k += kept_of(rate_, piece.size());
    return k;
  }

  void prepare(InputStream& stream, const Layout& layout, CodecScratch& scratch) const override {
    if (!per_tensor_) return cut_stream(stream, kept_of(rate_, stream.size()), scratch);
    const std::span<const float> values = stream.fetch_all();
    scratch.found.clear();
    scratch.cuts.clear();
    scratch.cut = 0;
    for (const Piece& piece : layout.main) {
      Cut cut = find_cut(values.subspan(piece.at, piece.size()), kept_of(rate_, piece.size()),
                         scratch.histogram);
      cut.end = piece.at + piece.size();
      scratch.cuts.push_back(cut);
    }
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
  uint32_t rate_;
  bool per_tensor_;
};

}  // namespace

std::unique_ptr<const Selector> make_topk(uint32_t rate) {
  return std::make_unique<TopK>(rate, false);
}
std::unique_ptr<const Selector> make_topk_per_tensor(uint32_t rate) {
  return std::make_unique<TopK>(rate, true);
}

}  // namespace tern
