#include "learning/csv.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <unordered_map>

#include "base/durable_file.h"
#include "base/rng.h"

namespace tern {
namespace {

constexpr size_t kNoColumn = std::numeric_limits<size_t>::max();

Status at_line(Code code, const std::string& file, int line, std::string message) {
  return Status(code, std::move(message), {.file = file, .line = line, .key = {}});
}

}  // namespace

CsvReader::CsvReader(std::string_view text, const std::string& file) : text_(text), file_(file) {
  if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;
}

Status CsvReader::read_quoted(Cell& cell) {
  ++at_;
  for (;;) {
    const size_t quote = text_.find('"', at_);
    if (quote == std::string_view::npos)
      return at_line(Code::kCorrupt, file_, cell.line,
                     "the quote that starts here is never closed");
    const std::string_view piece = text_.substr(at_, quote - at_);
    cell.text += piece;
    line_ += static_cast<int>(std::count(piece.begin(), piece.end(), '\n'));
    at_ = quote + 1;
    if (at_ == text_.size() || text_[at_] != '"') break;
    cell.text += '"';
    ++at_;
  }
  if (at_ < text_.size() && text_[at_] != ',' && text_[at_] != '\n' && text_[at_] != '\r')
    return at_line(Code::kCorrupt, file_, line_,
                   "text after a closing quote; a quote inside a cell is written twice");
  return {};
}

Status CsvReader::read_bare(Cell& cell) {
  const size_t end = std::min(text_.find_first_of(",\n\r\"", at_), text_.size());
  if (end < text_.size() && text_[end] == '"')
    return at_line(Code::kCorrupt, file_, line_,
                   "a quote inside a cell that doesn't start with one");
  cell.text = text_.substr(at_, end - at_);
  at_ = end;
  return {};
}

Result<bool> CsvReader::next(std::vector<Cell>& cells) {
  if (at_ == text_.size()) return false;
  for (size_t count = 1;; ++count) {
    if (cells.size() < count) cells.emplace_back();
    Cell& cell = cells[count - 1];
    cell.text.clear();
    cell.line = line_;
    if (at_ < text_.size() && text_[at_] == '"') {
      TERN_CHECK_OK(read_quoted(cell));
    } else {
      TERN_CHECK_OK(read_bare(cell));
    }
    if (at_ < text_.size() && text_[at_] == ',') {
      ++at_;
      continue;
    }
    if (at_ < text_.size() && text_[at_] == '\r') {
      ++at_;
      if (at_ == text_.size() || text_[at_] != '\n')
        return at_line(Code::kCorrupt, file_, line_, "a carriage return without a line feed");
    }
    if (at_ < text_.size()) {
      ++at_;
      ++line_;
    }
    cells.resize(count);
    return true;
  }
}

namespace {

/// Distinct texts in order of appearance, as numbers.
class Names {
 public:
  uint32_t number(const std::string& text) {
    const auto [at, added] = numbers_.try_emplace(text, static_cast<uint32_t>(texts_.size()));
    if (added) texts_.push_back(text);
    return at->second;
  }
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  std::unordered_map<std::string, uint32_t> numbers_;
  std::vector<std::string> texts_;
};

/// A file as read: labels and clients are numbered in order of appearance.
struct Table {
  std::vector<std::string> features;  ///< column names
  std::vector<double> values;         ///< rows x features
  std::vector<uint32_t> label;
  std::vector<uint32_t> client;
  std::vector<int> line;
  Names labels;
  Names clients;
};

struct Columns {
  size_t label = kNoColumn;
  size_t client = kNoColumn;
  std::vector<size_t> feature_of;  ///< column -> feature, kNoColumn for label and client
};

/// Finds the columns by name. `features` is empty for the training file; for a test file it holds
/// the training names.
Result<Columns> read_header(const std::vector<CsvReader::Cell>& header, const DataConfig& config,
                            const std::string& file, std::vector<std::string>& features) {
  std::unordered_map<std::string, size_t> position;
  std::string all;
  for (size_t i = 0; i < header.size(); ++i) {
    const auto& [name, line] = header[i];
    if (name.empty())
      return at_line(Code::kInvalidArgument, file, line,
                     fmt::format("column {} has no name", i + 1));
    const auto [first, added] = position.try_emplace(name, i);
    if (!added)
      return at_line(
          Code::kInvalidArgument, file, line,
          fmt::format("columns {} and {} are both named \"{}\"", first->second + 1, i + 1, name));
    all += (i == 0 ? "" : ", ") + name;
  }
  Columns columns;
  const auto find = [&](const std::string& name, const char* key, size_t& out) -> Status {
    const auto at = position.find(name);
    if (at == position.end())
      return Status(Code::kInvalidArgument,
                    fmt::format("there is no column \"{}\"; the columns are: {}", name, all),
                    {.file = file, .line = 1, .key = key});
    out = at->second;
    return {};
  };
  TERN_CHECK_OK(find(config.label, "data.label", columns.label));
  if (!config.client.empty()) TERN_CHECK_OK(find(config.client, "data.client", columns.client));
  if (columns.label == columns.client)
    return Status(Code::kInvalidArgument,
                  fmt::format("column \"{}\" can't be both label and client", config.label),
                  {.file = file, .line = 1, .key = "data.client"});

  columns.feature_of.assign(header.size(), kNoColumn);
  if (features.empty()) {
    for (size_t i = 0; i < header.size(); ++i) {
      if (i == columns.label || i == columns.client) continue;
      columns.feature_of[i] = features.size();
      features.push_back(header[i].text);
    }
    if (features.empty())
      return at_line(Code::kInvalidArgument, file, 1,
                     fmt::format("no column but \"{}\" is left for features", all));
    return columns;
  }
  for (size_t f = 0; f < features.size(); ++f) {
    size_t at = 0;
    TERN_CHECK_OK(find(features[f], "data.test_path", at));
    columns.feature_of[at] = f;
  }
  for (size_t i = 0; i < header.size(); ++i)
    if (i != columns.label && i != columns.client && columns.feature_of[i] == kNoColumn)
      return at_line(Code::kInvalidArgument, file, header[i].line,
                     fmt::format("column \"{}\" is not in the training file", header[i].text));
  return columns;
}

/// A finite number within float32's range; spaces around it are allowed.
Result<double> parse_number(const CsvReader::Cell& cell, const std::string& column,
                            const std::string& file) {
  std::string_view text = cell.text;
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  if (text.empty())
    return at_line(Code::kInvalidArgument, file, cell.line,
                   fmt::format("column \"{}\" is empty", column));
  double value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed == std::errc::invalid_argument || end != text.data() + text.size())
    return at_line(Code::kInvalidArgument, file, cell.line,
                   fmt::format("column \"{}\" holds \"{}\", which is not a number", column,
                               text.substr(0, 40)));
  if (failed != std::errc() || !(std::abs(value) <= std::numeric_limits<float>::max()))
    return at_line(Code::kInvalidArgument, file, cell.line,
                   fmt::format("column \"{}\" holds {}, which is no finite float32", column,
                               text.substr(0, 40)));
  return value;
}

/// `known`: the training table when a test file is read; its columns, labels and clients are the
/// only ones allowed.
Result<Table> read_table(const std::string& file, const DataConfig& config, const Table* known) {
  auto bytes = read_file(file);
  if (!bytes)
    return std::move(bytes).error().at(
        {.file = file, .line = 0, .key = known ? "data.test_path" : "data.path"});
  const std::string_view text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  CsvReader reader(text, file);
  std::vector<CsvReader::Cell> cells;
  TERN_TRY(const bool any, reader.next(cells));
  if (!any)
    return at_line(Code::kInvalidArgument, file, 1,
                   "the file is empty; its first line names the columns");

  Table table;
  if (known) {
    table.features = known->features;
    table.labels = known->labels;
    table.clients = known->clients;
  }
  TERN_TRY(const Columns columns, read_header(cells, config, file, table.features));
  const size_t width = table.features.size();
  const auto named = [&](const CsvReader::Cell& cell, const std::string& column, const char* what,
                         Names& names, std::vector<uint32_t>& out) -> Status {
    if (cell.text.empty())
      return at_line(Code::kInvalidArgument, file, cell.line,
                     fmt::format("column \"{}\" is empty", column));
    out.push_back(names.number(cell.text));
    if (known &&
        out.back() >= (&names == &table.labels ? known->labels : known->clients).texts().size())
      return at_line(Code::kInvalidArgument, file, cell.line,
                     fmt::format("column \"{}\": no training example has the {} \"{}\"", column,
                                 what, cell.text));
    return {};
  };
  const size_t header_cells = cells.size();
  for (;;) {
    TERN_TRY(const bool more, reader.next(cells));
    if (!more) break;
    if (cells.size() != header_cells)
      return at_line(Code::kInvalidArgument, file, cells.front().line,
                     fmt::format("{} cell{} where the header has {}", cells.size(),
                                 cells.size() == 1 ? "" : "s", header_cells));
    if (table.line.size() == std::numeric_limits<uint32_t>::max())
      return at_line(Code::kInvalidArgument, file, cells.front().line, "more than 2^32 - 1 rows");
    table.line.push_back(cells.front().line);
    table.values.resize(table.values.size() + width);
    double* row = table.values.data() + table.values.size() - width;
    for (size_t i = 0; i < cells.size(); ++i) {
      if (i == columns.label) {
        TERN_CHECK_OK(named(cells[i], config.label, "label", table.labels, table.label));
      } else if (i == columns.client) {
        TERN_CHECK_OK(named(cells[i], config.client, "client", table.clients, table.client));
      } else {
        const size_t feature = columns.feature_of[i];
        TERN_TRY(row[feature], parse_number(cells[i], table.features[feature], file));
      }
    }
  }
  if (table.line.empty())
    return at_line(Code::kInvalidArgument, file, 1, "no rows after the header");
  return table;
}

std::optional<int64_t> as_integer(const std::string& text) {
  int64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Sorts names (numerically if all are integers) and renumbers the rows to match.
std::vector<std::string> sort_names(const std::vector<std::string>& texts,
                                    std::initializer_list<std::vector<uint32_t>*> numbers) {
  std::vector<uint32_t> order(texts.size());
  std::iota(order.begin(), order.end(), 0U);
  std::vector<int64_t> integers;
  for (const std::string& text : texts) {
    const auto value = as_integer(text);
    if (!value) break;
    integers.push_back(*value);
  }
  const bool numeric = integers.size() == texts.size();
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    if (numeric && integers[a] != integers[b]) return integers[a] < integers[b];
    return texts[a] < texts[b];
  });
  std::vector<uint32_t> rank(texts.size());
  std::vector<std::string> sorted;
  for (const uint32_t i : order) {
    rank[i] = static_cast<uint32_t>(sorted.size());
    sorted.push_back(texts[i]);
  }
  for (std::vector<uint32_t>* part : numbers)
    for (uint32_t& number : *part) number = rank[number];
  return sorted;
}

