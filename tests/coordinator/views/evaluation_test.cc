#include "coordinator/views/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/rng.h"

namespace tern {
namespace {

TEST(Evaluation, CountsByClassAndByClient) {
  // Class 0: two examples, one recognized; class 1: two, both; class 2 never occurs and is
  // predicted once.
  const std::vector<EvaluationPart> parts{{.predicted = {0, 2}, .loss = {1, 2}},
                                          {.predicted = {1, 1}, .loss = {3, 4}}};
  const std::vector<uint32_t> labels{0, 0, 1, 1};
  const std::vector<std::vector<uint32_t>> clients{{0, 1}, {}, {2, 3}};
  const Evaluation result = summarize_evaluation(parts, labels, 3, clients);
  EXPECT_EQ(result.accuracy, 0.75);
  EXPECT_EQ(result.loss, 2.5);
  EXPECT_EQ(result.classes[0].recall, 0.5);
  EXPECT_EQ(result.classes[0].precision, 1.0);
  EXPECT_NEAR(result.classes[0].f1, 2.0 / 3, 1e-12);
  EXPECT_EQ(result.classes[1].f1, 1.0);
  EXPECT_EQ(result.classes[2].f1, 0.0);
  EXPECT_NEAR(result.macro_f1, (2.0 / 3 + 1) / 2, 1e-12) << "over the classes that occur";
  ASSERT_EQ(result.clients.size(), 2u) << "a client without test data has no figure";
  EXPECT_EQ(result.clients[0].accuracy, 0.5);
  EXPECT_EQ(result.clients[0].loss, 1.5);
  EXPECT_EQ(result.clients[1].loss, 3.5);
  EXPECT_EQ(result.clients[1].client, 2u);
  EXPECT_EQ(result.worst_decile_client_accuracy, 0.5);
}

TEST(Evaluation, AnExampleMayHaveSeveralLabels) {
  // Two texts of three characters for one client, one for another.
  const EvaluationPart part{.predicted = {0, 1, 1, 0, 0, 0, 1, 1, 1},
                            .loss = {1, 2, 3, 4, 5, 6, 7, 8, 9}};
  const std::vector<uint32_t> labels{0, 0, 1, 1, 1, 1, 1, 1, 1};
  const std::vector<std::vector<uint32_t>> clients{{0, 2}, {1}};
  const Evaluation result = summarize_evaluation({&part, 1}, labels, 2, clients, 3);
  EXPECT_EQ(result.loss, 5);
  EXPECT_EQ(result.clients[0].examples, 6u);
  EXPECT_EQ(result.clients[0].accuracy, 5.0 / 6);
  EXPECT_EQ(result.clients[0].loss, (1 + 2 + 3 + 7 + 8 + 9) / 6.0);
  EXPECT_EQ(result.clients[1].examples, 3u);
  EXPECT_EQ(result.clients[1].accuracy, 0);
  EXPECT_EQ(result.clients[1].loss, 5);
}

TEST(Evaluation, WorstDecileIsTheLowestTenthOfTheClientsRoundedUp) {
  std::vector<uint32_t> labels(21, 0);
  EvaluationPart part{.predicted = std::vector<uint32_t>(21, 0),
                      .loss = std::vector<float>(21, 0.0f)};
  part.predicted[4] = part.predicted[9] = 1;
  std::vector<std::vector<uint32_t>> clients;
  clients.reserve(21);
  for (uint32_t i = 0; i < 21; ++i) clients.push_back({i});
  // 21 clients: the lowest 3 have accuracies 0, 0, 1.
  EXPECT_NEAR(summarize_evaluation({&part, 1}, labels, 2, clients).worst_decile_client_accuracy,
              1.0 / 3, 1e-12);
}

/// Reports as clients would make them of these predictions; `number` of a client that has them all.
std::vector<EvaluationReport> reports_on(std::span<const EvaluationPart> parts,
                                         const std::vector<uint32_t>& labels, uint32_t classes,
                                         std::span<const std::vector<uint32_t>> clients,
                                         uint32_t first_number = 0) {
  std::vector<uint32_t> predicted;
  std::vector<float> loss;
  for (const EvaluationPart& part : parts) {
    predicted.insert(predicted.end(), part.predicted.begin(), part.predicted.end());
    loss.insert(loss.end(), part.loss.begin(), part.loss.end());
  }
  std::vector<EvaluationReport> reports;
  for (size_t client = 0; client < clients.size(); ++client) {
    EvaluationReport report{.client = first_number + static_cast<uint32_t>(client),
                            .examples = std::vector<uint32_t>(classes),
                            .predicted = std::vector<uint32_t>(classes),
                            .correct = std::vector<uint32_t>(classes)};
    for (const uint32_t i : clients[client]) {
      ++report.examples[labels[i]];
      ++report.predicted[predicted[i]];
      report.correct[labels[i]] += labels[i] == predicted[i];
      report.loss_sum += loss[i];
    }
    EXPECT_TRUE(check_report(report, classes).ok());
    reports.push_back(std::move(report));
  }
  return reports;
}

void expect_equal(const Evaluation& a, const Evaluation& b) {
  EXPECT_EQ(a.accuracy, b.accuracy);
  EXPECT_NEAR(a.loss, b.loss, 1e-12) << "summed in another order";
  EXPECT_EQ(a.macro_f1, b.macro_f1);
  EXPECT_EQ(a.worst_decile_client_accuracy, b.worst_decile_client_accuracy);
  ASSERT_EQ(a.classes.size(), b.classes.size());
  for (size_t c = 0; c < a.classes.size(); ++c) {
    EXPECT_EQ(a.classes[c].examples, b.classes[c].examples);
    EXPECT_EQ(a.classes[c].recall, b.classes[c].recall);
    EXPECT_EQ(a.classes[c].precision, b.classes[c].precision);
    EXPECT_EQ(a.classes[c].f1, b.classes[c].f1);
  }
  ASSERT_EQ(a.clients.size(), b.clients.size());
  for (size_t i = 0; i < a.clients.size(); ++i) {
    EXPECT_EQ(a.clients[i].client, b.clients[i].client);
    EXPECT_EQ(a.clients[i].examples, b.clients[i].examples);
    EXPECT_EQ(a.clients[i].accuracy, b.clients[i].accuracy);
    EXPECT_NEAR(a.clients[i].loss, b.clients[i].loss, 1e-12);
  }
}

TEST(Evaluation, ReportsOfClientsGiveTheSameFiguresAsTheirPredictions) {
  for (uint32_t trial = 0; trial < 50; ++trial) {
    Rng rng(trial, Purpose::kTest);
    const uint32_t classes = 2 + rng.below(9), count = 1 + rng.below(25);
    std::vector<std::vector<uint32_t>> clients(count);
    std::vector<uint32_t> labels;
    std::vector<EvaluationPart> parts(1 + rng.below(3));
    for (EvaluationPart& part : parts)
      for (uint32_t i = rng.below(200); i > 0; --i) {
        // Some clients have nothing, and some classes never occur.
        clients[rng.below(1 + rng.below(count))].push_back(static_cast<uint32_t>(labels.size()));
        labels.push_back(rng.below(1 + rng.below(classes)));
        part.predicted.push_back(rng.below(2) == 0 ? labels.back() : rng.below(classes));
        part.loss.push_back(static_cast<float>(rng.uniform()));
      }
    const Evaluation direct = summarize_evaluation(parts, labels, classes, clients);
    const auto reports = reports_on(parts, labels, classes, clients);
    expect_equal(summarize_reports(reports, classes, count), direct);

    // One evaluator that holds everything knows no clients.
    std::vector<uint32_t> all(labels.size());
    std::iota(all.begin(), all.end(), 0u);
    const auto whole =
        reports_on(parts, labels, classes, std::vector<std::vector<uint32_t>>{all}, count);
    expect_equal(summarize_reports(whole, classes, count),
                 summarize_evaluation(parts, labels, classes, {}));
  }
}

TEST(Evaluation, ReportsThatCannotBeAreRefused) {
  const auto refusal = [](const EvaluationReport& report) {
    return check_report(report, 2).message();
  };
  const EvaluationReport good{
      .loss_sum = 5, .examples = {3, 4}, .predicted = {5, 2}, .correct = {3, 1}};
  EXPECT_EQ(refusal(good), "");
  const auto with = [&](auto change) {
    EvaluationReport report = good;
    change(report);
    return refusal(report);
  };
  EXPECT_THAT(with([](auto& r) { r.examples = {7}; }), testing::HasSubstr("1 classes"));
  EXPECT_NE(with([](auto& r) { r.predicted = {7}; }), "");
  EXPECT_NE(with([](auto& r) { r.correct = {}; }), "");
  EXPECT_NE(with([](auto& r) { r.correct = {4, 1}; }), "") << "more than there are";
  EXPECT_NE(with([](auto& r) { r.correct = {3, 3}; }), "") << "more than were recognized";
  EXPECT_NE(with([](auto& r) { r.predicted = {5, 3}; }), "");
  EXPECT_NE(with([](auto& r) { r.examples = {UINT32_MAX, UINT32_MAX}; }), "");
  EXPECT_NE(with([](auto& r) { r.loss_sum = -1e-300; }), "");
  EXPECT_NE(with([](auto& r) { r.loss_sum = 1e40; }), "") << "seven losses are seven floats";
  EXPECT_EQ(with([](auto& r) { r.loss_sum = 7e38; }), "");
  EXPECT_NE(
      check_report({.loss_sum = 1, .examples = {0, 0}, .predicted = {0, 0}, .correct = {0, 0}}, 2)
          .message(),
      "")
      << "a loss of nothing";
}

TEST(Evaluation, NoReportsMakeFiguresThatAreNoNumbers) {
  // A thousand clients that claim as much as a report can hold.
  const EvaluationReport most{.loss_sum = 4e9 * 3.4e38,
                              .examples = {4'000'000'000, 0},
                              .predicted = {4'000'000'000, 0},
                              .correct = {1'000'000'000, 0}};
  ASSERT_TRUE(check_report(most, 2).ok());
  const std::vector<EvaluationReport> reports(1000, most);
  const Evaluation result = summarize_reports(reports, 2, 1000);
  EXPECT_DOUBLE_EQ(result.accuracy, 0.25);
  EXPECT_TRUE(std::isfinite(result.loss));
  EXPECT_EQ(result.classes[0].recall, 0.25);
  EXPECT_EQ(result.classes[0].examples, UINT32_MAX);
  EXPECT_EQ(summarize_reports({}, 2, 10).accuracy, 0);
}

TEST(Evaluation, IsZeroNotNaNWithoutTestData) {
  const Evaluation result = summarize_evaluation({}, {}, 2, {});
  EXPECT_EQ(result.accuracy, 0);
  EXPECT_EQ(result.loss, 0);
  EXPECT_EQ(result.worst_decile_client_accuracy, 0);
}

}  // namespace
}  // namespace tern
