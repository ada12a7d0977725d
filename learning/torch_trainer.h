/// Local training with LibTorch behind the interface Trainer. No LibTorch in this header.
#pragma once

#include <memory>

#include "base/status.h"
#include "learning/learning_data.h"
#include "proto/training.h"

namespace tern {

/// A trainer for the model and the clients of `data`: minibatch SGD on the cross-entropy, with
/// momentum and weight decay as PyTorch defines them (g += decay * w; v = momentum * v + g; w -=
/// rate * v). The velocity starts at 0 in each task. Each pass shuffles the client's examples by
/// Rng(seed, kBatches, round, client, pass); a short last batch is kept. Memory: the parameters
/// (twice with momentum) and one batch; the data are shared. Make one for each worker. The bits of
/// an update depend on task, base and data (and on CPU and BLAS), not on thread, trainer or earlier
/// tasks. Calls make_math_serial(). Errors of make_trainer: kUnsupported for a model that it can't
/// train, kInternal. Errors of train, beside those of the interface: kInvalidArgument for a client
/// number, a plan or lengths that make no sense. Whether the loss is finite is checked once for
/// each pass.
Result<std::unique_ptr<Trainer>> make_trainer(std::shared_ptr<const LearningData> data);

}  // namespace tern
