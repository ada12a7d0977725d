/// Codec chains as text: `spec = stage *("|" stage)`, `stage = name [":" argument]`, for example
/// "ef | topk:0.01 | ternary | rice". Encoded left to right, decoded right to left. One spelling
/// for each chain.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "compression/updates/stage_table.h"

namespace tern {

struct Stage {
  const StageInfo* info = nullptr;
  uint32_t argument = 0;  ///< in the unit of info->argument; 0 when there is none

  friend bool operator==(const Stage&, const Stage&) = default;
};

/// Reads a chain. Only the grammar and the arguments' ranges are checked here; Codec::make checks
/// composition. Errors: kInvalidArgument with the position and, for an unknown name, the names
/// there are.
Result<std::vector<Stage>> parse_spec(std::string_view text);

/// The canonical text: single spaces around "|", defaults written out.
std::string print_spec(const std::vector<Stage>& stages);

}  // namespace tern
