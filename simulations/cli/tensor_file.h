/// Files of float32 values as users have them. The extension says which kind: .npy, .safetensors,
/// or raw little-endian floats (.f32, .bin).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/parameter_schema.h"
#include "base/status.h"

namespace tern::cli {

struct TensorFile {
  /// Of a .safetensors file its own, all weights, in the order of the data; of the others one
  /// tensor, "values".
  ParameterSchema schema;
  std::vector<float> values;
};

/// One vector of n values, or one array, as .npy and raw files hold it.
Result<ParameterSchema> array_schema(std::vector<int64_t> shape);

/// Refuses to overwrite. Errors: kInUse when `path` is there.
Status check_new_file(const std::string& path);
/// The same, and kInvalidArgument for an extension that isn't one of these.
Status check_new_tensor_file(const std::string& path);

/// The content is hostile. Errors name the file: those of read_file, parse_npy and
/// safetensors_schema; kCorrupt for raw bytes that are no whole floats; kInvalidArgument for
/// another extension.
Result<TensorFile> read_tensor_file(const std::string& path);

/// Errors name the file: kInvalidArgument for another extension, or several tensors in a .npy file;
/// those of write_durably.
Status write_tensor_file(const std::string& path, const ParameterSchema& schema,
                         std::span<const float> values);

}  // namespace tern::cli
