/// How benchmarks take time. Threads: pure functions.
#pragma once

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "base/status.h"

namespace tern {

/// The middle one, or the mean of the two in the middle; 0 of none.
inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// Seconds of one call, on average over as many as fill a millisecond: a clock's own cost doesn't
/// show. `warm_up`: one more call before them, so that small inputs don't pay for what was in the
/// caches before. `call` gives a Status. Errors: its first one.
template <typename Call>
Result<double> seconds_per_call(bool warm_up, Call&& call) {
  using Steady = std::chrono::steady_clock;
  constexpr auto kLongEnough = std::chrono::milliseconds(1);
  if (warm_up) TERN_CHECK_OK(call());
  const auto start = Steady::now();
  Steady::duration elapsed{};
  size_t calls = 0;
  for (; elapsed < kLongEnough; elapsed = Steady::now() - start, ++calls) TERN_CHECK_OK(call());
  return std::chrono::duration<double>(elapsed).count() / static_cast<double>(calls);
}

}  // namespace tern
