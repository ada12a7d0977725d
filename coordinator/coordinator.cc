#include "coordinator/coordinator.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <limits>
#include <map>
#include <ranges>
#include <unordered_map>
#include <unordered_set>

#include "base/freed_memory.h"
#include "base/planted_bug.h"
#include "base/rng.h"
#include "compression/updates/frame.h"
#include "config/load.h"
#include "coordinator/batched_work.h"
#include "coordinator/client_evaluation.h"
#include "coordinator/plans.h"
#include "coordinator/round_machine.h"
#include "coordinator/sessions.h"
#include "coordinator/transfers/downloads.h"
#include "coordinator/transfers/uploads.h"
#include "coordinator/update_check.h"
#include "proto/messages.h"
#include "proto/transfer.h"

namespace tern {

namespace {

/// After rounds in which nothing could be counted: at first, and at most.
constexpr Duration kVoidPause = std::chrono::seconds(1),
                   kLongestVoidPause = std::chrono::minutes(1);
/// For evaluations, when the fleet has no deadline.
constexpr Duration kEvaluationTime = std::chrono::minutes(2);
/// Arrivals and time that a round waits for clients at most, where they come and go by a plan.
constexpr uint32_t kMostLooks = 100'000;
constexpr Duration kLongestWait = std::chrono::hours(366 * 24);
/// Beside a model of this size, what transfers leave behind is worth giving back; beside smaller
/// ones it isn't worth a call.
constexpr uint64_t kLargeModelBytes = uint64_t{32} << 20;
/// A client may say that it trained on any number of samples; this many are believed.
constexpr uint64_t kMostSamples = uint64_t{1} << 40;
/// Tasks in one turn of the loop: the first parts of what all of a large cohort downloads needn't
/// lie in memory together.
constexpr size_t kHandedOutAtOnce = 32;
/// Why a peer is turned away that isn't told.
constexpr char kNotAMember[] = "its key is not on the list, or was revoked";

/// A task without an answer.
struct Assigned {
  OpenTask task;
  Codec codec;
  std::optional<uint32_t> handed_version = {};  // of its first plan, as far as this process knows
  TimePoint handed_at{};
  bool recovered = false;  // its client may have begun before this process

  std::optional<double> seconds(TimePoint now) const {
    if (!handed_version || recovered) return std::nullopt;
    return tern::seconds(now - handed_at);
  }
};

class Driver : public Coordinator {
 public:
  Driver(CoordinatorSetup setup, CoordinatorHooks hooks, Loop& loop, ServerTransport& transport,
         const SecretKey& key, EventSink& sink)
      : setup_(std::move(setup)),
        scenario_(setup_.scenario),
        asynchronous_(scenario_.fleet.asynchronous()),
        hooks_(std::move(hooks)),
        loop_(loop),
        transport_(transport),
        key_(key),
        sink_(sink),
        credit_(loop),
        uploads_(
            loop, credit_, setup_.log,
            {.send = [this](const Connection& to, const Credit& credit) { send(to, credit); },
             .complete = [this](const Upload& up) { deciding_.insert(up.message.task); },
             .check = [this](size_t worker, Upload& upload) { check(worker, upload); },
             .checked = [this](const SharedUpload& upload) { arrived(upload); },
             .measured = [this](uint32_t client,
                                double rate) { state_->rates().measured_uplink(client, rate); },
             .failed = [this](const Status& status) { fail(status); }}),
        downloads_(loop, transport, credit_, sink,
                   static_cast<int64_t>(4 * setup_.schema.elements()),
                   [this](const Connection& to, const Message& message, OutgoingTransfer* parts) {
                     return send(to, message, parts);
                   }),
        sums_(
            loop,
            [this](size_t worker, const SharedUpload& upload) { accumulate(worker, *upload); },
            [this](const SharedUpload& upload) { summed(upload); }) {}

  ~Driver() override { credit_.close(); }  // what its members give back is for nobody

  Status open() {
    state_ = std::move(setup_.state);
    if (state_ == nullptr) {
      TERN_TRY(state_, RunState::make({.scenario = scenario_,
                                       .schema = setup_.schema,
                                       .clients = setup_.clients,
                                       .uplinks = setup_.uplinks,
                                       .initial = setup_.initial,
                                       .workers = setup_.workers}));
    }
    plans_.emplace(setup_, *state_, key_, loop_);
    for (uint32_t client = 0; client < setup_.examples.size(); ++client)
      state_->selector().announced(client, setup_.examples[client]);
    version_ = model().version();
    start_sha256_ = model().sha256();
    const ReplayedRun& replayed = setup_.replayed;
    round_ = replayed.ended_rounds;
    for (const auto& [client, fate] : replayed.fates) fates_[client] = fate;
    frames_since_state_ = replayed.bytes_since_state;
    if (!replayed.origin) return {};
    setup_.run_id = replayed.origin->run_id;
    return {};
  }

  Status restore(CoordinatorState state) override {
    round_ = state.round;
    TERN_CHECK_OK(state_->restore(std::move(state)));
    version_ = model().version();
    return {};
  }

  void start() override {
    transport_.start(*this);
    if (Status status = take_up_tasks(); !status.ok()) return fail(std::move(status));
    if (setup_.replayed.open) return resume(*std::exchange(setup_.replayed.open, std::nullopt));
    phase_ = Phase::kWaiting;
    if (setup_.replayed.origin) return loop_.post([this] { begin_if_ready(); });
    write(origin(), [this] { begin_if_ready(); });
  }

  void members_changed() override {
    std::vector<Connection> gone;
    for (const auto& [number, session] : sessions_)
      if (!setup_.membership(session.connection.key)) gone.push_back(session.connection);
    for (const Connection& connection : gone) turn_away(connection, kNotAMember);
  }

  bool let_go(uint32_t client) override {
    if (sessions_.find(client) == nullptr) return true;
    if (open_.contains(client) || evaluation_.task_of(client) || !downloads_.idle(client) ||
        !uploads_.idle(client))
      return false;
    end_session(client);
    return true;
  }

  void stop() override {
    if (phase_ == Phase::kFinished) return;
    stopping_ = true;
    if (phase_ != Phase::kEnding) return finish_now();
    // What was counted becomes a version still, which takes milliseconds; nobody is waited for.
    evaluation_.give_up_all();
    finish_evaluation_if_done();
  }

  uint32_t round() const override { return round_; }
  const VersionedModel& model() const override { return state_->model(); }
  CoordinatorState state() const override { return state_->state(round_); }

