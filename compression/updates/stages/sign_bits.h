/// Signs with the mean magnitude of each group: the whole of `sign`, and of `ternary` after topk.
#pragma once

#include "compression/updates/stages/stage.h"

namespace tern {

/// Writes a symbol for each value, 1 for negative ones, and the mean magnitude of each group.
void quantize_signs(const float* values, Groups groups, uint16_t* symbols, std::byte* scales);
/// Errors: kCorrupt for a bad scale.
Status restore_signs(const uint16_t* symbols, const std::byte* scales, Groups groups,
                     float* values);

}  // namespace tern
