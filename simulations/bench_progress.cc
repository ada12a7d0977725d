#include "simulations/bench_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "coordinator/views/progress.h"

namespace tern {

namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kLogLine = std::chrono::seconds(15);

}  // namespace

BenchProgress::BenchProgress(std::FILE* out, std::string title, double work)
    : out_(out), terminal_(isatty(fileno(out)) == 1), title_(std::move(title)), work_(work) {}

BenchProgress::~BenchProgress() {
  if (!terminal_) return;
  fmt::print(out_, "\r\033[K");
  std::fflush(out_);
}

void BenchProgress::add(double work, const std::string& now) {
  done_ = std::min(done_ + work, work_);
  const auto time = Time::now();
  if (time - drawn_ < (terminal_ ? Time::duration(kRedraw) : Time::duration(kLogLine))) return;
  drawn_ = time;
  const double elapsed = std::chrono::duration<double>(time - start_).count();
  const std::string eta =
      done_ > 0 ? human_seconds(elapsed * (work_ - done_) / done_) : std::string("--:--");
  fmt::print(out_, "{}{}: {:.0f}%, ETA {}, {}{}", terminal_ ? "\r\033[K" : "", title_,
             100 * done_ / work_, eta, now, terminal_ ? "" : "\n");
  std::fflush(out_);
}

}  // namespace tern
