#include "base/program.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>

namespace tern::cli {

using nlohmann::ordered_json;

int fail(const Status& status, bool json, int exit_status) {
  const Where& where = status.where();
  if (json) {
    const auto text = [](const std::string& value) {
      return value.empty() ? ordered_json(nullptr) : ordered_json(value);
    };
    const ordered_json error{
        {"error",
         {{"message", status.message()},
          {"file", text(where.file)},
          {"line", where.line > 0 ? ordered_json(where.line) : ordered_json(nullptr)},
          {"key", text(where.key)}}}};
    fmt::print("{}\n", error.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
  } else {
    fmt::print(stderr, "tern: {}\n", status.describe());
  }
  return exit_status;
}

int fail(const Status& status, bool json) {
  switch (status.code()) {
    case Code::kCancelled:
      return fail(status, json, kInterrupted);
    case Code::kIo:
    case Code::kNoSpace:
    case Code::kInternal:
    case Code::kOutOfRange:
      return fail(status, json, kRunFailed);
    default:
      return fail(status, json, kBadInput);
  }
}

int finish_output(int exit_status) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return exit_status;
  fmt::print(stderr, "tern: cannot write to stdout: {}\n", std::strerror(errno));
  return kRunFailed;
}

namespace {

std::atomic<bool> g_stop{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler writes it");

extern "C" void on_signal(int) {
  if (g_stop.exchange(true)) _exit(kInterrupted);
  constexpr std::string_view kSaid =
      "\nstopping at the end of this round; once more to stop at once\n";
  [[maybe_unused]] const ssize_t ignored = write(STDERR_FILENO, kSaid.data(), kSaid.size());
}

}  // namespace

const std::atomic<bool>& stop_on_interrupt() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  return g_stop;
}

}  // namespace tern::cli
