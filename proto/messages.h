/// What coordinator and clients tell each other. A control message has at most 16 KiB: an 8-byte
/// header (magic "TRNM", type, zero, protocol version) and the message's fields
/// (message_archive.h). Tensors never travel here: they go as frames, in parts (parts.h). A packet
/// is a message, a part, or a part with a message behind it.
/// docs/wire_format.md is normative.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/sha256.h"
#include "base/status.h"
#include "proto/parts.h"
#include "proto/signed_bytes.h"
#include "proto/training.h"
#include "proto/version_tree.h"

namespace tern {

/// Versions of the protocol that this build speaks. A Hello offers a range, the Welcome chooses.
inline constexpr uint16_t kProtocolLow = 2, kProtocolHigh = 2;
inline constexpr size_t kMaxMessageBytes = 16 * 1024;
/// Of a transfer this many bytes may be sent before the receiver has asked for more by a Credit.
inline constexpr uint64_t kCreditWindow = 4 * (kPartHeaderBytes + kPartBytes);

/// Clocks that are further apart are named to the operators of both ends.
inline constexpr int64_t kNoticedSkewSeconds = 60;
/// How far a peer's clock, which may claim anything, is ahead of this machine's.
inline int64_t clock_skew(int64_t theirs, int64_t ours) {
  return std::max<int64_t>(theirs, 0) - ours;
}

TaskId task_id(uint64_t run_seed, uint32_t round, uint32_t client);
/// Evaluations have ids of their own: a client may have both kinds in one round.
TaskId evaluation_id(uint64_t run_seed, uint32_t round, uint32_t client);

// ---- Opening a session

/// A client's first message on each connection. Its layout is the same in every protocol version.
struct Hello {
  uint16_t protocol_low = kProtocolLow, protocol_high = kProtocolHigh;
  std::string software;       ///< for logs
  uint64_t schema_hash = 0;   ///< of the model that this client is set up for
  uint64_t run_id = 0;        ///< the run that the rest speaks of; 0: none yet
  uint32_t held_version = 0;  ///< of the model
  int64_t unix_seconds = 0;   ///< the client's clock
};

/// How the client's last task ended, for one that lost the answer to its update.
enum class Fate : uint8_t { kOpen = 0, kCounted = 1, kRefused = 2 };

struct Welcome {
  uint16_t protocol = kProtocolHigh;
  uint64_t run_id = 0;
  uint32_t client = 0;   ///< this client's number
  uint32_t clients = 0;  ///< of the fleet; with `seed` it decides whose examples are whose
  uint64_t seed = 0;
  int64_t unix_seconds = 0;  ///< the coordinator's clock
  TaskId last_task = 0;      ///< 0: none in this run
  Fate last_fate = Fate::kOpen;
  std::string partition;  ///< data.partition of the run: how a share of common data is dealt
  /// A client that has lost its connection waits so long on average before it dials, and before it
  /// dials again: a large fleet must not come back at once.
  uint32_t reconnect_pause_ms = 0;
};

/// The client has its data at hand and can be asked.
struct Ready {
  uint32_t examples = 0;       ///< it can train on
  uint32_t test_examples = 0;  ///< it can evaluate on; of texts, their characters
};

/// The session is over and dialling again won't help.
struct Refusal {
  Status reason;
};

/// The session is over, for no fault of the client's.
struct Goodbye {
  bool finished = false;  ///< the run is; otherwise the coordinator will be back
  std::string reason;
};

// ---- A round

enum class PlanKind : uint8_t { kTrain = 0, kEvaluate = 1 };

/// The part of a plan that all clients of a round share; signed.
struct RoundPlan {
  PlanKind kind = PlanKind::kTrain;
  uint64_t run_id = 0;
  uint32_t round = 0;
  uint32_t version = 0;   ///< of the model to train from
  Digest model_sha256{};  ///< of that version's parameters: a replica that differs is refused
                          ///< before any training
  uint64_t schema_hash = 0;
  uint64_t run_seed = 0;
  uint32_t cohort = 0;       ///< updates that the round wants
  uint32_t min_updates = 0;  ///< policy floor: fewer are never aggregated
  std::string codec;         ///< spec of the update
  TrainingPlan training;
  VersionTree versions;      ///< which version is coded against which
  int32_t grid_bits = 0;     ///< published parameters are multiples of 2^-grid_bits
  uint32_t stale_after = 0;  ///< of error feedback, in rounds
  bool residual16 = false;   ///< clients keep their residuals as bfloat16
};

/// What a published model is; signed when it is published.
struct ModelManifest {
  uint64_t run_id = 0;
  uint32_t version = 0;
  Digest parent_sha256{};  ///< of the version before; zeros for version 0
  Digest sha256{};         ///< of the parameters as little-endian float32 in schema order
  uint64_t schema_hash = 0;
};

/// How the bytes beside a plan bring a client to its version.
enum class DownloadKind : uint8_t {
  kNothing = 0,   ///< it holds the version
  kDeltas = 1,    ///< frames, each from one version on the way to the next
  kSnapshot = 2,  ///< a frame from version 0 to the anchor, and frames from there
};

/// The part of a plan that is one client's own.
struct ClientTask {
  TaskId task = 0;
  uint32_t client = 0;  ///< client number
  DownloadKind download = DownloadKind::kNothing;
  uint64_t download_bytes = 0;  ///< of its frames, without part headers
};

/// A plan as it travels; the parts of the download follow.
struct PlanMessage {
  SignedBytes plan;      ///< of a RoundPlan
  SignedBytes manifest;  ///< of a ModelManifest
  ClientTask task;
};

/// A client's answer; the parts of the frame follow.
struct UpdateMessage {
  TaskId task = 0;
  uint32_t client = 0;
  TrainReport report;
};

/// The coordinator's answer to an update.
struct Verdict {
  TaskId task = 0;
  bool counted = false;
  Status reason;  ///< why it wasn't; ok when counted
};

/// A client can't do a task.
struct TaskFailure {
  TaskId task = 0;
  uint32_t held_version = 0;
  Status reason;
};

/// The receiver of a transfer has room for this much of it in all.
struct Credit {
  TaskId task = 0;
  uint64_t bytes = 0;  ///< part headers included, counted from the transfer's beginning
};

/// What an evaluation found on the client's held-out examples, class by class.
struct EvaluationReport {
  TaskId task = 0;
  uint32_t client = 0;
  double loss_sum = 0;              ///< of cross-entropies, in nats
  std::vector<uint32_t> examples;   ///< of each class
  std::vector<uint32_t> predicted;  ///< as each class
  std::vector<uint32_t> correct;    ///< of each class
};

using Message = std::variant<Hello, Welcome, Refusal, Goodbye, PlanMessage, UpdateMessage, Verdict,
                             TaskFailure, Credit, EvaluationReport, Ready>;

/// A message as a packet. Text longer than a field may be is cut.
Bytes to_packet(const Message& message);

/// What a packet holds: one of the two, or both. Then the message comes first, as if it had been a
/// packet before the part's: small transfers cost one packet and not two.
struct PacketContent {
  std::span<const std::byte> message, part;
};
/// Reads hostile bytes, but only to tell what is what: neither has been checked yet.
PacketContent open_packet(std::span<const std::byte> packet);

/// Reads hostile bytes. Errors: kCorrupt (not a message, a field that can't be, bytes too many or
/// too few), kUnsupported (another protocol version, a message type unknown to this one). Allocates
/// at most 4 times the bytes + 4 KiB.
Result<Message> parse_message(std::span<const std::byte> bytes);

/// The bytes that are signed. Errors of parsing as above.
Bytes to_bytes(const RoundPlan& plan);
Bytes to_bytes(const ModelManifest& manifest);
Result<RoundPlan> parse_plan(std::span<const std::byte> bytes);
Result<ModelManifest> parse_manifest(std::span<const std::byte> bytes);

/// What signatures are for: one made for a plan is none for a manifest.
inline constexpr std::string_view kPlanPurpose = "tern/plan/1", kManifestPurpose = "tern/model/1";

}  // namespace tern
