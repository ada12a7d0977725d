#include "coordinator/journal/journal.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/bytes.h"
#include "coordinator/journal/crash_point.h"

namespace tern {

namespace {

// "TRNJ". Both numbers are in the file's header.
constexpr SqliteDatabase::Format kFormat{.kind = 0x54524E4A, .version = 2, .schema = R"sql(
  CREATE TABLE records(row INTEGER PRIMARY KEY, kind INTEGER NOT NULL, round INTEGER NOT NULL,
                       body BLOB NOT NULL, chain BLOB NOT NULL) STRICT;
  CREATE TABLE heads(which INTEGER PRIMARY KEY, row INTEGER NOT NULL, chain BLOB NOT NULL,
                     proof BLOB NOT NULL) STRICT;
)sql"};

// Heads: the row before the first, and the last one.
constexpr int kBefore = 0;
constexpr int kLast = 1;

Sha256& add_number(Sha256& hash, uint64_t number) {
  std::array<std::byte, 8> bytes;
  store(bytes.data(), number);
  return hash.add(bytes);
}

Digest chain_of(const Digest& before, uint64_t row, const JournalRecord& record) {
  Sha256 hash;
  hash.add(before);
  for (const uint64_t number :
       {row, uint64_t{record.kind}, uint64_t{record.round}, uint64_t{record.body.size()}})
    add_number(hash, number);
  return hash.add(record.body).digest();
}

Digest proof_of(int which, uint64_t row, const Digest& chain) {
  Sha256 hash;
  hash.add(chain);
  add_number(hash, static_cast<uint64_t>(which));
  return add_number(hash, row).digest();
}

bool same(std::span<const std::byte> bytes, const Digest& digest) {
  return std::ranges::equal(bytes, digest);
}

Status damaged(const std::string& path, uint64_t row, std::string_view what) {
  return error(Code::kCorrupt, "{} is damaged at row {}: {}", path, row, what);
}

constexpr size_t kWalHeader = 32;
constexpr size_t kWalFrameHeader = 24;

uint32_t big_endian(const std::byte* from) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint32_t>(from[i]);
  return value;
}

/// SQLite's running checksum over pairs of words.
struct WalChecksum {
  uint32_t a = 0, b = 0;
  bool big = false;

  void add(std::span<const std::byte> bytes) {
    for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
      a += word(bytes.data() + i) + b;
      b += word(bytes.data() + i + 4) + a;
    }
  }
  bool matches(const std::byte* at) const { return a == big_endian(at) && b == big_endian(at + 4); }

 private:
  uint32_t word(const std::byte* from) const {
    const uint32_t value = big_endian(from);
    return big ? value : __builtin_bswap32(value);
  }
};

}  // namespace

Result<WalTail> read_wal_tail(const std::string& path) {
  Result<std::vector<std::byte>> read = read_file(path);
  if (!read && read.error().code() == Code::kNotFound) return WalTail{};
  TERN_TRY(const std::vector<std::byte> wal, std::move(read));
  const std::span<const std::byte> bytes(wal);
  if (bytes.size() < kWalHeader) return WalTail{.bytes = bytes.size()};
  const uint32_t magic = big_endian(wal.data());
  WalChecksum sum{.big = (magic & 1) != 0};
  sum.add(bytes.first(24));
  // SQLite starts a log whose header isn't whole anew; then none of it was in use.
  if ((magic & ~1u) != 0x377f0682 || !sum.matches(wal.data() + 24))
    return WalTail{.bytes = bytes.size(), .commits = bytes.size() > kWalHeader ? 2u : 0u};
  const size_t page = big_endian(wal.data() + 8);
  const size_t stride = kWalFrameHeader + page;
  // Frames of an earlier log lie behind those of this one, with both salts different; a bit that
  // changed in one of the two doesn't make a frame older.
  const auto of_this_log = [&](std::span<const std::byte> frame) {
    return frame.size() >= 16 && (std::ranges::equal(frame.subspan(8, 4), bytes.subspan(16, 4)) ||
                                  std::ranges::equal(frame.subspan(12, 4), bytes.subspan(20, 4)));
  };
  WalTail tail;
  size_t committed = kWalHeader;
  bool whole = true;
  for (size_t at = kWalHeader; at < bytes.size(); at += stride) {
    const auto frame = bytes.subspan(at, std::min(stride, bytes.size() - at));
    const bool commit = frame.size() >= 8 && big_endian(frame.data() + 4) != 0;
    if (whole && frame.size() == stride) {
      sum.add(frame.first(8));
      sum.add(frame.subspan(kWalFrameHeader));
      whole = std::ranges::equal(frame.subspan(8, 8), bytes.subspan(16, 8)) &&
              sum.matches(frame.data() + 16);
      if (whole && commit) {
        committed = at + stride;
        tail.bytes = 0;
        continue;
      }
    } else {
      whole = false;
    }
    if (!of_this_log(frame)) continue;
    tail.bytes = at + frame.size() - committed;
    if (!whole && commit) ++tail.commits;
  }
  return tail;
}

