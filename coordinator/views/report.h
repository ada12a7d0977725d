/// The page that a run leaves behind for people: report.html.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace tern {

/// One self-contained HTML page: headline figures, charts by round, the whole summary and the
/// configuration. Nothing is fetched when it is viewed (Chart.js is inside, a content policy
/// forbids the rest), it follows the reader's light or dark scheme and fits a phone. `summary` is
/// the object of summary.json; `metrics` has one object a round with "round", "bytes_up",
/// "bytes_down" (of that round; summed here), "accuracy", "loss", "train_loss", "updates",
/// "refused" and "void"; any value of either may be null or absent. `config_toml` is shown as it
/// is. All text is escaped. Charts hold at most about 1,000 points a line: of longer runs every
/// k-th round and the last. Never fails: text that isn't UTF-8 shows replacement characters. Cost:
/// O(input).
std::string render_report(const nlohmann::json& summary, const std::vector<nlohmann::json>& metrics,
                          std::string_view config_toml);

}  // namespace tern
