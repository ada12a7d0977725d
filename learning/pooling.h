/// 2x2 max-pooling and ReLU in one pass. LibTorch's pooling reads its window through indices of 64
/// bits and took a quarter of the training of cnn. This header needs LibTorch, as models.h does.
#pragma once

#include <torch/torch.h>

namespace tern {

/// relu(max_pool2d(x, 2)) for float32 x [n, channels, height, width], [n, channels, height / 2,
/// width / 2] and contiguous: the same bits, and the same gradient. A last odd row or column isn't
/// read. Differentiable once. Cost: one pass, and 4 bytes for each output until the gradient is
/// taken. Threads: any.
at::Tensor pool_and_rectify(const at::Tensor& x);

}  // namespace tern
