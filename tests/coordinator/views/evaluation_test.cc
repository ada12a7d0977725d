#include "coordinator/views/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
  EXPECT_EQ(result.clients[1].client, 2u);
  EXPECT_EQ(result.worst_decile_client_accuracy, 0.5);
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

TEST(Evaluation, IsZeroNotNaNWithoutTestData) {
  const Evaluation result = summarize_evaluation({}, {}, 2, {});
  EXPECT_EQ(result.accuracy, 0);
  EXPECT_EQ(result.loss, 0);
  EXPECT_EQ(result.worst_decile_client_accuracy, 0);
}

}  // namespace
}  // namespace tern
