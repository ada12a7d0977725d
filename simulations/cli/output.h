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

/// Says the error: one paragraph on stderr, or under --json {"error":{...}} on stdout. Gives the
/// exit status: 1 when the machine failed (disk full, diverging training), 2 when the input is
/// wrong.
int fail(const Status& status, bool json);

/// The results of a run as a table, such as a person wants them.
std::string summary_table(const nlohmann::ordered_json& summary);
/// Mean and spread of several runs.
std::string combined_table(const nlohmann::ordered_json& combined);

/// Becomes true at the first Ctrl-C (or SIGTERM); a second one ends the program at once.
const std::atomic<bool>& stop_on_interrupt();

}  // namespace tern::cli
