/// Signs with the mean magnitude of each group: the whole of `sign`, and of `ternary` after topk.
#pragma once

#include "compression/updates/stages/stage.h"

namespace tern {

/// Writes a bfloat16 scale for each group, then one bit a value: groups.size() * 2 + (k + 7) / 8
/// bytes.
void encode_signs(const float* values, Groups groups, uint16_t* symbols, std::byte* out);
/// Errors: kCorrupt for a bad scale.
Status decode_signs(const std::byte* in, Groups groups, uint16_t* symbols, float* values);

}  // namespace tern
