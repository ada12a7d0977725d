/// What a client remembers between tasks, and where it is kept.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "base/status.h"
#include "compression/updates/error_feedback.h"
#include "proto/messages.h"
#include "proto/transfer.h"

namespace tern {

/// An update that waits for its verdict, with all that it takes to send it again and to commit it.
struct StoredUpdate {
  UpdateMessage message;
  uint32_t round = 0;
  SharedFrame frame;  ///< never null
  SenderMemory next;  ///< takes the memory's place when the update is counted
};

struct ClientState {
  uint64_t run_id = 0;  ///< the run that the rest is of; 0: none yet
  uint32_t held_version =
      0;  ///< of the model; version 0 follows from the seed, so everybody holds it
  uint32_t last_task_round = 0;  ///< 0: never had a task
  uint32_t residual_round = 0;   ///< in which the residual was committed; its age counts from it
  SenderMemory memory;           ///< what it owes, as of its last committed update
  std::optional<StoredUpdate> pending;
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
    if (found == states_.end()) return ClientState{};
    ClientState state = std::move(found->second);
    found->second.pending.reset();  // a moved-from one would have no frame
    return state;
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
