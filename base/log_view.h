/// What happens in a run, a line an event, for the operator of a daemon.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/event.h"

namespace tern {

enum class LogLevel { kDebug, kInfo, kWarn };

struct LogOptions {
  LogLevel least = LogLevel::kInfo;  ///< events below it are silent
  uint32_t lines_per_second = 10;    ///< of one event that a peer can cause
  std::function<std::chrono::system_clock::time_point()> now = std::chrono::system_clock::now;
};

/// A view of the event stream as logfmt, in UTC:
///   2026-11-23T15:20:11.123Z info  round_closed run=1a2b round=3 counted=10
/// Texts can come from peers, so they are hostile: a value that isn't one plain word is quoted, all
/// but printable ASCII is escaped in it ("\n", "\xe2"), and it is cut after 300 bytes. What a peer
/// can cause, at whatever rate, doesn't fill the disk: of each such event at most lines_per_second
/// lines, then one that says how many more there were:
///   2026-11-23T15:20:12.004Z warn  update_refused run=1a2b ... 132 more
/// A table in log_view.cc has each event's level. Errors of `out` are ignored. Threads: one.
class LogView : public EventSink {
 public:
  /// `out` outlives the view; every line is flushed. Without a run id the lines name no run.
  LogView(std::FILE* out, std::string run_id, LogOptions options = {});
  /// Says how many lines are still left out.
  ~LogView() override;
  LogView(const LogView&) = delete;
  LogView& operator=(const LogView&) = delete;

  void on(const Event& event) override;

 private:
  using Time = std::chrono::system_clock::time_point;
  /// Of an event that is limited: its lines since the start of a second.
  struct Count {
    LogLevel level = LogLevel::kInfo;
    Time since;
    uint32_t written = 0;
    uint64_t left_out = 0;
  };

  std::string head(Time now, LogLevel level, std::string_view name) const;
  void say_left_out(Time now, const std::string& name, Count& count);
  void write(std::string line);

  std::FILE* out_;
  std::string run_id_;
  LogOptions options_;
  std::map<std::string, Count, std::less<>> counts_;
};

}  // namespace tern
