/// FedAvg with a server step: the weighted mean of the updates, a server learning rate, server
/// momentum and server averaging.
///   v <- beta v + mean;  step = eta v.   With eta = 1 and beta = 0 plain FedAvg.
/// With averaging the K-th step after an average leads to the mean of the K models x_1 ... x_K that
/// the steps would have led to. With x_j = x_0 + s_1 + ... + s_j that is
///   x_(K-1) + (s_K - sum over i < K of (i - 1) s_i) / K,
/// so one vector is kept, not K models.
/// Papers: McMahan et al. 2017, arXiv:1602.05629; Hsu et al. 2019, arXiv:1909.06335 (FedAvgM); Pu
/// et al. 2021, arXiv:2103.11619 (server averaging; deviation: always of all models since the last
/// average, and no epoch decay).
/// A strategy is a pair of plain functions over explicit state. Threads: the state belongs to its
/// owner.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "config/scenario.h"

namespace tern {

struct ServerOptimizerState {
  std::vector<float> momentum;  ///< empty without server momentum
  // Of server averaging.
  uint32_t steps = 0;      ///< since the last average
  std::vector<float> lag;  ///< the sum of (i - 1) s_i over these steps; empty: zeros
  // Of ef21 (see ef21.h); empty with other chains.
  std::vector<double> estimate;                   ///< the weighted sum of the clients' estimates
  std::map<uint32_t, uint32_t> estimate_weights;  ///< of the clients that it is of
};

/// What an update of a client with so many examples weighs: examples >> shift, within 1..65535.
uint32_t fedavg_weight(uint32_t examples, int shift);
/// The smallest shift that brings the largest example count of the fleet to 65535 or less.
int fedavg_weight_shift(uint32_t largest_examples);

/// Turns the mean update into the server's step, in place. Cost: O(n).
void fedavg_step(const StrategyConfig& strategy, ServerOptimizerState& state,
                 std::span<float> mean);

}  // namespace tern
