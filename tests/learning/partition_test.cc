#include "learning/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>

#include "base/rng.h"

namespace tern {
namespace {

using testing::HasSubstr;

using Parts = std::vector<std::vector<uint32_t>>;

std::vector<uint32_t> random_labels(size_t n, uint32_t classes, uint32_t seed = 0) {
  Rng rng(seed, Purpose::kTest);
  std::vector<uint32_t> labels(n);
  for (uint32_t& label : labels) label = rng.below(classes);
  return labels;
}

Result<Parts> cut(const std::string& rule, const std::vector<uint32_t>& labels, uint32_t classes,
                  uint32_t clients, bool for_test = false, uint64_t seed = 1) {
  TERN_TRY(const PartitionRule parsed, parse_partition(rule));
  return partition(parsed, {.labels = labels,
                            .natural_client = {},
                            .classes = classes,
                            .clients = clients,
                            .seed = seed,
                            .for_test = for_test});
}

/// share[class][client] of the class's examples.
std::vector<std::vector<double>> class_shares(const Parts& parts,
                                              const std::vector<uint32_t>& labels,
                                              uint32_t classes) {
  std::vector<std::vector<double>> shares(classes, std::vector<double>(parts.size()));
  std::vector<double> totals(classes);
  for (size_t client = 0; client < parts.size(); ++client)
    for (const uint32_t i : parts[client]) {
      ++shares[labels[i]][client];
      ++totals[labels[i]];
    }
  for (uint32_t c = 0; c < classes; ++c)
    for (double& share : shares[c]) share /= totals[c];
  return shares;
}

TEST(Partition, EachExampleOnceNeverEmptyInOrderAndReproducible) {
  for (const uint32_t clients : {1U, 2U, 7U, 60U, 240U})
    for (const uint32_t classes : {1U, 2U, 10U})
      for (const std::string rule :
           {"iid", "shards:1", "shards:2", "dirichlet:0.01", "dirichlet:0.1", "dirichlet:1",
            "dirichlet:100", "dirichlet:1e-6", "dirichlet:1e6", "quantity:0.01", "quantity:0.5",
            "quantity:10"})
        for (const size_t n : {size_t{240}, size_t{3360}})
          for (const bool for_test : {false, true}) {
            SCOPED_TRACE(fmt::format("{} clients, {} classes, {}, {} examples, test {}", clients,
                                     classes, rule, n, for_test));
            if (rule.starts_with("shards") && n % (clients * (rule.back() - '0')) != 0) continue;
            const auto labels = random_labels(n, classes);
            const auto parts = cut(rule, labels, classes, clients, for_test);
            ASSERT_TRUE(parts.has_value()) << parts.error().describe();
            ASSERT_EQ(parts->size(), clients);
            std::vector<int> seen(n);
            for (const auto& part : *parts) {
              ASSERT_TRUE(for_test || !part.empty());
              ASSERT_TRUE(std::is_sorted(part.begin(), part.end()));
              for (const uint32_t i : part) ++seen.at(i);
            }
            ASSERT_EQ(std::count(seen.begin(), seen.end(), 1), static_cast<ptrdiff_t>(n));
            ASSERT_EQ(*parts, *cut(rule, labels, classes, clients, for_test));
          }
}

TEST(Partition, SeedChangesEveryRule) {
  const auto labels = random_labels(400, 10);
  for (const char* rule : {"iid", "shards:2", "dirichlet:0.5", "quantity:0.5"})
    EXPECT_NE(*cut(rule, labels, 10, 20, false, 1), *cut(rule, labels, 10, 20, false, 2)) << rule;
}

TEST(Partition, IidSizesDifferByOneAtMost) {
  const auto parts = cut("iid", random_labels(1003, 3), 3, 10);
  for (const auto& part : *parts) EXPECT_TRUE(part.size() == 100 || part.size() == 101);
}

TEST(Partition, ShardsGiveFewClassesAndTheSameOnesToTestData) {
  // 10 classes of 60 and of 11: a shard of training data is half a class.
  std::vector<uint32_t> train(600);
  std::vector<uint32_t> test(110);
  for (size_t i = 0; i < train.size(); ++i) train[i] = static_cast<uint32_t>(i % 10);
  for (size_t i = 0; i < test.size(); ++i) test[i] = static_cast<uint32_t>(i % 10);
  const auto train_parts = cut("shards:2", train, 10, 10);
  const auto test_parts = cut("shards:2", test, 10, 10, true);
  for (size_t client = 0; client < 10; ++client) {
    std::set<uint32_t> train_classes;
    std::set<uint32_t> test_classes;
    for (const uint32_t i : (*train_parts)[client]) train_classes.insert(train[i]);
    for (const uint32_t i : (*test_parts)[client]) test_classes.insert(test[i]);
    EXPECT_EQ((*train_parts)[client].size(), 60U);
    EXPECT_LE(train_classes.size(), 2U);
    EXPECT_EQ(train_classes, test_classes);
  }
}

TEST(Partition, ShardsThatDontDivideNameSizesThatWould) {
  const auto parts = cut("shards:7", random_labels(600, 10), 10, 10);
  ASSERT_FALSE(parts.has_value());
  EXPECT_EQ(parts.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(parts.error().message(), HasSubstr("with 10 clients shards:6 or shards:10"));
  EXPECT_FALSE(cut("shards:4000000000", random_labels(600, 10), 10, 10).has_value());
  EXPECT_TRUE(cut("shards:7", random_labels(600, 10), 10, 10, true).has_value());
}

TEST(Partition, DirichletSharesHaveTheExpectedSkew) {
  // For Dirichlet(a) over k clients, E[sum of squared shares] = (a + 1) / (k a + 1).
  constexpr uint32_t kClasses = 200;
  constexpr uint32_t kClients = 10;
  const auto labels = random_labels(200000, kClasses);
  for (const double alpha : {0.01, 0.1, 0.5, 1.0, 10.0}) {
    const auto parts = cut(fmt::format("dirichlet:{}", alpha), labels, kClasses, kClients);
    ASSERT_TRUE(parts.has_value());
    double mean = 0;
    for (const auto& shares : class_shares(*parts, labels, kClasses))
      mean += std::inner_product(shares.begin(), shares.end(), shares.begin(), 0.0) / kClasses;
    const double expected = (alpha + 1) / (kClients * alpha + 1);
    EXPECT_NEAR(mean, expected, 0.06 * expected) << alpha;
  }
}

TEST(Partition, TestDataGetTheSharesOfTrainingData) {
  const auto train = random_labels(60000, 10, 1);
  const auto test = random_labels(10000, 10, 2);
  for (const char* rule : {"dirichlet:0.1", "dirichlet:1"}) {
    const auto a = class_shares(*cut(rule, train, 10, 20), train, 10);
    const auto b = class_shares(*cut(rule, test, 10, 20, true), test, 10);
    for (uint32_t c = 0; c < 10; ++c)
      for (size_t client = 0; client < 20; ++client) EXPECT_NEAR(a[c][client], b[c][client], 0.002);
  }
  const auto sizes = *cut("quantity:0.5", train, 10, 20);
  const auto test_sizes = *cut("quantity:0.5", test, 10, 20, true);
  for (size_t client = 0; client < 20; ++client)
    EXPECT_NEAR(static_cast<double>(sizes[client].size()) / 60000,
                static_cast<double>(test_sizes[client].size()) / 10000, 2e-4);
}

TEST(Partition, NaturalFollowsTheData) {
  const std::vector<uint32_t> labels = {0, 1, 0, 1};
  const std::vector<uint32_t> who = {1, 0, 1, 1};
  const PartitionRule rule = *parse_partition("natural");
  PartitionRequest request{.labels = labels,
                           .natural_client = who,
                           .classes = 2,
                           .clients = 2,
                           .seed = 1,
                           .for_test = false};
  EXPECT_EQ(*partition(rule, request), (Parts{{1}, {0, 2, 3}}));
  request.clients = 3;
  EXPECT_THAT(partition(rule, request).error().message(),
              HasSubstr("natural client 2 of 3 has no training example"));
  request.for_test = true;
  EXPECT_TRUE(partition(rule, request).has_value());
  request.clients = 1;
  EXPECT_FALSE(partition(rule, request).has_value());
  request.natural_client = {};
  EXPECT_THAT(partition(rule, request).error().message(), HasSubstr("data.client"));
}

TEST(Partition, RefusesImpossibleRequests) {
  const auto labels = random_labels(5, 2);
  EXPECT_FALSE(cut("iid", labels, 2, 0).has_value());
  EXPECT_FALSE(cut("iid", labels, 2, 6).has_value());
  EXPECT_TRUE(cut("iid", labels, 2, 6, true).has_value());
  EXPECT_FALSE(cut("iid", {0, 1, 2}, 2, 1).has_value());
  EXPECT_TRUE(cut("dirichlet:1", {}, 2, 3, true).has_value());
}

TEST(Partition, ParsesRulesStrictly) {
  EXPECT_EQ(parse_partition("shards:3")->shards, 3U);
  EXPECT_EQ(parse_partition("dirichlet:0.25")->alpha, 0.25);
  for (const char* bad : {"",
                          "iid:1",
                          "natural:2",
                          "shards",
                          "shards:",
                          "shards:0",
                          "shards:-1",
                          "shards:2x",
                          "shards:99999999999",
                          "dirichlet",
                          "dirichlet:0",
                          "dirichlet:nan",
                          "dirichlet:inf",
                          "quantity:-1",
                          "quantity:1,5",
                          "draw",
                          "draw:",
                          "draw:0",
                          "draw:-3",
                          "draw:1e3",
                          "draw:1000001",
                          "draw:5:",
                          "draw:5:0",
                          "draw:5:1:2",
                          "Iid",
                          " iid"}) {
    const auto rule = parse_partition(bad);
    ASSERT_FALSE(rule.has_value()) << bad;
    EXPECT_THAT(
        rule.error().message(),
        HasSubstr(
            "known: iid, shards:K, dirichlet:ALPHA, quantity:ALPHA, draw:N[:ALPHA], natural"));
  }
}

}  // namespace
}  // namespace tern
