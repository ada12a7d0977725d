// Fleets whose clients draw their examples: each client is a function of its number alone, and what
// it draws follows its own mix of the classes.
#include "learning/client_shares.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/rng.h"

namespace tern {
namespace {

std::vector<uint32_t> labels_of(size_t n, uint32_t classes) {
  Rng rng(7, Purpose::kTest);
  std::vector<uint32_t> labels(n);
  for (uint32_t& label : labels) label = rng.below(classes);
  return labels;
}

ClientShares drawn(const std::string& rule, const std::vector<uint32_t>& labels, uint32_t classes,
                   uint32_t clients, uint64_t seed = 1, size_t trained_on = 0) {
  auto shares = ClientShares::draw(*parse_partition(rule),
                                   {.labels = labels,
                                    .natural_client = {},
                                    .classes = classes,
                                    .clients = clients,
                                    .seed = seed,
                                    .for_test = trained_on > 0},
                                   trained_on);
  EXPECT_TRUE(shares) << shares.error().describe();
  return *std::move(shares);
}

/// How the examples of a client spread over the classes.
std::vector<double> mix_of(const ClientShares& shares, uint32_t client,
                           const std::vector<uint32_t>& labels, uint32_t classes) {
  std::vector<double> mix(classes);
  const auto examples = shares.of(client);
  for (const uint32_t example : examples)
    mix[labels[example]] += 1.0 / static_cast<double>(examples.size());
  return mix;
}

TEST(ClientShares, AClientDrawsTheSameWhateverTheFleetAndWhoeverAsks) {
  const auto labels = labels_of(1000, 10);
  const ClientShares few = drawn("draw:60", labels, 10, 10),
                     many = drawn("draw:60", labels, 10, 1'000'000);
  std::set<std::vector<uint32_t>> different;
  for (uint32_t client = 0; client < 10; ++client) {
    const auto examples = few.of(client);
    EXPECT_EQ(examples, many.of(client));
    EXPECT_EQ(examples.size(), 60u);
    EXPECT_TRUE(std::ranges::is_sorted(examples));
    EXPECT_LT(examples.back(), labels.size());
    different.insert(examples);
  }
  EXPECT_EQ(different.size(), 10u);
  EXPECT_NE(drawn("draw:60", labels, 10, 10, 2).of(3), few.of(3)) << "another seed, other examples";
  EXPECT_EQ(many.clients(), 1'000'000u);
  EXPECT_EQ(many.total(), 60'000'000u);
  EXPECT_EQ(many.largest(), 60u);
  EXPECT_EQ(many.of(999'999).size(), 60u);
  EXPECT_TRUE(many.dealt().empty());
}

// The mean of Dirichlet(alpha) over 10 classes is 0.1 each, its variance 0.09 / (10 alpha + 1); of
// counts of 2,000 draws a little is added.
TEST(ClientShares, MixesAreDirichletAndExamplesFollowThem) {
  const auto labels = labels_of(5000, 10);
  for (const double alpha : {0.3, 2.0, 1e6}) {
    const ClientShares shares = drawn(fmt::format("draw:2000:{}", alpha), labels, 10, 400);
    double mean = 0, variance = 0;
    for (uint32_t client = 0; client < 400; ++client) {
      const double share = mix_of(shares, client, labels, 10)[3];
      mean += share / 400;
      variance += (share - 0.1) * (share - 0.1) / 400;
    }
    const double expected = 0.09 / (10 * alpha + 1) + 0.09 / 2000;
    EXPECT_NEAR(mean, 0.1, 4 * std::sqrt(expected / 400)) << alpha;
    EXPECT_GT(variance, 0.7 * expected) << alpha;
    EXPECT_LT(variance, 1.4 * expected) << alpha;
  }
}

TEST(ClientShares, TestExamplesHaveTheSameMixAndOtherDraws) {
  const auto labels = labels_of(6000, 10), test = labels_of(3000, 10);
  const ClientShares train = drawn("draw:4000", labels, 10, 50),
                     tested = drawn("draw:4000", test, 10, 50, 1, labels.size());
  for (uint32_t client = 0; client < 50; ++client) {
    EXPECT_EQ(tested.examples(client), 2000u);
    const auto a = mix_of(train, client, labels, 10), b = mix_of(tested, client, test, 10);
    for (size_t c = 0; c < a.size(); ++c) EXPECT_NEAR(a[c], b[c], 0.06) << client;
  }
  EXPECT_EQ(drawn("draw:3", test, 10, 2, 1, 100'000).examples(0), 1u) << "at least one";
  EXPECT_EQ(drawn("draw:3", {}, 10, 2, 1, 100'000).of(1).size(), 0u) << "of no examples none";
}

TEST(ClientShares, ClassesWithoutExamplesAreLeftOut) {
  std::vector<uint32_t> labels(100, 2);
  labels[5] = 4;  // of 0..6, the ends and the middle are empty
  const ClientShares shares = drawn("draw:50:0.1", labels, 7, 300);
  for (uint32_t client = 0; client < 300; ++client)
    for (const uint32_t example : shares.of(client)) ASSERT_LT(example, labels.size());
}

TEST(ClientShares, RefusesWhatCanNotBeDrawnFrom) {
  const auto rule = *parse_partition("draw:5");
  const auto refused = [&](std::vector<uint32_t> labels, uint32_t clients) {
    return !ClientShares::draw(
        rule, {.labels = labels, .natural_client = {}, .classes = 2, .clients = clients, .seed = 1},
        labels.size());
  };
  EXPECT_TRUE(refused({}, 3));
  EXPECT_TRUE(refused({0, 1, 2}, 3));
  EXPECT_TRUE(refused({0, 1}, 0));
  EXPECT_FALSE(refused({0, 1}, 3));
}

TEST(ClientShares, DealtOnesAreAsTheyWereDealt) {
  const ClientShares shares({{3, 5}, {}, {1}});
  EXPECT_EQ(shares.clients(), 3u);
  EXPECT_EQ(shares.of(0), (std::vector<uint32_t>{3, 5}));
  EXPECT_EQ(shares.examples(1), 0u);
  EXPECT_EQ(shares.largest(), 2u);
  EXPECT_EQ(shares.total(), 3u);
  EXPECT_EQ(ClientShares().clients(), 0u);
  EXPECT_EQ(ClientShares().total(), 0u);
}

}  // namespace
}  // namespace tern
