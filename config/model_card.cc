#include "config/model_card.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>

#include "base/durable_file.h"
#include "base/rng.h"
#include "base/safetensors.h"

namespace tern {
namespace {

constexpr int64_t kMaxFeatures = int64_t{1} << 40;
constexpr int64_t kHidden = 200;            // mlp-2nn
constexpr int64_t kConvolved[] = {32, 64};  // cnn: channels of the two convolutions
constexpr int64_t kKernel = 5;
constexpr int64_t kPooled = 4;  // the two poolings together shrink height and width by this
constexpr int64_t kConvolutionHidden = 512;

/// Appends NAME.weight and NAME.bias; the first dimension of the weight is the number of outputs.
void add_layer(std::vector<TensorSpec>& tensors, const std::string& name,
               std::vector<int64_t> weight_shape) {
  const int64_t outputs = weight_shape.front();
  tensors.push_back({name + ".weight", std::move(weight_shape), TensorKind::kWeight});
  tensors.push_back({name + ".bias", {outputs}, TensorKind::kBias});
}

Status check_shape(const TaskShape& shape) {
  int64_t features = 1;
  for (int64_t size : shape.input) {
    if (size < 1 || size > kMaxFeatures / features)
      return error(Code::kInvalidArgument, "no model takes examples of the shape [{}]",
                   fmt::join(shape.input, ", "));
    features *= size;
  }
  if (shape.classes < 2)
    return error(Code::kInvalidArgument, "a model needs at least 2 classes, not {}", shape.classes);
  return {};
}

/// Inputs of one output of a layer.
double fan_in(const TensorSpec& weight) {
  double product = 1;
  for (size_t i = 1; i < weight.shape.size(); ++i) product *= static_cast<double>(weight.shape[i]);
  return std::max(product, 1.0);
}

}  // namespace

int64_t TaskShape::features() const {
  int64_t product = 1;
  for (int64_t size : input) product *= size;
  return product;
}

std::optional<std::vector<int64_t>> parse_input_shape(std::string_view text) {
  std::vector<int64_t> shape;
  int64_t features = 1;
  for (const char* at = text.data();; ++at) {
    int64_t size = 0;
    const auto [end, failure] = std::from_chars(at, text.data() + text.size(), size);
    if (failure != std::errc() || size < 1 || size > kMaxFeatures / features) return std::nullopt;
    features *= size;
    shape.push_back(size);
    at = end;
    if (at == text.data() + text.size()) break;
    if (*at != 'x' || shape.size() == 3) return std::nullopt;
  }
  if (shape.size() == 2) return std::nullopt;
  return shape;
}

std::string input_shape_text(const std::vector<int64_t>& input) {
  return fmt::format("{}", fmt::join(input, "x"));
}

std::vector<std::string> model_names() { return {kModelNames.begin(), kModelNames.end()}; }

Result<ParameterSchema> model_schema(std::string_view name, const TaskShape& shape) {
  if (std::find(kModelNames.begin(), kModelNames.end(), name) == kModelNames.end())
    return error(Code::kInvalidArgument, "no model is called '{}'; there are {}", name,
                 fmt::join(kModelNames, ", "));
  TERN_CHECK_OK(check_shape(shape));
  std::vector<TensorSpec> tensors;
  if (name == "logistic") {
    add_layer(tensors, "fc", {shape.classes, shape.features()});
  } else if (name == "mlp-2nn") {
    add_layer(tensors, "fc1", {kHidden, shape.features()});
    add_layer(tensors, "fc2", {kHidden, kHidden});
    add_layer(tensors, "fc3", {shape.classes, kHidden});
  } else {
    if (shape.input.size() != 3 || shape.input[1] < kPooled || shape.input[2] < kPooled)
      return error(Code::kInvalidArgument,
                   "cnn takes images of the shape [channels, height, width] with at least {0} x "
                   "{0} pixels, not [{1}]",
                   kPooled, fmt::join(shape.input, ", "));
    add_layer(tensors, "conv1", {kConvolved[0], shape.input[0], kKernel, kKernel});
    add_layer(tensors, "conv2", {kConvolved[1], kConvolved[0], kKernel, kKernel});
    add_layer(tensors, "fc1",
              {kConvolutionHidden,
               kConvolved[1] * (shape.input[1] / kPooled) * (shape.input[2] / kPooled)});
    add_layer(tensors, "fc2", {shape.classes, kConvolutionHidden});
  }
  return ParameterSchema::make(std::move(tensors));
}

Result<ParameterSchema> model_schema(const ModelConfig& model, const TaskShape& shape) {
  if (model.name != kScriptModel) return model_schema(model.name, shape);
  TERN_CHECK_OK(check_shape(shape));
  if (model.initial.empty())
    return Status(Code::kInvalidArgument,
                  "is missing: the parameters of the TorchScript file, as tern model import writes "
                  "them",
                  {.key = "model.initial"});
  Result<std::vector<std::byte>> file = read_file(model.initial);
  if (!file) return std::move(file).error().at({.file = model.initial, .key = "model.initial"});
  Result<ParameterSchema> schema = safetensors_schema(*file);
  if (!schema) return std::move(schema).error().at({.file = model.initial, .key = "model.initial"});
  return schema;
}

void initialize_parameters(const ParameterSchema& schema, uint64_t seed, int grid_bits,
                           std::span<float> out) {
  double inputs = 1;  // of the layer; a bias follows its weight and takes it from there
  for (size_t i = 0; i < schema.tensors().size(); ++i) {
    const TensorSpec& tensor = schema.tensors()[i];
    if (tensor.kind != TensorKind::kBias) inputs = fan_in(tensor);
    const double bound = std::sqrt(inputs);
    Rng rng(seed, Purpose::kInitialize, 0, 0, static_cast<uint32_t>(i));
    for (float& value : out.subspan(schema.offset(i), tensor.elements())) {
      const double exact = (2 * rng.uniform() - 1) / bound;
      const double steps = std::nearbyint(std::ldexp(exact, grid_bits));
      // Adding +0 makes a -0 positive: a chain of deltas could not tell the two apart, a snapshot
      // could.
      value = static_cast<float>(std::ldexp(steps, -grid_bits) + 0.0);
    }
  }
}

}  // namespace tern
