/// The model that a run begins with, from model.initial.
#pragma once

#include <string>
#include <vector>

#include "base/parameter_schema.h"
#include "base/status.h"

namespace tern {

/// On the grid; empty without a path. Errors: those of read_file, from_safetensors and
/// round_to_grid.
Result<std::vector<float>> read_initial(const std::string& path, const ParameterSchema& schema);

}  // namespace tern
