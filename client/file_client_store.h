/// A device's memory of its run in one file, with its replica of the model.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "client/client_store.h"

namespace tern {

/// Each save() writes the whole file durably: after a crash or a power cut it holds the state
/// before or after. It ends with the SHA-256 of the rest and is readable by its owner only:
/// residuals, updates and replicas say something of what was trained on. Threads: one at a time.
class FileClientStore : public ClientStore {
 public:
  /// `replica` is asked for the parameters at each save; empty when there are none yet.
  using Replica = std::function<std::span<const float>()>;

  /// Reads the file if there is one. Errors: kIo, kCorrupt (damaged), kInvalidArgument (of another
  /// model): the message says to move it away to begin anew.
  static Result<FileClientStore> open(std::string path, uint64_t schema_hash, size_t elements,
                                      Replica replica);

  /// The client's number is not looked at: a device is one client.
  Result<ClientState> load(uint32_t client) override;
  Status save(uint32_t client, ClientState state) override;
  /// The parameters of state.held_version as they were last saved; call once.
  std::vector<float> take_replica() { return std::move(saved_replica_); }

 private:
  FileClientStore(std::string path, uint64_t schema_hash, Replica replica)
      : path_(std::move(path)), schema_hash_(schema_hash), replica_(std::move(replica)) {}

  std::string path_;
  uint64_t schema_hash_;
  Replica replica_;
  ClientState state_;
  std::vector<float> saved_replica_;
};

}  // namespace tern
