#include "base/sqlite/sqlite.h"

#include <sqlite3.h>

namespace tern {

namespace {

Status sqlite_error(sqlite3* database, int result, std::string_view path) {
  const auto code = [result] {
    switch (result & 0xff) {
      case SQLITE_FULL:
        return Code::kNoSpace;
      case SQLITE_BUSY:
      case SQLITE_LOCKED:
        return Code::kInUse;
      case SQLITE_CORRUPT:
      case SQLITE_NOTADB:
        return Code::kCorrupt;
      case SQLITE_IOERR:
      case SQLITE_CANTOPEN:
      case SQLITE_READONLY:
      case SQLITE_PERM:
        return Code::kIo;
      default:
        return Code::kInternal;
    }
  }();
  return error(code, "{}: {} (SQLite {})", path,
               database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(result), result);
}

}  // namespace

void SqliteStatement::Finalize::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

SqliteStatement& SqliteStatement::bind(int parameter, int64_t value) {
  const int result = sqlite3_bind_int64(statement_.get(), parameter, value);
  if (bound_ == 0) bound_ = result;
  return *this;
}

SqliteStatement& SqliteStatement::bind(int parameter, std::span<const std::byte> value) {
  // A null pointer would bind NULL.
  const int result = sqlite3_bind_blob64(
      statement_.get(), parameter, value.empty() ? "" : static_cast<const void*>(value.data()),
      value.size(), SQLITE_STATIC);
  if (bound_ == 0) bound_ = result;
  return *this;
}

Result<bool> SqliteStatement::step() {
  const int result = bound_ != 0 ? bound_ : sqlite3_step(statement_.get());
  if (result == SQLITE_ROW) return true;
  // Before reset(), which forgets what went wrong.
  const Status failed = result == SQLITE_DONE
                            ? Status()
                            : sqlite_error(sqlite3_db_handle(statement_.get()), result, path_);
  reset();
  if (!failed.ok()) return failed;
  return false;
}

int64_t SqliteStatement::integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

std::span<const std::byte> SqliteStatement::bytes(int column) const {
  const void* data = sqlite3_column_blob(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return {static_cast<const std::byte*>(data), data == nullptr ? 0 : static_cast<size_t>(size)};
}

void SqliteStatement::reset() {
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
  bound_ = 0;
}

void SqliteDatabase::Close::operator()(sqlite3* database) const { sqlite3_close_v2(database); }

Result<SqliteDatabase> SqliteDatabase::open(const std::string& path, const Format& format) {
  sqlite3* opened = nullptr;
  const int result = sqlite3_open_v2(
      path.c_str(), &opened,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
      nullptr);
  SqliteDatabase database(opened, path);
  if (result != SQLITE_OK) return sqlite_error(opened, result, path);
  // What a damaged file says of itself isn't believed: its schema can't run functions.
  sqlite3_db_config(opened, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(opened, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  TERN_CHECK_OK(database.run("PRAGMA locking_mode=EXCLUSIVE"));
  if (format.large_transactions) {
    TERN_CHECK_OK(database.run("PRAGMA page_size=32768"));
    TERN_CHECK_OK(database.set_journal("truncate"));
  } else {
    TERN_CHECK_OK(database.set_journal("wal"));
  }
  TERN_CHECK_OK(database.run("PRAGMA synchronous=FULL"));
  TERN_CHECK_OK(database.run("PRAGMA cell_size_check=ON"));
  TERN_TRY(const int64_t kind, database.pragma("PRAGMA application_id"));
  TERN_TRY(const int64_t version, database.pragma("PRAGMA user_version"));
  if (kind == 0 && version == 0) {
    TERN_TRY(const int64_t tables, database.pragma("SELECT count(*) FROM sqlite_schema"));
    if (tables == 0) {
      Status made = database.transaction([&]() -> Status {
        TERN_CHECK_OK(database.run(format.schema));
        TERN_CHECK_OK(database.run(fmt::format("PRAGMA application_id={}", format.kind).c_str()));
        return database.run(fmt::format("PRAGMA user_version={}", format.version).c_str());
      });
      TERN_CHECK_OK(std::move(made));
      return database;
    }
  }
  if (kind != format.kind)
    return error(Code::kInvalidArgument, "{} is a database of something else (kind {:#x})", path,
                 kind);
  if (version != format.version)
    return error(Code::kUnsupported,
                 "{} has format {}, this program knows format {}: use the version of Tern that "
                 "wrote it",
                 path, version, format.version);
  return database;
}

Status SqliteDatabase::set_journal(std::string_view mode) {
  TERN_TRY(SqliteStatement set, prepare(fmt::format("PRAGMA journal_mode={}", mode).c_str()));
  TERN_TRY(const bool told, set.step());
  const auto text = told ? set.bytes(0) : std::span<const std::byte>();
  if (std::string_view(reinterpret_cast<const char*>(text.data()), text.size()) != mode)
    return error(Code::kIo, "{}: this file system can't hold SQLite's {} journal", path_, mode);
  return {};
}

Result<SqliteStatement> SqliteDatabase::prepare(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  const int result = sqlite3_prepare_v2(database_.get(), sql, -1, &statement, nullptr);
  if (result != SQLITE_OK) return sqlite_error(database_.get(), result, path_);
  return SqliteStatement(statement, path_);
}

Status SqliteDatabase::run(const char* sql) {
  const int result = sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr);
  if (result != SQLITE_OK) return sqlite_error(database_.get(), result, path_);
  return {};
}

Result<int64_t> SqliteDatabase::pragma(const char* sql) {
  TERN_TRY(SqliteStatement statement, prepare(sql));
  TERN_TRY(const bool row, statement.step());
  return row ? statement.integer(0) : 0;
}

}  // namespace tern
