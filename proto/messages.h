/// What coordinator and clients tell each other. Tensors never travel here: they go as frames, in
/// parts (parts.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "base/status.h"
#include "proto/training.h"

namespace tern {

/// Identifies one client's work in one round of one run; at most one update per task is counted.
using TaskId = uint64_t;
TaskId task_id(uint64_t run_seed, uint32_t round, uint32_t client);

/// The part of a plan that all clients of a round share.
struct RoundPlan {
  uint32_t round = 0;
  uint32_t version = 0;   ///< of the model to train from
  Digest model_sha256{};  ///< of that version's parameters: a replica that differs is refused
                          ///< before any training
  uint64_t schema_hash = 0;
  uint64_t run_seed = 0;
  std::string codec;  ///< spec of the update
  TrainingPlan training;
  int grid_bits = 0;         ///< published parameters are multiples of 2^-grid_bits
  uint32_t stale_after = 0;  ///< of error feedback, in rounds
};

/// How the bytes beside a plan bring a client to its version.
enum class DownloadKind : uint8_t {
  kNothing = 0,   ///< it holds the version
  kDeltas = 1,    ///< frames, each from one version to the next
  kSnapshot = 2,  ///< one frame, relative to version 0
};

/// The part of a plan that is one client's own.
struct ClientTask {
  TaskId task = 0;
  uint32_t client = 0;  ///< client number
  DownloadKind download = DownloadKind::kNothing;
};

/// A client's answer; the frame travels beside it.
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
  Digest frame_sha256{};
};

}  // namespace tern