  // ---- The journal

  RunOrigin origin() const {
    if (setup_.replayed.origin) return *setup_.replayed.origin;
    return {.run_id = setup_.run_id,
            .config_sha256 = config_sha256(scenario_),
            .schema_hash = setup_.schema.hash(),
            .clients = setup_.clients,
            .start_sha256 = start_sha256_};
  }

  /// `then` when the record is on the disk; at once without a journal.
  template <typename Then>
  void write(RunRecord record, const Then& then) {
    if (setup_.log == nullptr) return then();
    setup_.log->write(loop_, std::move(record), [this, then](const Status& status) {
      if (phase_ == Phase::kFinished) return;
      if (!status.ok()) return fail(status);
      if (kPlantedBug != PlantedBug::kJournal) then();
    });
    if (kPlantedBug == PlantedBug::kJournal) then();
  }
  void write(RunRecord record) {
    write(std::move(record), [] {});
  }

  // ---- What clients say

  void on_packet(const Connection& from, std::span<const std::byte> packet) override {
    const std::optional<Member> member = setup_.membership(from.key);
    if (!member) return turn_away(from, kNotAMember);
    if (phase_ == Phase::kFinished) return;
    const PacketContent content = open_packet(packet);
    if (!content.message.empty()) {
      control_up_ += content.message.size();
      Result<Message> message = parse_message(content.message);
      if (!message) return turn_away(from, message.error());
      std::visit([&](const auto& m) { receive(from, *member, m); }, *message);
      // Whoever was turned away for the message isn't heard further.
      if (phase_ == Phase::kFinished || sessions_.find(member->number, from) == nullptr) return;
    }
    if (!content.part.empty()) return on_part(from, *member, content.part);
    // It has announced a long update and waits for credit.
    if (sessions_.find(member->number, from) != nullptr) uploads_.give_credit(member->number);
  }

 private:
  enum class Phase {
    kIdle,        // before start()
    kWaiting,     // for clients
    kCollecting,  // a round is under way
    kEnding,      // it is over: summing, publishing, evaluating
    kPausing,     // after a void round
    kFinished
  };

  void turn_away(const Connection& from, const Status& reason) {
    send(from, Refusal{reason});
    turn_away(from, reason.describe());
  }
  void turn_away(const Connection& from, const std::string& reason) {
    sink_.on({"peer_refused", {{"key", key_text(from.key)}, {"reason", reason}}});
    transport_.drop(from);
    const std::optional<uint32_t> number = sessions_.number_of(from);
    if (!number) return;
    end_session(*number);
    give_up(*number, reason);
  }
  void end_session(uint32_t number) {
    downloads_.forget(number);
    uploads_.forget(number);
    sessions_.end(number);
  }
  /// Nothing more is expected of a client in this round.
  void give_up(uint32_t number, const std::string& reason) {
    evaluation_.give_up(number);
    finish_evaluation_if_done();
    const auto open = open_.find(number);
    if (open == open_.end()) return;
    const TaskId task = open->second.task.task;
    say_times(number, open->second, "failed");
    open_.erase(open);
    failed(number, task, Status(Code::kCancelled, reason));
  }
  /// When a client's task was handed out, and that it ends now.
  void say_times(uint32_t client, const Assigned& assigned, const char* end) {
    if (!assigned.handed_version) return;
    sink_.on({"task_timed",
              {{"round", int64_t{assigned.task.round}},
               {"client", int64_t{client}},
               {"from", seconds(assigned.handed_at)},
               {"until", seconds(loop_.now())},
               {"end", end}}});
  }
  void failed(uint32_t number, TaskId task, const Status& reason) {
    write_failure(number, task, reason);
    if (machine_) act(machine_->on(TaskFailed{task, reason}, loop_.now()), nullptr);
  }
  void write_failure(uint32_t number, TaskId task, const Status& reason) {
    state_->selector().missed(number, round_at_hand());
    write(
        RefusedRecord{
            .round = round_at_hand(), .client = number, .task = task, .reason = reason.describe()},
        [this, number, task] {
          fates_[number] = {task, Fate::kRefused};
        });
  }
  /// The machine comes with the first round; a restart may know of tasks before.
  uint32_t round_at_hand() const { return machine_ ? machine_->round() : round_; }
  static std::string key_text(const PeerKey& key) { return to_hex(key).substr(0, 16); }

  void receive(const Connection& from, const Member& member, const Hello& hello) {
    if (hello.protocol_low > kProtocolHigh || hello.protocol_high < kProtocolLow)
      return turn_away(from,
                       error(Code::kUnsupported,
                             "the client speaks protocol {} to {}, this coordinator {} to {}",
                             hello.protocol_low, hello.protocol_high, kProtocolLow, kProtocolHigh));
    if (hello.schema_hash != setup_.schema.hash())
      return turn_away(from, error(Code::kInvalidArgument,
                                   "the client is set up for schema {:016x}, this run trains "
                                   "'{}' with schema {:016x}",
                                   hello.schema_hash, scenario_.model.name, setup_.schema.hash()));
    const bool same_run = hello.run_id == setup_.run_id;
    if (same_run && hello.held_version > version_)
      return turn_away(from, error(Code::kInvalidArgument,
                                   "the client holds version {} of this run, the coordinator is at "
                                   "{}: was an older state restored?",
                                   hello.held_version, version_));
    Session& session = sessions_.open(member.number);
    if (session.connection.number != 0) {
      downloads_.forget(member.number);
      uploads_.forget(member.number);
      if (session.connection != from) transport_.drop(session.connection);
    }
    session = {.connection = from,
               .evaluator = member.evaluator,
               .number = member.number,
               .held_version = same_run ? hello.held_version : 0};
    const int64_t skew = clock_skew(hello.unix_seconds, loop_.unix_seconds());
    if (std::abs(skew) > kNoticedSkewSeconds)
      sink_.on({"clock_skew", {{"client", int64_t{member.number}}, {"seconds", skew}}});
    sink_.on({"client_joined",
              {{"client", int64_t{member.number}},
               {"version", int64_t{session.held_version}},
               {"software", hello.software}}});
    const TaskFate last = fates_[member.number];
    send(from, Welcome{.protocol = std::min(hello.protocol_high, kProtocolHigh),
                       .run_id = setup_.run_id,
                       .client = member.number,
                       .clients = setup_.clients,
                       .seed = scenario_.seed,
                       .unix_seconds = loop_.unix_seconds(),
                       .last_task = last.task,
                       .last_fate = last.fate,
                       .partition = scenario_.data.partition,
                       .reconnect_pause_ms = reconnect_pause_ms()});
  }