Result<Journal> Journal::open(const std::string& folder) {
  TERN_TRY(FolderLock lock, FolderLock::acquire(folder));
  const std::string path = folder + "/journal.sqlite";
  TERN_TRY(const WalTail tail, read_wal_tail(path + "-wal"));
  if (tail.commits > 1)
    return error(Code::kCorrupt,
                 "{}-wal is damaged: {} commits after the first bad byte are lost; a crash loses "
                 "one at most. The last copy of this folder is the way back",
                 path, tail.commits);
  TERN_TRY(BlobStore blobs, BlobStore::open(folder + "/blobs"));
  TERN_TRY(SqliteDatabase database, SqliteDatabase::open(path, kFormat));
  Journal journal(std::move(lock), std::move(database), std::move(blobs), path);
  TERN_CHECK_OK(journal.check());
  journal.recovery_.unfinished_bytes = tail.bytes;
  // Or the next appends would leave pieces of an unfinished one behind them, with the marks of the
  // same log.
  TERN_CHECK_OK(journal.database_.run("PRAGMA wal_checkpoint(TRUNCATE)"));
  // SQLite sees to the names of its logs, not to that of a new database.
  TERN_CHECK_OK(sync_folder(folder));
  return journal;
}

Status Journal::check() {
  TERN_TRY(const Head before, read_head(kBefore));
  TERN_TRY(const Head last, read_head(kLast));
  TERN_TRY(SqliteStatement rows,
           database_.prepare("SELECT row, kind, round, body, chain FROM records ORDER BY row"));
  Head at = before;
  while (true) {
    TERN_TRY(const bool more, rows.step());
    if (!more) break;
    const auto row = static_cast<uint64_t>(rows.integer(0));
    if (row != at.row + 1) return damaged(path_, at.row + 1, fmt::format("row {} follows", row));
    const JournalRecord record{.kind = static_cast<uint32_t>(rows.integer(1)),
                               .round = static_cast<uint32_t>(rows.integer(2)),
                               .body = rows.bytes(3)};
    const Digest chain = chain_of(at.chain, row, record);
    if (!same(rows.bytes(4), chain)) return damaged(path_, row, "its hash is another");
    at = {row, chain};
  }
  if (at.row != last.row)
    return damaged(path_, at.row + 1, fmt::format("rows up to {} are gone", last.row));
  if (at.chain != last.chain) return damaged(path_, at.row, "it isn't the last one written");
  head_ = at;
  recovery_ = {.first = at.row == before.row ? 0 : before.row + 1,
               .last = at.row == before.row ? 0 : at.row};
  return {};
}

Result<Journal::Head> Journal::read_head(int which) {
  TERN_TRY(SqliteStatement heads,
           database_.prepare("SELECT row, chain, proof FROM heads WHERE which = ?1"));
  TERN_TRY(const bool there, heads.bind(1, which).step());
  if (!there) {
    // Both are written with the first row.
    TERN_TRY(SqliteStatement count,
             database_.prepare("SELECT (SELECT count(*) FROM heads) + count(*) FROM records"));
    TERN_TRY(const bool counted, count.step());
    if (!counted || count.integer(0) != 0)
      return damaged(path_, 0, which == kLast ? "no last row is noted" : "no first row is noted");
    return Head{};
  }
  Head head{.row = static_cast<uint64_t>(heads.integer(0))};
  const auto chain = heads.bytes(1);
  if (chain.size() == head.chain.size()) std::ranges::copy(chain, head.chain.begin());
  if (!same(chain, head.chain) || !same(heads.bytes(2), proof_of(which, head.row, head.chain)))
    return damaged(path_, head.row, "what is noted of it has another hash");
  return head;
}

