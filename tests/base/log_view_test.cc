#include "base/log_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace tern {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;

/// A view into memory, with a clock that stands still until told.
class LogViewTest : public testing::Test {
 protected:
  LogViewTest() { out_ = open_memstream(&text_, &size_); }
  ~LogViewTest() override {
    std::fclose(out_);
    std::free(text_);
  }

  LogOptions options() {
    LogOptions options;
    options.now = [this] { return now_; };
    return options;
  }

  std::vector<std::string> lines() {
    std::fflush(out_);
    std::vector<std::string> result;
    std::string_view rest(text_, size_);
    while (!rest.empty()) {
      const size_t end = rest.find('\n');
      EXPECT_NE(end, std::string_view::npos) << "a line without its end";
      result.emplace_back(rest.substr(0, end));
      rest.remove_prefix(end + 1);
    }
    return result;
  }

  /// Lines without their time.
  std::vector<std::string> said() {
    std::vector<std::string> result;
    for (const std::string& line : lines()) result.push_back(line.substr(25));
    return result;
  }

  std::chrono::system_clock::time_point now_{milliseconds(1'795'447'211'123)};
  std::FILE* out_ = nullptr;

 private:
  char* text_ = nullptr;
  size_t size_ = 0;
};

TEST_F(LogViewTest, WritesALineAnEvent) {
  LogView view(out_, "1a2b", options());
  view.on({"round_closed", {{"round", int64_t{3}}, {"counted", int64_t{10}}}});
  now_ += milliseconds(900);
  view.on({"model_evaluated", {{"accuracy", 0.8123456789}, {"loss", 2.0}}});
  view.on({"round_void", {{"round", int64_t{4}}}});
  EXPECT_THAT(lines(),
              ElementsAre("2026-11-23T15:20:11.123Z info  round_closed run=1a2b round=3 counted=10",
                          "2026-11-23T15:20:12.023Z info  model_evaluated run=1a2b "
                          "accuracy=0.812346 loss=2",
                          "2026-11-23T15:20:12.023Z warn  round_void run=1a2b round=4"));
}

TEST_F(LogViewTest, BytesAreSilentUnlessAskedFor) {
  const Event sent{"update_sent", {{"bytes", int64_t{5}}}};
  LogView(out_, "1", options()).on(sent);
  EXPECT_TRUE(lines().empty());
  LogOptions all = options();
  all.least = LogLevel::kDebug;
  LogView(out_, "1", all).on(sent);
  EXPECT_THAT(said(), ElementsAre("debug update_sent run=1 bytes=5"));
  LogOptions few = options();
  few.least = LogLevel::kWarn;
  LogView(out_, "1", few).on({"round_closed", {}});
  EXPECT_EQ(lines().size(), 1u);
}

TEST_F(LogViewTest, TextsOfPeersStayInTheirLineAndTheirValue) {
  LogView view(out_, "1", options());
  const auto shown = [&](const std::string& text) {
    now_ += std::chrono::seconds(2);
    view.on({"update_refused", {{"reason", text}}});
    return said().back().substr(std::string("warn  update_refused run=1 reason=").size());
  };
  EXPECT_EQ(shown("late"), "late");
  EXPECT_EQ(shown(""), R"("")");
  EXPECT_EQ(shown("two words"), R"("two words")");
  EXPECT_EQ(shown("a=b"), R"("a=b")");
  EXPECT_EQ(shown(R"(say "x" \)"), R"("say \"x\" \\")");
  EXPECT_EQ(shown("x\n2026-01-01T00:00:00.000Z info  run_finished"),
            R"("x\n2026-01-01T00:00:00.000Z info  run_finished")");
  EXPECT_EQ(shown("\x1b[2J\r\t\x7f"), R"("\x1b[2J\x0d\x09\x7f")");
  EXPECT_EQ(shown(std::string("a\0b", 3)), R"("a\x00b")");
  EXPECT_EQ(shown("\u202e"), R"("\xe2\x80\xae")") << "would turn the line around on a terminal";
  EXPECT_EQ(shown(std::string(1'000'000, 'x')), '"' + std::string(300, 'x') + "...\"");
  EXPECT_EQ(shown(std::string(300, 'x')), std::string(300, 'x'));
}

TEST_F(LogViewTest, OddNumbersAreWordsOfTheirOwn) {
  LogView view(out_, "1", options());
  view.on({"model_evaluated",
           {{"loss", std::numeric_limits<double>::quiet_NaN()}, {"round", INT64_MIN}}});
  EXPECT_THAT(said(),
              ElementsAre("info  model_evaluated run=1 loss=nan round=-9223372036854775808"));
}

TEST_F(LogViewTest, AFloodOfOneEventIsCountedInsteadOfWritten) {
  LogOptions limited = options();
  limited.lines_per_second = 3;
  {
    LogView view(out_, "1", limited);
    for (int64_t i = 0; i < 135; ++i) {
      view.on({"update_refused", {{"client", i}}});
      now_ += milliseconds(1);
    }
    view.on({"task_failed", {}});  // others are not held back by it
    EXPECT_THAT(
        said(),
        ElementsAre("warn  update_refused run=1 client=0", "warn  update_refused run=1 client=1",
                    "warn  update_refused run=1 client=2", "warn  task_failed run=1"));
    now_ += std::chrono::seconds(1);
    view.on({"round_closed", {}});  // any event after the second is over
    view.on({"update_refused", {{"client", int64_t{7}}}});
    EXPECT_THAT(said(), testing::IsSupersetOf({"warn  update_refused run=1 ... 132 more",
                                               "warn  update_refused run=1 client=7"}));
    for (int i = 0; i < 4; ++i) view.on({"update_refused", {}});
  }
  EXPECT_EQ(said().back(), "warn  update_refused run=1 ... 2 more") << "also at the end";
}

TEST_F(LogViewTest, AClockThatIsSetBackDoesNotSilenceTheLog) {
  LogOptions limited = options();
  limited.lines_per_second = 1;
  LogView view(out_, "1", limited);
  view.on({"peer_refused", {}});
  now_ -= std::chrono::hours(5);
  view.on({"peer_refused", {}});
  EXPECT_EQ(lines().size(), 2u);
}

TEST_F(LogViewTest, EventsOfOneOwnMakingAreNotLimitedAndUnknownOnesAre) {
  LogOptions limited = options();
  limited.lines_per_second = 2;
  LogView view(out_, "1", limited);
  for (int i = 0; i < 50; ++i) view.on({"update_counted", {}});
  EXPECT_EQ(lines().size(), 50u);
  for (int i = 0; i < 50; ++i) view.on({"something_new", {}});
  EXPECT_EQ(lines().size(), 52u);
  EXPECT_EQ(said().back(), "info  something_new run=1");
}

}  // namespace
}  // namespace tern