  /// Pace steering (Bonawitz et al. 2019, arXiv:1902.01046), for the outage of which nobody can be
  /// told when it begins: a join costs half a millisecond, and all of a large fleet at once would
  /// time each other out. Clients that wait so long on average, between a half and one and a half
  /// of it, are never more in a second than joins_per_s.
  uint32_t reconnect_pause_ms() const {
    const uint64_t joins = scenario_.server.joins_per_s;
    const uint64_t most = std::numeric_limits<uint32_t>::max();
    return joins == 0
               ? 0
               : static_cast<uint32_t>(std::min(setup_.clients * uint64_t{1000} / joins, most));
  }

  void receive(const Connection& from, const Member& member, const Ready& ready) {
    Session* session = sessions_.find(member.number, from);
    if (session == nullptr) return no_session(from);
    session->examples = ready.examples;
    session->test_examples = ready.test_examples;
    // Said again it changes the figures; a task at hand isn't sent again.
    if (std::exchange(session->ready, true)) return;
    if (const auto open = open_.find(member.number); open != open_.end()) {
      const TaskId task = open->second.task.task;
      if (std::ranges::find(to_hand_out_, task, &SendTask::task) == to_hand_out_.end())
        to_hand_out_.push_back({task, member.number});
    } else if (const std::optional<TaskId> asked = evaluation_.task_of(member.number)) {
      hand_out(*session, *asked, plans_->get(PlanKind::kEvaluate, round_, ""));
    }
    hand_out_all();
    if (phase_ == Phase::kWaiting) loop_.post([this] { begin_if_ready(); });
    ask_more_soon();
  }

  void receive(const Connection& from, const Member& member, const UpdateMessage& message) {
    Session* session = sessions_.find(member.number, from);
    if (session == nullptr) return no_session(from);
    if (message.client != member.number)
      return turn_away(from, error(Code::kInvalidArgument, "an update in the name of client {}",
                                   message.client));
    // Said again: the first one's verdict will do.
    if (deciding_.contains(message.task) && kPlantedBug != PlantedBug::kWire) return;
    const auto open = open_.find(member.number);
    if (open != open_.end() && open->second.task.task == message.task) {
      // What came of an earlier try is in memory until it is written: one at a time.
      if (uploads_.storing(member.number)) return disconnect(*session);
      const Assigned& assigned = open->second;
      session->held_version =
          std::max(session->held_version, assigned.handed_version.value_or(assigned.task.version));
      uploads_.begin(member.number, from, message,
                     state_->rules(assigned.task, assigned.codec, version_));
      return;
    }
    // Answered before, of an older round, or nobody's.
    const TaskFate& fate = fates_[member.number];
    if (fate.task == message.task && fate.fate == Fate::kCounted) {
      send(from, Verdict{.task = message.task, .counted = true, .reason = {}});
      return;
    }
    if (machine_)
      act(machine_->on(UpdateArrived{message, error(Code::kInvalidArgument, "nobody asked for it")},
                       loop_.now()),
          nullptr);
  }

  void on_part(const Connection& from, const Member& member, std::span<const std::byte> part) {
    if (sessions_.find(member.number, from) == nullptr) return no_session(from);
    const Result<bool> wanted = uploads_.add(member.number, part);
    if (!wanted) return turn_away(from, wanted.error());
    if (*wanted) return;
    const std::optional<PartLabel> label = label_of(part);
    ignored(member.number, part.size(), label && label->index == 0);
  }

  /// Parts that nobody waits for; with an update's first one, it is counted as float32, too.
  void ignored(uint32_t client, uint64_t bytes, bool with_the_first) {
    sink_.on({"update_ignored",
              {{"client", int64_t{client}},
               {"bytes", static_cast<int64_t>(bytes)},
               {"dense_bytes", with_the_first ? static_cast<int64_t>(4 * setup_.schema.elements())
                                              : int64_t{0}}}});
  }

  void receive(const Connection& from, const Member& member, const TaskFailure& failure) {
    Session* session = sessions_.find(member.number, from);
    if (session == nullptr) return no_session(from);
    session->held_version = std::min(failure.held_version, version_);
    if (evaluation_.task_of(member.number) == failure.task) {
      evaluation_failed(member.number, failure.reason);
      evaluation_.give_up(member.number);
      return finish_evaluation_if_done();
    }
    const auto open = open_.find(member.number);
    if (open == open_.end() || open->second.task.task != failure.task) return;
    say_times(member.number, open->second, "failed");
    open_.erase(open);
    const Code code = failure.reason.code();
    constexpr Code kFaults[] = {Code::kOutOfRange, Code::kInternal, Code::kCorrupt, Code::kIo,
                                Code::kNoSpace};
    if (setup_.stop_on_failure && std::ranges::find(kFaults, code) != std::end(kFaults))
      return fail(Status(failure.reason)
                      .within(fmt::format("round {}, client {}", round_at_hand(), member.number)));
    failed(member.number, failure.task, failure.reason);
  }

  void receive(const Connection& from, const Member& member, const Credit& credit) {
    if (sessions_.find(member.number, from) == nullptr) return no_session(from);
    downloads_.received(member.number, credit);
  }

  void receive(const Connection& from, const Member& member, const EvaluationReport& report) {
    Session* session = sessions_.find(member.number, from);
    if (session == nullptr) return no_session(from);
    if (evaluation_.task_of(member.number) != report.task) return;
    session->held_version = version_;
    const Status status =
        evaluation_.report(member.number, report, setup_.classes, session->test_examples);
    if (!status.ok()) evaluation_failed(member.number, status);
    finish_evaluation_if_done();
  }
  void evaluation_failed(uint32_t number, const Status& reason) {
    sink_.on(
        {"task_failed",
         {{"round", int64_t{round_}}, {"client", int64_t{number}}, {"reason", reason.describe()}}});
  }

  // What only a coordinator says.
  template <typename Other>
  void receive(const Connection& from, const Member&, const Other&) {
    turn_away(from, error(Code::kInvalidArgument, "a message that only a coordinator sends"));
  }

  void no_session(const Connection& from) {
    turn_away(from, error(Code::kInvalidArgument, "the session did not begin with a Hello"));
  }

  // ---- What clients are told

