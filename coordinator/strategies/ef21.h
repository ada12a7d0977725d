/// The receiver's side of `ef21`: what clients send is the change of their estimates, so the server
/// keeps the sum of all estimates, and its step is their mean over the clients that ever took part.
/// Invariant: estimate = the sum of weight x estimate of the clients, up to the rounding of a
/// double and of the 64-bit sums of a round. Paper: Richtarik et al. 2021, arXiv:2106.05203;
/// Fatkhullin et al. 2021, arXiv:2110.03294 (partial participation). Deviations: updates of several
/// local steps in place of gradients; clients weigh what they did when they were first counted;
/// those that never took part are left out of the mean instead of counting as zeros.
#pragma once

#include <cstdint>
#include <span>

#include "coordinator/strategies/fedavg.h"

namespace tern {

/// Turns the mean change of a round's updates, of this total weight, into the mean of the
/// estimates, in place. state.estimate_weights already has the round's clients. Cost: O(n).
void ef21_step(ServerOptimizerState& state, uint64_t round_weight, std::span<float> mean);

}  // namespace tern
