/// What a run has done, in order, on the disk before anybody is told: rows of a SQLite database
/// that form a hash chain, and blobs beside it (blob_store.h). Opening one reads and checks every
/// row.
///
/// - Each row carries SHA-256(chain of the row before, its number, kind, round and body), and a row
///   of its own says which is the last: a bit that changed, a row that is gone and rows that are
///   gone at the end all show. SQLite's pages carry no checksum.
/// - An append is one transaction, synced before it returns. After one that failed the journal
///   takes nothing more: what the disk holds is known again only after opening it anew.
/// - A crash can leave the end of the write-ahead log unfinished. That is one append at most, and
///   nobody was told of it: recovery().unfinished_bytes. More than that means that something else
///   happened to the file, and open() refuses it.
///
/// Layout: FOLDER/journal.sqlite (and -wal), FOLDER/blobs/SHA256. Threads: one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/durable_file.h"
#include "base/sha256.h"
#include "base/sqlite/sqlite.h"
#include "base/status.h"
#include "coordinator/journal/blob_store.h"

namespace tern {

struct JournalRecord {
  uint32_t kind = 0;  ///< the writer's; numbers are pinned
  uint32_t round = 0;
  std::span<const std::byte> body;
};

struct JournalRecovery {
  uint64_t first = 0;  ///< row; 0 in an empty journal
  uint64_t last = 0;
  size_t unfinished_bytes = 0;  ///< of an append that a crash has cut short
};

class Journal {
 public:
  /// Makes one where there is none. Errors: kInUse when another process has it; kCorrupt, with the
  /// row, when it is damaged; kUnsupported for one of a later version; kInvalidArgument for a
  /// foreign file; kNoSpace; kIo. Cost: reads all rows.
  static Result<Journal> open(const std::string& folder);

  const JournalRecovery& recovery() const { return recovery_; }
  uint64_t last() const { return head_.row; }
  BlobStore& blobs() { return blobs_; }

  /// On the disk when it returns. Returns the number of the last row. Errors: kNoSpace, kIo; then
  /// and later nothing is appended.
  Result<uint64_t> append(std::span<const JournalRecord> records);
  /// Calls f(row number, record) for the rows from `from` on until it fails. Errors: those of f,
  /// kCorrupt, kIo.
  Status read(uint64_t from, const std::function<Status(uint64_t, const JournalRecord&)>& f);
  /// Removes the rows before `row`, of which at least the last stays. Errors: as append().
  Status forget_before(uint64_t row);

 private:
  struct Head {
    uint64_t row = 0;
    Digest chain{};
  };

  Journal(FolderLock lock, SqliteDatabase database, BlobStore blobs, std::string path)
      : lock_(std::move(lock)),
        database_(std::move(database)),
        blobs_(std::move(blobs)),
        path_(std::move(path)) {}
  Status check();
  Result<Head> read_head(int which);
  Status write_head(int which, const Head& head);

  FolderLock lock_;
  SqliteDatabase database_;
  BlobStore blobs_;
  std::string path_;
  // Of every append, parsed by the first one.
  std::optional<SqliteStatement> insert_record_, put_head_;
  Head head_;
  JournalRecovery recovery_;
  Status failed_;
};

/// What of a write-ahead log SQLite will not use.
struct WalTail {
  size_t bytes = 0;    ///< of this log after its last whole commit
  size_t commits = 0;  ///< among them, ends of transactions
};
/// Reads PATH as SQLite's file format describes it (https://sqlite.org/fileformat2.html#walformat).
/// Errors: kIo.
Result<WalTail> read_wal_tail(const std::string& path);

}  // namespace tern
