/// The models of texts as functions of their parameters. This header needs LibTorch; it is for
/// learning/ and its tests.
#pragma once

#include <torch/torch.h>

#include <span>

namespace tern {

/// Scores [n * characters, classes] of the character that follows each one, example by example, for
/// inputs [n, characters], numbers of characters as float32; config/model_card.h describes the
/// models, `parameters` are as from parameter_views. What comes after a character doesn't change
/// its scores. Differentiable. Each example begins with an empty memory.
at::Tensor char_lstm_forward(std::span<const at::Tensor> parameters, const at::Tensor& inputs);
at::Tensor char_gpt_forward(std::span<const at::Tensor> parameters, const at::Tensor& inputs);

}  // namespace tern
