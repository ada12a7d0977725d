/// What the program says, to people or to programs.
#pragma once

#include <atomic>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

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

/// The results of a run as a table, such as a person wants them.
std::string summary_table(const nlohmann::ordered_json& summary);
/// Mean and spread of several runs.
std::string combined_table(const nlohmann::ordered_json& combined);

/// Becomes true at the first Ctrl-C (or SIGTERM); a second one ends the program at once.
const std::atomic<bool>& stop_on_interrupt();

}  // namespace tern::cli