  /// With the first part of `transfer`, if there is one.
  bool send(const Connection& to, const Message& message, OutgoingTransfer* transfer = nullptr) {
    Bytes packet = to_packet(message);
    const size_t bytes = packet.size();
    if (transfer != nullptr) packet = transfer->begin_with(packet);
    if (!transport_.send(to, std::move(packet)).ok()) {
      // It reads too slowly or is gone.
      transport_.drop(to);
      if (const std::optional<Member> member = setup_.membership(to.key))
        if (Session* session = sessions_.find(member->number, to)) session->lost();
      return false;
    }
    control_down_ += bytes;
    return true;
  }

  /// It will come back with a Hello, or it won't.
  void disconnect(Session& session) {
    transport_.drop(session.connection);
    uploads_.break_off(session.number);
    session.lost();
  }

  /// Sends a connected client its plan and what it lacks of the model.
  void hand_out(Session& session, TaskId task, const SignedPlan& plan) {
    if (!setup_.membership(session.connection.key))
      return turn_away(Connection(session.connection), kNotAMember);
    Result<Download> download = state_->model().download(session.held_version, scratch_);
    if (!download) return fail(std::move(download).error());
    PlanMessage message{.plan = plan.plan, .manifest = plan.manifest, .task = {}};
    message.task = {.task = task, .client = session.number, .download = download->kind};
    for (const SharedFrame& frame : download->frames) message.task.download_bytes += frame->size();
    downloads_.start(
        session.number, session.connection, message, plan.content.round,
        download->kind == DownloadKind::kSnapshot ? TransferKind::kSnapshot : TransferKind::kDeltas,
        std::move(download->frames));
  }

  // ---- A round

  RoundRules round_rules() const {
    std::optional<Duration> deadline;
    if (scenario_.fleet.deadline_seconds)
      deadline = std::chrono::duration_cast<Duration>(
          std::chrono::duration<double>(*scenario_.fleet.deadline_seconds));
    return {.seed = scenario_.seed,
            .clients = setup_.clients,
            .rounds = scenario_.rounds,
            .cohort = scenario_.fleet.cohort,
            .asked = static_cast<uint32_t>(clients_asked(scenario_.fleet)),
            .min_updates = scenario_.fleet.min_updates,
            .deadline = deadline,
            .evaluate_every = scenario_.evaluation.every,
            .schedule = schedule_of(scenario_.fleet),
            .max_staleness = scenario_.fleet.max_staleness};
  }

  /// Whom the hook names, or connected clients with something to train on, in increasing order.
  std::vector<uint32_t> available() const {
    if (hooks_.available) return hooks_.available();
    std::vector<uint32_t> numbers = sessions_.trainers();
    std::erase_if(numbers, [&](uint32_t number) {
      return !setup_.membership(sessions_.find(number)->connection.key);
    });
    return numbers;
  }

  void begin_if_ready() {
    if (phase_ != Phase::kWaiting) return;
    BeginRound begin;
    if (!setup_.everyone_is_there && round_ < scenario_.rounds) {
      const size_t wanted = std::max<size_t>(machine_ ? 0 : setup_.start_when,
                                             std::max(1u, scenario_.fleet.min_updates));
      // Asked at each join: as long as there aren't enough in any case, nobody is looked at.
      if (said_waiting_ && !hooks_.available && sessions_.size() < wanted) return;
      begin.available = available();
      if (begin.available->size() < wanted) {
        if (!said_waiting_)
          sink_.on({"waiting_for_clients",
                    {{"connected", static_cast<int64_t>(begin.available->size())},
                     {"wanted", static_cast<int64_t>(wanted)}}});
        said_waiting_ = true;
        if (hooks_.available) wait_for_arrivals(wanted);
        return;
      }
      said_waiting_ = false;
    }
    if (!machine_)
      if (Status status = settle_weights(); !status.ok()) return fail(std::move(status));
    looks_ = 0;
    announce_examples();
    begin_round(begin);
  }

  /// Periods that differ may never give enough clients at once: that ends the run some time.
  void wait_for_arrivals(size_t wanted) {
    if (hooks_.stop_requested && hooks_.stop_requested()) return finish_now();
    if (looks_++ == 0) waiting_since_ = loop_.now();
    if (looks_ > kMostLooks || loop_.now() - waiting_since_ > kLongestWait)
      return fail(error(Code::kInvalidArgument,
                        "{} clients were never there at once in {} arrivals", wanted, looks_ - 1));
    loop_.call_at(hooks_.next_arrival(), [this] { begin_if_ready(); });
  }

  /// A client that boasts is believed up to what an update may claim.
  void announce_examples() {
    for (const auto& [number, session] : sessions_)
      if (!session.evaluator && session.examples > 0)
        state_->selector().announced(number,
                                     std::min(session.examples, state_->largest_examples()));
  }

  Status settle_weights() {
    if (!state_->settled()) {
      const uint32_t largest = setup_.largest_examples;
      TERN_CHECK_OK(state_->settle_weights(largest != 0 ? largest : sessions_.largest_announced()));
    }
    machine_.emplace(round_rules(), round_ + 1, state_->selector(), sink_);
    if (open_.empty()) return {};
    ResumeRound left{.round = round_, .tasks = {}, .closed = true, .ended = true};
    for (const auto& [client, open] : open_) left.tasks.push_back({client, open.task.round});
    (void)machine_->on(left, loop_.now());
    return {};
  }

  /// Those that the journal has no end of.
  Status take_up_tasks() {
    if (setup_.replayed.open) chains_ = setup_.replayed.open->chains;
    for (const auto& [client, task] : setup_.replayed.tasks) {
      TERN_TRY(Codec codec, chain_of(client, task.round));
      Assigned assigned{task, std::move(codec)};
      assigned.recovered = true;
      open_.insert_or_assign(client, std::move(assigned));
    }
    return {};
  }

  /// Goes on with a round that the journal has the beginning of.
  void resume(const ReplayedRound& open) {
    round_began_at_ = loop_.now();  // it gets all of its time again
    machine_.emplace(round_rules(), open.round, state_->selector(), sink_);
    ResumeRound known{.round = open.round,
                      .tasks = {},
                      .counted = static_cast<uint32_t>(open.counted.size()),
                      .closed = open.closed.has_value()};
    for (const uint32_t client : open.asked)
      known.tasks.push_back({client, open.round, Fate::kRefused});  // counted or not is the same
    for (const auto& [client, left] : open_)
      known.tasks.push_back({client, left.task.round, Fate::kOpen});
    const std::vector<RoundAction> actions = machine_->on(known, loop_.now());
    if (!open.closed) {
      phase_ = Phase::kCollecting;
      return hand_out_round(open.round, actions);
    }
    phase_ = Phase::kEnding;
    summed_ = true;
    closing_ = !open.closed->is_void;
    loop_.post([this, published = open.version.has_value()] {
      if (phase_ == Phase::kFinished) return;
      return closing_ && !published ? write_version() : end_round();
    });
  }