Status Journal::write_head(int which, const Head& head) {
  if (!put_head_) {
    TERN_TRY(put_head_, database_.prepare("INSERT OR REPLACE INTO heads VALUES(?1, ?2, ?3, ?4)"));
  }
  const Digest proof = proof_of(which, head.row, head.chain);
  put_head_->bind(1, which)
      .bind(2, static_cast<int64_t>(head.row))
      .bind(3, head.chain)
      .bind(4, proof);
  TERN_TRY([[maybe_unused]] const bool row, put_head_->step());
  return {};
}

Result<uint64_t> Journal::append(std::span<const JournalRecord> records) {
  TERN_CHECK_OK(failed_);
  if (records.empty()) return head_.row;
  crash_point();  // nothing is written
  Head head = head_;
  Status done = database_.transaction([&]() -> Status {
    if (head.row == 0) TERN_CHECK_OK(write_head(kBefore, head));
    if (!insert_record_) {
      TERN_TRY(insert_record_, database_.prepare("INSERT INTO records VALUES(?1, ?2, ?3, ?4, ?5)"));
    }
    for (const JournalRecord& record : records) {
      head = {head.row + 1, chain_of(head.chain, head.row + 1, record)};
      insert_record_->bind(1, static_cast<int64_t>(head.row))
          .bind(2, record.kind)
          .bind(3, record.round)
          .bind(4, record.body)
          .bind(5, head.chain);
      TERN_TRY([[maybe_unused]] const bool row, insert_record_->step());
    }
    TERN_CHECK_OK(write_head(kLast, head));
    crash_point();  // nothing is committed
    return {};
  });
  if (!done.ok()) return failed_ = std::move(done).within("the journal can't be written");
  head_ = head;
  crash_point();  // nobody is told
  if (recovery_.first == 0) recovery_.first = 1;
  return head_.row;
}

Status Journal::read(uint64_t from,
                     const std::function<Status(uint64_t, const JournalRecord&)>& f) {
  TERN_TRY(
      SqliteStatement rows,
      database_.prepare("SELECT row, kind, round, body FROM records WHERE row >= ?1 ORDER BY row"));
  rows.bind(1, static_cast<int64_t>(from));
  while (true) {
    TERN_TRY(const bool more, rows.step());
    if (!more) return {};
    Status done =
        f(static_cast<uint64_t>(rows.integer(0)), {.kind = static_cast<uint32_t>(rows.integer(1)),
                                                   .round = static_cast<uint32_t>(rows.integer(2)),
                                                   .body = rows.bytes(3)});
    if (!done.ok()) return done;
  }
}

Status Journal::forget_before(uint64_t row) {
  TERN_CHECK_OK(failed_);
  if (row > head_.row) return error(Code::kInvalidArgument, "row {} of {}", row, head_.row);
  TERN_TRY(SqliteStatement find, database_.prepare("SELECT chain FROM records WHERE row = ?1"));
  TERN_TRY(const bool there, find.bind(1, static_cast<int64_t>(row) - 1).step());
  if (!there) return {};  // it is the first
  Head before{.row = row - 1};
  std::ranges::copy(find.bytes(0), before.chain.begin());
  find.reset();
  Status done = database_.transaction([&]() -> Status {
    TERN_CHECK_OK(write_head(kBefore, before));
    TERN_TRY(SqliteStatement remove, database_.prepare("DELETE FROM records WHERE row < ?1"));
    TERN_TRY([[maybe_unused]] const bool any, remove.bind(1, static_cast<int64_t>(row)).step());
    return {};
  });
  if (!done.ok()) return failed_ = std::move(done).within("the journal can't be written");
  recovery_.first = row;
  return {};
}

}  // namespace tern
