#include "compression/updates/kernels/kernels.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <limits>

namespace tern {

LevelTable::LevelTable(int bits_of_symbol, const float* all_bounds, const float* all_centroids)
    : bits(bits_of_symbol), bounds(all_bounds), centroids(all_centroids) {
  const size_t levels = size_t{1} << (bits - 1);
  has_cells = levels <= std::size(few_centroids);
  if (!has_cells) return;  // and nobody looks for them
  std::copy_n(bounds, levels - 1, few_bounds);
  std::copy_n(centroids, levels, few_centroids);
  uint32_t below = 0;
  for (size_t c = 0; c < kCells; ++c) {
    const auto end =
        c + 1 < kCells ? static_cast<float>(c + 1) : std::numeric_limits<float>::infinity();
    uint32_t until = below;
    while (until + 1 < levels && bounds[until] * kCellsToOne < end) ++until;
    cell_below[c] = below;
    cell_bound[c] =
        until > below ? bounds[below] * kCellsToOne : std::numeric_limits<float>::infinity();
    has_cells = has_cells && until <= below + 1;
    below = until;
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