  void begin_round(const BeginRound& begin) {
    std::vector<RoundAction> actions = machine_->on(begin, loop_.now());
    if (const auto* over = actions.empty() ? nullptr : std::get_if<FinishRun>(&actions.back()))
      return finish(over->stopped);
    phase_ = Phase::kCollecting;
    round_began_at_ = loop_.now();
    announced_ = false;
    if (!asynchronous_) {
      open_.clear();
      deciding_.clear();
    }
    const uint32_t round = machine_->round();
    std::vector<uint32_t> asked;
    for (const RoundAction& action : actions) {
      if (const auto* task = std::get_if<SendTask>(&action)) asked.push_back(task->client);
      if (const auto* dropped = std::get_if<DropTask>(&action)) drop(*dropped);
    }
    Result<RoundChains> chains = state_->rates().begin_round(round, asked, scratch_);
    if (!chains) return fail(std::move(chains).error());
    chains_ = *std::move(chains);
    say_chains(round);
    RoundRecord record{
        .round = round, .version = version_, .largest_examples = state_->largest_examples()};
    for (const Codec& codec : chains_.chains) record.chains.push_back(codec.spec());
    for (const auto& [client, given] : chains_.given)
      record.asked.push_back({client, static_cast<uint32_t>(given.chain), given.nmse});
    write(std::move(record),
          [this, round, actions = std::move(actions)] { hand_out_round(round, actions); });
  }

  void hand_out_round(uint32_t round, const std::vector<RoundAction>& actions) {
    announced_ = true;
    plans_->forget();
    // Where answers come at one virtual time, this order decides who is counted. It is drawn: in
    // the order of client numbers over-selection would always drop the same clients.
    std::vector<SendTask> tasks;
    for (const RoundAction& action : actions)
      if (const auto* task = std::get_if<SendTask>(&action)) tasks.push_back(*task);
    Rng(scenario_.seed, Purpose::kTies, round).shuffle(std::span(tasks));
    if (!asynchronous_) to_hand_out_.clear();
    released_ = 0;
    for (const SendTask& task : tasks) assign(task, round, version_);
    for (const SendTask& task : tasks) wake(task.client);
    act(actions, nullptr);
    // First: where they close the round, the plans are of the version that follows.
    for (const SharedUpload& upload : std::exchange(held_, {})) decide(upload);
    hand_out_all();
    ask_more_soon();
  }

  /// It will be handed out; one that the journal knew is at hand.
  void assign(const SendTask& task, uint32_t round, uint32_t version) {
    to_hand_out_.push_back(task);
    const auto known = open_.find(task.client);
    if (known != open_.end() && known->second.task.task == task.task) return;
    Result<Codec> codec = chain_of(task.client, round);
    if (!codec) return fail(std::move(codec).error());
    open_.insert_or_assign(
        task.client,
        Assigned{{.task = task.task, .round = round, .version = version}, *std::move(codec)});
  }
  void wake(uint32_t client) {
    if (hooks_.wanted && sessions_.find(client) == nullptr) hooks_.wanted(client);
  }

  /// FedBuff: others in place of those whose tasks have ended. Later, since whatever ended them is
  /// in the middle of something.
  void ask_more_soon() {
    if (asking_more_ || !collecting() || machine_->lacking() == 0) return;
    asking_more_ = true;
    loop_.post([this] {
      asking_more_ = false;
      if (collecting()) ask_more();
    });
  }
  void ask_more() {
    AskMore more;
    if (!setup_.everyone_is_there) more.available = available();
    announce_examples();
    const uint32_t round = machine_->round(), version = version_;
    const std::vector<RoundAction> actions = machine_->on(more, loop_.now());
    for (const RoundAction& action : actions)
      if (const auto* task = std::get_if<SendTask>(&action))
        write(AskedRecord{.round = round, .client = task->client},
              [this, task = *task, round, version] {
                assign(task, round, version);
                wake(task.client);
                hand_out_all();
              });
    act(actions, nullptr, false);  // where nobody is free, asking again changes nothing
  }

  /// Its client is told if it is in the middle of its upload; otherwise when it comes.
  void drop(const DropTask& dropped) {
    const auto open = open_.find(dropped.client);
    if (open == open_.end() || open->second.task.task != dropped.task) return;
    say_times(dropped.client, open->second, "late");
    open_.erase(open);
    write_failure(dropped.client, dropped.task, dropped.reason);
    break_off_upload(dropped.client, dropped.reason);
  }

  /// Where clients are woken for a task, nobody begins before all are awake: who was asked before
  /// would always be faster than a newcomer.
  void hand_out_all() {
    if (!collecting()) return;  // what outlives its round is handed out in the next one
    const auto awaited = [this](const SendTask& task) { return is_open(task) && !is_ready(task); };
    // From the end, where those are who were woken last.
    if (hooks_.wanted && std::ranges::any_of(std::views::reverse(to_hand_out_), awaited)) return;
    released_ = to_hand_out_.size();
    if (!handing_out_) hand_out_some();
  }
  bool is_open(const SendTask& task) const {
    const auto open = open_.find(task.client);
    return open != open_.end() && open->second.task.task == task.task;
  }
  bool is_ready(const SendTask& task) const {
    const Session* session = sessions_.find(task.client);
    return session != nullptr && session->ready;
  }

  /// Those whose turn it is; the rest in the next turns of the loop. One who is turned away
  /// meanwhile can end the round.
  void hand_out_some() {
    for (size_t count = 0; released_ > 0 && collecting(); ++count) {
      if (count == kHandedOutAtOnce) {
        handing_out_ = true;
        return loop_.post([this] {
          handing_out_ = false;
          hand_out_some();
        });
      }
      const SendTask task = to_hand_out_.front();
      to_hand_out_.pop_front();
      --released_;
      if (!is_open(task) || !is_ready(task)) continue;  // one who comes back is put in line again
      const auto open = open_.find(task.client);
      if (!open->second.handed_version) {
        open->second.handed_version = version_;
        open->second.handed_at = loop_.now();
      }
      hand_out(*sessions_.find(task.client), task.task,
               plans_->get(PlanKind::kTrain, open->second.task.round, open->second.codec.spec()));
    }
  }

