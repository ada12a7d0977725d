#include "base/parameter_schema.h"

#include <unordered_set>
#include <utility>

#include "base/sha256.h"

namespace tern {
namespace {

void append_u64(std::string& text, uint64_t value) {
  for (int shift = 0; shift < 64; shift += 8) text += static_cast<char>(value >> shift & 0xFF);
}

}  // namespace

size_t TensorSpec::elements() const {
  size_t product = 1;
  for (int64_t size : shape) product *= static_cast<size_t>(size);
  return product;
}

Result<ParameterSchema> ParameterSchema::make(std::vector<TensorSpec> tensors) {
  ParameterSchema schema;
  std::unordered_set<std::string_view> names;
  std::string hashed;  // every variable-length part has its length before it, so no two schemas
                       // give the same text
  append_u64(hashed, tensors.size());
  uint64_t total = 0;
  for (const TensorSpec& tensor : tensors) {
    if (tensor.name.empty()) return error(Code::kInvalidArgument, "a tensor has no name");
    if (!names.insert(tensor.name).second)
      return error(Code::kInvalidArgument, "two tensors are named '{}'", tensor.name);
    append_u64(hashed, tensor.name.size());
    hashed += tensor.name;
    append_u64(hashed, tensor.shape.size());
    // Zeros are left out of the product first: {2^39, 2^39, 0} has no elements, yet its strides
    // would overflow.
    uint64_t product = 1;
    bool empty = false;
    for (int64_t size : tensor.shape) {
      if (size < 0)
        return error(Code::kInvalidArgument, "tensor '{}' has the negative dimension {}",
                     tensor.name, size);
      if (size == 0)
        empty = true;
      else if (static_cast<uint64_t>(size) > kMaxElements / product)
        return error(Code::kInvalidArgument, "tensor '{}' has more than 2^40 elements",
                     tensor.name);
      else
        product *= static_cast<uint64_t>(size);
      append_u64(hashed, static_cast<uint64_t>(size));
    }
    hashed += static_cast<char>(tensor.kind);
    schema.offsets_.push_back(total);
    total += empty ? 0 : product;
    if (total > kMaxElements)
      return error(Code::kInvalidArgument, "the tensors have more than 2^40 elements together");
  }
  const Digest digest = sha256(hashed);
  for (int byte = 7; byte >= 0; --byte)
    schema.hash_ = schema.hash_ << 8 | std::to_integer<uint64_t>(digest[static_cast<size_t>(byte)]);
  schema.elements_ = total;
  schema.tensors_ = std::move(tensors);
  return schema;
}

ParameterSchema ParameterSchema::flat(size_t elements) {
  return make({{.name = "update", .shape = {static_cast<int64_t>(elements)}}}).value();
}

ParameterSchema ParameterSchema::of_hash(uint64_t hash, size_t elements) {
  ParameterSchema schema;
  schema.hash_ = hash;
  schema.elements_ = elements;
  return schema;
}

}  // namespace tern
