/// The folder that a run leaves its results in.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/durable_file.h"
#include "base/status.h"

namespace tern {

/// The journal of a coordinator, in the folder of its run.
inline constexpr std::string_view kJournalFolder = "journal";

/// Of a simulation that can be gone on with.
inline constexpr std::string_view kCheckpointFile = "checkpoint.db";

/// What a run in a folder begins from.
enum class RunStart { kNew, kCheckpoint, kJournal };

/// Errors: kInUse when the folder holds a finished or an interrupted run.
Status check_folder_is_free(const std::string& path);

/// The folder of a run: who may write there, and the rows that appear while it runs. The folder is
/// locked until this is destroyed. Threads: one.
class RunFolder {
 public:
  /// Makes the folder if it isn't there. For kCheckpoint it has to hold a kCheckpointFile, for kNew
  /// no run. Errors: kInUse (also while another process uses it), kIo, kNoSpace, kNotFound (nothing
  /// to resume).
  static Result<RunFolder> open(const std::string& path, RunStart start);
  RunFolder(RunFolder&& other) noexcept;
  RunFolder& operator=(RunFolder&&) = delete;
  ~RunFolder();

  /// The path of a file of the folder.
  std::string file(std::string_view file_name) const;

  /// The rows of metrics.jsonl of rounds before `before`. Errors: kIo, kCorrupt.
  Result<std::vector<nlohmann::ordered_json>> read_metrics(uint32_t before) const;
  /// Writes metrics.jsonl anew with these rows; more can be appended then. Errors: kNoSpace, kIo.
  Status begin_metrics(const std::vector<nlohmann::ordered_json>& rows);
  /// Adds a row to metrics.jsonl; it appears whole or not at all. Call begin_metrics first. Errors:
  /// kNoSpace, kIo.
  Status append(const nlohmann::ordered_json& row);

 private:
  RunFolder(std::string path, FolderLock lock);

  std::string path_;
  FolderLock lock_;
  int metrics_ = -1;
};

}  // namespace tern
