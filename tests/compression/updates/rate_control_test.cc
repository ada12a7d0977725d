#include "compression/updates/rate_control.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/rng.h"

namespace tern {
namespace {

using testing::HasSubstr;

constexpr double kAny = std::numeric_limits<double>::infinity();

Rung rung(const char* spec, double bytes, double nmse) {
  return {.codec = *Codec::parse(spec), .bytes = bytes, .nmse = nmse};
}

/// Errors in a mean of 10: 3, 0.5, 0.06, 0.
std::vector<Rung> unbiased() {
  return {rung("rotate:1024 | randk:0.05 | eden:1", 100, 30),
          rung("rotate:1024 | randk:0.25 | eden:1", 500, 5),
          rung("rotate:1024 | eden:1", 2000, 0.6), rung("float32", 64000, 0)};
}

TEST(ChooseRung, TakesTheLeastErrorThatFits) {
  const std::vector<Rung> ladder = unbiased();
  const auto choose = [&](double budget) {
    return choose_rung(ladder, {.budget_bytes = budget, .cohort = 10});
  };
  EXPECT_EQ(choose(99).rung, 0u);
  EXPECT_EQ(choose(99).reason, RateReason::kNoneFits);
  EXPECT_EQ(choose(100).rung, 0u);
  EXPECT_EQ(choose(100).reason, RateReason::kFits);
  EXPECT_EQ(choose(1999.5).rung, 1u);
  EXPECT_EQ(choose(2000).rung, 2u);
  EXPECT_EQ(choose(64000).rung, 3u);
  EXPECT_EQ(choose(64000).reason, RateReason::kMostAccurate);
  EXPECT_EQ(choose(kAny).rung, 3u);
}

TEST(ChooseRung, ARungThatCostsMoreAndLosesMoreIsNeverChosen) {
  std::vector<Rung> ladder = unbiased();
  ladder.push_back(rung("int:2", 3000, 2));
  for (const double budget : {10.0, 2999.0, 3000.0, 4000.0, 1e9})
    EXPECT_NE(choose_rung(ladder, {.budget_bytes = budget, .cohort = 10}).rung, 4u) << budget;
}

TEST(ChooseRung, WhatErrorFeedbackHoldsBackDoesNotAverageOut) {
  const std::vector<Rung> ladder = {rung("ef | topk:0.05 | ternary | rice", 500, 0.8),
                                    rung("rotate:1024 | randk:0.25 | eden:1", 500, 5)};
  EXPECT_DOUBLE_EQ(error_in_mean(ladder[0], 10), 0.8);
  EXPECT_DOUBLE_EQ(error_in_mean(ladder[1], 10), 0.5);
  EXPECT_EQ(choose_rung(ladder, {.cohort = 10}).rung, 1u);
  EXPECT_EQ(choose_rung(ladder, {.cohort = 2}).rung, 0u);
  EXPECT_EQ(choose_rung(ladder, {.cohort = 2, .keeps_state = false}).rung, 1u);
}

TEST(ChooseRung, WithoutStateALadderOfErrorFeedbackAloneIsUsedAllTheSame) {
  const std::vector<Rung> ladder = {rung("ef | sign", 500, 0.8)};
  EXPECT_EQ(choose_rung(ladder, {.keeps_state = false}).rung, 0u);
}

TEST(ChooseRung, TheGuardGoesOverTheBudgetForWhoHasMuchToSay) {
  const std::vector<Rung> ladder = unbiased();
  RateQuery query{.budget_bytes = 120, .cohort = 10, .worst_error = 4};
  EXPECT_EQ(choose_rung(ladder, query).rung, 0u);
  query.importance = 2;  // 2 x 3 is too much, 2 x 0.5 is not
  EXPECT_EQ(choose_rung(ladder, query).rung, 1u);
  EXPECT_EQ(choose_rung(ladder, query).reason, RateReason::kGuard);
  query.worst_error = 1e-9;  // only float32 is that good
  EXPECT_EQ(choose_rung(ladder, query).rung, 3u);
  // A guard that no rung keeps asks for the best there is.
  const std::vector<Rung> coarse(ladder.begin(), ladder.begin() + 2);
  EXPECT_EQ(choose_rung(coarse, query).rung, 1u);
  EXPECT_EQ(choose_rung(coarse, query).reason, RateReason::kGuard);
}

TEST(ShortestDeadline, IsTheSlowestTransferOfTheChainsThatAreGoodEnough) {
  const std::vector<Rung> ladder = unbiased();
  // With one client the mean is the client's: 0.5 is rung 1, 500 bytes at 50 a second.
  const std::vector<RateClient> one = {{.bytes_per_second = 50}};
  EXPECT_DOUBLE_EQ(shortest_deadline(ladder, one, {.cohort = 10}, 0.5), 10);
  EXPECT_DOUBLE_EQ(shortest_deadline(ladder, one, {.cohort = 10}, 100), 2) << "the cheapest";
  EXPECT_DOUBLE_EQ(shortest_deadline(ladder, one, {.cohort = 10}, 1e-9), 64000.0 / 50);
  // The fast one makes up for the slow one: (3 + 0) / 2 at 100 bytes / 50.
  const std::vector<RateClient> two = {{.bytes_per_second = 50}, {.bytes_per_second = 1e6}};
  EXPECT_DOUBLE_EQ(shortest_deadline(ladder, two, {.cohort = 10}, 1.5), 2);
  // But not where the slow one has more to say.
  const std::vector<RateClient> loud = {{.bytes_per_second = 50, .importance = 4},
                                        {.bytes_per_second = 1e6}};
  EXPECT_DOUBLE_EQ(shortest_deadline(ladder, loud, {.cohort = 10}, 1.5), 10);
}

/// A ladder of random bytes and errors, and a cohort of random links.
struct RandomCase {
  std::vector<Rung> ladder;
  std::vector<RateClient> clients;
  explicit RandomCase(uint32_t number) {
    Rng rng(3, Purpose::kTest, number);
    const char* specs[] = {"float32", "ef | topk:0.1 | rice", "rotate:1024 | eden:1"};
    for (uint32_t i = rng.below(8) + 1; i > 0; --i)
      ladder.push_back(
          rung(specs[rng.below(3)], std::exp(10 * rng.uniform()), std::exp(8 * rng.uniform() - 4)));
    for (uint32_t i = rng.below(6) + 1; i > 0; --i)
      clients.push_back({.bytes_per_second = std::exp(9 * rng.uniform()),
                         .importance = 0.25 + 3 * rng.uniform(),
                         .keeps_state = rng.below(2) == 0});
  }
};

TEST(ChooseRung, MoreBudgetIsNeverMoreErrorAndFitsWheneverAnythingDoes) {
  for (uint32_t number = 0; number < 2000; ++number) {
    const RandomCase random(number);
    for (const RateClient& client : random.clients) {
      double error = kAny;
      for (double budget = 0.5; budget < 1e5; budget *= 1.7) {
        const RateQuery query{
            .budget_bytes = budget, .cohort = 5, .keeps_state = client.keeps_state};
        const RateChoice choice = choose_rung(random.ladder, query);
        const Rung& chosen = random.ladder[choice.rung];
        EXPECT_EQ(choice.rung, choose_rung(random.ladder, query).rung);
        EXPECT_LE(error_in_mean(chosen, 5), error) << number;
        bool any = false, usable = false;
        for (const Rung& one : random.ladder) {
          const bool can = client.keeps_state || !one.codec.error_feedback();
          usable = usable || can;
          any = any || (can && one.bytes <= budget);
        }
        if (usable) {
          EXPECT_EQ(chosen.bytes <= budget, any) << number;
          EXPECT_TRUE(client.keeps_state || !chosen.codec.error_feedback()) << number;
        }
        if (any) error = error_in_mean(chosen, 5);
      }
    }
  }
}

TEST(ShortestDeadline, KeepsTheMeanErrorAndNoShorterOneDoes) {
  for (uint32_t number = 0; number < 500; ++number) {
    const RandomCase random(number);
    const RoundQuery round{.cohort = 4};
    const auto mean_error = [&](double deadline) {
      double errors = 0, weights = 0;
      for (const RateClient& client : random.clients) {
        const RateChoice choice =
            choose_rung(random.ladder, {.budget_bytes = client.bytes_per_second * deadline,
                                        .cohort = 4,
                                        .keeps_state = client.keeps_state});
        errors += client.importance * error_in_mean(random.ladder[choice.rung], 4);
        weights += client.importance;
      }
      return errors / weights;
    };
    const double wanted = mean_error(3) * 1.000001;
    const double found = shortest_deadline(random.ladder, random.clients, round, wanted);
    EXPECT_LE(mean_error(found), wanted) << number;
    EXPECT_LE(found, std::max(3.0, slowest_seconds(random.ladder, random.clients, round)) * 1.0001)
        << number;
    if (found > slowest_seconds(random.ladder, random.clients, round)) {
      EXPECT_GT(mean_error(found * 0.9999), wanted) << number;
    }
  }
}

TEST(DivideBytes, GivesMoreToWhoMovesTheMeanMore) {
  const std::vector<Rung> ladder = unbiased();
  const auto divide = [&](std::vector<RateClient> clients, double mean) {
    return divide_bytes(ladder, clients, {.cohort = 10}, mean);
  };
  using Budgets = std::vector<double>;
  EXPECT_EQ(divide({{}, {}}, 50), (Budgets{50, 50})) << "not enough for the cheapest";
  EXPECT_EQ(divide({{}, {}}, 500), (Budgets{500, 500}));
  EXPECT_EQ(divide({{}, {}}, 499), (Budgets{500, 100})) << "the first of equals";
  EXPECT_EQ(divide({{.importance = 1}, {.importance = 9}}, 300), (Budgets{100, 500}));
  // 2.5 / 400 bytes for the quiet one, 100 x 0.44 / 1,500 for the loud one's second step.
  EXPECT_EQ(divide({{.importance = 1}, {.importance = 100}}, 1050), (Budgets{100, 2000}));
  EXPECT_EQ(divide({{.importance = 1}, {.importance = 100}}, 1250), (Budgets{500, 2000}));
  EXPECT_EQ(divide({{.importance = 1}, {.importance = 100}}, 1e9), (Budgets{64000, 64000}));
  EXPECT_TRUE(divide({}, 100).empty());
}

TEST(DivideBytes, WhatDoesNotFitLeavesRoomForCheaperSteps) {
  // The loud one's next step is float32, which is too much; the quiet one's fits.
  const std::vector<RateClient> clients = {{.importance = 1}, {.importance = 1e6}};
  EXPECT_EQ(divide_bytes(unbiased(), clients, {.cohort = 10}, 2000),
            (std::vector<double>{2000, 2000}));
}

TEST(DivideBytes, OfAllDivisionsNoneHasLessErrorButForTheLastStep) {
  size_t compared = 0;
  for (uint32_t number = 0; number < 500; ++number) {
    // Rungs near each other, so that a step is short beside what there is to divide.
    Rng rng(4, Purpose::kTest, number);
    std::vector<Rung> ladder;
    for (uint32_t i = rng.below(6) + 3; i > 0; --i) {
      const double bytes = 100 + 50 * rng.below(20);
      ladder.push_back(rung(rng.below(3) == 0 ? "ef | topk:0.1 | rice" : "rotate:1024 | eden:1",
                            bytes, 1e4 * (0.5 + rng.uniform()) / bytes));
    }
    std::vector<RateClient> clients;
    clients.reserve(4);
    for (uint32_t i = 0; i < 4; ++i)
      clients.push_back(
          {.importance = std::exp(4 * rng.uniform()), .keeps_state = rng.below(2) == 0});
    const auto chosen = [&](const RateClient& client, double budget) {
      return choose_rung(ladder,
                         {.budget_bytes = budget, .cohort = 4, .keeps_state = client.keeps_state});
    };
    double cheapest = 0, finest = 0, longest_step = 0;
    for (const RateClient& client : clients) {
      cheapest += ladder[chosen(client, 0).rung].bytes;
      finest += ladder[chosen(client, kAny).rung].bytes;
    }
    // A step leads over rungs that are above the hull.
    for (const Rung& a : ladder)
      for (const Rung& b : ladder) longest_step = std::max(longest_step, b.bytes - a.bytes);
    for (const double share : {0.0, 0.3, 0.5, 0.7, 0.9, 1.0}) {
      const double total = cheapest + share * (finest - cheapest);
      const std::vector<double> budgets = divide_bytes(ladder, clients, {.cohort = 4}, total / 4);
      double bytes = 0, error = 0;
      for (size_t i = 0; i < 4; ++i) {
        const Rung& rung = ladder[chosen(clients[i], budgets[i]).rung];
        bytes += rung.bytes;
        error += clients[i].importance * error_in_mean(rung, 4);
      }
      EXPECT_LE(bytes, total * (1 + 1e-12)) << number;
      // Every other division, of a step less.
      const size_t rungs = ladder.size();
      for (size_t division = 0; division < rungs * rungs * rungs * rungs; ++division) {
        double other_bytes = 0, other_error = 0;
        bool possible = true;
        for (size_t i = 0, digits = division; i < 4; ++i, digits /= rungs) {
          const Rung& rung = ladder[digits % rungs];
          possible = possible && (clients[i].keeps_state || !rung.codec.error_feedback());
          other_bytes += rung.bytes;
          other_error += clients[i].importance * error_in_mean(rung, 4);
        }
        if (!possible || other_bytes > total - longest_step) continue;
        ASSERT_LE(error, other_error * (1 + 1e-9)) << number << ", " << division;
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 100'000u);
}

// What rounds a step's gain must not change the order of a client's own steps.
TEST(DivideBytes, StepsOfNearlyTheSameGainAreAllTaken) {
  const std::vector<Rung> ladder = {rung("rotate:1024 | eden:1", 2531, 52.7173799345873),
                                    rung("rotate:1024 | eden:2", 6620, 35.803964718781806),
                                    rung("rotate:1024 | eden:4", 15220, 0.23160696482552634)};
  const std::vector<RateClient> client = {{.importance = 0.7354347014194791}};
  EXPECT_EQ(divide_bytes(ladder, client, {.cohort = 1}, 1e9), std::vector<double>{15220});
}

// ---- Ladders

TEST(Ladder, TextsComeBackCanonical) {
  const auto chains = parse_ladder(" rotate | randk:0.1 | eden:1 ;float32; ");
  ASSERT_TRUE(chains) << chains.error().describe();
  EXPECT_EQ(print_chains(*chains), "rotate:1024 | randk:0.1 | eden:1; float32");
  for (const std::string_view text : {stateless_ladder(), stateful_ladder()}) {
    const auto known = parse_ladder(text);
    ASSERT_TRUE(known) << known.error().describe();
    EXPECT_EQ(print_chains(*known), text);
  }
  const auto stateless = parse_ladder(stateless_ladder());
  for (const Codec& codec : *stateless)
    EXPECT_TRUE(codec.check_composition({}).ok() && !codec.error_feedback()) << codec.spec();
}

TEST(Ladder, AroundAChainHasItsOtherRates) {
  const auto around = [](const char* spec) { return ladder_around(*Codec::parse(spec)); };
  EXPECT_EQ(around("int:8"), "");
  EXPECT_EQ(around("threshold:0.1"), "") << "not a rate";
  for (const auto& [spec, rungs] : {std::pair{"rotate:1024 | randk:0.1 | eden:1", 13},
                                    std::pair{"dct:28 | lowpass:0.3 | randk-by-norm:0.5", 9},
                                    std::pair{"ef | topk:1e-09", 4}}) {
    const auto chains = parse_ladder(around(spec));
    ASSERT_TRUE(chains) << chains.error().describe();
    EXPECT_EQ(chains->size(), rungs) << around(spec);
    EXPECT_NE(std::ranges::find(*chains, spec, &Codec::spec), chains->end()) << around(spec);
  }
  const std::string text = around("randk:0.2");
  EXPECT_TRUE(text.starts_with("randk:0.025; randk:0.035; ")) << text;
  EXPECT_TRUE(text.ends_with("; randk:0.8; randk:1")) << text;
}

TEST(Ladder, SaysWhatIsWrongWithAChain) {
  const auto message = [](const char* text) { return parse_ladder(text).error().describe(); };
  EXPECT_THAT(message(""), HasSubstr("one or more chains with ';' between them"));
  EXPECT_THAT(message(" ; "), HasSubstr("chain 1 of the ladder"));
  EXPECT_THAT(message("float32; zip"), HasSubstr("chain 2 of the ladder"));
  EXPECT_THAT(message("topk:0.1; float32"), HasSubstr("put 'ef' first"));
  EXPECT_THAT(message("float32; int:8; float32"), HasSubstr("'float32' stands there twice"));
  EXPECT_THAT(message("ef21 | topk:0.1"), HasSubstr("of the stages with memory a ladder takes"));
  EXPECT_THAT(message("dgc:0.9 | topk:0.1"), HasSubstr("'dgc'"));
  EXPECT_THAT(message("dct:28 | lowpass:0.3 | int:8; dct:28 | int:4"),
              HasSubstr("'dct:28 | int:4' sends other frequencies"));
  EXPECT_THAT(message("dct:28 | lowpass:0.3 | int:8; dct:7 | lowpass:0.3 | int:8"),
              HasSubstr("sends other frequencies"));
  EXPECT_TRUE(parse_ladder("dct:28 | lowpass:0.3 | int:8; dct:28 | lowpass:0.3 | int:4"));
  // Components aren't kept to a band, so beside one their number has to be the same.
  EXPECT_FALSE(
      parse_ladder("principal:2 | dct:28 | lowpass:0.3 | int:8; dct:28 | lowpass:0.3 | int:4"));
  EXPECT_FALSE(parse_ladder(
      "components:2 | dct:28 | lowpass:0.3 | int:8; components:3 | dct:28 | lowpass:0.3 | int:4"));
  EXPECT_TRUE(parse_ladder("principal:2 | dct:28 | int:8; dct:28 | int:4"));
}

TEST(Ladder, ClosedFormsAgreeWithMeasurement) {
  const ParameterSchema schema = ParameterSchema::flat(300'000);
  CodecScratch scratch;
  std::vector<float> update(schema.elements());
  Rng rng(9, Purpose::kTest);
  for (float& value : update) value = static_cast<float>(rng.normal() * rng.normal());
  const auto chains = parse_ladder(stateless_ladder());
  const auto measured = measure_ladder(*chains, schema, {update, true}, scratch);
  ASSERT_TRUE(measured) << measured.error().describe();
  double last_bytes = 0, last_nmse = kAny;
  for (const Rung& one : *measured) {
    const auto known = closed_form_nmse(one.codec);
    ASSERT_TRUE(known || one.codec.spec() == "int:8");
    // Few values a scale lose less than many.
    if (known) {
      EXPECT_LE(one.nmse, *known * 1.03 + 1e-12) << one.codec.spec();
      EXPECT_GE(one.nmse, *known * 0.6 - 1e-12) << one.codec.spec();
    }
    EXPECT_GT(one.bytes, last_bytes) << one.codec.spec();
    EXPECT_LT(one.nmse, last_nmse) << one.codec.spec();
    EXPECT_TRUE(one.exact);
    last_bytes = one.bytes;
    last_nmse = one.nmse;
  }
  const auto again = measure_ladder(*chains, schema, {}, scratch);
  for (size_t i = 0; i < again->size(); ++i) {
    EXPECT_EQ((*again)[i].bytes, (*measured)[i].bytes) << "fixed lengths";
    if (const auto known = closed_form_nmse((*chains)[i])) {
      EXPECT_EQ((*again)[i].nmse, *known);
    }
  }
}

TEST(Ladder, LengthsThatFollowTheDataAreMeasured) {
  const ParameterSchema schema = ParameterSchema::flat(5000);
  CodecScratch scratch;
  const auto chains = parse_ladder("ef | topk:0.01 | ternary | rice; int:8 | rans; int:8");
  const auto rungs = measure_ladder(*chains, schema, {}, scratch);
  ASSERT_TRUE(rungs) << rungs.error().describe();
  EXPECT_FALSE((*rungs)[0].exact || (*rungs)[1].exact);
  EXPECT_TRUE((*rungs)[2].exact);
  EXPECT_LT((*rungs)[1].bytes, (*rungs)[2].bytes);
  EXPECT_GT((*rungs)[0].nmse, 0.8);
  EXPECT_LT((*rungs)[0].nmse, 1);
  EXPECT_FALSE(measure_ladder(*chains, schema, {std::vector<float>(3), true}, scratch));
}

}  // namespace
}  // namespace tern
