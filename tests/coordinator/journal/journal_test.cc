/// The journal against what happens to files: a crash in the middle of a write, a bit that changes,
/// a disk that is full, somebody else's file.
#include "coordinator/journal/journal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/rng.h"
#include "tests/coordinator/journal/flip_bit.h"

namespace tern {
namespace {

namespace fs = std::filesystem;

using Rows = std::vector<std::pair<uint32_t, std::vector<std::byte>>>;

size_t from_environment(const char* name, size_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : static_cast<size_t>(std::strtoull(value, nullptr, 10));
}

std::vector<std::byte> body(uint64_t seed, size_t size) {
  Rng rng(seed, Purpose::kTest);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng.next());
  return bytes;
}

/// Row i + 1: every kind of length, one of them over many pages.
std::vector<std::byte> body_of(size_t i) { return body(i, i % 7 == 3 ? 9000 : (i * 37) % 500); }

Rows rows_of(Journal& journal) {
  Rows rows;
  const Status read = journal.read(1, [&](uint64_t, const JournalRecord& record) {
    rows.emplace_back(record.kind, std::vector(record.body.begin(), record.body.end()));
    return Status();
  });
  EXPECT_TRUE(read.ok()) << read.describe();
  return rows;
}

class JournalTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "tern-journal-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }

  std::string path(const char* name) const { return (root_ / name).native(); }

  static Journal must_open(const std::string& folder) {
    Result<Journal> journal = Journal::open(folder);
    EXPECT_TRUE(journal) << journal.error().describe();
    return std::move(journal).value();
  }

  static void append(Journal& journal, size_t first, size_t count, size_t at_once) {
    for (size_t i = first; i < first + count; i += at_once) {
      std::vector<std::vector<std::byte>> bodies;
      std::vector<JournalRecord> records;
      bodies.reserve(at_once);
      records.reserve(at_once);
      for (size_t j = i; j < i + at_once; ++j) bodies.push_back(body_of(j));
      for (size_t j = 0; j < at_once; ++j)
        records.push_back(
            {.kind = static_cast<uint32_t>((i + j) % 5), .round = 7, .body = bodies[j]});
      const auto last = journal.append(records);
      ASSERT_TRUE(last) << last.error().describe();
      EXPECT_EQ(*last, i + at_once);
    }
  }

  static void expect_rows(const Rows& rows, size_t first = 0) {
    for (size_t i = 0; i < rows.size(); ++i) {
      ASSERT_EQ(rows[i].first, (first + i) % 5);
      ASSERT_EQ(rows[i].second, body_of(first + i)) << "row " << first + i + 1;
    }
  }

  /// What a crash leaves of a journal that is open: its files, and no lock.
  static void copy_files(const std::string& from, const std::string& to) {
    fs::remove_all(to);
    fs::create_directories(to);
    for (const char* name : {"journal.sqlite", "journal.sqlite-wal"})
      if (fs::exists(from + "/" + name)) fs::copy_file(from + "/" + name, to + "/" + name);
  }

  fs::path root_;
};

Result<std::vector<std::byte>> content_of(const BlobStore& blobs, const Digest& digest) {
  TERN_TRY(const MappedFile file, blobs.get(digest));
  return std::vector<std::byte>(file.bytes().begin(), file.bytes().end());
}

TEST_F(JournalTest, WhatWasAppendedComesBackInOrder) {
  {
    Journal journal = must_open(path("run"));
    EXPECT_EQ(journal.recovery().last, 0u);
    EXPECT_TRUE(rows_of(journal).empty());
    append(journal, 0, 20, 1);
    append(journal, 20, 40, 8);
    EXPECT_EQ(rows_of(journal).size(), 60u);
  }
  Journal journal = must_open(path("run"));
  EXPECT_EQ(journal.recovery().first, 1u);
  EXPECT_EQ(journal.recovery().last, 60u);
  EXPECT_EQ(journal.recovery().unfinished_bytes, 0u);
  const Rows rows = rows_of(journal);
  ASSERT_EQ(rows.size(), 60u);
  expect_rows(rows);
  append(journal, 60, 1, 1);
}

