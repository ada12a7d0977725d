/// What rate control would do in a run, without training.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/status.h"
#include "simulations/prepare.h"

namespace tern {

/// The ladder with what each chain costs and loses, and which clients would get it how often: the
/// run's own cohorts and links, all updates taken to be equally large. null without rate control.
/// With links also the seconds that uploads would take. Errors: those of RateController.
Result<nlohmann::ordered_json> preview_rates(const PreparedScenario& prepared);

/// The same as lines for people, each beginning with "# "; empty for null.
std::string preview_table(const nlohmann::ordered_json& preview);

}  // namespace tern
