// The rules of fleet.selection: whom they prefer, that a choice follows from what is known alone,
// and that one who boasts or never answers doesn't stop a run.
#include "coordinator/cohort_selector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "coordinator/selection.h"

namespace tern {
namespace {

using testing::ElementsAre;
using testing::SizeIs;
using Clients = std::vector<uint32_t>;

constexpr const char* kRules[] = {"uniform", "weighted", "round-robin", "power-of-choice:3",
                                  "oort"};

Scenario scenario_of(const std::string& selection, uint32_t asked) {
  Scenario scenario{.seed = 5};
  scenario.fleet.selection = selection;
  scenario.fleet.cohort = asked;
  return scenario;
}

TrainReport report_of(double loss, uint32_t examples = 10) {
  return {.examples = examples, .mean_loss = loss};
}

Clients range(uint32_t end) {
  Clients all(end);
  std::iota(all.begin(), all.end(), 0u);
  return all;
}

TEST(CohortSelector, EveryRuleChoosesDifferentClientsThatAreFreeAndTheSameOnesAgain) {
  for (const char* rule : kRules)
    for (uint32_t trial = 0; trial < 200; ++trial) {
      Rng rng(trial, Purpose::kTest);
      const uint32_t clients = 1 + rng.below(40), wanted = 1 + rng.below(clients);
      CohortSelector selector(scenario_of(rule, wanted), clients);
      Clients free;
      for (uint32_t client = 0; client < clients; ++client) {
        if (rng.below(3) > 0) free.push_back(client);
        if (rng.below(2) > 0) selector.announced(client, rng.below(1000));
        if (rng.below(2) > 0)
          selector.counted(client, 1 + rng.below(5), report_of(rng.uniform()), rng.below(9));
        if (rng.below(4) == 0) selector.late(client, 5, rng.below(9));
        if (rng.below(4) == 0) selector.missed(client, 5);
      }
      CohortSelector restored(scenario_of(rule, wanted), clients);
      restored.restore(experiences_from_json(to_json(selector.state())));
      for (const uint32_t asked : {0u, 1u, 7u}) {
        const Clients chosen = selector.select(free, wanted, 6, asked);
        ASSERT_THAT(chosen, SizeIs(std::min<size_t>(wanted, free.size()))) << rule;
        ASSERT_TRUE(std::ranges::is_sorted(chosen)) << rule;
        ASSERT_EQ(std::set<uint32_t>(chosen.begin(), chosen.end()).size(), chosen.size()) << rule;
        ASSERT_TRUE(std::ranges::includes(free, chosen)) << rule;
        ASSERT_EQ(selector.select(free, wanted, 6, asked), chosen) << rule;
        if (std::string_view(rule) != "weighted") {  // announcements aren't part of the state
          ASSERT_EQ(restored.select(free, wanted, 6, asked), chosen) << rule;
        }
        ASSERT_EQ(selector.select(std::nullopt, wanted, 6, asked),
                  selector.select(range(clients), wanted, 6, asked))
            << rule;
      }
    }
}

TEST(DrawWeighted, IsInProportionToTheWeightsThatAreLeft) {
  // Of weights 1, 2, 5: the first draw by weight, the second among the other two. 20,000 draws;
  // each count is binomial with a deviation of at most 70.7. Five of them.
  constexpr uint32_t kDraws = 20000;
  const Clients clients = {3, 4, 9};
  const std::vector<uint64_t> weights = {1, 2, 5};
  std::map<Clients, double> times;
  Rng rng(1, Purpose::kTest);
  for (uint32_t i = 0; i < kDraws; ++i) ++times[draw_weighted(clients, weights, 2, rng)];
  for (size_t first = 0; first < 3; ++first)
    for (size_t second = 0; second < 3; ++second) {
      if (first == second) continue;
      const double share = static_cast<double>(weights[first]) / 8 *
                           static_cast<double>(weights[second]) /
                           static_cast<double>(8 - weights[first]);
      EXPECT_NEAR(times[(Clients{clients[first], clients[second]})], share * kDraws, 5 * 70.7);
    }
}

TEST(DrawWeighted, FindsEveryPlaceAndTakesEachOnce) {
  // Sizes around powers of two, where a tree of sums has its corners.
  for (const uint32_t size : {1u, 2u, 3u, 7u, 8u, 9u, 64u, 65u}) {
    Rng rng(size, Purpose::kTest);
    std::vector<uint64_t> weights(size, 1);
    weights[size / 2] = uint64_t{1} << 62;
    Clients drawn = draw_weighted(range(size), weights, size, rng);
    EXPECT_EQ(drawn.front(), size / 2);
    std::ranges::sort(drawn);
    EXPECT_EQ(drawn, range(size));
  }
}

TEST(CohortSelector, WeightedAsksByExamples) {
  CohortSelector selector(scenario_of("weighted", 1), 4);
  for (uint32_t client = 0; client < 4; ++client) selector.announced(client, 100 * client);
  std::vector<double> asked(4);
  for (uint32_t round = 1; round <= 6000; ++round)
    for (const uint32_t client : selector.select(std::nullopt, 1, round)) ++asked[client];
  // Nobody's share is nothing: 1, 100, 200 and 300 of 601. Five deviations of at most 38.7.
  for (uint32_t client = 1; client < 4; ++client)
    EXPECT_NEAR(asked[client], 6000 * 100.0 * client / 601, 5 * 38.7);
}

TEST(CohortSelector, RoundRobinAsksEverybodyOnceBeforeAnybodyTwice) {
  CohortSelector selector(scenario_of("round-robin", 4), 20);
  for (uint32_t turn = 0; turn < 3; ++turn) {
    std::set<uint32_t> asked;
    for (uint32_t round = 1; round <= 5; ++round)
      for (const uint32_t client : selector.select(std::nullopt, 4, 5 * turn + round))
        asked.insert(client);
    EXPECT_THAT(asked, SizeIs(20));
  }
  EXPECT_NE(selector.select(std::nullopt, 4, 1), range(4)) << "the order is drawn";
  // Who is there stands in for who isn't, in the order.
  const Clients first = selector.select(std::nullopt, 4, 1),
                next = selector.select(std::nullopt, 4, 2);
  Clients free;
  std::ranges::set_difference(range(20), first, std::back_inserter(free));
  EXPECT_EQ(selector.select(free, 4, 1), next);
}

TEST(CohortSelector, RoundRobinUnderFedBuffPassesOverNobody) {
  Scenario scenario = scenario_of("round-robin", 4);
  scenario.fleet.over_select = 2;  // at work, beside the four that a version takes
  scenario.fleet.schedule = "fedbuff";
  const CohortSelector selector(scenario, 20);
  std::set<uint32_t> asked;
  for (uint32_t round = 1; round <= 5; ++round)
    for (uint32_t more = 0; more < 4; ++more)
      for (const uint32_t client : selector.select(range(20), 1, round, more)) asked.insert(client);
  EXPECT_THAT(asked, SizeIs(20));
}

TEST(CohortSelector, PowerOfChoiceTakesTheLargestLossesOfItsCandidates) {
  CohortSelector selector(scenario_of("power-of-choice:10", 2), 20);  // all are candidates
  for (uint32_t client = 0; client < 20; ++client)
    selector.counted(client, 1, report_of(client == 7 || client == 12 ? 3 : 0.1 * (client % 5)), 1);
  EXPECT_THAT(selector.select(std::nullopt, 2, 2), ElementsAre(7, 12));
  // Whose loss isn't a number gains nothing by it, whose isn't known comes first.
  selector.counted(7, 2, report_of(std::numeric_limits<double>::quiet_NaN()), 1);
  selector.counted(12, 2, report_of(-1), 1);
  for (uint32_t round = 3; round < 30; ++round)
    EXPECT_THAT(selector.select(std::nullopt, 2, round),
                testing::Each(testing::Truly([](uint32_t c) { return c % 5 == 4; })));
  ClientExperiences known = selector.state();
  known.erase(3);
  selector.restore(known);
  EXPECT_THAT(selector.select(std::nullopt, 2, 2), testing::Contains(3));
}

TEST(CohortSelector, PowerOfChoiceOfOneCandidateIsUniform) {
  CohortSelector choice(scenario_of("power-of-choice:1", 5), 20);
  choice.counted(3, 1, report_of(100), 1);
  std::vector<double> asked(20);
  for (uint32_t round = 1; round <= 4000; ++round)
    for (const uint32_t client : choice.select(std::nullopt, 5, round)) ++asked[client];
  for (const double times : asked) EXPECT_NEAR(times, 1000, 5 * 27.4);
}

TEST(CohortSelector, OortExploresAndPrefersLargeLossesOfFastClients) {
  CohortSelector selector(scenario_of("oort", 10), 40);
  for (uint32_t client = 0; client < 20; ++client)
    // 0 to 9 have little left to learn; 18 and 19 have much, but are twenty times slower.
    selector.counted(client, 1, report_of(client < 10 ? 0.1 : 2), client < 18 ? 1 : 20);
  std::vector<double> asked(40);
  constexpr uint32_t kRounds = 300;
  for (uint32_t round = 200; round < 200 + kRounds; ++round)
    for (const uint32_t client : selector.select(std::nullopt, 10, round)) ++asked[client];
  const auto sum = [&](size_t from, size_t to) {
    return std::accumulate(asked.begin() + static_cast<ptrdiff_t>(from),
                           asked.begin() + static_cast<ptrdiff_t>(to), 0.0);
  };
  EXPECT_EQ(sum(20, 40), 2 * kRounds) << "a fifth of each round goes to those never counted";
  EXPECT_EQ(sum(10, 18), 8 * kRounds) << "the others are the eight fast ones with large losses";
  EXPECT_EQ(sum(18, 20), 0);
  // Who was neglected for long comes back.
  for (uint32_t client = 10; client < 18; ++client)
    selector.counted(client, 499, report_of(0.1), 1);
  for (uint32_t client = 0; client < 10; ++client) selector.counted(client, 1, report_of(0.1), 1);
  Clients chosen = selector.select(range(18), 10, 500);
  EXPECT_THAT(chosen, testing::IsSupersetOf(range(10)));
}

TEST(CohortSelector, OortFillsARoundFromWhateverGroupThereIs) {
  CohortSelector none(scenario_of("oort", 6), 10);
  EXPECT_THAT(none.select(std::nullopt, 6, 1), SizeIs(6)) << "nobody is known";
  CohortSelector all(scenario_of("oort", 6), 10);
  for (uint32_t client = 0; client < 10; ++client) all.counted(client, 1, report_of(1), 1);
  EXPECT_THAT(all.select(std::nullopt, 6, 1), SizeIs(6)) << "nobody is unknown";
  EXPECT_THAT(all.select(Clients{}, 6, 1), SizeIs(0));
}

TEST(CohortSelector, UniformRemembersNothing) {
  CohortSelector selector(scenario_of("uniform", 2), 10);
  selector.counted(1, 1, report_of(1), 1);
  selector.late(2, 1, 5);
  selector.missed(3, 1);
  EXPECT_TRUE(selector.state().empty());
}

TEST(CohortSelector, TheDeadlineFollowsTheTimesThatAreKnown) {
  Scenario scenario = scenario_of("uniform", 4);
  scenario.fleet.deadline_quantile = 0.75;
  CohortSelector selector(scenario, 10);
  for (uint32_t client = 0; client < 3; ++client) {
    selector.counted(client, 1, report_of(1), 2.0 + client);
    EXPECT_EQ(selector.deadline(), std::nullopt) << "too few are known";
  }
  selector.counted(3, 1, report_of(1), 100);
  EXPECT_EQ(selector.deadline(), std::chrono::seconds(6)) << "1.5 times the third of four";
  // Who never makes it isn't forgotten: half the fleet missing it makes it longer.
  selector.late(4, 1, 6);
  selector.late(5, 1, 6);
  EXPECT_EQ(selector.deadline(), std::chrono::seconds(9));
  selector.late(3, 1, 9);
  EXPECT_EQ(selector.state().at(3).seconds, 100) << "at least what was seen before";
  // But nobody waits for ever longer for those who never answer.
  for (const uint32_t silent : {3u, 4u, 5u})
    for (uint32_t round = 2; round < 10; ++round) selector.late(silent, round, 1e6 * round);
  EXPECT_EQ(selector.deadline(), std::nullopt) << "three are left";
  selector.counted(6, 10, report_of(1), 1);
  EXPECT_EQ(selector.deadline(), std::chrono::milliseconds(4500));
  selector.counted(4, 11, report_of(1), std::nullopt);
  EXPECT_EQ(selector.state().at(4).seconds, 9e6) << "a time that isn't known leaves what was";
}

TEST(CohortSelector, WhereNothingTakesTimeThereIsNoDeadline) {
  Scenario scenario = scenario_of("uniform", 2);
  scenario.fleet.deadline_quantile = 0.9;
  CohortSelector selector(scenario, 10);
  for (uint32_t client = 0; client < 10; ++client) {
    selector.counted(client, 1, report_of(1), 0);
    selector.late(client, 2, 0);
  }
  EXPECT_EQ(selector.deadline(), std::nullopt);
}

TEST(CohortSelector, WhoNeverHasAnUpdateCountedIsntAskedForEver) {
  // 5 of 20 always fail: newcomers come first, and after that they are the less preferred the more
  // they fail.
  for (const char* rule : {"power-of-choice:3", "oort"}) {
    CohortSelector selector(scenario_of(rule, 4), 20);
    std::vector<uint32_t> asked(20);
    for (uint32_t round = 1; round <= 200; ++round)
      for (const uint32_t client : selector.select(std::nullopt, 4, round)) {
        ++asked[client];
        if (client < 5)
          selector.missed(client, round);
        else
          selector.counted(client, round, report_of(1), 1);
      }
    for (uint32_t client = 0; client < 20; ++client) {
      EXPECT_GE(asked[client], 1u) << rule << ", " << client;
      if (client < 5) {
        EXPECT_LT(asked[client], 30u) << rule << ", " << client;
      }
    }
  }
}

}  // namespace
}  // namespace tern