TEST_F(JournalTest, WhatIsForgottenStaysOutAndTheChainHolds) {
  {
    Journal journal = must_open(path("run"));
    append(journal, 0, 30, 3);
    ASSERT_TRUE(journal.forget_before(21).ok());
    ASSERT_TRUE(journal.forget_before(21).ok()) << "again";
    ASSERT_TRUE(journal.forget_before(5).ok()) << "gone already";
    EXPECT_FALSE(journal.forget_before(31).ok()) << "the last one stays";
    append(journal, 30, 2, 2);
  }
  Journal journal = must_open(path("run"));
  EXPECT_EQ(journal.recovery().first, 21u);
  EXPECT_EQ(journal.recovery().last, 32u);
  const Rows rows = rows_of(journal);
  ASSERT_EQ(rows.size(), 12u);
  expect_rows(rows, 20);
}

TEST_F(JournalTest, OneProcessHasIt) {
  const Journal journal = must_open(path("run"));
  const Result<Journal> second = Journal::open(path("run"));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kInUse);
}

void run_sql(const std::string& path, const char* sql) {
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(database, sql, nullptr, nullptr, nullptr), SQLITE_OK)
      << sqlite3_errmsg(database);
  sqlite3_close(database);
}

TEST_F(JournalTest, ForeignAndLaterFilesAreRefusedByName) {
  const std::string file = path("run/journal.sqlite");
  fs::create_directories(path("run"));
  const auto refused = [&](Code code) {
    const Result<Journal> journal = Journal::open(path("run"));
    ASSERT_FALSE(journal);
    EXPECT_EQ(journal.error().code(), code) << journal.error().describe();
    EXPECT_NE(journal.error().message().find(file), std::string::npos)
        << journal.error().describe();
  };
  std::ofstream(file) << std::string(5000, 'x');
  refused(Code::kCorrupt);
  fs::remove(file);
  run_sql(file, "CREATE TABLE books(title TEXT)");
  refused(Code::kInvalidArgument);
  fs::remove(file);
  append(*std::make_unique<Journal>(must_open(path("run"))), 0, 1, 1);
  for (const char* other : {"PRAGMA user_version=3", "PRAGMA user_version=1"}) {
    run_sql(file, other);
    refused(Code::kUnsupported);
  }
}

TEST_F(JournalTest, ChangedRowsAreNamed) {
  for (const char* sql :
       {"UPDATE records SET body = x'00' WHERE row = 5",
        "UPDATE records SET kind = 9 WHERE row = 5", "UPDATE records SET round = 8 WHERE row = 5",
        "DELETE FROM records WHERE row = 5", "DELETE FROM records WHERE row >= 5",
        "UPDATE records SET row = 55 WHERE row = 5", "UPDATE heads SET row = 4 WHERE which = 1",
        "DELETE FROM heads"}) {
    fs::remove_all(path("run"));
    append(*std::make_unique<Journal>(must_open(path("run"))), 0, 9, 1);
    run_sql(path("run/journal.sqlite"), sql);
    const Result<Journal> journal = Journal::open(path("run"));
    ASSERT_FALSE(journal) << sql;
    EXPECT_EQ(journal.error().code(), Code::kCorrupt) << sql << journal.error().describe();
  }
}

/// What a power cut leaves when not every page of an append has reached the disk: here its first
/// frame.
TEST_F(JournalTest, PiecesOfUnfinishedAppendsDontAddUp) {
  copy_files(path("nothing"), path("run"));
  size_t rows = 0;
  for (int crash = 0; crash < 4; ++crash) {
    {
      Journal journal = must_open(path("run"));
      EXPECT_EQ(journal.recovery().unfinished_bytes > 0, crash > 0);
      ASSERT_EQ(rows_of(journal).size(), rows);
      append(journal, rows, 1, 1);
      ++rows;
      const size_t before = fs::file_size(path("run/journal.sqlite-wal"));
      append(journal, rows, 20, 20);
      copy_files(path("run"), path("crashed"));
      std::fstream wal(path("crashed/journal.sqlite-wal"),
                       std::ios::in | std::ios::out | std::ios::binary);
      wal.seekp(static_cast<std::streamoff>(before));
      wal << std::string(4096 + 24, '\0');
    }
    copy_files(path("crashed"), path("run"));
  }
}

