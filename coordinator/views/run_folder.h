/// The folder that a run leaves its results in.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/durable_file.h"
#include "base/status.h"

namespace tern {

/// Errors: kInUse when the folder holds a finished or an interrupted run.
Status check_folder_is_free(const std::string& path);

/// The folder of a run: who may write there, and the rows that appear while it runs. The folder is
/// locked until this is destroyed. Threads: one.
class RunFolder {
 public:
  /// Makes the folder if it isn't there. With `resume` it has to hold a checkpoint.bin, else no
  /// run. Errors: kInUse (also while another process uses it), kIo, kNoSpace, kNotFound (nothing to
  /// resume).
  static Result<RunFolder> open(const std::string& path, bool resume);
  RunFolder(RunFolder&& other) noexcept;
  RunFolder& operator=(RunFolder&&) = delete;
  ~RunFolder();

  /// The path of a file of the folder.
  std::string file(std::string_view file_name) const;

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
