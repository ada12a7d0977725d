#include "coordinator/selection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tern {
namespace {

TEST(SelectUniform, GivesDifferentClientsInOrder) {
  for (const uint32_t clients : {1u, 2u, 10u, 1000u})
    for (uint32_t count = 0; count <= std::min(clients, 50u); ++count) {
      const auto cohort = select_uniform(clients, count, 3, count);
      ASSERT_EQ(cohort.size(), count);
      for (size_t i = 1; i < cohort.size(); ++i) ASSERT_LT(cohort[i - 1], cohort[i]);
      if (!cohort.empty()) {
        ASSERT_LT(cohort.back(), clients);
      }
    }
}

TEST(SelectUniform, AsksEverybodyEquallyOften) {
  // Each of 20 clients is asked in 5/20 of 4,000 rounds: 1,000 +- 27.4 (hypergeometric). Five
  // sigma: a false alarm in about 100,000 runs, and the seed is fixed.
  std::vector<double> asked(20);
  for (uint32_t round = 1; round <= 4000; ++round)
    for (const uint32_t client : select_uniform(20, 5, 11, round)) ++asked[client];
  for (const double times : asked) EXPECT_NEAR(times, 1000, 5 * 27.4);
}

TEST(SelectUniform, TakesMemoryOfTheCohortNotOfTheFleet) {
  const auto cohort = select_uniform(4'000'000'000u, 1000, 1, 1);
  EXPECT_EQ(cohort.size(), 1000u);
  EXPECT_GT(cohort.back(), 3'900'000'000u);
}

}  // namespace
}  // namespace tern