/// A power cut, or kill -9, at any byte of the log. TERN_JOURNAL_CUTS: how many of them.
TEST_F(JournalTest, ALogCutAnywhereEndsWithTheLastWholeAppend) {
  Journal journal = must_open(path("run"));
  std::vector<size_t> ends;  // of the log after each append
  const std::string wal = path("run/journal.sqlite-wal");
  for (size_t i = 0; i < 40; ++i) {
    append(journal, 2 * i, 2, 2);
    ends.push_back(fs::file_size(wal));
  }
  copy_files(path("run"), path("whole"));
  const size_t size = fs::file_size(path("whole/journal.sqlite-wal"));
  const size_t range = std::min<size_t>(size, 65536);
  const size_t cuts = std::min(from_environment("TERN_JOURNAL_CUTS", 300), range);
  for (size_t c = 0; c < cuts; ++c) {
    const size_t length = size - range + (c * range) / cuts;
    SCOPED_TRACE(testing::Message() << "cut at byte " << length << " of " << size);
    copy_files(path("whole"), path("cut"));
    fs::resize_file(path("cut/journal.sqlite-wal"), length);
    Journal recovered = must_open(path("cut"));
    const auto whole =
        static_cast<size_t>(std::ranges::count_if(ends, [&](size_t end) { return end <= length; }));
    const Rows rows = rows_of(recovered);
    ASSERT_EQ(rows.size(), 2 * whole);
    expect_rows(rows);
    // And it goes on, and can be cut again.
    append(recovered, rows.size(), 2, 1);
    copy_files(path("cut"), path("again"));
    Journal again = must_open(path("again"));
    ASSERT_EQ(rows_of(again).size(), rows.size() + 2);
    ASSERT_EQ(again.recovery().unfinished_bytes, 0u);
  }
}

/// TERN_JOURNAL_FLIPS: how many.
TEST_F(JournalTest, OneChangedBitIsFoundOrDoesNotMatter) {
  std::vector<std::byte> content = body(1, 3000);
  Digest blob{};
  {
    // Some of it in the file, some still in the log.
    append(*std::make_unique<Journal>(must_open(path("run"))), 0, 40, 4);
    Journal journal = must_open(path("run"));
    append(journal, 40, 20, 2);
    blob = journal.blobs().put(content).value();
    copy_files(path("run"), path("whole"));
    fs::copy(path("run/blobs"), path("whole/blobs"));
  }
  const std::string blob_name = "blobs/" + to_hex(blob);
  Rng rng(3, Purpose::kTest);
  size_t refused = 0, harmless = 0, shortened = 0;
  const size_t flips = from_environment("TERN_JOURNAL_FLIPS", 300);
  for (size_t i = 0; i < flips; ++i) {
    const std::array<std::string, 3> files = {"journal.sqlite", "journal.sqlite-wal", blob_name};
    const std::string& file = files[i % files.size()];
    copy_files(path("whole"), path("flipped"));
    fs::copy(path("whole/blobs"), path("flipped/blobs"));
    const std::string at = path("flipped/") + file;
    const uint32_t bit = rng.below(static_cast<uint32_t>(8 * fs::file_size(at)));
    SCOPED_TRACE(testing::Message() << "bit " << bit << " of " << file);
    flip_bit(at, bit);
    Result<Journal> journal = Journal::open(path("flipped"));
    if (!journal) {
      EXPECT_FALSE(journal.error().message().empty());
      ++refused;
      continue;
    }
    const Rows rows = rows_of(*journal);
    expect_rows(rows);
    if (rows.size() != 60) {
      // The last append alone can look like one that a crash has cut short, and then it is said.
      EXPECT_EQ(rows.size(), 58u);
      EXPECT_GT(journal->recovery().unfinished_bytes, 0u);
      ++shortened;
      continue;
    }
    const Result<std::vector<std::byte>> back = content_of(journal->blobs(), blob);
    if (file == blob_name) {
      ASSERT_FALSE(back);
      EXPECT_EQ(back.error().code(), Code::kCorrupt);
      ++refused;
    } else {
      ASSERT_TRUE(back);
      EXPECT_EQ(*back, content);
      ++harmless;
    }
  }
  RecordProperty("refused", static_cast<int>(refused));
  fmt::print("{} flips: {} refused, {} without effect, {} told as an unfinished end\n", flips,
             refused, harmless, shortened);
  EXPECT_GT(refused, flips / 2);
}

