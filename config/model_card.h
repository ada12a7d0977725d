/// What Tern knows of a built-in model without LibTorch: its schema and its version 0.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/parameter_schema.h"
#include "base/status.h"
#include "config/scenario.h"

namespace tern {

/// Grid of published models: multiples of 2^-20, parameters below 16.
inline constexpr int kGridBits = 20;

/// Shape of one example and number of classes; both come from the data.
struct TaskShape {
  std::vector<int64_t> input;  ///< {features}, {characters} or {channels, height, width}
  int64_t classes = 0;

  /// Inputs of one example: the product of `input`.
  int64_t features() const;
};

/// "1x28x28" or "784" as a shape; nothing when it is spelled otherwise: one dimension or three,
/// each at least 1, at most 2^40 together.
std::optional<std::vector<int64_t>> parse_input_shape(std::string_view text);
/// The inverse.
std::string input_shape_text(const std::vector<int64_t>& input);

/// Names of the built-in models.
inline constexpr std::array<std::string_view, 6> kModelNames = {
    "logistic", "mlp-2nn", "cnn", "resnet8-gn", "char-lstm", "char-gpt"};
/// A model of the user's own: model.script on those who train, and its parameters in model.initial
/// for a coordinator.
inline constexpr std::string_view kScriptModel = "torchscript";
/// The same as strings, for messages.
std::vector<std::string> model_names();
/// Does it predict the next one at each character of an example? The others predict one class.
bool predicts_characters(std::string_view model);
/// The characters that texts are made of; the same for all texts, so that devices with different
/// ones share a model. learning/text.h says which.
inline constexpr int64_t kTextClasses = 97;

/// Schema of a built-in model for data of this shape. Parameter names are those LibTorch's modules
/// would give.
///   logistic  one linear layer on the flattened example
///   mlp-2nn   two hidden layers of 200, ReLU: 199,210 parameters on 28x28
///   cnn       two 5x5 convolutions (32, 64; padding 2) with 2x2 max-pooling, 512 hidden, ReLU:
///             1,663,370 parameters on 28x28
///   resnet8-gn  a 3x3 convolution and three residual blocks of two (16, 32, 64 channels), group
///             normalization by 8 groups, mean over the image: 77,850 parameters on 3x32x32
///   char-lstm embedding of 16, one LSTM layer of 128 with one bias (its other one is 0), a linear
///             layer at each character: 88,305 parameters
///   char-gpt  two pre-norm transformer blocks of width 64 with 4 heads, learned positions: 117,729
///             parameters on 80 characters
/// Papers: McMahan et al. 2017, arXiv:1602.05629 (mlp-2nn, cnn); He et al. 2015, arXiv:1512.03385,
/// with Wu & He 2018, arXiv:1803.08494, in place of BatchNorm, whose statistics clients can't
/// average; Hochreiter & Schmidhuber 1997; Radford et al. 2019.
/// Errors: kInvalidArgument for an unknown name (the message lists the known ones) or a shape that
/// the model can't take: an empty dimension, fewer than 2 classes, for cnn and resnet8-gn anything
/// but {channels, height >= 4, width >= 4}, for those of characters anything but {characters}.
Result<ParameterSchema> model_schema(std::string_view name, const TaskShape& shape);

/// The same for model.name of a scenario, without LibTorch: for torchscript the schema of the file
/// model.initial. Errors: those, of reading that file, and kInvalidArgument without it, with
/// Where{key}.
Result<ParameterSchema> model_schema(const ModelConfig& model, const TaskShape& shape);

/// Version 0 from the seed: weights and biases uniform in +-1/sqrt(inputs of the layer), rounded to
/// multiples of 2^-grid_bits (ties to even), never -0; a normalization (TensorKind::kNorm) scales
/// by 1 and shifts by 0 (its name ends with .bias). A bias has to follow its layer's weight. Uses +
/// - x / sqrt only, so the bits are the same on every machine. Shape: `out` has schema.elements()
/// floats; 0 <= grid_bits <= 24. Cost: O(n). Threads: safe.
void initialize_parameters(const ParameterSchema& schema, uint64_t seed, int grid_bits,
                           std::span<float> out);

}  // namespace tern
