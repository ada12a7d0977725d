/// How far a run is, for a person: a bar with an ETA on a terminal, a line now and then in a log.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

#include "base/event.h"

namespace tern {

/// A view of the event stream. Writes to `out` (stderr): redraws one line every 100 ms at most
/// where that is a terminal, else prints a line every 15 s. Threads: one.
class ProgressView : public EventSink {
 public:
  /// The rounds before `first_round` were done by an earlier run, which sent so many bytes.
  ProgressView(std::FILE* out, std::string title, uint32_t first_round, uint32_t rounds,
               uint64_t bytes_up, uint64_t bytes_down);
  ~ProgressView() override;
  ProgressView(const ProgressView&) = delete;
  ProgressView& operator=(const ProgressView&) = delete;

  void on(const Event& event) override;

 private:
  using Time = std::chrono::steady_clock;
  void draw(bool last);

  std::FILE* out_;
  bool terminal_;
  std::string title_;
  uint32_t first_round_;
  uint32_t rounds_;
  uint32_t done_;
  std::optional<double> accuracy_;
  double bytes_up_;
  double bytes_down_;
  Time::time_point start_ = Time::now();
  Time::time_point drawn_{};
};

/// "1.2 GB", with three digits and powers of 1000.
std::string human_bytes(double bytes);
/// "1:02:03" or "4:05".
std::string human_seconds(double seconds);

}  // namespace tern