TEST_F(JournalTest, AFullDiskStopsItAndNothingAppendedIsLost) {
  append(*std::make_unique<Journal>(must_open(path("run"))), 0, 4, 2);
  {
    Journal journal = must_open(path("run"));
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    const auto old = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{.rlim_cur = 20000, .rlim_max = before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    const std::vector<std::byte> large = body(1, 100000);
    const JournalRecord record{.kind = 1, .round = 1, .body = large};
    const Result<uint64_t> failed = journal.append({&record, 1});
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    std::signal(SIGXFSZ, old);
    ASSERT_FALSE(failed);
    EXPECT_TRUE(failed.error().code() == Code::kIo || failed.error().code() == Code::kNoSpace)
        << failed.error().describe();
    EXPECT_EQ(journal.last(), 4u);
    // There is room again, but what the disk holds is known only after opening it anew.
    const JournalRecord small{.kind = 4, .round = 1, .body = {}};
    EXPECT_FALSE(journal.append({&small, 1}));
  }
  Journal journal = must_open(path("run"));
  const Rows rows = rows_of(journal);
  ASSERT_EQ(rows.size(), 4u);
  expect_rows(rows);
  append(journal, 4, 1, 1);
}

TEST_F(JournalTest, BlobsAreKeptOnceAndSweptWhenNobodyWantsThem) {
  Journal journal = must_open(path("run"));
  BlobStore& blobs = journal.blobs();
  const std::vector<std::byte> one = body(1, 1000), two = body(2, 0);
  const Digest a = blobs.put(one).value(), b = blobs.put(two).value();
  EXPECT_EQ(blobs.put(one).value(), a);
  EXPECT_EQ(content_of(blobs, a).value(), one);
  EXPECT_EQ(content_of(blobs, b).value(), two);
  std::ofstream(path("run/blobs/notes.txt")) << "somebody's";
  ASSERT_TRUE(blobs.sweep([&](const Digest& digest) { return digest == b; }).ok());
  const Result<MappedFile> gone = blobs.get(a);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code(), Code::kNotFound);
  EXPECT_TRUE(blobs.get(b));
  EXPECT_TRUE(fs::exists(path("run/blobs/notes.txt")));
  EXPECT_EQ(std::distance(fs::directory_iterator(path("run/blobs")), {}), 2);
  // A damaged one is written anew.
  std::ofstream(blobs.path_of(b)) << "damaged";
  EXPECT_EQ(blobs.get(b).error().code(), Code::kCorrupt);
  EXPECT_EQ(blobs.put(two).value(), b);
  EXPECT_TRUE(blobs.get(b));
}

TEST_F(JournalTest, ABlobThatComesInPiecesIsThereOnceItIsKept) {
  const BlobStore blobs = BlobStore::open(path("blobs")).value();
  const std::vector<std::byte> whole = body(3, 5000);
  const auto pieces = std::span(whole);
  const auto files = [&] { return std::distance(fs::directory_iterator(path("blobs")), {}); };
  std::optional<MappedFile> seen;
  {
    BlobWriter writer = blobs.begin().value();
    BlobWriter given_up = blobs.begin().value();
    for (BlobWriter* to : {&writer, &given_up})
      for (const auto& piece : {pieces.first(1000), pieces.subspan(1000)})
        ASSERT_TRUE(to->append(piece).ok());
    seen.emplace(writer.map().value());
    EXPECT_TRUE(std::ranges::equal(seen->bytes(), whole)) << "before it has a name";
    EXPECT_EQ(writer.keep().value(), sha256(pieces));
  }
  EXPECT_EQ(files(), 1) << "what wasn't kept is gone";
  EXPECT_EQ(content_of(blobs, sha256(pieces)).value(), whole);
  seen->release();
  EXPECT_TRUE(std::ranges::equal(seen->bytes(), whole)) << "read again when it is touched";
  EXPECT_TRUE(blobs.begin().value().map().value().bytes().empty());

  std::ofstream(path("blobs/blob.tmp-1-2")) << "left by a crash";
  ASSERT_TRUE(BlobStore::open(path("blobs")));
  EXPECT_EQ(files(), 1);
}

}  // namespace
}  // namespace tern
