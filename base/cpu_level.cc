#include "base/cpu_level.h"

#include <algorithm>
#include <cstdlib>

namespace tern {

std::string_view name(CpuLevel level) {
  switch (level) {
    case CpuLevel::kBaseline:
      return "baseline";
    case CpuLevel::kAvx2:
      return "avx2";
    case CpuLevel::kAvx512:
      return "avx512";
  }
  return "unknown";
}

CpuLevel best_cpu_level() {
#if defined(__x86_64__) || defined(__i386__)
  // The compiler's check asks the operating system too: registers that it doesn't save don't count.
  __builtin_cpu_init();
  if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi2")))
    return CpuLevel::kBaseline;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return CpuLevel::kAvx512;
  return CpuLevel::kAvx2;
#else
  return CpuLevel::kBaseline;
#endif
}

CpuLevel limit_cpu_level(std::string_view wanted, CpuLevel best) {
  for (CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kAvx2, CpuLevel::kAvx512})
    if (wanted == name(level)) return std::min(level, best);
  return best;
}

CpuLevel cpu_level() {
  static const CpuLevel level = [] {
    const char* wanted = std::getenv("TERN_CPU_LEVEL");
    return limit_cpu_level(wanted == nullptr ? "" : wanted, best_cpu_level());
  }();
  return level;
}

}  // namespace tern
