#include "coordinator/run_log.h"

#include <memory>
#include <set>
#include <utility>

namespace tern {

void RunLog::write(Loop& loop, RunRecord record, Written then) {
  waiting_.push_back({std::move(record), std::move(then)});
  if (!writing_) flush(loop);
}

void RunLog::flush(Loop& loop) {
  writing_ = true;
  auto records = std::make_shared<std::vector<RunRecord>>();
  auto thens = std::make_shared<std::vector<Written>>();
  for (Entry& entry : waiting_) {
    records->push_back(std::move(entry.record));
    thens->push_back(std::move(entry.then));
  }
  waiting_.clear();
  auto done = std::make_shared<Status>();
  loop.run([this, records, done](size_t) { *done = commit(*records); },
           [this, &loop, records, thens, done] {
             records_ += records->size();
             ++commits_;
             writing_ = false;
             if (!waiting_.empty()) flush(loop);
             for (const Written& then : *thens) then(*done);
           });
}

Status RunLog::commit(const std::vector<RunRecord>& records) {
  TERN_CHECK_OK(append_records(journal_, records));
  for (const RunRecord& record : records)
    if (const auto* state = std::get_if<StateRecord>(&record))
      TERN_CHECK_OK(forget(state->state.round));
  return {};
}

/// Lets go of what neither recovery nor the rounds that are kept need: all before a saved state
/// that is old enough.
Status RunLog::forget(uint32_t round) {
  if (keep_rounds_ == 0 || round <= keep_rounds_) return {};
  uint64_t from = 0;
  std::set<Digest> wanted;
  TERN_CHECK_OK(journal_.read(1, [&](uint64_t row, const JournalRecord& record) -> Status {
    if (record.kind == kStateKind && record.round <= round - keep_rounds_) {
      from = row;
      wanted.clear();
    }
    TERN_TRY(const std::optional<Digest> blob, blob_of(record));
    if (blob) wanted.insert(*blob);
    return {};
  }));
  if (from <= journal_.recovery().first) return {};
  TERN_CHECK_OK(journal_.forget_before(from));
  return journal_.blobs().sweep([&](const Digest& digest) { return wanted.contains(digest); });
}

}  // namespace tern
