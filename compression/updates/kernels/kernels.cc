#include "compression/updates/kernels/kernels.h"

namespace tern {

const Kernels* kernels_for(CpuLevel level) {
#ifdef TERN_X86_LEVELS
  if (level > best_cpu_level()) return nullptr;
  if (level == CpuLevel::kAvx512) return &kAvx512Kernels;
  if (level == CpuLevel::kAvx2) return &kAvx2Kernels;
#endif
  return level == CpuLevel::kBaseline ? &kBaselineKernels : nullptr;
}

const Kernels& kernels() {
  static const Kernels& chosen = *kernels_for(cpu_level());
  return chosen;
}

}  // namespace tern
