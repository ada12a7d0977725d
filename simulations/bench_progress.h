/// How far a benchmark is, for a person.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>

namespace tern {

/// Writes to `out` (stderr): redraws one line every 100 ms at most where that is a terminal, else
/// prints a line every 15 s. Threads: one.
class BenchProgress {
 public:
  /// `work` is the sum of all that will be added, in any unit of time or size.
  BenchProgress(std::FILE* out, std::string title, double work);
  ~BenchProgress();
  BenchProgress(const BenchProgress&) = delete;
  BenchProgress& operator=(const BenchProgress&) = delete;

  /// So much is done; `now` says what comes next.
  void add(double work, const std::string& now);

 private:
  using Time = std::chrono::steady_clock;

  std::FILE* out_;
  bool terminal_;
  std::string title_;
  double work_;
  double done_ = 0;
  Time::time_point start_ = Time::now();
  Time::time_point drawn_ = Time::now();
};

}  // namespace tern
