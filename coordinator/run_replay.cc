#include "coordinator/run_replay.h"

#include <utility>

namespace tern {

namespace {

class Replay {
 public:
  Replay(RunState& state, const ReplayOptions& options) : state_(state), options_(options) {}

  Status apply(RunRecord record) {
    if (!run_.origin && !std::holds_alternative<RunOrigin>(record) &&
        !std::holds_alternative<StateRecord>(record))
      return error(Code::kCorrupt, "the journal begins in the middle of a run");
    return std::visit([this](auto& r) { return on(r); }, record);
  }
  ReplayedRun take() && { return std::move(run_); }

 private:
  Status on(RunOrigin& origin) {
    if (run_.origin) return error(Code::kCorrupt, "a second run begins");
    if (origin.schema_hash != state_.schema().hash())
      return error(Code::kInvalidArgument, "the journal is of another model");
    if (origin.start_sha256 != state_.model().sha256())
      return error(Code::kInvalidArgument,
                   "the journal's run began with another initial model, or another seed");
    run_.origin = std::move(origin);
    return {};
  }

  Status on(StateRecord& record) {
    run_.bytes_since_state = 0;
    if (run_.origin) return {};  // computed anew from earlier records: there is nothing to learn
    if (record.origin.schema_hash != state_.schema().hash())
      return error(Code::kInvalidArgument, "the journal is of another model");
    run_.origin = std::move(record.origin);
    run_.ended_rounds = record.state.round;
    run_.fates = std::move(record.fates);
    run_.last_notes = std::move(record.notes);
    return state_.restore(std::move(record.state));
  }

  Status on(RoundRecord& record) {
    if (run_.open) return error(Code::kCorrupt, "round {} begins in another one", record.round);
    if (record.version != state_.model().version())
      return error(Code::kCorrupt, "round {} is of version {}, the journal leads to version {}",
                   record.round, record.version, state_.model().version());
    if (state_.largest_examples() != record.largest_examples)
      TERN_CHECK_OK(state_.settle_weights(record.largest_examples));
    ReplayedRound& open = run_.open.emplace();
    open.round = record.round;
    for (const std::string& spec : record.chains) {
      TERN_TRY(Codec codec, Codec::parse(spec));
      open.chains.chains.push_back(std::move(codec));
    }
    for (const RoundRecord::Asked& asked : record.asked) {
      if (asked.chain >= open.chains.chains.size())
        return error(Code::kCorrupt, "client {} has chain {} of {}", asked.client, asked.chain,
                     open.chains.chains.size());
      open.chains.given[asked.client] = {.chain = asked.chain, .nmse = asked.nmse};
    }
    return state_.rates().resume_round(record.round, open.chains, state_.scratch(0));
  }

  Status on(UpdateRecord& record) {
    TERN_TRY(ReplayedRound * open, open_task(record.round, record.message.client));
    UpdateRules rules = state_.rules(record.round);
    rules.codec = open->chains.chains[open->chains.given.at(record.message.client).chain];
    TERN_TRY(const CheckedUpdate update,
             check_update(rules, record.message, *record.transfer, state_.scratch(0)));
    if (update.weight != record.weight)
      return error(Code::kCorrupt, "the update of client {} weighs {}, not {}",
                   record.message.client, update.weight, record.weight);
    state_.count(record.message.client, update, record.transfer->size());
    TERN_CHECK_OK(state_.add(0, update));
    open->counted.push_back(record.message.client);
    settle(*open, record.message.client, record.message.task, Fate::kCounted);
    ++run_.updates;
    run_.bytes_since_state += record.transfer->size();
    return {};
  }

  Status on(RefusedRecord& record) {
    TERN_TRY(ReplayedRound * open, open_task(record.round, record.client));
    settle(*open, record.client, record.task, Fate::kRefused);
    return {};
  }

  Status on(ClosedRecord& record) {
    TERN_TRY(ReplayedRound * open, open_round(record.round));
    if (open->closed || open->counted.size() != record.counted)
      return error(Code::kCorrupt, "round {} closes with {} updates, {} are kept", record.round,
                   record.counted, open->counted.size());
    open->closed = record;
    if (record.is_void) return state_.drop_round(state_.scratch(0));
    TERN_TRY(std::vector<float> step, state_.aggregate(0));
    TERN_TRY([[maybe_unused]] const SharedFrame frame,
             state_.publish(0, record.round, std::move(step)));
    ++run_.versions;
    return {};
  }

  Status on(VersionRecord& record) {
    TERN_TRY(ReplayedRound * open, open_round(record.round));
    if (!open->closed || open->closed->is_void || open->version)
      return error(Code::kCorrupt, "a version of round {} without its updates", record.round);
    if (record.version != state_.model().version() || record.sha256 != state_.model().sha256())
      return error(Code::kCorrupt,
                   "version {} was published with the SHA-256 {}, its updates lead to {}: another "
                   "program or another CPU's arithmetic has written this journal",
                   record.version, to_hex(record.sha256), to_hex(state_.model().sha256()));
    open->version = record;
    return {};
  }

  Status on(EndedRecord& record) {
    TERN_TRY(ReplayedRound * open, open_round(record.round));
    if (!open->closed || (!open->closed->is_void && !open->version))
      return error(Code::kCorrupt, "round {} ends before its version", record.round);
    open->ended = true;
    if (options_.round_ended) options_.round_ended(*open);
    run_.open.reset();
    run_.ended_rounds = record.round;
    run_.notes.push_back(record.notes);
    run_.last_notes = std::move(record.notes);
    return {};
  }

  Result<ReplayedRound*> open_round(uint32_t round) {
    if (!run_.open || run_.open->round != round)
      return error(Code::kCorrupt, "round {} is not under way", round);
    return &*run_.open;
  }
  /// The round in which this client has a task without an end.
  Result<ReplayedRound*> open_task(uint32_t round, uint32_t client) {
    TERN_TRY(ReplayedRound * open, open_round(round));
    if (open->closed || !open->chains.given.contains(client) || open->fates.contains(client))
      return error(Code::kCorrupt, "client {} has no open task in round {}", client, round);
    return open;
  }
  void settle(ReplayedRound& open, uint32_t client, TaskId task, Fate fate) {
    open.fates[client] = fate;
    run_.fates[client] = {task, fate};
  }

  RunState& state_;
  const ReplayOptions& options_;
  ReplayedRun run_;
};

}  // namespace

Result<ReplayedRun> replay(Journal& journal, RunState& state, const ReplayOptions& options) {
  uint64_t from = 1;
  if (!options.from_start)
    TERN_CHECK_OK(journal.read(1, [&](uint64_t row, const JournalRecord& record) -> Status {
      if (record.kind == kStateKind) from = row;
      return {};
    }));
  Replay replay(state, options);
  TERN_CHECK_OK(journal.read(from, [&](uint64_t row, const JournalRecord& record) -> Status {
    Result<RunRecord> parsed = parse_record(record, journal.blobs());
    Status done = parsed ? replay.apply(*std::move(parsed)) : std::move(parsed).error();
    return done.ok() ? done : std::move(done).within(fmt::format("journal row {}", row));
  }));
  return std::move(replay).take();
}

}  // namespace tern
