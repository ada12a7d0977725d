#include "coordinator/views/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace tern {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

json summary() {
  return {{"version", "0.1.0"},
          {"seed", 12345},
          {"rounds", 300},
          {"model", {{"name", "mlp-2nn"}, {"parameters", 199210}, {"sha256", "ab12"}}},
          {"final", {{"accuracy", 0.8312}, {"macro_f1", nullptr}}},
          {"late", {{"accuracy", 0.8287}}},
          {"best", {{"accuracy", 0.8491}, {"round", 285}}},
          {"bytes",
           {{"up", 20'000'000},
            {"down", 75'000'000},
            {"dense_up", 2'400'000'000},
            {"dense_down", 2'390'520'000}}},
          {"target", {{"reached", true}, {"round", 240}, {"bytes_up", 16'000'000}}},
          {"seconds", {{"wall", 75.25}}},
          {"samples_trained", 1'800'000}};
}

std::vector<json> metrics(size_t rounds) {
  std::vector<json> rows;
  for (size_t i = 1; i <= rounds; ++i) {
    const bool evaluated = i % 5 == 0;
    rows.push_back({{"round", i},
                    {"updates", 10},
                    {"refused", i == 3 ? 2 : 0},
                    {"void", i == 4},
                    {"bytes_up", 1000},
                    {"bytes_down", 2500},
                    {"train_loss", 1.0 / static_cast<double>(i)},
                    {"accuracy", evaluated ? json(0.5) : json(nullptr)},
                    {"loss", evaluated ? json(0.7) : json(nullptr)}});
  }
  return rows;
}

/// The page's script block of data.
json data_of(const std::string& page) {
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = page.find(open) + open.size();
  return json::parse(page.substr(begin, page.find("</script>", begin) - begin));
}

size_t occurrences(const std::string& text, const std::string& what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

TEST(Report, ShowsHeadlineFigures) {
  const std::string page = render_report(summary(), metrics(300), "rounds = 300\n");
  for (const char* shown :
       {"0.8287", "at the end 0.8312", "0.8491", "round 285", "20.0 MB", "120x less than float32",
        "32x less than float32", "3,000 updates, 2 refused, 1 void round<", "75.2 s", "round 240",
        "after 16.0 MB from clients", "199,210 parameters", "seed 12345"})
    EXPECT_THAT(page, HasSubstr(shown));
}

TEST(Report, ListsEveryKeyOfTheSummary) {
  const std::string page = render_report(summary(), {}, "");
  EXPECT_THAT(page, HasSubstr(">bytes.dense_up</th><td class=\"number\">2,400,000,000</td>"));
  EXPECT_THAT(page, HasSubstr(">model.sha256</th><td>ab12</td>"));
  EXPECT_THAT(page, HasSubstr(">final.macro_f1</th><td>&ndash;</td>"));
  EXPECT_THAT(page, HasSubstr(">seed</th><td class=\"number\">12345</td>"));
}

TEST(Report, SumsBytesAndLeavesOutRoundsWithoutEvaluation) {
  const json data = data_of(render_report(summary(), metrics(20), ""));
  EXPECT_EQ(data["accuracy"].size(), 4);
  EXPECT_EQ(data["accuracy"][0], json::array({5.0, 0.5}));
  EXPECT_EQ(data["train_loss"].size(), 20);
  EXPECT_EQ(data["up"].back(), json::array({20.0, 20'000.0}));
  EXPECT_EQ(data["down"].back(), json::array({20.0, 50'000.0}));
}

TEST(Report, ThinsLongRunsButKeepsTheLastRound) {
  const json data = data_of(render_report(summary(), metrics(25'001), ""));
  EXPECT_LE(data["up"].size(), 1001);
  EXPECT_GE(data["up"].size(), 900);
  EXPECT_EQ(data["up"].back(), json::array({25'001.0, 25'001'000.0}));
}

TEST(Report, EscapesAllText) {
  json hostile = summary();
  hostile["model"]["name"] = "<script>alert(1)</script>";
  hostile["<b>key\"</b>"] = "a & b's <i>";
  hostile["list"] = {"</td><script>"};
  const std::string page =
      render_report(hostile, metrics(5), "x = \"</code></pre><script>\" # & '");
  EXPECT_THAT(page, Not(HasSubstr("alert(1)</script>")));
  EXPECT_THAT(page, HasSubstr("<title>Tern: &lt;script&gt;alert(1)&lt;/script&gt;</title>"));
  EXPECT_THAT(page,
              HasSubstr("&lt;b&gt;key&quot;&lt;/b&gt;</th><td>a &amp; b&#39;s &lt;i&gt;</td>"));
  EXPECT_THAT(page,
              HasSubstr("<pre><code>x = &quot;&lt;/code&gt;&lt;/pre&gt;&lt;script&gt;&quot;"));
  EXPECT_EQ(occurrences(page, "<script"), 3);
  EXPECT_EQ(occurrences(page, "</script"), 3);
}

TEST(Report, ShowsHowOftenEachChainWasGiven) {
  EXPECT_THAT(render_report(summary(), {}, ""), Not(HasSubstr("asked for with each chain")));
  json rated = summary();
  rated["rate_control"]["chains"] = {{{"chain", "int:8 <&"}, {"updates", 1500}},
                                     {{"chain", "float32"}, {"updates", 500}}};
  const std::string page = render_report(rated, {}, "");
  EXPECT_THAT(page, HasSubstr("Updates asked for with each chain"));
  EXPECT_THAT(page, HasSubstr("int:8 &lt;&amp;</th><td class=\"number\">1,500</td><td "
                              "class=\"number\">75.0 %</td>"));
}

TEST(Report, ShowsAccuracyOverVirtualTimeWhereThereIsOne) {
  std::vector<json> rows = metrics(10);
  EXPECT_THAT(render_report(summary(), rows, ""), Not(HasSubstr("id=\"timed\"")));
  for (size_t i = 0; i < rows.size(); ++i)
    rows[i]["virtual_seconds"] = 1.5 * static_cast<double>(i + 1);
  json timed = summary();
  timed["virtual_seconds"] = 15.0;
  const std::string page = render_report(timed, rows, "");
  EXPECT_THAT(page, HasSubstr("id=\"timed\""));
  EXPECT_EQ(data_of(page)["timed"], (json{{7.5, 0.5}, {15.0, 0.5}}));
}

TEST(Report, ShowsTheAgeOfUpdatesWhereSomeWereLate) {
  std::vector<json> rows = metrics(10);
  for (json& row : rows) {
    row["staleness"] = 0.0;
    row["staleness_max"] = 0;
  }
  EXPECT_THAT(render_report(summary(), rows, ""), Not(HasSubstr("id=\"stale\"")));
  rows[2]["staleness"] = 1.5;
  rows[2]["staleness_max"] = 4;
  const std::string page = render_report(summary(), rows, "");
  EXPECT_THAT(page, HasSubstr("id=\"stale\""));
  EXPECT_EQ(data_of(page)["stale"][2], (json{3, 1.5}));
  EXPECT_EQ(data_of(page)["stale_max"][2], (json{3, 4}));
}

TEST(Report, HasNothingToFetch) {
  const std::string page = render_report(summary(), metrics(5), "");
  EXPECT_THAT(page, HasSubstr("Chart.js v3"));
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  EXPECT_THAT(page, Not(HasSubstr(" src=")));
  EXPECT_THAT(page, Not(HasSubstr("<link")));
  EXPECT_THAT(page, Not(HasSubstr("@import")));
}

TEST(Report, StandsNullsOtherTypesAndBrokenText) {
  const json nothing = {
      {"model", nullptr}, {"bytes", {{"up", nullptr}}}, {"best", 3}, {"seed", "x"}};
  EXPECT_THAT(render_report(nothing, {}, ""), HasSubstr("Federated training of a model"));
  EXPECT_THAT(render_report(nullptr, {nullptr, json::array(), {{"round", "three"}}}, ""),
              HasSubstr("</html>"));
  const json odd = {{"model", {{"name", "\xff<"}}},
                    {"list", {"\xff"}},
                    {"rounds", std::numeric_limits<double>::infinity()},
                    {"bytes", {{"up", 0}, {"dense_up", 5}}}};
  const std::string page = render_report(
      odd, {{{"round", 1}, {"accuracy", std::numeric_limits<double>::quiet_NaN()}}}, "\xff");
  EXPECT_THAT(page, HasSubstr("\xff&lt;"));
  EXPECT_EQ(data_of(page)["accuracy"].size(), 0);
}

}  // namespace
}  // namespace tern
