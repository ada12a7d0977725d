/// Tables of numbers with a label in each row (RFC 4180: quoted cells, doubled quotes, line breaks
/// inside quotes, LF or CRLF, the last line break optional; a UTF-8 byte order mark is skipped).
/// The first line names the columns.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "learning/dataset.h"

namespace tern {

/// Cuts text into rows of cells. Threads: a value, one per thread.
class CsvReader {
 public:
  struct Cell {
    std::string text;
    int line = 0;  ///< where the cell starts, from 1
  };

  /// `file` is for messages. Both must outlive the reader.
  CsvReader(std::string_view text, const std::string& file);

  /// Reads the next row into `cells`, whose memory is reused; false at the end of the text.
  /// Errors: kCorrupt with Where{file, line} for a quote that isn't closed or stands inside a bare
  /// cell, text after a closing quote, or a carriage return without a line feed.
  Result<bool> next(std::vector<Cell>& cells);

 private:
  Status read_quoted(Cell& cell);
  Status read_bare(Cell& cell);

  std::string_view text_;
  const std::string& file_;
  size_t at_ = 0;
  int line_ = 1;
};

/// Reads config.path, and config.test_path if given. config.label is the class, config.client, if
/// given, the client; every other column is a numeric feature. Names of classes and clients are
/// sorted, as numbers if all are integers, else by their bytes. Without test_path, test_fraction of
/// each client's examples (of all of them without client column), rounded half down and leaving at
/// least one to train on, are drawn by `seed`. With `standardize` each column becomes (x - mean) /
/// deviation of its training values, a constant one 0. Errors: kNotFound, kIo; kCorrupt and
/// kInvalidArgument with Where{file, line} and the column's name for ragged rows, repeated or
/// missing columns, empty or non-numeric cells, and test rows with an unknown class or client.
Result<DataBundle> load_csv(const DataConfig& config, uint64_t seed);

}  // namespace tern
