/// Model files in the safetensors format (an 8-byte length, a JSON header, raw little-endian data):
/// written here, read by every deep-learning library, and harmless to parse. Only float32 tensors.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/parameter_schema.h"
#include "base/status.h"

namespace tern {

/// The file's bytes: tensors in schema order; `metadata` goes into "__metadata__".
std::vector<std::byte> to_safetensors(const ParameterSchema& schema,
                                      std::span<const float> parameters,
                                      const std::map<std::string, std::string>& metadata = {});

/// Reads `schema`'s tensors from hostile bytes into `out` (schema.elements() floats); order in the
/// file doesn't matter.
/// Errors: kCorrupt (not safetensors, header too long, ranges that overlap, leave gaps or run past
/// the end), kInvalidArgument (a tensor missing, one too many, another shape or type: the message
/// names it). Allocates at most a few times the header.
Status from_safetensors(std::span<const std::byte> file, const ParameterSchema& schema,
                        std::span<float> out);

}  // namespace tern
