#include "simulations/cli/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "simulations/progress.h"

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

std::string number(const ordered_json& value, const char* format) {
  return value.is_null() ? "--" : fmt::format(fmt::runtime(format), value.get<double>());
}

std::string bytes_line(const ordered_json& bytes, const char* direction) {
  const double sent = bytes[direction].get<double>();
  const double dense = bytes[std::string("dense_") + direction].get<double>();
  return fmt::format("{:>10}   {:>9} as float32, {}", human_bytes(sent), human_bytes(dense),
                     sent > 0 ? fmt::format("{:.1f}x", dense / sent) : "--");
}

}  // namespace

std::string summary_table(const ordered_json& summary) {
  const auto& bytes = summary["bytes"];
  const auto& seconds = summary["seconds"];
  double busy_and_idle = 0;
  for (const auto& [stage, spent] : seconds.items())
    if (stage != "wall") busy_and_idle += spent.get<double>();
  std::string text = fmt::format(
      "{}, {} parameters, {} rounds, seed {}\n", summary["model"]["name"].get<std::string>(),
      summary["model"]["parameters"].get<uint64_t>(), summary["rounds"].get<uint64_t>(),
      summary["seed"].get<uint64_t>());
  const auto row = [&](std::string_view label, const std::string& value) {
    text += fmt::format("  {:<22} {}\n", label, value);
  };
  row("accuracy, late", fmt::format("{:>10}   mean of the last 10 evaluations",
                                    number(summary["late"]["accuracy"], "{:.4f}")));
  row("accuracy, best",
      fmt::format("{:>10}   in round {}", number(summary["best"]["accuracy"], "{:.4f}"),
                  number(summary["best"]["round"], "{:.0f}")));
  row("accuracy, final",
      fmt::format("{:>10}   loss {}, macro F1 {}, worst tenth of clients {}",
                  number(summary["final"]["accuracy"], "{:.4f}"),
                  number(summary["final"]["loss"], "{:.4f}"),
                  number(summary["final"]["macro_f1"], "{:.4f}"),
                  number(summary["final"]["worst_decile_client_accuracy"], "{:.4f}")));
  if (summary["void_rounds"] != 0)
    row("void rounds",
        fmt::format("{:>10}   too few updates counted; metrics.jsonl says how many were refused",
                    summary["void_rounds"].get<uint64_t>()));
  if (summary["target"]["reached"].is_boolean()) {
    const auto& target = summary["target"];
    row("target",
        target["reached"].get<bool>()
            ? fmt::format("   reached in round {}, after {} up and {} down",
                          target["round"].get<int>(), human_bytes(target["bytes_up"].get<double>()),
                          human_bytes(target["bytes_down"].get<double>()))
            : std::string("   not reached"));
  }
  row("bytes up", bytes_line(bytes, "up"));
  row("bytes down", bytes_line(bytes, "down"));
  std::string stages;
  for (const auto& [stage, spent] : seconds.items())
    if (stage != "wall" && busy_and_idle > 0)
      stages += fmt::format("{}{} {:.1f}%", stages.empty() ? "" : ", ", stage,
                            100 * spent.get<double>() / busy_and_idle);
  row("time",
      fmt::format("{:>10}   {} worker{}: {}", human_seconds(seconds["wall"].get<double>()),
                  summary["workers"].get<uint64_t>(), summary["workers"] == 1 ? "" : "s", stages));
  row("samples trained",
      fmt::format(
          "{:>10}   {:.0f}/s, peak memory {}", summary["samples_trained"].get<uint64_t>(),
          summary["samples_trained"].get<double>() / std::max(1e-9, seconds["wall"].get<double>()),
          human_bytes(summary["peak_rss_bytes"].get<double>())));
  row("model SHA-256", summary["model"]["sha256"].get<std::string>());
  return text;
}

std::string combined_table(const ordered_json& combined) {
  const auto& mean = combined["mean"];
  const auto& spread = combined["spread"];
  std::string text =
      fmt::format("mean of {} runs, +- standard deviation\n", combined["runs"].size());
  const auto row = [&](const char* label, const char* table, const char* key) {
    text += fmt::format("  {:<22} {:>10} +- {}\n", label, number(mean[table][key], "{:.4f}"),
                        number(spread[table][key], "{:.4f}"));
  };
  row("accuracy, late", "late", "accuracy");
  row("accuracy, best", "best", "accuracy");
  row("accuracy, final", "final", "accuracy");
  text += fmt::format("  {:<22} {}\n", "bytes up", bytes_line(mean["bytes"], "up"));
  text += fmt::format("  {:<22} {}\n", "bytes down", bytes_line(mean["bytes"], "down"));
  return text;
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
