#include "coordinator/sessions.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace tern {
namespace {

Session& join(Sessions& sessions, uint32_t number, uint32_t examples, bool evaluator = false) {
  Session& session = sessions.open(number);
  session = {.connection = {.number = 100 + number},
             .evaluator = evaluator,
             .number = number,
             .examples = examples};
  return session;
}

// What a client says over a connection that it has replaced must not count as the new one's.
TEST(Sessions, AnOlderConnectionHasNoSession) {
  Sessions sessions;
  const Connection old = join(sessions, 3, 10).connection;
  sessions.open(3).connection.number = 200;
  EXPECT_EQ(sessions.find(3, old), nullptr);
  EXPECT_EQ(sessions.number_of(old), std::nullopt);
  EXPECT_EQ(sessions.find(3, sessions.find(3)->connection), sessions.find(3));
  EXPECT_EQ(sessions.number_of(sessions.find(3)->connection), 3u);
  sessions.end(3);
  EXPECT_EQ(sessions.find(3), nullptr);
}

TEST(Sessions, TrainersAreClientsWithExamplesInOrder) {
  Sessions sessions;
  for (const uint32_t number : {9u, 2u, 5u, 7u}) join(sessions, number, 10);
  join(sessions, 4, 0);  // not ready yet
  join(sessions, 11, 10, /*evaluator=*/true);
  sessions.find(7)->lost();
  EXPECT_EQ(sessions.trainers(), (std::vector<uint32_t>{2, 5, 9}));
}

// All weights are measured by the largest client: one that says four billion would make the rest
// weigh nothing.
TEST(Sessions, ABoasterDoesntDecideWhatTheLargestClientIs) {
  Sessions sessions;
  EXPECT_EQ(sessions.largest_announced(), 1u);
  for (uint32_t number = 0; number < 10; ++number) join(sessions, number, 50 + number);
  EXPECT_EQ(sessions.largest_announced(), 59u);
  join(sessions, 10, 4'000'000'000);
  EXPECT_EQ(sessions.largest_announced(), 64 * 55u);
  join(sessions, 11, 4'000'000'000, /*evaluator=*/true);
  EXPECT_EQ(sessions.largest_announced(), 64 * 55u);
}

}  // namespace
}  // namespace tern
