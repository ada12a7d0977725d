#include "simulations/cli/tensor_file.h"

#include <cstring>
#include <filesystem>
#include <string_view>
#include <utility>

#include "base/durable_file.h"
#include "base/npy.h"
#include "base/safetensors.h"

namespace tern::cli {

namespace {

enum class Kind { kNpy, kSafetensors, kRaw };

Result<Kind> kind_of(const std::string& path) {
  const std::string extension = std::filesystem::path(path).extension().string();
  if (extension == ".npy") return Kind::kNpy;
  if (extension == ".safetensors") return Kind::kSafetensors;
  if (extension == ".f32" || extension == ".bin") return Kind::kRaw;
  return error(Code::kInvalidArgument,
               "the name ends with '{}'; expected .npy, .safetensors, or .f32 or .bin for raw "
               "little-endian float32",
               extension)
      .at({.file = path});
}

Result<TensorFile> read_as(Kind kind, std::span<const std::byte> content) {
  TensorFile file;
  switch (kind) {
    case Kind::kNpy: {
      TERN_TRY(const NpyArray array, parse_npy(content));
      TERN_TRY(file.schema, array_schema(array.shape));
      file.values = array.values();
      return file;
    }
    case Kind::kSafetensors: {
      TERN_TRY(file.schema, safetensors_schema(content));
      file.values.resize(file.schema.elements());
      TERN_CHECK_OK(from_safetensors(content, file.schema, file.values));
      return file;
    }
    case Kind::kRaw:
      break;
  }
  if (content.size() % sizeof(float) != 0)
    return error(Code::kCorrupt, "{} bytes; expected raw float32 values of 4 bytes each",
                 content.size());
  file.values.resize(content.size() / sizeof(float));
  if (!content.empty()) std::memcpy(file.values.data(), content.data(), content.size());
  TERN_TRY(file.schema, array_schema({static_cast<int64_t>(file.values.size())}));
  return file;
}

Result<std::vector<std::byte>> written_as(Kind kind, const ParameterSchema& schema,
                                          std::span<const float> values) {
  if (kind == Kind::kSafetensors) return to_safetensors(schema, values);
  const auto raw = std::as_bytes(values);
  if (kind == Kind::kRaw) return std::vector<std::byte>(raw.begin(), raw.end());
  if (schema.tensors().size() != 1)
    return error(
        Code::kInvalidArgument,
        "a .npy file holds one array, there are {} tensors; expected .safetensors, or .f32 "
        "or .bin for their values one after another",
        schema.tensors().size());
  return to_npy(schema.tensors().front().shape, values);
}

}  // namespace

Result<ParameterSchema> array_schema(std::vector<int64_t> shape) {
  return ParameterSchema::make({{.name = "values", .shape = std::move(shape)}});
}

Status check_new_file(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::exists(std::filesystem::symlink_status(path, ignored)))
    return error(Code::kInUse, "{} is there already", path);
  return {};
}

Status check_new_tensor_file(const std::string& path) {
  if (const Result<Kind> kind = kind_of(path); !kind) return kind.error();
  return check_new_file(path);
}

Result<TensorFile> read_tensor_file(const std::string& path) {
  TERN_TRY(const Kind kind, kind_of(path));
  TERN_TRY(const std::vector<std::byte> content, read_file(path));
  Result<TensorFile> file = read_as(kind, content);
  if (!file) return std::move(file).error().at({.file = path});
  return file;
}

Status write_tensor_file(const std::string& path, const ParameterSchema& schema,
                         std::span<const float> values) {
  TERN_TRY(const Kind kind, kind_of(path));
  const Result<std::vector<std::byte>> content = written_as(kind, schema, values);
  if (!content) return Status(content.error()).at({.file = path});
  return write_durably(path, *content);
}

}  // namespace tern::cli
