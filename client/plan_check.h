/// Which plans a client obeys.
#pragma once

#include <cstdint>
#include <deque>

#include "base/status.h"
#include "proto/keys.h"
#include "proto/messages.h"

namespace tern {

/// Remembers the last plans that passed: clients in one process get the same ones, a plan for each
/// chain of a round, and a signature costs 0.1 ms to verify. Threads: one at a time.
class PlanCheck {
 public:
  explicit PlanCheck(const PublicKey& server) : server_(server) {}

  /// The plan, when plan and manifest are signed by the pinned key, valid at `now`, of this run and
  /// schema, and agree on the model. Errors: kInvalidArgument, kCorrupt.
  Result<RoundPlan> check(const PlanMessage& message, uint64_t run_id, uint64_t schema_hash,
                          int64_t now);

 private:
  struct Passed {
    SignedBytes plan, manifest;
    RoundPlan content;
  };
  const Passed* find(const PlanMessage& message, int64_t now) const;

  PublicKey server_;
  std::deque<Passed> passed_;  // the newest last
};

}  // namespace tern
