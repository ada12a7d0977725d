#include "learning/models.h"

#include "learning/pooling.h"

namespace tern {
namespace {

constexpr int64_t kNormGroups = 8;  // of resnet8-gn

}  // namespace

std::vector<at::Tensor> parameter_views(const ParameterSchema& schema, const at::Tensor& flat) {
  std::vector<at::Tensor> views;
  views.reserve(schema.tensors().size());
  for (size_t i = 0; i < schema.tensors().size(); ++i) {
    const TensorSpec& tensor = schema.tensors()[i];
    views.push_back(flat.narrow(0, static_cast<int64_t>(schema.offset(i)),
                                static_cast<int64_t>(tensor.elements()))
                        .view(tensor.shape));
  }
  return views;
}

Result<Network> Network::make(const ParameterSchema& schema, const TaskShape& shape) {
  const auto& tensors = schema.tensors();
  const auto misfit = [&](size_t i, int64_t wanted) {
    return error(Code::kInvalidArgument, "parameter {} has shape [{}] where {} inputs arrive",
                 tensors[i].name, fmt::join(tensors[i].shape, ", "), wanted);
  };
  Network network;
  std::vector<int64_t> input = shape.input;
  int64_t width = shape.features();
  for (size_t i = 0; i < tensors.size(); i += 2) {
    const std::vector<int64_t>& weight = tensors[i].shape;
    const bool convolution = weight.size() == 4 && network.linear_layers_ == 0 &&
                             weight[2] == weight[3] && weight[2] % 2 == 1;
    if ((!convolution && weight.size() != 2) || i + 1 == tensors.size() ||
        tensors[i + 1].shape != std::vector<int64_t>{weight[0]})
      return error(
          Code::kUnsupported,
          "parameter {} doesn't belong to a stack of convolutions and linear layers with biases",
          tensors[i].name);
    if (convolution) {
      if (input.size() != 3 || weight[1] != input[0])
        return misfit(i, input.empty() ? 0 : input[0]);
      input = {weight[0], input[1] / 2, input[2] / 2};
      width = input[0] * input[1] * input[2];
      ++network.convolutions_;
    } else {
      if (weight[1] != width) return misfit(i, width);
      width = weight[0];
      ++network.linear_layers_;
    }
  }
  if (network.linear_layers_ == 0 || width != shape.classes)
    return error(Code::kInvalidArgument,
                 "the model ends with {} outputs where the data have {} classes", width,
                 shape.classes);
  if (network.convolutions_ > 0) network.input_ = shape.input;
  return network;
}

at::Tensor Network::features(std::span<const at::Tensor> parameters,
                             const at::Tensor& inputs) const {
  if (convolutions_ == 0) return inputs;
  at::Tensor x = inputs.view({inputs.size(0), input_[0], input_[1], input_[2]});
  for (size_t i = 0; i < convolutions_; ++i) {
    const at::Tensor& weight = parameters[2 * i];
    x = at::conv2d(x, weight, parameters[2 * i + 1], 1, weight.size(2) / 2);
    // ReLU after pooling gives the same numbers as before it, from a quarter of the elements.
    x = pool_and_rectify(x);
  }
  return x.flatten(1);
}

at::Tensor Network::forward(std::span<const at::Tensor> parameters,
                            const at::Tensor& inputs) const {
  at::Tensor x = features(parameters, inputs);
  for (size_t i = 0; i < linear_layers_; ++i) {
    const size_t at = 2 * (convolutions_ + i);
    x = at::linear(x, parameters[at], parameters[at + 1]);
    if (i + 1 < linear_layers_) x = at::relu(x);
  }
  return x;
}

at::Tensor resnet8_forward(std::span<const at::Tensor> parameters, const TaskShape& shape,
                           const at::Tensor& inputs) {
  size_t next = 0;
  const auto convolve = [&](const at::Tensor& x, int64_t stride) {
    const at::Tensor& weight = parameters[next++];
    return at::conv2d(x, weight, {}, stride, weight.size(2) / 2);
  };
  const auto normalize = [&](const at::Tensor& x) {
    const at::Tensor &scale = parameters[next++], &shift = parameters[next++];
    return at::group_norm(x, kNormGroups, scale, shift);
  };
  at::Tensor x = inputs.view({inputs.size(0), shape.input[0], shape.input[1], shape.input[2]});
  x = at::relu(normalize(convolve(x, 1)));
  while (next + 2 < parameters.size()) {
    const int64_t channels = x.size(1), wanted = parameters[next].size(0);
    const int64_t stride = channels == wanted ? 1 : 2;
    at::Tensor y = at::relu(normalize(convolve(x, stride)));
    y = normalize(convolve(y, 1));
    x = at::relu(y + (stride == 1 ? x : convolve(x, stride)));
  }
  return at::linear(x.mean({2, 3}), parameters[next], parameters[next + 1]);
}

}  // namespace tern
