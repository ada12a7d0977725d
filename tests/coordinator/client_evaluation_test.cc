#include "coordinator/client_evaluation.h"

#include <gtest/gtest.h>

namespace tern {
namespace {

constexpr uint32_t kClasses = 2;

EvaluationReport report_on(uint32_t examples, uint32_t correct) {
  return {.task = 1,
          .loss_sum = 1,
          .examples = {examples, 0},
          .predicted = {correct, examples - correct},
          .correct = {correct, 0}};
}

TEST(ClientEvaluation, IsOverOnceWhenNobodyIsWaitedFor) {
  ClientEvaluation evaluation;
  EXPECT_FALSE(evaluation.take_if_over());  // nothing has begun
  evaluation.begin({{2, 20}, {5, 50}, {7, 70}});
  EXPECT_EQ(evaluation.task_of(5), TaskId{50});
  EXPECT_TRUE(evaluation.report(5, report_on(10, 4), kClasses, 10).ok());
  EXPECT_EQ(evaluation.task_of(5), std::nullopt);
  EXPECT_TRUE(evaluation.report(2, report_on(8, 8), kClasses, 8).ok());
  EXPECT_FALSE(evaluation.take_if_over());
  evaluation.give_up(7);
  const auto reports = evaluation.take_if_over();
  ASSERT_TRUE(reports);
  ASSERT_EQ(reports->size(), 2u);
  // By number and not as they came: their losses are summed in this order.
  EXPECT_EQ((*reports)[0].client, 2u);
  EXPECT_EQ((*reports)[1].client, 5u);
  EXPECT_FALSE(evaluation.take_if_over());
}

TEST(ClientEvaluation, AReportThatCantBeDoesntCountAndIsntWaitedFor) {
  ClientEvaluation evaluation;
  evaluation.begin({{2, 20}, {5, 50}, {7, 70}});
  EXPECT_FALSE(evaluation.report(2, report_on(10, 4), kClasses, 11).ok());  // announced 11
  EvaluationReport impossible = report_on(10, 4);
  impossible.correct = {11, 0};
  EXPECT_FALSE(evaluation.report(5, impossible, kClasses, 10).ok());
  EXPECT_TRUE(evaluation.report(7, report_on(10, 4), kClasses, 10).ok());
  const auto reports = evaluation.take_if_over();
  ASSERT_TRUE(reports);
  ASSERT_EQ(reports->size(), 1u);
  EXPECT_EQ(reports->front().client, 7u);
}

TEST(ClientEvaluation, TheNextOneBeginsWithoutTheLastOnesReports) {
  ClientEvaluation evaluation;
  evaluation.begin({{2, 20}, {5, 50}});
  EXPECT_TRUE(evaluation.report(2, report_on(10, 4), kClasses, 10).ok());
  evaluation.give_up_all();
  EXPECT_EQ(evaluation.take_if_over()->size(), 1u);
  evaluation.begin({});
  EXPECT_TRUE(evaluation.take_if_over()->empty());
}

}  // namespace
}  // namespace tern
