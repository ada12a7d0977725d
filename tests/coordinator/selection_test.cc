#include "coordinator/selection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

#include "base/rng.h"

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

std::vector<uint32_t> all_of(uint32_t clients) {
  std::vector<uint32_t> all(clients);
  std::iota(all.begin(), all.end(), 0u);
  return all;
}

TEST(SelectAvailable, AgreesWithUniformWhenAllAreThere) {
  for (const uint32_t clients : {1u, 2u, 10u, 300u})
    for (uint32_t round = 1; round < 40; ++round) {
      const uint32_t count = 1 + round % clients;
      EXPECT_EQ(select_available(all_of(clients), clients, count, 7, round),
                select_uniform(clients, count, 7, round));
    }
}

TEST(SelectAvailable, PicksDifferentClientsInOrderAndNeverAnAbsentOne) {
  for (uint32_t trial = 0; trial < 500; ++trial) {
    Rng rng(trial, Purpose::kTest);
    const uint32_t clients = 1 + rng.below(60), count = 1 + rng.below(clients);
    std::vector<uint32_t> available;
    for (uint32_t client = 0; client < clients; ++client)
      if (rng.below(3) > 0) available.push_back(client);
    const auto cohort = select_available(available, clients, count, trial, 5);
    ASSERT_EQ(cohort.size(), std::min<size_t>(count, available.size()));
    ASSERT_TRUE(std::ranges::is_sorted(cohort));
    ASSERT_EQ(std::ranges::adjacent_find(cohort), cohort.end());
    ASSERT_TRUE(std::ranges::includes(available, cohort));
    // Whom the draw over all hit, and who is there, is asked: who else is missing changes nothing.
    std::vector<uint32_t> meant;
    std::ranges::set_intersection(select_uniform(clients, count, trial, 5), available,
                                  std::back_inserter(meant));
    ASSERT_TRUE(std::ranges::includes(cohort, meant));
    ASSERT_EQ(select_available(available, clients, count, trial, 5), cohort);
  }
}

TEST(SelectAvailable, AsksThoseWhoAreThereEquallyOften) {
  // 12 of 20 are there, 5 are asked: each in 5/12 of 4,000 rounds, 1,667 +- 31.2. Five sigma.
  std::vector<uint32_t> available;
  for (uint32_t client = 0; client < 20; ++client)
    if (client % 5 < 3) available.push_back(client);
  std::vector<double> asked(20);
  for (uint32_t round = 1; round <= 4000; ++round)
    for (const uint32_t client : select_available(available, 20, 5, 11, round)) ++asked[client];
  for (uint32_t client = 0; client < 20; ++client)
    EXPECT_NEAR(asked[client], client % 5 < 3 ? 4000 * 5 / 12.0 : 0, 5 * 31.2) << client;
}

TEST(SelectAvailable, WithoutAnybodyAsksNobody) {
  EXPECT_TRUE(select_available({}, 10, 3, 1, 1).empty());
}

}  // namespace
}  // namespace tern
