#include "learning/char_models.h"

#include <cmath>
#include <limits>
#include <vector>

namespace tern {
namespace {

constexpr int64_t kHeads = 4;

/// Attention of each position to itself and what comes before it. Shape: qkv [n, t, 3 * width].
at::Tensor causal_attention(const at::Tensor& qkv) {
  const int64_t n = qkv.size(0), t = qkv.size(1), width = qkv.size(2) / 3;
  const std::vector<at::Tensor> parts =
      qkv.view({n, t, 3, kHeads, width / kHeads}).permute({2, 0, 3, 1, 4}).unbind(0);
  const double scale = 1 / std::sqrt(static_cast<double>(width / kHeads));
  const at::Tensor later = at::ones({t, t}, at::kBool).triu(1);
  const at::Tensor scores = at::matmul(parts[0], parts[1].transpose(2, 3))
                                .mul(scale)
                                .masked_fill(later, -std::numeric_limits<float>::infinity());
  return at::matmul(at::softmax(scores, 3), parts[2]).transpose(1, 2).reshape({n, t, width});
}

}  // namespace

at::Tensor char_lstm_forward(std::span<const at::Tensor> parameters, const at::Tensor& inputs) {
  const at::Tensor &embedding = parameters[0], &weight_ih = parameters[1],
                   &weight_hh = parameters[2], &bias = parameters[3];
  const at::Tensor embedded = at::embedding(embedding, inputs.to(at::kLong));
  const at::Tensor start = at::zeros({1, inputs.size(0), weight_hh.size(1)});
  const at::Tensor hidden =
      std::get<0>(at::lstm(embedded, {start, start},
                           {weight_ih, weight_hh, bias, at::zeros_like(bias)}, /*has_biases=*/true,
                           /*num_layers=*/1, /*dropout=*/0, /*train=*/false,
                           /*bidirectional=*/false, /*batch_first=*/true));
  return at::linear(hidden.reshape({-1, hidden.size(2)}), parameters[4], parameters[5]);
}

at::Tensor char_gpt_forward(std::span<const at::Tensor> parameters, const at::Tensor& inputs) {
  size_t next = 0;
  const auto normalize = [&](const at::Tensor& x) {
    const at::Tensor &scale = parameters[next++], &shift = parameters[next++];
    return at::layer_norm(x, {x.size(2)}, scale, shift);
  };
  const auto linear = [&](const at::Tensor& x) {
    const at::Tensor &weight = parameters[next++], &bias = parameters[next++];
    return at::linear(x, weight, bias);
  };
  at::Tensor x = at::embedding(parameters[0], inputs.to(at::kLong)) + parameters[1];
  next = 2;
  while (next + 4 < parameters.size()) {
    const at::Tensor qkv = linear(normalize(x));
    x = x + linear(causal_attention(qkv));
    const at::Tensor widened = linear(normalize(x));
    x = x + linear(at::gelu(widened));
  }
  const at::Tensor scores = linear(normalize(x));
  return scores.view({-1, scores.size(2)});
}

}  // namespace tern
