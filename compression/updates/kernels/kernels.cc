#include "compression/updates/kernels/kernels.h"

#include <atomic>

namespace tern {

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
