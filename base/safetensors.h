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
/// names it). Holds at most 16 times the header.
Status from_safetensors(std::span<const std::byte> file, const ParameterSchema& schema,
                        std::span<float> out);

/// The file's own schema, for tools that have no other: from_safetensors then reads the file in the
/// order of its data. The format knows no kinds of tensors, so all are weights, and the hash is
/// that of such a schema. Hostile bytes: the whole file is checked, so it has as many floats of
/// data as the schema has elements. Errors: kCorrupt (also a name that is empty or occurs twice,
/// and more than 2^40 elements), kInvalidArgument (another type than F32). Allocates at most 16
/// times the header.
Result<ParameterSchema> safetensors_schema(std::span<const std::byte> file);

}  // namespace tern
