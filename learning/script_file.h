/// What a TorchScript file says of its model. No LibTorch in this header.
#pragma once

#include <string>
#include <vector>

#include "base/parameter_schema.h"
#include "base/status.h"
#include "config/model_card.h"
#include "config/scenario.h"

namespace tern {

struct ScriptFile {
  ParameterSchema schema;
  std::vector<float> parameters;  ///< as they were exported, in the order of the schema
};

/// Reads a TorchScript file. It is code that runs here, so it must be the user's own, never from
/// the network. Errors, with Where{file}: kNotFound, kIo, kCorrupt for a file that LibTorch can't
/// load, kUnsupported for parameters that aren't float32 or are shared, for layers that keep
/// running statistics, which nobody would send, and for a forward() that draws random numbers or
/// changes the module, since no run could be repeated.
Result<ScriptFile> read_script(const std::string& path);

/// The schema of what is trained: of the script for torchscript, else model_schema().
Result<ParameterSchema> trained_schema(const ModelConfig& model, const TaskShape& shape);

}  // namespace tern
