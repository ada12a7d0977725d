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
    run_.tasks = std::move(record.open);
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
      TERN_CHECK_OK(ask(open, asked.client));
    }
    return state_.rates().resume_round(record.round, open.chains, state_.scratch(0));
  }

  Status on(AskedRecord& record) {
    TERN_TRY(ReplayedRound * open, open_round(record.round));
    return ask(*open, record.client);
  }

  Status on(UpdateRecord& record) {
    const uint32_t client = record.message.client;
    TERN_TRY(ReplayedRound * open, open_round(record.round));
    TERN_TRY(const OpenTask task, open_task(record.round, client, record.message.task));
    if (open->closed)
      return error(Code::kCorrupt, "round {} counts an update after its end", record.round);
    TERN_TRY(const Codec codec, chain_of(*open, client, task));
    const UpdateRules rules = state_.rules(task, codec, state_.model().version());
    TERN_TRY(CheckedUpdate update,
             check_update(rules, record.message, *record.transfer, state_.scratch(0)));
    if (update.weight != record.weight || update.base_version() != record.version)
      return error(Code::kCorrupt,
                   "the update of client {} weighs {} and is of version {}, not {} and {}", client,
                   update.weight, update.base_version(), record.weight, record.version);
    state_.count(record.message, update, record.transfer->size(), record.seconds);
    TERN_CHECK_OK(state_.add(0, update));
    open->counted.push_back(client);
    open->asked_in.push_back(task.round);
    settle(client, task.task, Fate::kCounted);
    ++run_.updates;
    run_.bytes_since_state += record.transfer->size();
    return {};
  }

  Status on(RefusedRecord& record) {
    TERN_TRY([[maybe_unused]] const OpenTask task,
             open_task(record.round, record.client, record.task));
    state_.selector().missed(record.client, record.round);
    settle(record.client, record.task, Fate::kRefused);
    return {};
  }

  Status on(ClosedRecord& record) {
    TERN_TRY(ReplayedRound * open, open_round(record.round));
    if (open->closed || open->counted.size() != record.counted)
      return error(Code::kCorrupt, "round {} closes with {} updates, {} are kept", record.round,
                   record.counted, open->counted.size());
    open->closed = record;
    for (const auto& [client, seconds] : record.late)
      state_.selector().late(client, record.round, seconds);
    if (!state_.scenario().fleet.asynchronous()) run_.tasks.clear();
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
  Status ask(ReplayedRound& open, uint32_t client) {
    const OpenTask task{.task = task_id(state_.scenario().seed, open.round, client),
                        .round = open.round,
                        .version = state_.model().version()};
    if (open.closed || !run_.tasks.emplace(client, task).second)
      return error(Code::kCorrupt, "client {} can't be asked in round {}", client, open.round);
    open.asked.push_back(client);
    return {};
  }
  Result<OpenTask> open_task(uint32_t round, uint32_t client, TaskId task) {
    const auto open = run_.tasks.find(client);
    if (open == run_.tasks.end() || open->second.task != task)
      return error(Code::kCorrupt, "client {} has no open task in round {}", client, round);
    return open->second;
  }
  Result<Codec> chain_of(const ReplayedRound& open, uint32_t client, const OpenTask& task) const {
    const auto given = open.chains.given.find(client);
    if (given == open.chains.given.end() || task.round != open.round)
      return state_.chain_of_round(task.round);
    return open.chains.chains[given->second.chain];
  }
  void settle(uint32_t client, TaskId task, Fate fate) {
    run_.tasks.erase(client);
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
