/// The journal as the coordinator writes it: records are handed over on the loop's thread, written
/// on a worker, and their callbacks come back in order. What comes while the disk is busy goes
/// there in one commit: one fsync for many acknowledgements. Threads: the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "base/loop.h"
#include "base/status.h"
#include "coordinator/journal/journal.h"
#include "coordinator/run_records.h"

namespace tern {

class RunLog {
 public:
  using Written = std::function<void(const Status&)>;

  /// Rounds whose records are kept behind the last saved state; 0: all.
  RunLog(Journal journal, uint32_t keep_rounds)
      : journal_(std::move(journal)), keep_rounds_(keep_rounds) {}

  /// For recovery, before the first write().
  Journal& journal() { return journal_; }
  /// For records to come; on any thread.
  const BlobStore& blobs() { return journal_.blobs(); }

  /// `then` comes on the loop's thread once the record is on the disk, or couldn't be written.
  /// After a failure nothing more is written.
  void write(Loop& loop, RunRecord record, Written then);

  uint64_t records() const { return records_; }
  uint64_t commits() const { return commits_; }

 private:
  struct Entry {
    RunRecord record;
    Written then;
  };
  void flush(Loop& loop);
  Status commit(const std::vector<RunRecord>& records);
  Status append(const std::vector<RunRecord>& records);
  Status forget(uint32_t round);
  Status index();

  Journal journal_;  // a worker's while `writing_`
  const uint32_t keep_rounds_;
  // What forget() has to know of the rows; a worker's, too.
  bool indexed_ = false;
  std::map<uint64_t, uint32_t> states_;  // rounds of saved states, by row
  std::map<uint64_t, Digest> blobs_;     // by row
  // A later record can rest on one that failed, and then tells a story that nobody can replay.
  Status failed_;  // a worker's, too
  std::vector<Entry> waiting_;
  bool writing_ = false;
  uint64_t records_ = 0, commits_ = 0;
};

}  // namespace tern
