#include "base/log_view.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <variant>

namespace tern {

namespace {

constexpr size_t kMaxValueBytes = 300;

struct LoggedEvent {
  std::string_view name;
  LogLevel level;
  bool limited;  ///< a peer can cause it
};

/// By default debug is silent: these come once a task or more often, and what they carry is summed
/// up in metrics.jsonl.
constexpr LoggedEvent kEvents[] = {
    {"chain_given", LogLevel::kDebug, false},
    {"control_bytes", LogLevel::kDebug, false},
    {"deadline_set", LogLevel::kDebug, false},
    {"download_sent", LogLevel::kDebug, false},
    {"update_sent", LogLevel::kDebug, false},
    {"update_uploaded", LogLevel::kDebug, false},
    {"wire_bytes", LogLevel::kDebug, false},

    {"client_joined", LogLevel::kInfo, true},
    {"clients_reloaded", LogLevel::kInfo, false},
    {"connected", LogLevel::kInfo, false},
    {"listening", LogLevel::kInfo, false},
    {"model_evaluated", LogLevel::kInfo, false},
    {"round_closed", LogLevel::kInfo, false},
    {"round_started", LogLevel::kInfo, false},
    {"run_finished", LogLevel::kInfo, false},
    {"signal", LogLevel::kInfo, false},
    {"task_started", LogLevel::kInfo, false},
    {"update_counted", LogLevel::kInfo, false},
    {"update_ignored", LogLevel::kInfo, true},
    {"verdict_received", LogLevel::kInfo, false},
    {"version_published", LogLevel::kInfo, false},
    {"waiting_for_clients", LogLevel::kInfo, false},

    {"clients_not_reloaded", LogLevel::kWarn, false},
    {"clock_skew", LogLevel::kWarn, true},
    {"connection_lost", LogLevel::kWarn, false},
    {"handshake_refused", LogLevel::kWarn, true},
    {"no_deadline", LogLevel::kWarn, false},
    {"no_openblas", LogLevel::kWarn, false},
    {"peer_refused", LogLevel::kWarn, true},
    {"round_void", LogLevel::kWarn, false},
    {"task_failed", LogLevel::kWarn, true},
    {"task_refused", LogLevel::kWarn, true},
    {"update_refused", LogLevel::kWarn, true},
};

/// An event that the table doesn't know is written, but nobody can flood the log with it.
LoggedEvent logged(std::string_view name) {
  const auto* found = std::ranges::find(kEvents, name, &LoggedEvent::name);
  return found != std::end(kEvents) ? *found : LoggedEvent{name, LogLevel::kInfo, true};
}

std::string_view padded(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info ";
    case LogLevel::kWarn:
      return "warn ";
  }
  return "     ";
}

bool plain(char c) { return c > ' ' && c < 0x7F && c != '"' && c != '=' && c != '\\'; }

std::string shown(std::string_view text) {
  const bool cut = text.size() > kMaxValueBytes;
  if (!cut && !text.empty() && std::ranges::all_of(text, plain)) return std::string(text);
  std::string result = "\"";
  for (const char c : text.substr(0, kMaxValueBytes)) {
    if (c == '"' || c == '\\')
      result += {'\\', c};
    else if (c == '\n')
      result += "\\n";
    else if (c >= ' ' && c < 0x7F)
      result += c;
    else
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
  return result + (cut ? "...\"" : "\"");
}

std::string shown(const EventValue& value) {
  if (const auto* whole = std::get_if<int64_t>(&value)) return fmt::format("{}", *whole);
  if (const auto* real = std::get_if<double>(&value)) return fmt::format("{:.6g}", *real);
  return shown(std::string_view(std::get<std::string>(value)));
}

}  // namespace

LogView::LogView(std::FILE* out, std::string run_id, LogOptions options)
    : out_(out), run_id_(std::move(run_id)), options_(std::move(options)) {}

LogView::~LogView() {
  for (auto& [name, count] : counts_) say_left_out(options_.now(), name, count);
}

void LogView::on(const Event& event) {
  const Time now = options_.now();
  // Also when the clock was set back.
  const auto over = [now](const Count& count) {
    return now < count.since || now - count.since >= std::chrono::seconds(1);
  };
  for (auto& [name, count] : counts_)
    if (over(count)) say_left_out(now, name, count);

  const LoggedEvent row = logged(event.name);
  if (row.level < options_.least) return;
  if (row.limited) {
    const auto [found, first] = counts_.try_emplace(std::string(event.name), Count{row.level, now});
    Count& count = found->second;
    if (over(count)) count = {row.level, now};
    if (count.written >= options_.lines_per_second) {
      ++count.left_out;
      return;
    }
    ++count.written;
  }
  std::string line = head(now, row.level, event.name);
  for (const auto& [key, value] : event.fields) line += fmt::format(" {}={}", key, shown(value));
  write(std::move(line));
}

std::string LogView::head(Time now, LogLevel level, std::string_view name) const {
  const auto whole = std::chrono::floor<std::chrono::seconds>(now);
  const auto rest = std::chrono::floor<std::chrono::milliseconds>(now - whole);
  std::string head =
      fmt::format("{:%FT%T}.{:03}Z {} {}", fmt::gmtime(std::chrono::system_clock::to_time_t(whole)),
                  rest.count(), padded(level), name);
  if (!run_id_.empty()) head += fmt::format(" run={}", shown(std::string_view(run_id_)));
  return head;
}

void LogView::say_left_out(Time now, const std::string& name, Count& count) {
  if (count.left_out == 0) return;
  write(fmt::format("{} ... {} more", head(now, count.level, name), count.left_out));
  count.left_out = 0;
}

void LogView::write(std::string line) {
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), out_);
  std::fflush(out_);
}

}  // namespace tern
