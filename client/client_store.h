/// What a client remembers between tasks, and where it is kept.
#pragma once

#include <cstdint>
#include <map>

#include "base/status.h"
#include "compression/updates/error_feedback.h"

namespace tern {

struct ClientState {
  uint64_t run_id = 0;  ///< the run that the rest is of; 0: none yet
  uint32_t held_version =
      0;  ///< of the model; version 0 follows from the seed, so everybody holds it
  uint32_t last_task_round = 0;  ///< 0: never had a task
  uint32_t residual_round = 0;   ///< in which the residual was committed; its age counts from it
  SenderMemory memory;           ///< what it owes, as of its last committed update
};

/// Threads: one at a time, unless an implementation says more.
class ClientStore {
 public:
  virtual ~ClientStore() = default;
  /// The state of a client; a fresh one for a client never stored.
  virtual Result<ClientState> load(uint32_t client) = 0;
  virtual Status save(uint32_t client, ClientState state) = 0;
};

/// In memory: for simulations and tests. Holds only clients that had a task.
class MemoryClientStore : public ClientStore {
 public:
  /// Moves the state out: a client has one task at a time, and its residual is as large as the
  /// model.
  Result<ClientState> load(uint32_t client) override {
    const auto found = states_.find(client);
    return found == states_.end() ? ClientState{} : std::move(found->second);
  }
  Status save(uint32_t client, ClientState state) override {
    states_[client] = std::move(state);
    return {};
  }
  const std::map<uint32_t, ClientState>& all() const { return states_; }

 private:
  std::map<uint32_t, ClientState> states_;
};

}  // namespace tern
