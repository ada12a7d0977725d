/// What the clients of a simulated fleet remember: those that had a task lately in memory, the
/// others in the checkpoint's file. So a fleet may have any number of clients; what is on the disk
/// are those that ever had a task.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <unordered_map>

#include "client/client_store.h"
#include "simulations/checkpoint.h"

namespace tern {

/// Threads: one at a time.
class ClientStates : public ClientStore {
 public:
  static constexpr uint64_t kMemoryBytes = uint64_t{1} << 30;

  /// Keeps what takes `memory_bytes` in memory, but all that have an update on its way, whatever
  /// that takes. `file` outlives this; `elements`: of the model.
  ClientStates(CheckpointFile& file, size_t elements, uint64_t memory_bytes = kMemoryBytes)
      : file_(file), elements_(elements), memory_bytes_(memory_bytes) {}

  /// Errors: those of CheckpointFile.
  Result<ClientState> load(uint32_t client) override;
  /// Errors: likewise.
  Status save(uint32_t client, ClientState state) override;

  /// Puts into the file what it doesn't have yet, for a save to follow. An update that still waits
  /// for its verdict isn't kept: what was counted has its verdict before the round ends, the rest
  /// comes too late for it and is refused. Without it the client is where that roll-back leaves it.
  Status put_all();

 private:
  struct Entry {
    ClientState state;
    uint64_t bytes = 0;
    bool taken = false;    // moved out, to be saved at once
    bool in_file = false;  // as it is
    std::list<uint32_t>::iterator place;
  };

  Status put(uint32_t client, Entry& entry);
  Status make_room();
  Entry& newest(uint32_t client);

  CheckpointFile& file_;
  const size_t elements_;
  const uint64_t memory_bytes_;
  uint64_t bytes_ = 0;
  std::unordered_map<uint32_t, Entry> entries_;
  std::list<uint32_t> order_;  // of their last use, the latest first
};

}  // namespace tern
