#include "config/rate_rule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "compression/updates/ladder.h"
#include "config/load.h"

namespace tern {
namespace {

using testing::HasSubstr;

TEST(RateRule, ReadsAndPrintsRules) {
  EXPECT_EQ(parse_rate_rule("125000")->low, 125000);
  EXPECT_EQ(parse_rate_rule("125000")->high, 125000);
  EXPECT_EQ(parse_rate_rule("loguniform:1e4..1e6")->low, 1e4);
  EXPECT_EQ(parse_rate_rule("loguniform:1e4..1e6")->high, 1e6);
  for (const char* text : {"125000", "0.5e3", "loguniform:10000..1e6", "1e15"}) {
    const auto rule = parse_rate_rule(text);
    ASSERT_TRUE(rule) << text;
    const auto again = parse_rate_rule(rate_text(*rule));
    ASSERT_TRUE(again) << rate_text(*rule);
    EXPECT_EQ(again->low, rule->low);
    EXPECT_EQ(again->high, rule->high);
  }
  for (const char* text :
       {"", "fast", "0", "-1", "nan", "inf", "1e16", "125 kB", "loguniform:", "loguniform:1e4",
        "loguniform:1e6..1e4", "loguniform:0..5", "loguniform:1..2..3", "uniform:1..2"})
    EXPECT_FALSE(parse_rate_rule(text)) << text;
}

TEST(RateRule, DrawsTheLogarithmUniformlyAndForEachClientAlone) {
  const RateRule rule{1e4, 1e6};
  std::vector<double> links;
  for (uint32_t client = 0; client < 2000; ++client) {
    links.push_back(rate_of(rule, Purpose::kUplink, 7, client));
    EXPECT_GE(links.back(), 1e4);
    EXPECT_LE(links.back(), 1e6);
    EXPECT_EQ(links.back(), std::round(links.back()));
    EXPECT_EQ(links.back(), rate_of(rule, Purpose::kUplink, 7, client));
  }
  EXPECT_NE(links[0], rate_of(rule, Purpose::kUplink, 8, 0));
  std::ranges::sort(links);
  EXPECT_NEAR(links[500] / 31623, 1, 0.1);
  EXPECT_NEAR(links[1000] / 1e5, 1, 0.1);
  EXPECT_NEAR(links[1500] / 316228, 1, 0.1);
  EXPECT_EQ(rate_of({5, 5}, Purpose::kUplink, 7, 3), 5);
}

constexpr char kScenario[] = R"(
rounds = 3
data.source = "fashion-mnist"
data.partition = "iid"
fleet.clients = 10
fleet.cohort = 5
fleet.uplink_bytes_per_s = "loguniform:1e4..1e6"
model.name = "logistic"
[compression.rate_control]
deadline = "500ms"
)";

TEST(RateControlConfig, TheLadderIsFilledInAndSurvivesPrinting) {
  const Result<Scenario> scenario = parse_scenario(kScenario, "x.toml");
  ASSERT_TRUE(scenario) << scenario.error().describe();
  const RateControlConfig& control = scenario->compression.rate_control;
  EXPECT_TRUE(control.on() && control.needs_links());
  EXPECT_EQ(control.deadline_seconds, 0.5);
  EXPECT_EQ(control.ladder, stateless_ladder());
  EXPECT_EQ(scenario->fleet.uplink, "loguniform:10000..1000000");
  const std::string printed = print_scenario(*scenario);
  const Result<Scenario> again = parse_scenario(printed, "y.toml");
  ASSERT_TRUE(again) << again.error().describe();
  EXPECT_EQ(print_scenario(*again), printed);
  const Result<Scenario> other =
      parse_scenario(kScenario, "x.toml",
                     {{"compression.rate_control.ladder", "rotate|eden:1 ;ef|topk:0.1"},
                      {"compression.error_feedback.warmup", "0.5:2"}});
  ASSERT_TRUE(other) << other.error().describe() << " a chain of the ladder warms up";
  EXPECT_EQ(other->compression.rate_control.ladder, "rotate:1024 | eden:1; ef | topk:0.1");
  EXPECT_NE(config_sha256(*other), config_sha256(*scenario));
}

TEST(RateControlConfig, BytesAreDividedAmongTheRatesOfUp) {
  std::string text = kScenario;
  text.replace(text.find("deadline"), std::string::npos, "mean_bytes = 900\n");
  const auto with_up = [&](const char* up) {
    return parse_scenario(text, "x.toml", {{"compression.up", up}});
  };
  const Result<Scenario> rates = with_up("rotate | randk:0.1 | eden:1");
  ASSERT_TRUE(rates) << rates.error().describe();
  EXPECT_EQ(rates->compression.rate_control.ladder,
            ladder_around(*Codec::parse("rotate:1024 | randk:0.1 | eden:1")));
  EXPECT_FALSE(rates->compression.rate_control.needs_links());
  const Result<Scenario> none = with_up("int:8");
  ASSERT_TRUE(none) << none.error().describe();
  EXPECT_EQ(none->compression.rate_control.ladder, stateless_ladder());
  const Result<Scenario> given = parse_scenario(text + "ladder = \"float32\"\n", "x.toml");
  ASSERT_TRUE(given) << given.error().describe();
  EXPECT_EQ(given->compression.rate_control.ladder, "float32");
  const Result<Scenario> biased = parse_scenario(
      text, "x.toml", {{"compression.up", "topk:0.1"}, {"compression.allow_biased", "true"}});
  ASSERT_FALSE(biased);
  EXPECT_NE(biased.error().describe().find("'topk:0.013' is biased"), std::string::npos)
      << biased.error().describe();
}

TEST(RateControlConfig, WithoutItNothingIsPrinted) {
  std::string text = kScenario;
  text.resize(text.find("[compression"));
  const Result<Scenario> scenario = parse_scenario(text, "x.toml");
  ASSERT_TRUE(scenario);
  EXPECT_FALSE(scenario->compression.rate_control.on());
  EXPECT_THAT(print_scenario(*scenario), testing::Not(HasSubstr("rate_control")));
}

}  // namespace
}  // namespace tern
