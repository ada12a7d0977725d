#include "coordinator/views/run_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

namespace tern {

using nlohmann::ordered_json;

namespace {

bool exists(const std::string& folder, const char* file) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::path(folder) / file, ignored);
}

}  // namespace

Status check_folder_is_free(const std::string& path) {
  if (exists(path, "summary.json"))
    return Status(Code::kInUse, "the folder already holds a finished run; choose another one",
                  {.file = path});
  if (exists(path, "checkpoint.bin"))
    return Status(Code::kInUse,
                  fmt::format("the folder already holds an interrupted run; go on with it by "
                              "--resume {}, or choose another one",
                              path),
                  {.file = path});
  return {};
}

Result<RunFolder> RunFolder::open(const std::string& path, bool resume) {
  if (resume) {
    if (!exists(path, "checkpoint.bin"))
      return Status(Code::kNotFound,
                    exists(path, "summary.json")
                        ? "this run is finished; its results are in summary.json"
                        : "there is no checkpoint.bin to resume from",
                    {.file = path});
  }
  // First the lock: a run that is under way may have a checkpoint already.
  TERN_TRY(FolderLock lock, FolderLock::acquire(path));
  if (!resume) TERN_CHECK_OK(check_folder_is_free(path));
  return RunFolder(path, std::move(lock));
}

RunFolder::RunFolder(std::string path, FolderLock lock)
    : path_(std::move(path)), lock_(std::move(lock)) {}

RunFolder::RunFolder(RunFolder&& other) noexcept
    : path_(std::move(other.path_)),
      lock_(std::move(other.lock_)),
      metrics_(std::exchange(other.metrics_, -1)) {}

RunFolder::~RunFolder() {
  if (metrics_ >= 0) ::close(metrics_);
}

std::string RunFolder::file(std::string_view file_name) const {
  return fmt::format("{}/{}", path_, file_name);
}

Status RunFolder::begin_metrics(const std::vector<ordered_json>& rows) {
  std::string text;
  for (const ordered_json& row : rows) text += row.dump() + "\n";
  TERN_CHECK_OK(write_durably(file("metrics.jsonl"), std::string_view(text)));
  if (metrics_ >= 0) ::close(metrics_);
  metrics_ = ::open(file("metrics.jsonl").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (metrics_ < 0) return io_error(errno, "cannot write", file("metrics.jsonl"));
  return {};
}

Status RunFolder::append(const ordered_json& row) {
  const std::string line = row.dump() + "\n";
  const off_t before = ::lseek(metrics_, 0, SEEK_END);
  const ssize_t written = ::write(metrics_, line.data(), line.size());
  if (written == static_cast<ssize_t>(line.size())) return {};
  if (written >= 0) errno = ENOSPC;
  Status status = io_error(errno, "cannot write", file("metrics.jsonl"));
  if (::ftruncate(metrics_, before) != 0)
    return std::move(status).within("a half-written row remains");
  return status;
}

}  // namespace tern