/// Marks the rows that are kept for testing.
std::vector<bool> choose_test_rows(const Table& table, double fraction, uint64_t seed) {
  std::vector<std::vector<uint32_t>> rows_of(std::max<size_t>(1, table.clients.texts().size()));
  for (uint32_t row = 0; row < table.line.size(); ++row)
    rows_of[table.client.empty() ? 0 : table.client[row]].push_back(row);
  std::vector<bool> is_test(table.line.size());
  for (uint32_t client = 0; client < rows_of.size(); ++client) {
    std::vector<uint32_t>& rows = rows_of[client];
    Rng rng(seed, Purpose::kSplit, 0, client);
    rng.shuffle(std::span<uint32_t>(rows));
    const double half_down = std::ceil(static_cast<double>(rows.size()) * fraction - 0.5);
    const size_t count = std::min(static_cast<size_t>(std::max(half_down, 0.0)), rows.size() - 1);
    for (size_t i = 0; i < count; ++i) is_test[rows[i]] = true;
  }
  return is_test;
}

struct Column {
  double mean = 0;
  double scale = 1;
};

/// Two passes in row order, in double.
std::vector<Column> column_statistics(const Table& table, const std::vector<bool>& is_test) {
  const size_t width = table.features.size();
  std::vector<Column> columns(width);
  for (size_t f = 0; f < width; ++f) {
    double low = std::numeric_limits<double>::infinity();
    double high = -low;
    double sum = 0;
    size_t n = 0;
    for (size_t row = 0; row < is_test.size(); ++row) {
      if (is_test[row]) continue;
      const double x = table.values[row * width + f];
      low = std::min(low, x);
      high = std::max(high, x);
      sum += x;
      ++n;
    }
    const double mean = sum / static_cast<double>(n);
    double variance = 0;
    for (size_t row = 0; row < is_test.size(); ++row) {
      if (is_test[row]) continue;
      const double distance = table.values[row * width + f] - mean;
      variance += distance * distance;
    }
    const double deviation = std::sqrt(variance / static_cast<double>(n));
    // Asking low == high, not deviation == 0: the rounded mean of equal values may differ from
    // them.
    columns[f] = {mean, low == high || deviation == 0 ? 0 : 1 / deviation};
  }
  return columns;
}

