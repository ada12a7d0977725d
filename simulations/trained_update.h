/// A real update to measure codecs on.
#pragma once

#include <atomic>

#include "base/status.h"
#include "tests/bench/measured_chain.h"

namespace tern {

/// What one client's training of the built-in model `cnn` changes in a round: the data and the plan
/// of simulations/scenarios/fashion-mnist.toml. `earlier` are the three rounds before, in which
/// this client trained the model alone. Errors: kNotFound without Fashion-MNIST, kCancelled. Cost:
/// a few seconds, 300 MB.
Result<BenchmarkUpdate> trained_update(const std::atomic<bool>& stop);

}  // namespace tern