  /// Plans may leave and updates be counted.
  bool collecting() const { return phase_ == Phase::kCollecting && announced_; }

  /// Of a client's task that was asked for in `round`.
  Result<Codec> chain_of(uint32_t client, uint32_t round) const {
    if (asynchronous_) return state_->chain_of_round(round);
    return chains_.chains[chains_.given.at(client).chain];
  }
  void say_chains(uint32_t round) {
    if (!scenario_.compression.rate_control.on()) return;
    if (chains_.deadline_seconds)
      sink_.on(
          {"deadline_set", {{"round", int64_t{round}}, {"seconds", *chains_.deadline_seconds}}});
    for (const auto& [client, given] : chains_.given) {
      Event event{"chain_given",
                  {{"round", int64_t{round}},
                   {"client", int64_t{client}},
                   {"chain", chains_.chains[given.chain].spec()},
                   {"reason", std::string(name(given.reason))}}};
      if (given.budget_bytes) {
        event.fields.emplace_back("budget_bytes", *given.budget_bytes);
        event.fields.emplace_back("expected_bytes", given.bytes);
        event.fields.emplace_back("nmse", given.nmse);
      }
      sink_.on(event);
    }
  }

  /// On a worker: the dry decode.
  void check(size_t index, Upload& upload) {
    if (upload.file) {
      Result<MappedFile> mapped = upload.file->map();
      if (mapped)
        upload.mapped.emplace(*std::move(mapped));
      else
        upload.fault = std::move(mapped).error();
    } else {
      upload.bytes = std::make_shared<const Bytes>(upload.transfer.take());
    }
    if (upload.fault.ok()) upload.check = check_content(index, upload);
    if (upload.mapped) upload.mapped->release();
    book(index, WorkStage::kDecode);
  }
  Status check_content(size_t index, Upload& upload) {
    TERN_TRY(CheckedUpdate checked,
             check_update(*upload.rules, upload.message, upload.content(), state_->scratch(index)));
    upload.update = std::move(checked);
    return {};
  }

  void arrived(const SharedUpload& upload) {
    if (phase_ == Phase::kFinished) return;
    if (!upload->fault.ok()) return fail(upload->fault);
    const UpdateMessage& message = upload->message;
    Event sent{"update_sent",
               {{"round", int64_t{upload->rules->round}},
                {"client", int64_t{message.client}},
                {"bytes", static_cast<int64_t>(upload->received)},
                {"dense_bytes", static_cast<int64_t>(4 * setup_.schema.elements())},
                {"loss", message.report.mean_loss},
                {"samples",
                 static_cast<int64_t>(std::min(message.report.samples_trained, kMostSamples))}}};
    if (upload->update) sent.fields.emplace_back("norm", upload->update->frame.norm());
    if (const auto rate = state_->rates().uplink(message.client))
      sent.fields.emplace_back("transfer_seconds", static_cast<double>(upload->received) / *rate);
    sink_.on(sent);
    decide(upload);
  }

  void decide(const SharedUpload& upload) {
    if (phase_ == Phase::kFinished) return;
    // It would close a round whose plans are on their way to the disk.
    if (!machine_ || (phase_ == Phase::kCollecting && !announced_ && asynchronous_))
      return held_.push_back(upload);
    const uint32_t staleness = upload->update ? version_ - upload->update->base_version() : 0;
    act(machine_->on(UpdateArrived{upload->message, upload->check, staleness}, loop_.now()),
        upload);
  }

  /// Carries out what the machine decided; `upload` is what it decided on, if anything.
  void act(const std::vector<RoundAction>& actions, const SharedUpload& upload,
           bool ends_a_task = true) {
    for (const RoundAction& action : actions) {
      if (std::holds_alternative<CountUpdate>(action)) {
        count(upload);
      } else if (const auto* refuse = std::get_if<RefuseUpdate>(&action)) {
        refuse_update(refuse->message, refuse->reason);
      } else if (std::holds_alternative<HoldUpdate>(action)) {
        if (upload) held_.push_back(upload);  // without one its sender guesses
      } else if (const auto* timer = std::get_if<SetTimer>(&action)) {
        timer_ = loop_.call_at(timer->at, [this] {
          timer_ = 0;
          if (phase_ == Phase::kCollecting) act(machine_->on(TimerFired{}, loop_.now()), nullptr);
        });
      } else if (std::holds_alternative<CloseRound>(action)) {
        end_collecting(std::get<CloseRound>(action).counted, true);
      } else if (const auto* void_round = std::get_if<VoidRound>(&action)) {
        end_collecting(void_round->counted, false);
      }
    }
    close_if_summed();
    if (ends_a_task) ask_more_soon();
  }

  /// It is counted from now on, and said to be once the journal has it.
  void count(const SharedUpload& upload) {
    const UpdateMessage& message = upload->message;
    const auto open = open_.find(message.client);
    std::optional<double> seconds;
    if (open != open_.end()) {
      seconds = open->second.seconds(loop_.now());
      say_times(message.client, open->second, "counted");
      open_.erase(open);
    }
    ++summing_;
    state_->count(message, *upload->update, upload->content().size(), seconds);
    frames_since_state_ += upload->content().size();
    write(UpdateRecord{.round = machine_->round(),
                       .version = upload->update->base_version(),
                       .weight = upload->update->weight,
                       .seconds = seconds,
                       .message = message,
                       .transfer = upload->bytes,
                       .blob = upload->file},
          [this, upload] {
            fates_[upload->message.client] = {upload->message.task, Fate::kCounted};
            sums_.add(upload);
            answer(upload->message, Fate::kCounted, {});
          });
  }

  void refuse_update(const UpdateMessage& message, const Status& reason) {
    const auto open = open_.find(message.client);
    // Of tasks that are nobody's or were answered before, the journal has nothing to keep: whoever
    // says them again and again would fill the disk.
    if (open == open_.end() || open->second.task.task != message.task)
      return answer(message, Fate::kRefused, reason);
    say_times(message.client, open->second, "refused");
    state_->selector().missed(message.client, machine_->round());
    open_.erase(open);
    write(RefusedRecord{.round = machine_->round(),
                        .client = message.client,
                        .task = message.task,
                        .reason = reason.describe()},
          [this, message, reason] {
            fates_[message.client] = {message.task, Fate::kRefused};
            answer(message, Fate::kRefused, reason);
          });
  }

  void answer(const UpdateMessage& message, Fate fate, Status reason) {
    deciding_.erase(message.task);
    const Session* session = sessions_.find(message.client);
    if (session == nullptr) return;
    send(session->connection,
         Verdict{
             .task = message.task, .counted = fate == Fate::kCounted, .reason = std::move(reason)});
  }

