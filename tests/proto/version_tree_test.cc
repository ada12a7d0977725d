// Which frame leads to a version, and what a client has to keep so that it can be decoded.
#include "proto/version_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace tern {
namespace {

using testing::ElementsAre;

std::vector<uint32_t> parents(const VersionTree& tree, uint32_t last) {
  std::vector<uint32_t> all;
  for (uint32_t version = 1; version <= last; ++version) all.push_back(tree.parent(version));
  return all;
}

TEST(VersionTree, WithoutKeyframesEachVersionFollowsTheOneBefore) {
  const VersionTree tree;
  EXPECT_THAT(parents(tree, 4), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(tree.anchor(4), 4u);
  EXPECT_THAT(tree.kept(4), ElementsAre(4));
}

TEST(VersionTree, RefinementsStandOnTheNewestKeyframe) {
  EXPECT_THAT(parents({.periods = {3}}, 8), ElementsAre(0, 0, 0, 3, 3, 3, 6, 6));
  EXPECT_THAT(parents({.periods = {3}, .chain = false}, 8), ElementsAre(0, 0, 0, 3, 3, 0, 6, 6));
  EXPECT_THAT(parents({.periods = {2, 4}}, 9), ElementsAre(0, 0, 2, 0, 4, 4, 6, 4, 8));
  EXPECT_THAT(parents({.periods = {3}, .root = 1}, 7), ElementsAre(0, 1, 1, 3, 3, 3, 6));
}

// Whoever was brought to any version can decode every later one from what kept() says: the frames
// on the way end where it holds something.
TEST(VersionTree, WhatIsKeptIsEnoughForEveryLaterVersionAndNoMore) {
  const VersionTree trees[] = {{},
                               {.periods = {3}},
                               {.periods = {3}, .chain = false},
                               {.periods = {2, 6}},
                               {.periods = {2, 6}, .chain = false, .root = 1},
                               {.periods = {2, 4, 12}, .root = 1}};
  for (const VersionTree& tree : trees) {
    ASSERT_TRUE(tree.check().ok());
    for (uint32_t held = 0; held <= 30; ++held) {
      const std::vector<uint32_t> kept = tree.kept(held);
      for (const uint32_t version : kept) EXPECT_TRUE(tree.holds(held, version)) << version;
      for (uint32_t version = 1; version <= 30; ++version) {
        EXPECT_EQ(tree.holds(held, version), std::ranges::binary_search(kept, version))
            << version << " by a holder of " << held;
      }
      for (uint32_t later = held + 1; later <= 60; ++later) {
        size_t frames = 0;
        uint32_t at = later;
        for (; !tree.holds(held, at); at = tree.parent(at)) ++frames;
        EXPECT_TRUE(at == 0 || std::ranges::binary_search(kept, at));
        if (!tree.periods.empty() && !tree.chain && held >= tree.root) {
          EXPECT_LE(frames, 1 + tree.periods.size());
        }
        EXPECT_GE(tree.anchor(later), at == 0 ? 0 : std::min(at, tree.anchor(later)));
      }
    }
  }
}

TEST(VersionTree, RefusesPeriodsThatAreNotMultiples) {
  for (const std::vector<uint32_t>& periods :
       {std::vector<uint32_t>{0}, {1}, {10, 15}, {10, 10}, {2, 4, 8, 16, 32}})
    EXPECT_FALSE(VersionTree{.periods = periods}.check().ok());
  EXPECT_FALSE((VersionTree{.periods = {}, .chain = false}.check().ok()));
  EXPECT_FALSE((VersionTree{.periods = {10}, .root = 2}.check().ok()));
}

}  // namespace
}  // namespace tern
