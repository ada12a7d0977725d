#include "simulations/device_traces.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "base/durable_file.h"
#include "learning/csv.h"

namespace tern {

namespace {

/// Of one example: forwards, and backwards for its weights and its inputs.
constexpr double kTrainingPerInference = 3;
constexpr double kBytesOfKilobit = 125;
constexpr double kMostPerSecond = 1e15, kLongestTrace = 1e9;

/// A file of numbers under named columns, but for one column of names.
class Table {
 public:
  explicit Table(std::string file) : file_(std::move(file)) {}

  Status read(std::string_view names) {
    TERN_TRY(const std::vector<std::byte> bytes, read_file(file_));
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    CsvReader reader(text, file_);
    std::vector<CsvReader::Cell> cells;
    TERN_TRY(bool more, reader.next(cells));
    if (!more) return at(1, error(Code::kCorrupt, "the file is empty"));
    for (const CsvReader::Cell& cell : cells) {
      if (column(cell.text))
        return at(1, error(Code::kCorrupt, "column '{}' is there twice", cell.text));
      columns_.push_back(cell.text);
    }
    for (;;) {
      TERN_TRY(more, reader.next(cells));
      if (!more) break;
      if (cells.size() != columns_.size())
        return at(cells.front().line, error(Code::kCorrupt, "{} cells, the first line has {}",
                                            cells.size(), columns_.size()));
      Row row{.line = cells.front().line, .name = {}, .cells = {}};
      for (size_t i = 0; i < cells.size(); ++i) {
        if (columns_[i] == names) row.name = cells[i].text;
        row.cells.push_back(std::move(cells[i].text));
      }
      rows_.push_back(std::move(row));
    }
    if (rows_.empty()) return at(1, error(Code::kCorrupt, "there is no row below the names"));
    return {};
  }

  struct Row {
    int line = 0;
    std::string name;
    std::vector<std::string> cells;
  };
  const std::vector<Row>& rows() const { return rows_; }

  std::optional<size_t> column(std::string_view name) const {
    const auto found = std::ranges::find(columns_, name);
    if (found == columns_.end()) return std::nullopt;
    return static_cast<size_t>(found - columns_.begin());
  }
  Status require(std::string_view name) const {
    if (column(name)) return {};
    return at(1, error(Code::kInvalidArgument, "there is no column '{}'", name));
  }

  /// A number from `low` to `high`.
  Result<double> number(const Row& row, size_t column, double low, double high) const {
    const std::string& text = row.cells[column];
    double value = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failure != std::errc() || end != text.data() + text.size() ||
        !(value >= low && value <= high))
      return at(row.line,
                error(Code::kInvalidArgument, "{} must be a number from {} to {}, not '{}'",
                      columns_[column], low, high, text.substr(0, 100)));
    return value;
  }
  Status at(int line, Status status) const {
    return std::move(status).at({.file = file_, .line = line, .key = {}});
  }