  void summed(const SharedUpload& upload) {
    --summing_;
    if (!upload->check.ok()) return fail(upload->check);
    close_if_summed();
  }

  void end_collecting(uint32_t counted, bool closing) {
    ClosedRecord record{.round = machine_->round(), .counted = counted, .is_void = !closing};
    if (!asynchronous_ && state_->selector().remembers())
      for (const auto& [client, open] : open_) {
        record.late[client] = seconds(loop_.now() - round_began_at_);
        state_->selector().late(client, record.round, record.late[client]);
      }
    write(std::move(record));
    if (phase_ == Phase::kFinished) return;
    closing_ = closing;
    if (timer_ != 0) loop_.cancel(timer_);
    timer_ = 0;
    phase_ = Phase::kEnding;
    summed_ = false;
    if (asynchronous_) return;
    for (const auto& [client, open] : open_) say_times(client, open, "late");
    open_.clear();
    // What is still on its way comes too late: whoever sends it is told now, and the next round's
    // downloads needn't wait behind it.
    for (auto& [number, session] : sessions_)
      break_off_upload(number, error(Code::kCancelled, "round {} is over", machine_->round()));
  }

  void break_off_upload(uint32_t client, const Status& reason) {
    const SharedUpload upload = uploads_.break_off(client);
    if (upload == nullptr) return;
    ignored(client, upload->received, upload->received > 0);
    answer(upload->message, Fate::kRefused, reason);
  }

  /// On a worker.
  void accumulate(size_t index, Upload& upload) {
    give_back_now_and_then(upload.content().size());
    upload.check = state_->add(index, *upload.update);
    if (upload.mapped) upload.mapped->release();
    book(index, WorkStage::kAggregate);
  }

  /// On a worker. A large model's round fills memory slowly; what its downloads and uploads were in
  /// must not lie beside that.
  void give_back_now_and_then(size_t bytes) {
    const uint64_t model_bytes = schema_bytes();
    if (model_bytes < kLargeModelBytes) return;
    const uint64_t before = summed_bytes_.fetch_add(bytes);
    if (before == 0 || (before + bytes) / (model_bytes / 16) != before / (model_bytes / 16))
      give_back_freed_memory();
  }

  /// Goes on with the end of a round once all that was counted is in the sums.
  void close_if_summed() {
    if (phase_ != Phase::kEnding || summed_ || summing_ > 0) return;
    summed_ = true;
    if (!closing_) {
      if (Status status = state_->drop_round(scratch_); !status.ok())
        return fail(std::move(status));
      return end_round();
    }
    auto published = std::make_shared<Result<SharedFrame>>(SharedFrame());
    const uint32_t round = machine_->round();
    loop_.run([this, published, round](size_t worker) { *published = publish(worker, round); },
              [this, published, round] {
                if (phase_ == Phase::kFinished) return;
                if (!*published) return fail(std::move(*published).error());
                sink_.on({"version_published",
                          {{"round", int64_t{round}},
                           {"version", int64_t{model().version()}},
                           {"delta_bytes", static_cast<int64_t>((**published)->size())},
                           {"residual_norm", model().residual_norm()}}});
                write_version();
              });
  }

  void write_version() {
    version_ = model().version();
    write(
        VersionRecord{.round = machine_->round(), .version = version_, .sha256 = model().sha256()},
        [this] { end_round(); });
  }

  /// On a worker, while nothing else touches the model or the sums.
  Result<SharedFrame> publish(size_t index, uint32_t round) {
    summed_bytes_ = 0;
    TERN_TRY(std::vector<float> step, state_->aggregate(index));
    book(index, WorkStage::kAggregate);
    Result<SharedFrame> frame = state_->publish(index, round, std::move(step));
    book(index, WorkStage::kEncode);
    return frame;
  }

  void end_round() {
    round_ = machine_->round();
    if (hooks_.stop_requested && hooks_.stop_requested())
      (void)machine_->on(StopRequested{}, loop_.now());
    for (const RoundAction& action : machine_->on(RoundEnded{}, loop_.now()))
      if (const auto* asked = std::get_if<EvaluateModel>(&action))
        return evaluate(asked->scheduled);
    after_round(nullptr);
  }

  void after_round(const Evaluation* evaluation) {
    report_control_bytes();
    if (hooks_.after_round)
      if (Status status = hooks_.after_round(round_, evaluation); !status.ok())
        return fail(std::move(status));
    if (phase_ == Phase::kFinished) return;
    if (setup_.log == nullptr) return next_round();
    nlohmann::ordered_json notes = hooks_.notes ? hooks_.notes() : nlohmann::ordered_json();
    write(EndedRecord{.round = round_, .notes = notes},
          [this, notes] { save_state_if_due(notes); });
  }

  /// When a new start would have more frames to read than the state has bytes: saving it then costs
  /// no more than the frames did.
  void save_state_if_due(const nlohmann::ordered_json& notes) {
    if (frames_since_state_ < state_bytes()) return next_round();
    frames_since_state_ = 0;
    write(StateRecord{.origin = origin(),
                      .state = state(),
                      .fates = {fates_.begin(), fates_.end()},
                      .open = open_tasks(),
                      .notes = notes},
          [this] { next_round(); });
  }
  OpenTasks open_tasks() const {
    OpenTasks tasks;
    for (const auto& [client, open] : open_) tasks[client] = open.task;
    return tasks;
  }
  uint64_t state_bytes() const { return 2 * schema_bytes(); }
  uint64_t schema_bytes() const { return setup_.schema.elements() * sizeof(float); }

  void next_round() {
    if (stopping_) return finish_now();
    void_rounds_ = closing_ ? 0 : void_rounds_ + 1;
    if (void_rounds_ == 0) {
      phase_ = Phase::kWaiting;
      loop_.post([this] { begin_if_ready(); });
      return;
    }
    // Whatever made all of them fail may pass.
    phase_ = Phase::kPausing;
    const Duration pause =
        std::min(kVoidPause * (int64_t{1} << std::min(void_rounds_ - 1, 6u)), kLongestVoidPause);
    loop_.call_at(loop_.now() + pause, [this] {
      if (phase_ != Phase::kPausing) return;
      phase_ = Phase::kWaiting;
      begin_if_ready();
    });
  }

