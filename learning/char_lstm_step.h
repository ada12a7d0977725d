/// The training step of char-lstm without autograd, and with the input's part of a gate computed
/// once for each character of the vocabulary in place of each character of the text. This header
/// needs LibTorch; it is for learning/ alone.
#pragma once

#include <torch/torch.h>

#include <memory>

#include "base/status.h"
#include "learning/learning_data.h"
#include "learning/training_step.h"

namespace tern {

/// Backpropagation through all characters of an example, whose memory begins empty. Memory: for
/// each character of a batch four gates, three states and its scores. Errors: kInvalidArgument when
/// the schema of `data` isn't that of char-lstm.
Result<std::unique_ptr<TrainingStep>> make_char_lstm_step(const LearningData& data,
                                                          const at::Tensor& flat);

}  // namespace tern
