#include "base/status.h"

#include <gtest/gtest.h>

#include <memory>

namespace tern {
namespace {

TEST(Status, IsOkByDefault) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), Code::kOk);
}

TEST(Status, DescribesFileLineKeyAndMessage) {
  const auto describe = [](Where where) {
    return error(Code::kInvalidArgument, "must be {}", 1).at(std::move(where)).describe();
  };
  EXPECT_EQ(describe({}), "must be 1");
  EXPECT_EQ(describe({"a.toml", 7, "fleet.cohort"}), "a.toml:7: fleet.cohort: must be 1");
  EXPECT_EQ(describe({"a.toml", 7, ""}), "a.toml:7: must be 1");
  EXPECT_EQ(describe({"--set", 0, "rounds"}), "--set: rounds: must be 1");
  EXPECT_EQ(describe({"", 0, "rounds"}), "rounds: must be 1");
}

TEST(Status, WithinPutsContextFirstAndKeepsCodeAndPlace) {
  const Status status =
      error(Code::kCorrupt, "bad header").at({"x.toml", 3, "a.b"}).within("client 7");
  EXPECT_EQ(status.code(), Code::kCorrupt);
  EXPECT_EQ(status.message(), "client 7: bad header");
  EXPECT_EQ(status.where().line, 3);
}

TEST(Status, CodesArePinned) {
  EXPECT_EQ(static_cast<int>(Code::kCorrupt), 2);
  EXPECT_EQ(static_cast<int>(Code::kInternal), 10);
  EXPECT_STREQ(name(Code::kNoSpace), "no_space");
  EXPECT_STREQ(name(static_cast<Code>(200)), "unknown");
}

Result<std::unique_ptr<int>> half(int value) {
  if (value % 2 != 0) return error(Code::kInvalidArgument, "{} is odd", value);
  return std::make_unique<int>(value / 2);
}

Result<int> quarter(int value) {
  TERN_TRY(const std::unique_ptr<int> first, half(value));
  TERN_TRY(const std::unique_ptr<int> second, half(*first));
  return *second;
}

Status check_quarter(int value) {
  TERN_CHECK_OK(error(Code::kOk, ""));
  TERN_TRY(const int result, quarter(value));
  return result == 1 ? Status() : error(Code::kOutOfRange, "{}", result);
}

TEST(Result, TryUnwrapsMoveOnlyValuesAndPassesErrorsOn) {
  EXPECT_EQ(quarter(12).value(), 3);
  const Result<int> failed = quarter(6);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message(), "3 is odd");
  EXPECT_TRUE(check_quarter(4).ok());
  EXPECT_EQ(check_quarter(8).code(), Code::kOutOfRange);
  EXPECT_EQ(check_quarter(1).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace tern
