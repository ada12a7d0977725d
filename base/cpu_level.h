/// The instruction set that the kernels use. Results never depend on it; speed does.
#pragma once

#include <string_view>

namespace tern {

enum class CpuLevel { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

/// The best level of this CPU, or the one named by TERN_CPU_LEVEL (baseline, avx2, avx512), as
/// limit_cpu_level has it. Decided once, at the first call. Threads: safe.
CpuLevel cpu_level();
/// The level that a request asks for on a CPU that can do `best`: the named one, or `best` when
/// that is lower or when the name is unknown.
CpuLevel limit_cpu_level(std::string_view wanted, CpuLevel best);
/// What the CPU can do, whatever TERN_CPU_LEVEL says.
CpuLevel best_cpu_level();
std::string_view name(CpuLevel level);

}  // namespace tern
