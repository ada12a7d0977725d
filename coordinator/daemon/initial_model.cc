#include "coordinator/daemon/initial_model.h"

#include "base/durable_file.h"
#include "base/safetensors.h"
#include "coordinator/versions.h"

namespace tern {

Result<std::vector<float>> read_initial(const std::string& path, const ParameterSchema& schema) {
  std::vector<float> parameters;
  if (path.empty()) return parameters;
  parameters.resize(schema.elements());
  TERN_TRY(const std::vector<std::byte> file, read_file(path));
  TERN_CHECK_OK(from_safetensors(file, schema, parameters));
  TERN_CHECK_OK(round_to_grid(parameters));
  return parameters;
}

}  // namespace tern
