/// What a coordinator writes into its journal, and how: one kind of record for each thing that
/// changes a run. A record's body is its length, JSON, and bytes after it (a frame, or the arrays
/// of a state), which lie in a blob instead when they are long. Numbers of kinds are pinned.
/// docs/architecture.md has the table. Threads: pure.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/sha256.h"
#include "base/status.h"
#include "coordinator/journal/journal.h"
#include "coordinator/run_state.h"
#include "proto/messages.h"
#include "proto/parts.h"

namespace tern {

/// How each client's last task ended.
struct TaskFate {
  TaskId task = 0;
  Fate fate = Fate::kOpen;
};
using TaskFates = std::map<uint32_t, TaskFate>;

/// Which run this is: the first record, and part of each saved state.
struct RunOrigin {
  uint64_t run_id = 0;
  std::string config_sha256;
  uint64_t schema_hash = 0;
  uint32_t clients = 0;
  Digest start_sha256{};  ///< of the model that it begins with
};

/// A round begins: who is asked. Before the first plan leaves.
struct RoundRecord {
  uint32_t round = 0;
  uint32_t version = 0;
  uint32_t largest_examples = 0;
  std::vector<std::string> chains;
  struct Asked {
    uint32_t client = 0;
    uint32_t chain = 0;  ///< place in `chains`
    double nmse = 0;     ///< that was expected of it
  };
  std::vector<Asked> asked;
};
/// An update is counted. Before its client hears of it.
struct UpdateRecord {
  uint32_t round = 0;
  uint32_t version = 0;  ///< that the client trained from
  uint32_t weight = 0;
  std::optional<double> seconds = {};  ///< from its plan to its last byte, if known
  UpdateMessage message;
  SharedFrame transfer;  ///< null when it is in `blob`
  /// Where the transfer was written as it came; kept under its name before the record.
  std::shared_ptr<BlobWriter> blob;
};
/// A task, of this round or an older one, ended without being counted: refused, or failed. Before
/// its client hears of it.
struct RefusedRecord {
  uint32_t round = 0;
  uint32_t client = 0;
  TaskId task = 0;
  std::string reason;
};
/// Nothing more is counted in the round. A void one leaves the model as it is.
struct ClosedRecord {
  uint32_t round = 0;
  uint32_t counted = 0;
  bool is_void = false;
  std::map<uint32_t, double> late = {};  ///< clients without an answer: seconds of the round
};
/// What the round came to. Before anybody is told of the version.
struct VersionRecord {
  uint32_t round = 0;
  uint32_t version = 0;
  Digest sha256{};
};
/// The round is over, evaluation included.
struct EndedRecord {
  uint32_t round = 0;
  nlohmann::ordered_json notes;  ///< of whoever runs the coordinator
};
/// All that there is to go on from: no earlier record is needed for that.
struct StateRecord {
  RunOrigin origin;
  CoordinatorState state;
  TaskFates fates;
  OpenTasks open;                ///< that have outlived their rounds
  nlohmann::ordered_json notes;  ///< of the last round
};
/// Another client is asked in the middle of a round. Before its plan leaves.
struct AskedRecord {
  uint32_t round = 0;
  uint32_t client = 0;
};

using RunRecord = std::variant<RunOrigin, RoundRecord, UpdateRecord, RefusedRecord, ClosedRecord,
                               VersionRecord, EndedRecord, StateRecord, AskedRecord>;
/// By their place in RunRecord, from 1.
inline constexpr uint32_t kStateKind = 8;

/// Writes records, in one append. Longer bytes than kInlineBytes go to blobs first; returns the
/// blob of each record, if it has one. Errors: those of the journal; then nothing was appended,
/// though blobs may have been written.
inline constexpr size_t kInlineBytes = 64 * 1024;
Result<std::vector<std::optional<Digest>>> append_records(Journal& journal,
                                                          const std::vector<RunRecord>& records);
/// The record of a row. Errors: kCorrupt, those of BlobStore::get.
Result<RunRecord> parse_record(const JournalRecord& row, const BlobStore& blobs);
/// The blob that a row needs, if any. Errors: kCorrupt.
Result<std::optional<Digest>> blob_of(const JournalRecord& row);

}  // namespace tern