 private:
  std::string file_;
  std::vector<std::string> columns_;
  std::vector<Row> rows_;
};

Result<std::vector<DeviceCapacity>> read_devices(const std::string& file) {
  Table table(file);
  TERN_CHECK_OK(table.read({}));
  const auto speed = table.column("samples_per_s"), computation = table.column("computation"),
             up = table.column("uplink_bytes_per_s"), down = table.column("downlink_bytes_per_s"),
             communication = table.column("communication");
  if (speed && computation)
    return table.at(1, error(Code::kInvalidArgument, "samples_per_s and computation say the same"));
  if ((up || down) && communication)
    return table.at(1, error(Code::kInvalidArgument,
                             "communication says what uplink_bytes_per_s and downlink_bytes_per_s "
                             "do"));
  if (!speed && !computation && !up && !down && !communication)
    return table.at(1, error(Code::kInvalidArgument,
                             "none of the columns samples_per_s, computation, uplink_bytes_per_s, "
                             "downlink_bytes_per_s and communication is there"));
  std::vector<DeviceCapacity> devices;
  for (const Table::Row& row : table.rows()) {
    DeviceCapacity& device = devices.emplace_back();
    const auto rate = [&](const std::optional<size_t>& column, double& field) -> Status {
      if (!column) return {};
      TERN_TRY(field, table.number(row, *column, 1, kMostPerSecond));
      return {};
    };
    TERN_CHECK_OK(rate(speed, device.samples));
    TERN_CHECK_OK(rate(up, device.up_bytes));
    TERN_CHECK_OK(rate(down, device.down_bytes));
    if (computation) {
      TERN_TRY(const double milliseconds, table.number(row, *computation, 1e-6, 1e6));
      device.samples = 1000 / (kTrainingPerInference * milliseconds);
    }
    if (communication) {
      TERN_TRY(const double kilobits, table.number(row, *communication, 0.008, 1e12));
      device.up_bytes = device.down_bytes = kBytesOfKilobit * kilobits;
    }
  }
  return devices;
}

Result<std::vector<Availability>> read_availabilities(const std::string& file) {
  Table table(file);
  TERN_CHECK_OK(table.read("client"));
  for (const char* name : {"client", "active", "inactive", "finish_time"})
    TERN_CHECK_OK(table.require(name));
  std::vector<Availability> all;
  std::unordered_map<std::string, size_t> places;
  for (const Table::Row& row : table.rows()) {
    const auto [place, is_new] = places.try_emplace(row.name, all.size());
    if (is_new) all.emplace_back();
    Availability& one = all[place->second];
    TERN_TRY(const double period,
             table.number(row, *table.column("finish_time"), 1e-3, kLongestTrace));
    if (!is_new && period != one.period)
      return table.at(row.line, error(Code::kInvalidArgument,
                                      "finish_time is {}, but {} in an earlier row of client '{}'",
                                      period, one.period, row.name));
    one.period = period;
    TERN_TRY(const double from, table.number(row, *table.column("active"), 0, period));
    TERN_TRY(const double until, table.number(row, *table.column("inactive"), from, period));
    if (until == from) continue;
    if (!one.windows.empty() && from < one.windows.back().until)
      return table.at(row.line, error(Code::kInvalidArgument,
                                      "active at {}, but an earlier row of client '{}' ends at {}",
                                      from, row.name, one.windows.back().until));
    if (!one.windows.empty() && from == one.windows.back().until)
      one.windows.back().until = until;
    else
      one.windows.push_back({from, until});
  }
  return all;
}

}  // namespace

double Availability::stays(double now) const {
  if (windows.size() == 1 && windows[0].from == 0 && windows[0].until == period)
    return std::numeric_limits<double>::infinity();
  const double at = std::fmod(now, period);
  const auto next = std::ranges::upper_bound(windows, at, {}, &Window::until);
  if (next == windows.end() || at < next->from) return 0;
  double left = next->until - at;
  // A window at the end of the period goes on at its beginning.
  if (next->until == period && windows.front().from == 0) left += windows.front().until;
  return left;
}

double Availability::comes(double now) const {
  if (windows.empty()) return std::numeric_limits<double>::infinity();
  const double at = std::fmod(now, period);
  const auto next = std::ranges::upper_bound(windows, at, {}, &Window::from);
  return next == windows.end() ? period - at + windows.front().from : next->from - at;
}

Result<DeviceTraces> read_device_traces(const FleetConfig& fleet) {
  DeviceTraces traces;
  const auto at_key = [](Status status, const char* key) {
    return status.where().file.empty() ? std::move(status).at({.key = key}) : std::move(status);
  };
  if (!fleet.devices.empty()) {
    Result<std::vector<DeviceCapacity>> devices = read_devices(fleet.devices);
    if (!devices) return at_key(std::move(devices).error(), "fleet.devices");
    traces.devices = *std::move(devices);
  }
  if (!fleet.availability.empty()) {
    Result<std::vector<Availability>> availabilities = read_availabilities(fleet.availability);
    if (!availabilities) return at_key(std::move(availabilities).error(), "fleet.availability");
    traces.availabilities = *std::move(availabilities);
  }
  return traces;
}

uint32_t most_at_once(const DeviceTraces& traces, uint32_t clients) {
  if (traces.availabilities.empty()) return clients;
  struct Change {
    double at = 0;
    int by = 0;
    auto operator<=>(const Change&) const = default;  // who leaves goes before who comes
  };
  std::vector<Change> changes;
  uint32_t ever = 0;
  bool one_period = true;
  for (uint32_t client = 0; client < clients; ++client) {
    const Availability& one = traces.availabilities[client % traces.availabilities.size()];
    ever += !one.windows.empty();
    one_period = one_period && one.period == traces.availabilities.front().period;
    for (const Availability::Window& window : one.windows) {
      changes.push_back({window.from, 1});
      changes.push_back({window.until, -1});
    }
  }
  if (!one_period) return ever;
  std::ranges::sort(changes);
  int now = 0, most = 0;
  for (const Change& change : changes) most = std::max(most, now += change.by);
  return static_cast<uint32_t>(most);
}

}  // namespace tern
