/// SQLite behind Status: a database that one program has to itself, and statements of it. Every
/// commit is on the disk when it returns (synchronous=FULL; by a write-ahead log unless the format
/// says otherwise). Errors of all calls:
/// kNoSpace for a full disk, kInUse where another process has the file, kCorrupt for a file that is
/// damaged or no database, kIo for what the disk refuses, kInternal for a statement that is wrong;
/// messages name the file. Threads: one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

struct sqlite3;
struct sqlite3_stmt;

namespace tern {

class SqliteStatement {
 public:
  /// Parameters count from 1. Bytes must outlive the next step(), which fails when there are more
  /// than SQLite takes, a gigabyte.
  SqliteStatement& bind(int parameter, int64_t value);
  SqliteStatement& bind(int parameter, std::span<const std::byte> value);
  /// True when there is a row. After the last one, or an error, it can be bound and stepped anew.
  Result<bool> step();
  /// Of the row; columns count from 0. Bytes live until the next step().
  int64_t integer(int column) const;
  std::span<const std::byte> bytes(int column) const;
  /// Gives up the rows that are left.
  void reset();

 private:
  friend class SqliteDatabase;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  SqliteStatement(sqlite3_stmt* statement, std::string path)
      : statement_(statement), path_(std::move(path)) {}
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  std::string path_;
  int bound_ = 0;  // the first bind that failed; step() says so
};

class SqliteDatabase {
 public:
  /// Makes the file where there is none. `kind` and `version` mark it as ours: a file of another
  /// kind gives kInvalidArgument, of a later version kUnsupported. `schema` is run on a new one.
  struct Format {
    int32_t kind = 0;
    int32_t version = 0;
    const char* schema = "";
    /// For transactions of gigabytes: a rollback journal, with which what is new is written once,
    /// to its place, where a write-ahead log would hold it a second time; and longer pages.
    bool large_transactions = false;
  };
  /// An empty path: a file that goes with this object, wherever the system keeps such files.
  static Result<SqliteDatabase> open(const std::string& path, const Format& format);

  Result<SqliteStatement> prepare(const char* sql);
  Status run(const char* sql);
  /// Calls f() between BEGIN and COMMIT; rolls back when either fails.
  template <typename F>
  Status transaction(F f) {
    TERN_CHECK_OK(run("BEGIN IMMEDIATE"));
    Status done = f();
    if (done.ok()) done = run("COMMIT");
    if (!done.ok()) (void)run("ROLLBACK");
    return done;
  }

 private:
  struct Close {
    void operator()(sqlite3* database) const;
  };
  SqliteDatabase(sqlite3* database, std::string path)
      : database_(database), path_(std::move(path)) {}
  Result<int64_t> pragma(const char* sql);
  Status set_journal(std::string_view mode);
  std::unique_ptr<sqlite3, Close> database_;
  std::string path_;
};

}  // namespace tern
