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
constexpr int64_t kStages[] = {16, 32, 64};                           // resnet8-gn
constexpr int64_t kEmbedded = 16, kRecurrent = 128, kGates = 4;       // char-lstm
constexpr int64_t kTokenWidth = 64, kFeedForward = 256, kBlocks = 2;  // char-gpt

/// Appends NAME.weight and NAME.bias; the first dimension of the weight is the number of outputs.
void add_layer(std::vector<TensorSpec>& tensors, const std::string& name,
               std::vector<int64_t> weight_shape) {
  const int64_t outputs = weight_shape.front();
  tensors.push_back({name + ".weight", std::move(weight_shape), TensorKind::kWeight});
  tensors.push_back({name + ".bias", {outputs}, TensorKind::kBias});
}

void add_norm(std::vector<TensorSpec>& tensors, const std::string& name, int64_t channels) {
  tensors.push_back({name + ".weight", {channels}, TensorKind::kNorm});
  tensors.push_back({name + ".bias", {channels}, TensorKind::kNorm});
}

/// A convolution without bias, whose work a normalization does.
void add_convolution(std::vector<TensorSpec>& tensors, const std::string& name, int64_t outputs,
                     int64_t inputs, int64_t kernel) {
  tensors.push_back({name + ".weight", {outputs, inputs, kernel, kernel}, TensorKind::kWeight});
}

std::vector<TensorSpec> resnet8(const TaskShape& shape) {
  std::vector<TensorSpec> tensors;
  int64_t channels = kStages[0];
  add_convolution(tensors, "conv", channels, shape.input[0], 3);
  add_norm(tensors, "norm", channels);
  for (size_t stage = 0; stage < std::size(kStages); ++stage) {
    const std::string name = fmt::format("block{}.", stage + 1);
    add_convolution(tensors, name + "conv1", kStages[stage], channels, 3);
    add_norm(tensors, name + "norm1", kStages[stage]);
    add_convolution(tensors, name + "conv2", kStages[stage], kStages[stage], 3);
    add_norm(tensors, name + "norm2", kStages[stage]);
    if (channels != kStages[stage])
      add_convolution(tensors, name + "shortcut", kStages[stage], channels, 1);
    channels = kStages[stage];
  }
  add_layer(tensors, "fc", {shape.classes, channels});
  return tensors;
}

std::vector<TensorSpec> char_lstm(const TaskShape& shape) {
  std::vector<TensorSpec> tensors = {
      {"embedding.weight", {shape.classes, kEmbedded}, TensorKind::kWeight},
      {"lstm.weight_ih_l0", {kGates * kRecurrent, kEmbedded}, TensorKind::kWeight},
      {"lstm.weight_hh_l0", {kGates * kRecurrent, kRecurrent}, TensorKind::kWeight},
      {"lstm.bias_ih_l0", {kGates * kRecurrent}, TensorKind::kBias}};
  add_layer(tensors, "fc", {shape.classes, kRecurrent});
  return tensors;
}

std::vector<TensorSpec> char_gpt(const TaskShape& shape) {
  std::vector<TensorSpec> tensors = {
      {"token.weight", {shape.classes, kTokenWidth}, TensorKind::kWeight},
      {"position.weight", {shape.input[0], kTokenWidth}, TensorKind::kWeight}};
  for (int64_t block = 1; block <= kBlocks; ++block) {
    const std::string name = fmt::format("block{}.", block);
    add_norm(tensors, name + "norm1", kTokenWidth);
    add_layer(tensors, name + "attention.in", {3 * kTokenWidth, kTokenWidth});
    add_layer(tensors, name + "attention.out", {kTokenWidth, kTokenWidth});
    add_norm(tensors, name + "norm2", kTokenWidth);
    add_layer(tensors, name + "mlp.in", {kFeedForward, kTokenWidth});
    add_layer(tensors, name + "mlp.out", {kTokenWidth, kFeedForward});
  }
  add_norm(tensors, "norm", kTokenWidth);
  add_layer(tensors, "fc", {shape.classes, kTokenWidth});
  return tensors;
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

bool predicts_characters(std::string_view model) { return model.starts_with("char-"); }

std::vector<std::string> model_names() { return {kModelNames.begin(), kModelNames.end()}; }

Result<ParameterSchema> model_schema(std::string_view name, const TaskShape& shape) {
  if (std::find(kModelNames.begin(), kModelNames.end(), name) == kModelNames.end())
    return error(Code::kInvalidArgument, "no model is called '{}'; there are {}", name,
                 fmt::join(kModelNames, ", "));
  TERN_CHECK_OK(check_shape(shape));
  if (predicts_characters(name)) {
    if (shape.input.size() != 1)
      return error(Code::kInvalidArgument, "{} takes texts of one dimension, not [{}]", name,
                   fmt::join(shape.input, ", "));
    return ParameterSchema::make(name == "char-lstm" ? char_lstm(shape) : char_gpt(shape));
  }
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
                   "{0} takes images of the shape [channels, height, width] with at least {1} x "
                   "{1} pixels, not [{2}]",
                   name, kPooled, fmt::join(shape.input, ", "));
    if (name == "resnet8-gn") return ParameterSchema::make(resnet8(shape));
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
    if (tensor.kind == TensorKind::kNorm) {
      std::ranges::fill(out.subspan(schema.offset(i), tensor.elements()),
                        tensor.name.ends_with(".bias") ? 0.0F : 1.0F);
      continue;
    }
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
