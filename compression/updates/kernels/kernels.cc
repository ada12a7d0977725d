#include "compression/updates/kernels/kernels.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <limits>

namespace tern {

LevelTable::LevelTable(int bits_of_symbol, const float* all_bounds, const float* all_centroids)
    : bits(bits_of_symbol), bounds(all_bounds), centroids(all_centroids) {
  const size_t levels = size_t{1} << (bits - 1);
  if (levels <= std::size(few_centroids)) {
    std::copy_n(bounds, levels - 1, few_bounds);
    std::copy_n(centroids, levels, few_centroids);
  }
  const auto below = [&](float y) {
    return static_cast<uint32_t>(std::count_if(
        bounds, bounds + levels - 1, [y](float bound) { return bound * kCellsToOne < y; }));
  };
  for (size_t c = 0; c < kCells; ++c) {
    const bool last = c + 1 == kCells;
    const auto begin = static_cast<float>(c);
    cell_below[c] = below(begin);
    const uint32_t inside =
        (last ? static_cast<uint32_t>(levels - 1) : below(begin + 1)) - cell_below[c];
    cell_bound[c] =
        inside > 0 ? bounds[cell_below[c]] * kCellsToOne : std::numeric_limits<float>::infinity();
    has_cells = has_cells && inside <= 1;
  }
}

const Kernels* kernels_for(CpuLevel level) {
#ifdef TERN_X86_LEVELS
  if (level > best_cpu_level()) return nullptr;
  if (level == CpuLevel::kAvx512) return &kAvx512Kernels;
  if (level == CpuLevel::kAvx2) return &kAvx2Kernels;
#endif
  return level == CpuLevel::kBaseline ? &kBaselineKernels : nullptr;
}

namespace {

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> table = kernels_for(cpu_level());
  return table;
}

}  // namespace

const Kernels& kernels() { return *chosen().load(std::memory_order_relaxed); }

bool use_kernels(CpuLevel level) {
  const Kernels* table = kernels_for(level);
  if (table != nullptr) chosen().store(table, std::memory_order_relaxed);
  return table != nullptr;
}

}  // namespace tern
