/// Whether the chains of a scenario change anything in its model.
#pragma once

#include "base/parameter_schema.h"
#include "base/status.h"
#include "config/scenario.h"

namespace tern {

/// Errors: kInvalidArgument with the key of a chain of which a stage would change nothing
/// (Codec::check_schema): whoever wrote it meant another model. Cost: O(tensors). Threads: pure.
Status check_chains(const CompressionConfig& compression, const ParameterSchema& schema);

}  // namespace tern
