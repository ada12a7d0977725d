/// A device's memory of its run in one file, with what its replica of the model holds.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "client/client_store.h"
#include "client/replica.h"

namespace tern {

/// Each save() writes the whole file durably: after a crash or a power cut it holds the state
/// before or after. It ends with the SHA-256 of the rest and is readable by its owner only:
/// residuals, updates and replicas say something of what was trained on. Threads: one at a time.
class FileClientStore : public ClientStore {
 public:
  /// What the replica holds, asked for at each save: it is at the version that the state says is
  /// held.
  using Models = std::function<const HeldModels&()>;

  /// Reads the file if there is one. Errors: kIo, kCorrupt (damaged), kInvalidArgument (of another
  /// model): the message says to move it away to begin anew.
  static Result<FileClientStore> open(std::string path, uint64_t schema_hash, size_t elements,
                                      Models models);

  /// The client's number is not looked at: a device is one client.
  Result<ClientState> load(uint32_t client) override;
  Status save(uint32_t client, ClientState state) override;
  /// What was held when the state was last saved; call once.
  HeldModels take_models() { return std::move(saved_models_); }

 private:
  FileClientStore(std::string path, uint64_t schema_hash, Models models)
      : path_(std::move(path)), schema_hash_(schema_hash), models_(std::move(models)) {}

  std::string path_;
  uint64_t schema_hash_;
  Models models_;
  ClientState state_;
  HeldModels saved_models_;
};

}  // namespace tern