  void report_control_bytes() {
    sink_.on({"control_bytes",
              {{"round", int64_t{round_}},
               {"up", static_cast<int64_t>(control_up_)},
               {"down", static_cast<int64_t>(control_down_)}}});
    control_up_ = control_down_ = 0;
  }

  // ---- Evaluation

  void evaluate(bool scheduled) {
    scheduled_ = scheduled;
    if (hooks_.evaluate)
      return hooks_.evaluate(scheduled, [this](Result<std::optional<Evaluation>> evaluation) {
        if (phase_ == Phase::kFinished) return;
        if (!evaluation) return fail(std::move(evaluation).error());
        evaluated(*evaluation ? &**evaluation : nullptr);
      });
    std::map<uint32_t, TaskId> tasks;
    if (setup_.evaluate_by != EvaluateBy::kNobody && !stopping_)
      for (const auto& [number, session] : sessions_)
        if (session.evaluator == (setup_.evaluate_by == EvaluateBy::kAttached) &&
            session.test_examples > 0 && !open_.contains(number))  // nobody waits for who trains
          tasks[number] = evaluation_id(scenario_.seed, round_, number);
    const SignedPlan& plan = plans_->get(PlanKind::kEvaluate, round_, "");
    timer_ = loop_.call_at(loop_.now() + round_rules().deadline.value_or(kEvaluationTime), [this] {
      timer_ = 0;
      evaluation_.give_up_all();
      finish_evaluation_if_done();
    });
    evaluation_.begin(tasks);
    for (const auto& [number, task] : tasks) {
      if (Session* session = sessions_.find(number)) hand_out(*session, task, plan);
      if (phase_ != Phase::kEnding) return;
      // Who is gone isn't waited for.
      const Session* there = sessions_.find(number);
      if (there == nullptr || !there->ready) evaluation_.give_up(number);
    }
    finish_evaluation_if_done();
  }

  void finish_evaluation_if_done() {
    const auto reports = evaluation_.take_if_over();
    if (!reports) return;
    if (timer_ != 0) loop_.cancel(timer_);
    timer_ = 0;
    if (reports->empty()) return after_round(nullptr);
    const Evaluation evaluation = summarize_reports(*reports, setup_.classes, setup_.clients);
    evaluated(&evaluation);
  }

  void evaluated(const Evaluation* evaluation) {
    if (evaluation != nullptr)
      sink_.on({"model_evaluated",
                {{"round", int64_t{round_}},
                 {"scheduled", int64_t{scheduled_}},
                 {"accuracy", evaluation->accuracy},
                 {"loss", evaluation->loss}}});
    after_round(evaluation);
  }

  // ---- The end

  void finish_now() {
    sink_.on({"run_finished", {{"round", int64_t{round_}}, {"stopped", int64_t{1}}}});
    finish(true);
  }

  void finish(bool stopped) {
    close_all(Goodbye{.finished = !stopped,
                      .reason = stopped ? "the coordinator was stopped" : "the run is finished"});
    hooks_.finished(stopped);
  }

  void fail(Status status) {
    if (phase_ == Phase::kFinished) return;
    close_all(Goodbye{.finished = false, .reason = "the run failed"});
    hooks_.finished(tl::unexpected(std::move(status)));
  }

  void close_all(const Goodbye& goodbye) {
    phase_ = Phase::kFinished;
    credit_.close();
    uploads_.close();
    if (timer_ != 0) loop_.cancel(timer_);
    timer_ = 0;
    for (auto& [number, session] : sessions_) {
      downloads_.end(number);
      send(session.connection, goodbye);
    }
    report_control_bytes();
  }

  void book(size_t worker, WorkStage stage) {
    if (hooks_.book) hooks_.book(worker, stage);
  }

  CoordinatorSetup setup_;
  const Scenario& scenario_;  // setup_'s
  const bool asynchronous_;
  const CoordinatorHooks hooks_;
  // The loop's thread's; while `publish` runs, that job's.
  std::unique_ptr<RunState> state_;
  Digest start_sha256_{};                   // of the model that the run begins with
  CodecScratch scratch_;                    // the loop's thread's
  uint32_t version_ = 0;                    // the loop's thread's copy
  std::atomic<uint64_t> summed_bytes_ = 0;  // in this round
  uint64_t frames_since_state_ = 0;  // bytes of frames in the journal that a new start would read
  Loop& loop_;
  ServerTransport& transport_;
  const SecretKey& key_;
  EventSink& sink_;
  TransferCredit credit_;
  Uploads uploads_;
  Downloads downloads_;
  BatchedWork<SharedUpload> sums_;
  std::optional<Plans> plans_;  // from open() on

  Phase phase_ = Phase::kIdle;
  uint32_t round_ = 0;
  Sessions sessions_;
  std::unordered_map<uint32_t, TaskFate> fates_;  // of each client's last task with an answer
  uint32_t looks_ = 0;                            // at who is there, since the last round
  TimePoint waiting_since_{}, round_began_at_{};
  bool said_waiting_ = false;
  bool stopping_ = false;
  uint64_t control_up_ = 0, control_down_ = 0;

  // The round at hand.
  std::optional<RoundMachine> machine_;          // from the first round on
  bool announced_ = false;                       // its record is on the disk
  RoundChains chains_;                           // of those who were asked when it began
  std::unordered_map<uint32_t, Assigned> open_;  // by client
  std::unordered_set<TaskId> deciding_;          // tasks whose updates have come, without an answer
  std::deque<SendTask> to_hand_out_;  // tasks that wait for clients to wake, a round, or their turn
  size_t released_ = 0;               // the first of them, which wait for their turn only
  bool handing_out_ = false;          // some more in the next turn of the loop
  std::vector<SharedUpload> held_;    // updates that came between rounds
  bool asking_more_ = false;
  Loop::TimerId timer_ = 0;
  size_t summing_ = 0;  // updates on their way into the sums
  bool closing_ = false, summed_ = false;
  uint32_t void_rounds_ = 0;  // in a row

  ClientEvaluation evaluation_;
  bool scheduled_ = false;  // the evaluation at hand
};

}  // namespace

Result<std::unique_ptr<Coordinator>> Coordinator::make(CoordinatorSetup setup,
                                                       CoordinatorHooks hooks, Loop& loop,
                                                       ServerTransport& transport,
                                                       const SecretKey& key, EventSink& sink) {
  auto driver =
      std::make_unique<Driver>(std::move(setup), std::move(hooks), loop, transport, key, sink);
  TERN_CHECK_OK(driver->open());
  return std::unique_ptr<Coordinator>(std::move(driver));
}

}  // namespace tern
