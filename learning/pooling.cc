#include "learning/pooling.h"

#include <cstdint>

namespace tern {
namespace {

/// Whose gradient a value of the output gets: one of the window's four, or nobody where ReLU is at
/// zero. As wide as a float, so that loops over both are vectorized.
using Winner = int32_t;
constexpr Winner kNobody = 4;

struct Planes {
  explicit Planes(at::IntArrayRef sizes)
      : count(sizes[0] * sizes[1]),
        height(sizes[2]),
        width(sizes[3]),
        rows(height / 2),
        columns(width / 2) {}
  int64_t count, height, width;
  int64_t rows, columns;  // of the output
};

/// One row of the output from two of the input, without branches: which of four is the largest
/// can't be predicted. It is the first of the largest; NaN counts as larger than everything, as in
/// LibTorch.
template <bool kKeepWinners>
void pool_row(const float* __restrict upper, const float* __restrict lower, int64_t columns,
              float* __restrict y, Winner* __restrict winners) {
  for (int64_t i = 0; i < columns; ++i) {
    float best = upper[2 * i];
    Winner winner = 0;
    const auto take = [&](float value, Winner index) {
      const bool larger = (value > best) | (value != value);
      best = larger ? value : best;
      winner = larger ? index : winner;
    };
    take(upper[2 * i + 1], 1);
    take(lower[2 * i], 2);
    take(lower[2 * i + 1], 3);
    // NaN and -0 go through, as in LibTorch.
    y[i] = best < 0 ? 0 : best;
    if constexpr (kKeepWinners) winners[i] = best <= 0 ? kNobody : winner;
  }
}

void spread_row(const float* __restrict dy, const Winner* __restrict winners, int64_t columns,
                float* __restrict upper, float* __restrict lower) {
  for (int64_t i = 0; i < columns; ++i) {
    const float gradient = 0.0f + dy[i];  // LibTorch adds it to a zero, which -0 doesn't survive
    upper[2 * i] = winners[i] == 0 ? gradient : 0;
    upper[2 * i + 1] = winners[i] == 1 ? gradient : 0;
    lower[2 * i] = winners[i] == 2 ? gradient : 0;
    lower[2 * i + 1] = winners[i] == 3 ? gradient : 0;
  }
}

template <bool kKeepWinners>
at::Tensor pool(const at::Tensor& x, Winner* winners) {
  const Planes planes(x.sizes());
  at::Tensor y = at::empty({x.size(0), x.size(1), planes.rows, planes.columns}, at::kFloat);
  const float* from = x.data_ptr<float>();
  float* to = y.data_ptr<float>();
  for (int64_t plane = 0; plane < planes.count; ++plane)
    for (int64_t row = 0; row < planes.rows; ++row) {
      const float* upper = from + (plane * planes.height + 2 * row) * planes.width;
      const int64_t at = (plane * planes.rows + row) * planes.columns;
      pool_row<kKeepWinners>(upper, upper + planes.width, planes.columns, to + at,
                             kKeepWinners ? winners + at : nullptr);
    }
  return y;
}

struct PoolAndRectify : torch::autograd::Function<PoolAndRectify> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x) {
    const at::Tensor values = x.contiguous();
    const Planes planes(values.sizes());
    const at::Tensor winners =
        at::empty({values.size(0), values.size(1), planes.rows, planes.columns}, at::kInt);
    context->saved_data["sizes"] = values.sizes();
    context->save_for_backward({winners});
    return pool<true>(values, winners.data_ptr<Winner>());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const at::Tensor dy = gradients[0].contiguous();
    const at::Tensor winners = context->get_saved_variables()[0];
    const std::vector<int64_t> sizes = context->saved_data["sizes"].toIntVector();
    const Planes planes(sizes);
    const bool odd = planes.height % 2 != 0 || planes.width % 2 != 0;  // in no window
    const at::Tensor dx = odd ? at::zeros(sizes, at::kFloat) : at::empty(sizes, at::kFloat);
    for (int64_t plane = 0; plane < planes.count; ++plane)
      for (int64_t row = 0; row < planes.rows; ++row) {
        float* upper = dx.data_ptr<float>() + (plane * planes.height + 2 * row) * planes.width;
        const int64_t at = (plane * planes.rows + row) * planes.columns;
        spread_row(dy.data_ptr<float>() + at, winners.data_ptr<Winner>() + at, planes.columns,
                   upper, upper + planes.width);
      }
    return {dx};
  }
};

}  // namespace

at::Tensor pool_and_rectify(const at::Tensor& x) {
  if (at::GradMode::is_enabled() && x.requires_grad()) return PoolAndRectify::apply(x);
  return pool<false>(x.contiguous(), nullptr);
}

}  // namespace tern
