#include "base/cpu_level.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace tern {
namespace {

TEST(CpuLevel, NamesAreStable) {
  EXPECT_EQ(name(CpuLevel::kBaseline), "baseline");
  EXPECT_EQ(name(CpuLevel::kAvx2), "avx2");
  EXPECT_EQ(name(CpuLevel::kAvx512), "avx512");
}

TEST(CpuLevel, ARequestCanOnlyLowerTheLevel) {
  EXPECT_EQ(limit_cpu_level("baseline", CpuLevel::kAvx512), CpuLevel::kBaseline);
  EXPECT_EQ(limit_cpu_level("avx2", CpuLevel::kAvx512), CpuLevel::kAvx2);
  EXPECT_EQ(limit_cpu_level("avx512", CpuLevel::kAvx2), CpuLevel::kAvx2);
  EXPECT_EQ(limit_cpu_level("avx512", CpuLevel::kBaseline), CpuLevel::kBaseline);
}

TEST(CpuLevel, AnUnknownRequestGivesTheBest) {
  EXPECT_EQ(limit_cpu_level("", CpuLevel::kAvx2), CpuLevel::kAvx2);
  EXPECT_EQ(limit_cpu_level("AVX2", CpuLevel::kAvx512), CpuLevel::kAvx512);
}

TEST(CpuLevel, FollowsTheEnvironment) {
  const char* wanted = std::getenv("TERN_CPU_LEVEL");
  EXPECT_EQ(cpu_level(), limit_cpu_level(wanted == nullptr ? "" : wanted, best_cpu_level()));
  EXPECT_LE(cpu_level(), best_cpu_level());
}

}  // namespace
}  // namespace tern
