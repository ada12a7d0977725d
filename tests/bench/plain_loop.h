/// The baseline that Tern's trainer is measured against: the federated training loop that a careful
/// user would write with LibTorch. It shares the data with the trainer and no code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/status.h"
#include "learning/learning_data.h"
#include "proto/training.h"

namespace tern {

struct PlainLoopReport {
  double samples_per_second =
      0;  ///< steady clock around the training of all clients, set-up excluded
  double seconds = 0;
  uint64_t samples_trained = 0;
  double final_loss = 0;  ///< mean over the batches of the last client's last pass
};

/// Is there one for this model? Errors: kUnsupported for char-gpt and torchscript.
Status has_plain_loop(std::string_view model);

/// Trains the first `clients` clients of `data` one after another, each from `initial` (the model's
/// parameters as one flat vector) as `plan` says: functional forward over separate tensors,
/// autograd, update in place, the client's examples gathered once for each pass. Calls
/// make_math_serial(). `seed` is LibTorch's global one. Errors: kInvalidArgument when `data` has
/// fewer clients, one of them no examples, or a length is wrong; those of
/// has_plain_loop; kInternal for LibTorch's exceptions.
Result<PlainLoopReport> run_plain_loop(const LearningData& data, const TrainingPlan& plan,
                                       std::span<const float> initial, size_t clients,
                                       uint64_t seed);

}  // namespace tern
