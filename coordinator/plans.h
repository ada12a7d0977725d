/// The plans that clients are given: made once for each chain of a round, not for each client,
/// signed, and signed anew when half of a signature's life is over.
/// Threads: the loop's thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>

#include "base/loop.h"
#include "coordinator/coordinator.h"
#include "coordinator/run_state.h"
#include "proto/keys.h"
#include "proto/messages.h"

namespace tern {

/// A plan with its signatures, and the manifest of its version.
struct SignedPlan {
  RoundPlan content;
  SignedBytes plan, manifest;
};

class Plans {
 public:
  /// All of them outlive the plans.
  Plans(const CoordinatorSetup& setup, const RunState& state, const SecretKey& key,
        const Loop& loop)
      : setup_(setup), state_(state), key_(key), loop_(loop) {}

  /// Of tasks that were asked for in `round`; `chain` is empty for an evaluation. A plan is of the
  /// version that was the newest when the plan was first asked for. Valid until forget(). Cost: two
  /// signatures, when they are due.
  const SignedPlan& get(PlanKind kind, uint32_t round, const std::string& chain);
  /// Those that follow are of another version.
  void forget() { plans_.clear(); }

 private:
  RoundPlan make(PlanKind kind, uint32_t round, const std::string& chain) const;
  void sign(SignedPlan& plan) const;

  const CoordinatorSetup& setup_;
  const RunState& state_;
  const SecretKey& key_;
  const Loop& loop_;
  std::map<std::tuple<PlanKind, uint32_t, std::string>, SignedPlan> plans_;
};

}  // namespace tern