/// Copies the rows with is_test[row] == test, standardized.
Status append_rows(const Table& table, const std::vector<bool>& is_test, bool test,
                   const std::vector<Column>& columns, const std::string& file, Dataset& out) {
  const size_t width = columns.size();
  for (size_t row = 0; row < is_test.size(); ++row) {
    if (is_test[row] != test) continue;
    out.labels.push_back(table.label[row]);
    if (!table.client.empty()) out.client.push_back(table.client[row]);
    for (size_t f = 0; f < width; ++f) {
      const double x = (table.values[row * width + f] - columns[f].mean) * columns[f].scale;
      if (!(std::abs(x) <= std::numeric_limits<float>::max()))
        return at_line(Code::kInvalidArgument, file, table.line[row],
                       fmt::format("column \"{}\" is no finite float32 after standardizing",
                                   table.features[f]));
      out.inputs.push_back(static_cast<float>(x));
    }
  }
  return {};
}

}  // namespace

Result<DataBundle> load_csv(const DataConfig& config, uint64_t seed) {
  if (config.label.empty())
    return Status(Code::kInvalidArgument, "csv needs the name of the column that holds the class",
                  {.file = {}, .line = 0, .key = "data.label"});
  if (!(config.test_fraction >= 0 && config.test_fraction < 1))
    return Status(Code::kInvalidArgument, fmt::format("{} is not in [0, 1)", config.test_fraction),
                  {.file = {}, .line = 0, .key = "data.test_fraction"});
  TERN_TRY(Table table, read_table(config.path, config, nullptr));
  Table test;
  const bool own_test = !config.test_path.empty();
  if (own_test) {
    TERN_TRY(test, read_table(config.test_path, config, &table));
  }
  DataBundle bundle;
  bundle.class_names = sort_names(table.labels.texts(), {&table.label, &test.label});
  bundle.client_names = sort_names(table.clients.texts(), {&table.client, &test.client});
  bundle.shape = {{static_cast<int64_t>(table.features.size())},
                  static_cast<int64_t>(bundle.class_names.size())};

  const std::vector<bool> is_test = own_test ? std::vector<bool>(table.line.size())
                                             : choose_test_rows(table, config.test_fraction, seed);
  const std::vector<Column> columns = config.standardize
                                          ? column_statistics(table, is_test)
                                          : std::vector<Column>(table.features.size());
  TERN_CHECK_OK(append_rows(table, is_test, false, columns, config.path, bundle.train));
  if (own_test) {
    TERN_CHECK_OK(append_rows(test, std::vector<bool>(test.line.size(), true), true, columns,
                              config.test_path, bundle.test));
  } else {
    TERN_CHECK_OK(append_rows(table, is_test, true, columns, config.path, bundle.test));
  }
  return bundle;
}

}  // namespace tern
