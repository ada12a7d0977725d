/// A run's state at the end of a round, with what each of its clients remembers, as one SQLite
/// file. A save is a transaction, so the file is at one save or the next one; a run resumed from it
/// ends with the same bits as one that was never interrupted. Rows carry SHA-256, and the save says
/// how many clients there are and what they add up to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/sqlite/sqlite.h"
#include "base/status.h"
#include "coordinator/views/metrics.h"
#include "simulations/fleet.h"

namespace tern {

/// What a run must have in common with the one that it goes on with.
struct RunIdentity {
  std::string config_sha256;
  std::string input_sha256;
  std::string environment;  ///< versions of what decides the bits of training
};

struct Checkpoint {
  RunIdentity identity;
  FleetState fleet;
  RunTotals totals;
  std::vector<nlohmann::ordered_json> rows;  ///< of metrics.jsonl
  WorkSeconds seconds{};                     ///< of the workers so far
  double wall_seconds = 0;
};

/// Threads: one at a time. Errors of all calls: those of SqliteDatabase; kCorrupt for a row that is
/// damaged or missing.
class CheckpointFile {
 public:
  /// The file is made when there is something to write. An empty path: a temporary one.
  static Result<CheckpointFile> open(std::string path);

  /// The last save; nothing if there was none. Memory: its size, twice.
  Result<std::optional<Checkpoint>> read();
  /// Size and memory: the model, the server's residual and the kept deltas. What was put of clients
  /// since the last one is part of it.
  Status save(const Checkpoint& checkpoint);

  /// A client's row, of this save or the next one; empty if it has none.
  Result<std::vector<std::byte>> client(uint32_t client);
  Status put_client(uint32_t client, std::span<const std::byte> state);

 private:
  explicit CheckpointFile(std::string path) : path_(std::move(path)) {}
  Status open_database();
  Status begin();
  Status check_clients(uint64_t count, uint64_t sum) const;
  uint64_t sum_of_clients() const;

  std::string path_;
  std::optional<SqliteDatabase> database_;
  std::optional<SqliteStatement> read_client_, write_client_;
  std::unordered_map<uint32_t, uint64_t> clients_;  // that have a row: the beginning of its SHA-256
  bool in_transaction_ = false;
};

}  // namespace tern
