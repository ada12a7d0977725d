#include "coordinator/views/run_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

namespace tern {

using nlohmann::ordered_json;

namespace {

bool exists(const std::string& folder, std::string_view file) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::path(folder) / file, ignored);
}

}  // namespace

Status check_folder_is_free(const std::string& path) {
  if (exists(path, "summary.json"))
    return Status(Code::kInUse, "the folder already holds a finished run; choose another one",
                  {.file = path});
  if (exists(path, "journal"))
    return Status(Code::kInUse,
                  "the folder holds the run of a coordinator; choose another one, or go on with it "
                  "by tern-coordinator",
                  {.file = path});
  if (exists(path, kCheckpointFile))
    return Status(Code::kInUse,
                  fmt::format("the folder already holds an interrupted run; go on with it by "
                              "--resume {}, or choose another one",
                              path),
                  {.file = path});
  return {};
}

Result<RunFolder> RunFolder::open(const std::string& path, RunStart start) {
  if (start == RunStart::kCheckpoint) {
    if (!exists(path, kCheckpointFile))
      return Status(Code::kNotFound,
                    exists(path, "summary.json")
                        ? "this run is finished; its results are in summary.json"
                        : "there is no checkpoint to resume from",
                    {.file = path});
  }
  // First the lock: a run that is under way may have a checkpoint already.
  TERN_TRY(FolderLock lock, FolderLock::acquire(path));
  if (start == RunStart::kNew) TERN_CHECK_OK(check_folder_is_free(path));
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

Result<std::vector<ordered_json>> RunFolder::read_metrics(uint32_t before) const {
  std::vector<ordered_json> rows;
  const std::string path = file("metrics.jsonl");
  const Result<std::vector<std::byte>> content = read_file(path);
  if (!content && content.error().code() == Code::kNotFound) return rows;
  if (!content) return tl::unexpected(content.error());
  std::string_view text(reinterpret_cast<const char*>(content->data()), content->size());
  for (int line = 1; !text.empty(); ++line) {
    const size_t end = std::min(text.find('\n'), text.size());
    const ordered_json row = ordered_json::parse(text.substr(0, end), nullptr, false);
    text.remove_prefix(std::min(end + 1, text.size()));
    const bool is_row = row.is_object() && row.contains("round") && row["round"].is_number();
    // The last one may be of a round that the journal hasn't seen the end of, and cut off.
    if (is_row ? row["round"].get<uint32_t>() >= before : text.empty()) break;
    if (!is_row) return Status(Code::kCorrupt, "isn't a row", {.file = path, .line = line});
    rows.push_back(row);
  }
  return rows;
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
