#include "coordinator/views/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace tern {

namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kLogLine = std::chrono::seconds(15);
constexpr uint32_t kBarWidth = 24;

}  // namespace

std::string human_bytes(double bytes) {
  constexpr std::array kUnits{"B", "kB", "MB", "GB", "TB", "PB"};
  size_t unit = 0;
  for (; std::fabs(bytes) >= 999.5 && unit + 1 < kUnits.size(); ++unit) bytes /= 1000;
  const int decimals = unit == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f} {}", bytes, decimals, kUnits[unit]);
}

std::string human_seconds(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole >= 3600)
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

ProgressView::ProgressView(std::FILE* out, std::string title, uint32_t first_round, uint32_t rounds,
                           uint64_t bytes_up, uint64_t bytes_down)
    : out_(out),
      terminal_(isatty(fileno(out)) == 1),
      title_(std::move(title)),
      first_round_(first_round),
      rounds_(rounds),
      done_(first_round - 1),
      bytes_up_(static_cast<double>(bytes_up)),
      bytes_down_(static_cast<double>(bytes_down)) {
  if (!terminal_) drawn_ = Time::now();  // the first line after a while, not at once
}

ProgressView::~ProgressView() { draw(true); }

void ProgressView::on(const Event& event) {
  if (event.name == "download_sent") bytes_down_ += event.number("bytes");
  if (event.name == "update_sent" || event.name == "update_ignored")
    bytes_up_ += event.number("bytes");
  if (event.name == "model_evaluated") accuracy_ = event.number("accuracy");
  if (event.name == "round_closed" || event.name == "round_void") {
    done_ = static_cast<uint32_t>(event.number("round"));
    if (Time::now() - drawn_ >= (terminal_ ? Time::duration(kRedraw) : Time::duration(kLogLine)))
      draw(false);
  }
}

void ProgressView::draw(bool last) {
  drawn_ = Time::now();
  const double elapsed = std::chrono::duration<double>(drawn_ - start_).count();
  const uint32_t here = done_ - (first_round_ - 1);
  std::string eta = "--:--";
  if (here > 0) eta = human_seconds(elapsed / here * (rounds_ - done_));
  const std::string accuracy = accuracy_ ? fmt::format("{:.4f}", *accuracy_) : "--";
  const std::string figures = fmt::format(
      "accuracy {}, up {}, down {}, {} {}", accuracy, human_bytes(bytes_up_),
      human_bytes(bytes_down_), last ? "took" : "ETA", last ? human_seconds(elapsed) : eta);
  if (terminal_) {
    const uint32_t filled = rounds_ > 0 ? kBarWidth * done_ / rounds_ : 0;
    fmt::print(out_, "\r\033[K{} [{}{}] {}/{}  {}{}", title_, std::string(filled, '#'),
               std::string(kBarWidth - filled, '.'), done_, rounds_, figures, last ? "\n" : "");
  } else {
    fmt::print(out_, "{}: round {}/{}, {}\n", title_, done_, rounds_, figures);
  }
  std::fflush(out_);
}

}  // namespace tern
