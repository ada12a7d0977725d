/// What every program does alike: exit statuses, how an error is said, the end of its output, and
/// Ctrl-C. For `main` and the commands it calls, never for libraries: these functions print, and
/// the second Ctrl-C ends the process.
#pragma once

#include <atomic>

#include "base/status.h"

namespace tern::cli {

inline constexpr int kOk = 0;
inline constexpr int kRunFailed = 1;
inline constexpr int kBadInput = 2;
inline constexpr int kInterrupted = 130;

/// Says the error: one paragraph on stderr, or under --json {"error":{...}} on stdout. Gives
/// `exit_status`, or what the code of the error stands for.
int fail(const Status& status, bool json, int exit_status);
int fail(const Status& status, bool json);

/// Writes out what is left for stdout. Gives exit_status, or 1 after an error if that fails.
int finish_output(int exit_status);

/// Becomes true at the first Ctrl-C (or SIGTERM); a second one ends the program at once.
const std::atomic<bool>& stop_on_interrupt();

}  // namespace tern::cli
