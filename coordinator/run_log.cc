#include "coordinator/run_log.h"

#include <memory>
#include <optional>
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
  if (failed_.ok()) failed_ = append(records);
  return failed_;
}

Status RunLog::append(const std::vector<RunRecord>& records) {
  if (keep_rounds_ > 0 && !indexed_) TERN_CHECK_OK(index());
  TERN_TRY(const std::vector<std::optional<Digest>> blobs, append_records(journal_, records));
  if (keep_rounds_ == 0) return {};
  uint64_t row = journal_.last() - records.size();
  std::optional<uint32_t> saved;
  for (size_t i = 0; i < records.size(); ++i) {
    ++row;
    if (blobs[i]) blobs_[row] = *blobs[i];
    if (const auto* state = std::get_if<StateRecord>(&records[i]))
      saved = states_[row] = state->state.round;
  }
  return saved ? forget(*saved) : Status();
}

/// Of what was there before.
Status RunLog::index() {
  indexed_ = true;
  return journal_.read(1, [&](uint64_t row, const JournalRecord& record) -> Status {
    if (record.kind == kStateKind) states_[row] = record.round;
    TERN_TRY(const std::optional<Digest> blob, blob_of(record));
    if (blob) blobs_[row] = *blob;
    return {};
  });
}

/// Lets go of what neither recovery nor the rounds that are kept need: all before the newest saved
/// state that is old enough.
Status RunLog::forget(uint32_t round) {
  uint64_t from = 0;
  for (const auto& [row, saved] : states_)
    if (saved + keep_rounds_ <= round) from = row;
  if (from <= journal_.recovery().first) return {};
  TERN_CHECK_OK(journal_.forget_before(from));
  states_.erase(states_.begin(), states_.lower_bound(from));
  blobs_.erase(blobs_.begin(), blobs_.lower_bound(from));
  std::set<Digest> wanted;
  for (const auto& [row, digest] : blobs_) wanted.insert(digest);
  return journal_.blobs().sweep([&](const Digest& digest) { return wanted.contains(digest); });
}

}  // namespace tern
