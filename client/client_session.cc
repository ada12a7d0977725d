#include "client/client_session.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "base/planted_bug.h"
#include "base/rng.h"
#include "base/version.h"
#include "client/session_machine.h"
#include "proto/transfer.h"

namespace tern {

namespace {

constexpr Duration kRetrySending = std::chrono::milliseconds(20);
/// Pauses before dialling again double from the first to the longest; each is stretched by a draw
/// between a half and one and a half, so that a fleet that lost its coordinator doesn't come back
/// in one moment.
constexpr Duration kFirstPause = std::chrono::milliseconds(200),
                   kLongestPause = std::chrono::seconds(30);
/// Without a Welcome in this time the connection is given up.
constexpr Duration kGreetingTime = std::chrono::seconds(30);

/// A plan with what has come of its download.
struct Order {
  RoundPlan plan;
  ClientTask task;
  Bytes transfer;             // once complete
  uint32_t held_version = 0;  // when the work begins
  bool drops_out = false;
};

/// What a worker made of an order.
struct Outcome {
  Status replica;  // of bringing it to the plan's version
  bool replica_moved = false;
  std::optional<UpdateMessage> update;
  PendingUpdate pending;
  std::optional<EvaluationReport> report;
  Status failure;  // when there is neither
};

class Driver : public ClientSession {
 public:
  Driver(ClientSetup setup, Loop& loop, ClientTransport& transport, ClientWork& work,
         ClientStore& store, EventSink& sink, Finished finished)
      : setup_(std::move(setup)),
        loop_(loop),
        transport_(transport),
        work_(work),
        store_(store),
        sink_(sink),
        finished_(std::move(finished)),
        number_(setup_.number.value_or(0)) {}

  void start() override {
    Result<ClientState> state = store_.load(number_);
    if (!state) return finish(std::move(state).error());
    run_id_ = state->run_id;
    held_version_ = state->held_version;
    last_task_round_ = state->last_task_round;
    if (kPlantedBug == PlantedBug::kResidual) state->pending.reset();
    if (state->pending) take_up(*state->pending);
    if (Status status = store_.save(number_, *std::move(state)); !status.ok())
      return finish(std::move(status));
    dial();
  }

  void stop() override {
    if (phase_ == Phase::kFinished) return;
    phase_ = Phase::kFinished;
    stop_timer();
    transport_.disconnect();
  }

  bool idle() const override {
    return phase_ == Phase::kReady && !working_ && !preparing_ && !incoming_ && !next_ && !frame_ &&
           !outgoing_ && !retrying_;
  }

  // ---- The connection

  void on_connected() override {
    phase_ = Phase::kGreeting;
    send(Hello{.software = fmt::format("tern {}", kVersion),
               .schema_hash = setup_.schema_hash,
               .run_id = run_id_,
               .held_version = held_version_,
               .unix_seconds = loop_.unix_seconds()});
  }

  void on_lost(const Status& reason) override { lost(reason); }

  void on_packet(std::span<const std::byte> packet) override {
    if (phase_ != Phase::kGreeting && phase_ != Phase::kPreparing && phase_ != Phase::kReady)
      return;
    const PacketContent content = open_packet(packet);
    if (!content.message.empty()) {
      const Result<Message> message = parse_message(content.message);
      if (!message) {
        transport_.disconnect();
        return lost(Status(message.error()).within("the coordinator sent what can't be read"));
      }
      std::visit([&](const auto& m) { receive(m); }, *message);
    }
    if (!content.part.empty()) on_part(content.part);
  }

 private:
  enum class Phase { kIdle, kDialling, kPausing, kGreeting, kPreparing, kReady, kFinished };

  void dial() {
    phase_ = Phase::kDialling;
    stop_timer();
    timer_ = loop_.call_at(loop_.now() + kGreetingTime, [this] {
      timer_ = 0;
      transport_.disconnect();
      lost(error(Code::kIo, "no answer within {} s", seconds(kGreetingTime)));
    });
    transport_.connect(*this);
  }

  void lost(const Status& reason) {
    if (phase_ == Phase::kFinished || phase_ == Phase::kPausing) return;
    phase_ = Phase::kPausing;
    stop_timer();
    incoming_.reset();
    outgoing_.reset();
    if (!lost_at_) {  // said once, not at each attempt
      lost_at_ = loop_.now();
      sink_.on({"connection_lost", {{"client", int64_t{number_}}, {"reason", reason.describe()}}});
    }
    if (setup_.give_up_after && loop_.now() - *lost_at_ >= *setup_.give_up_after)
      return finish(Status(reason).within(
          fmt::format("no connection for {:.0f} s, giving up", seconds(loop_.now() - *lost_at_))));
    const Duration doubled =
        std::min(kFirstPause * (int64_t{1} << std::min(attempts_, 10u)), kLongestPause);
    const Duration pause =
        std::max(doubled, Duration(std::chrono::milliseconds(welcome_.reconnect_pause_ms)));
    const double stretch =
        0.5 + Rng(setup_.jitter_seed, Purpose::kBackoff, attempts_, number_).uniform();
    ++attempts_;
    timer_ =
        loop_.call_at(loop_.now() + std::chrono::duration_cast<Duration>(
                                        std::chrono::duration<double>(seconds(pause) * stretch)),
                      [this] {
                        timer_ = 0;
                        dial();
                      });
  }

  void stop_timer() {
    if (timer_ != 0) loop_.cancel(timer_);
    timer_ = 0;
  }

  /// With the first part of `transfer`, if there is one.
  void send(const Message& message, OutgoingTransfer* transfer = nullptr) {
    Bytes packet = to_packet(message);
    if (transfer != nullptr) packet = transfer->begin_with(packet);
    const Status status = transport_.send(std::move(packet));
    if (status.ok() || status.code() == Code::kNotFound) return;  // on_lost follows
    transport_.disconnect();
    lost(status);
  }

  void finish(Status status) {
    if (phase_ == Phase::kFinished) return;
    phase_ = Phase::kFinished;
    stop_timer();
    transport_.disconnect();
    finished_(std::move(status));
  }

  // ---- What the coordinator says

  void receive(const Welcome& welcome) {
    if (phase_ != Phase::kGreeting) return;
    phase_ = Phase::kPreparing;
    stop_timer();
    lost_at_.reset();
    attempts_ = 0;
    welcome_ = welcome;
    sink_.on(
        {"connected",
         {{"client", int64_t{welcome.client}}, {"run", fmt::format("{:016x}", welcome.run_id)}}});
    const int64_t behind = clock_skew(welcome.unix_seconds, loop_.unix_seconds());
    if (std::abs(behind) > kNoticedSkewSeconds)
      sink_.on({"clock_skew", {{"client", int64_t{welcome.client}}, {"seconds", -behind}}});
    enter();
  }

  bool another_run() const {
    return welcome_.run_id != run_id_ || welcome_.client != number_ || !machine_;
  }

  /// Goes on from the Welcome until the client is ready.
  void enter() {
    if (another_run()) {
      // What a worker is at is of another run, or of another number: nobody waits for it, but it
      // has data, replica and store at hand.
      if (working_ || preparing_) return;
      number_ = welcome_.client;
      if (welcome_.run_id != run_id_) {
        run_id_ = welcome_.run_id;
        held_version_ = last_task_round_ = 0;
        frame_.reset();
        if (Status status = store_.save(number_, {.run_id = run_id_}); !status.ok())
          return finish(std::move(status));
      } else if (frame_ && update_.client != number_) {
        if (Status status = end_update(false); !status.ok()) return finish(std::move(status));
      }
      machine_ = std::make_unique<SessionMachine>(number_, setup_.schema_hash, last_task_round_);
      if (frame_) machine_->resume(update_, update_round_);
      next_.reset();
      late_verdict_.reset();
      prepared_ = false;
    }
    // The answer to an update may have been lost with the connection.
    if (welcome_.last_fate != Fate::kOpen)
      receive(Verdict{.task = welcome_.last_task,
                      .counted = welcome_.last_fate == Fate::kCounted,
                      .reason = {}});
    if (phase_ != Phase::kPreparing) return;
    if (prepared_) return ready();
    if (preparing_) return;  // since an earlier connection
    preparing_ = true;
    auto result = std::make_shared<Result<Ready>>(Ready{});
    loop_.run([this, welcome = welcome_, held = held_version_,
               result](size_t worker) { *result = work_.prepare(worker, welcome, held); },
              [this, result] {
                preparing_ = false;
                if (phase_ == Phase::kFinished) return;
                if (*result) {
                  prepared_ = true;
                  ready_ = **result;
                } else if (!another_run()) {
                  return finish(std::move(*result).error());
                }
                if (late_verdict_ && !another_run())
                  receive(*std::exchange(late_verdict_, std::nullopt));
                if (phase_ == Phase::kPreparing) enter();
              });
  }

  void ready() {
    phase_ = Phase::kReady;
    send(ready_);
  }

  void receive(const Refusal& refusal) {
    finish(Status(refusal.reason).within("the coordinator refuses this client"));
  }

  void receive(const Goodbye& goodbye) {
    if (goodbye.finished) {
      sink_.on({"run_finished", {{"client", int64_t{number_}}}});
      return finish({});
    }
    transport_.disconnect();
    lost(Status(Code::kCancelled, goodbye.reason));
  }

  void receive(const PlanMessage& message) {
    if (phase_ != Phase::kReady) return;
    const TaskId task = message.task.task;
    Result<RoundPlan> plan =
        setup_.plans->check(message, run_id_, setup_.schema_hash, loop_.unix_seconds());
    if (!plan) return refuse(task, std::move(plan).error());
    if (message.task.client != number_)
      return refuse(task, error(Code::kInvalidArgument, "a task for client {} reached client {}",
                                message.task.client, number_));
    if (plan->version < held_version_)
      return refuse(task, error(Code::kInvalidArgument,
                                "the plan goes back to version {}, this client holds {}",
                                plan->version, held_version_));
    if (plan->kind == PlanKind::kTrain && !working_ && frame_ && task == update_.task)
      return send_update();  // asked again after a broken connection
    if ((working_ && task == working_task_) || (next_ && task == next_->task.task)) return;
    const bool nothing = message.task.download == DownloadKind::kNothing;
    if (nothing != (message.task.download_bytes == 0))
      return refuse(task,
                    error(Code::kInvalidArgument, "a download of {} bytes, kind {}",
                          message.task.download_bytes, static_cast<int>(message.task.download)));
    if (const uint64_t most = work_.max_download_bytes(); message.task.download_bytes > most)
      return refuse(task, error(Code::kOutOfRange, "a download of {} bytes, at most {} are needed",
                                message.task.download_bytes, most));
    Order order{*std::move(plan), message.task, {}};
    if (nothing) {
      incoming_.reset();
      return accept(std::move(order));
    }
    incoming_.emplace(
        Incoming{std::move(order),
                 {message.task.download == DownloadKind::kSnapshot ? TransferKind::kSnapshot
                                                                   : TransferKind::kDeltas,
                  task, message.task.download_bytes}});
  }

  void on_part(std::span<const std::byte> part) {
    const std::optional<PartLabel> label = label_of(part);
    if (!incoming_ || !label || label->task != incoming_->transfer.task()) return;
    if (Status status = incoming_->transfer.add(part); !status.ok()) {
      const TaskId task = incoming_->transfer.task();
      incoming_.reset();
      return refuse(task, std::move(status));
    }
    if (const std::optional<Credit> credit = incoming_->transfer.credit_due()) send(*credit);
    if (!incoming_) return;  // that ended the connection
    if (incoming_->transfer.complete()) {
      Order order = std::move(incoming_->order);
      order.transfer = incoming_->transfer.take();
      incoming_.reset();
      return accept(std::move(order));
    }
  }

  void receive(const Credit& credit) {
    if (!outgoing_ || outgoing_->task() != credit.task) return;
    outgoing_->add_credit(credit.bytes);
    pump();
  }

  void receive(const Verdict& verdict) {
    if (!machine_ || !frame_ || verdict.task != update_.task) return;
    // An evaluation has the state at hand, and a preparation the replica that is saved with it.
    if (working_ || preparing_) {
      late_verdict_ = verdict;
      return;
    }
    sink_.on({"verdict_received",
              {{"client", int64_t{number_}},
               {"round", int64_t{update_round_}},
               {"counted", int64_t{verdict.counted}},
               {"reason", verdict.reason.ok() ? "" : verdict.reason.describe()}}});
    settle(machine_->on(VerdictArrived{verdict}));
  }

  /// What a client or an unknown coordinator says.
  template <typename Other>
  void receive(const Other&) {}

  void refuse(TaskId task, Status reason) {
    sink_.on({"task_refused", {{"client", int64_t{number_}}, {"reason", reason.describe()}}});
    send(TaskFailure{.task = task, .held_version = held_version_, .reason = std::move(reason)});
  }

  // ---- A task

  /// An order whose download is complete. One that comes while another is worked on waits; of two
  /// that wait the newer one counts.
  void accept(Order order) {
    if (working_)
      next_ = std::move(order);
    else
      begin(std::move(order));
  }

  void begin(Order order) {
    const bool training = order.plan.kind == PlanKind::kTrain;
    std::vector<SessionAction> actions;
    if (training) {
      actions = machine_->on(PlanArrived{order.plan, order.task});
      if (!actions.empty() && std::holds_alternative<RollBackResidual>(actions.front())) {
        settle({actions.front()});
        actions.erase(actions.begin());
      }
      if (actions.empty()) return;
      if (const auto* failure = std::get_if<ReportFailure>(&actions.front()))
        return refuse(failure->task, failure->reason);
      if (std::holds_alternative<SendUpdate>(actions.front())) return send_update();
    }
    Result<ClientState> state = store_.load(number_);
    if (!state) {
      if (training) (void)machine_->on(ReplicaUpdated{state.error()});
      return refuse(order.task.task, std::move(state).error());
    }
    sink_.on({"task_started",
              {{"client", int64_t{number_}},
               {"round", int64_t{order.plan.round}},
               {"kind", training ? "train" : "evaluate"}}});
    working_ = true;
    working_task_ = order.task.task;
    order.held_version = held_version_;
    auto shared_order = std::make_shared<Order>(std::move(order));
    auto shared_state = std::make_shared<ClientState>(*std::move(state));
    auto outcome = std::make_shared<Outcome>();
    const TrainingTime takes =
        training ? work_.training_takes(shared_order->plan, number_, loop_.now()) : TrainingTime{};
    shared_order->drops_out = takes.drops_out;
    loop_.run_taking(
        takes.duration,
        [this, shared_order, shared_state, outcome, first = std::move(actions)](size_t worker) {
          work(worker, *machine_, *shared_order, *shared_state, first, *outcome);
        },
        [this, shared_order, shared_state, outcome] {
          worked(*shared_order, std::move(*shared_state), *outcome);
        });
  }

  /// On a worker, which owns the machine while it trains.
  void work(size_t worker, SessionMachine& machine, Order& order, const ClientState& state,
            std::vector<SessionAction> actions, Outcome& outcome) {
    if (order.plan.kind == PlanKind::kEvaluate) {
      outcome.replica = move_replica(worker, order, outcome);
      if (!outcome.replica.ok()) {
        outcome.failure = outcome.replica;
        return;
      }
      Result<EvaluationReport> report = work_.evaluate(worker, order.task.client);
      if (!report)
        outcome.failure = std::move(report).error();
      else if (!parse_message(to_packet(*report)))
        outcome.failure = error(Code::kOutOfRange,
                                "the loss isn't finite, or {} classes are too many for a report",
                                report->examples.size());
      else
        outcome.report = *std::move(report);
      return;
    }
    // Each step leads to one more at most: the machine waits for its answer.
    while (!actions.empty()) {
      const SessionAction action = std::move(actions.front());
      actions = {};
      if (std::holds_alternative<UpdateReplica>(action)) {
        actions = machine.on(ReplicaUpdated{move_replica(worker, order, outcome)});
      } else if (const auto* train = std::get_if<TrainLocally>(&action)) {
        actions = machine.on(TrainingDone{train_locally(worker, order, train->task)});
      } else if (const auto* encode = std::get_if<EncodeAndStore>(&action)) {
        actions = machine.on(UpdateStored{encode_update(worker, *encode, state, outcome)});
      } else if (const auto* send = std::get_if<SendUpdate>(&action)) {
        outcome.update = send->message;
      } else if (const auto* failure = std::get_if<ReportFailure>(&action)) {
        outcome.failure = failure->reason;
      }
    }
  }

  Status move_replica(size_t worker, Order& order, Outcome& outcome) {
    const Bytes transfer = std::exchange(order.transfer, {});  // of no use while it trains
    TERN_CHECK_OK(
        work_.update_replica(worker, order.plan, order.task, order.held_version, transfer));
    outcome.replica_moved = true;
    return {};
  }

  Result<TrainReport> train_locally(size_t worker, const Order& order, const TrainTask& task) {
    if (order.drops_out) return error(Code::kCancelled, "the device dropped out");
    return work_.train(worker, task);
  }

  Status encode_update(size_t worker, const EncodeAndStore& action, const ClientState& state,
                       Outcome& outcome) {
    // A copy: what is aged for this task stays as it is if the task is rolled back.
    SenderMemory memory = state.memory;
    memory.age(action.codec.feedback(), action.meta.round - state.residual_round,
               action.stale_after);
    TERN_TRY(outcome.pending,
             work_.encode(worker, action.codec, action.meta, memory, action.store));
    return {};
  }

  void worked(const Order& order, ClientState state, Outcome& outcome) {
    working_ = false;
    if (phase_ == Phase::kFinished) return;
    if (outcome.replica_moved) held_version_ = order.plan.version;
    last_task_round_ = machine_->last_task_round();
    state.run_id = run_id_;
    state.held_version = held_version_;
    state.last_task_round = last_task_round_;
    if (outcome.update) {
      state.pending =
          StoredUpdate{.message = *outcome.update,
                       .round = order.plan.round,
                       .frame = std::make_shared<const Bytes>(std::move(outcome.pending.frame)),
                       .next = std::move(outcome.pending.next)};
      take_up(*state.pending);
    }
    if (Status status = store_.save(number_, std::move(state)); !status.ok())
      return finish(std::move(status));
    answer(order, outcome);
    if (late_verdict_) receive(*std::exchange(late_verdict_, std::nullopt));
    if (phase_ == Phase::kPreparing) return enter();  // another run has waited for this
    if (next_ && phase_ != Phase::kFinished) begin(*std::exchange(next_, std::nullopt));
  }

  void answer(const Order& order, Outcome& outcome) {
    if (outcome.report) {
      outcome.report->task = order.task.task;
      outcome.report->client = number_;
      if (phase_ == Phase::kReady) send(*outcome.report);
    } else if (outcome.update) {
      // Without a connection the coordinator asks again once there is one.
      if (phase_ == Phase::kReady && !next_) send_update();
    } else if (phase_ == Phase::kReady) {
      refuse(order.task.task, outcome.failure);
    }
  }

  /// What a restart finds and what was just made are one: the update that waits for its verdict.
  void take_up(const StoredUpdate& update) {
    update_ = update.message;
    update_round_ = update.round;
    frame_ = update.frame;
  }

  void send_update() {
    outgoing_.emplace(TransferKind::kUpdate, update_.task, std::vector<SharedFrame>{frame_});
    send(update_, &*outgoing_);
    if (phase_ != Phase::kReady) return;
    sink_.on({"update_uploaded",
              {{"client", int64_t{number_}},
               {"round", int64_t{update_round_}},
               {"bytes", static_cast<int64_t>(outgoing_->total_bytes())}}});
    pump();
  }

  void pump() {
    const Status status =
        outgoing_->pump([this](Bytes part) { return transport_.send(std::move(part)); });
    if (outgoing_->done()) {
      outgoing_.reset();
    } else if (status.code() == Code::kOutOfRange && !retrying_) {
      retrying_ = true;
      loop_.call_at(loop_.now() + kRetrySending, [this] {
        retrying_ = false;
        if (outgoing_) pump();
      });
    }
  }

  /// Ends the task whose update is out: its residual is committed or rolled back.
  void settle(const std::vector<SessionAction>& actions) {
    for (const SessionAction& action : actions) {
      const bool commit = std::holds_alternative<CommitResidual>(action);
      if (!commit && !std::holds_alternative<RollBackResidual>(action)) continue;
      last_task_round_ = machine_->last_task_round();
      if (Status status = end_update(commit); !status.ok()) return finish(std::move(status));
    }
  }

  /// In one write, so that a restart finds the update open, or its end.
  Status end_update(bool commit) {
    frame_.reset();
    outgoing_.reset();
    TERN_TRY(ClientState state, store_.load(number_));
    if (commit && state.pending) {
      state.memory = std::move(state.pending->next);
      state.residual_round = state.pending->round;
    }
    state.pending.reset();
    state.last_task_round = last_task_round_;
    return store_.save(number_, std::move(state));
  }

  struct Incoming {
    Order order;
    IncomingTransfer transfer;
  };

  const ClientSetup setup_;
  Loop& loop_;
  ClientTransport& transport_;
  ClientWork& work_;
  ClientStore& store_;
  EventSink& sink_;
  Finished finished_;

  Phase phase_ = Phase::kIdle;
  Loop::TimerId timer_ = 0;
  std::optional<TimePoint> lost_at_;
  uint32_t attempts_ = 0;

  uint32_t number_;
  uint64_t run_id_ = 0;
  uint32_t held_version_ = 0;
  uint32_t last_task_round_ = 0;
  Welcome welcome_;  // of this connection, or the last one
  bool preparing_ = false, prepared_ = false;
  Ready ready_;

  std::unique_ptr<SessionMachine> machine_;  // a worker's while it trains
  std::optional<Incoming> incoming_;
  bool working_ = false;
  TaskId working_task_ = 0;
  std::optional<Order> next_;

  // The update that waits for its verdict; none without a frame. The store has the same, and what
  // is committed when it is counted.
  UpdateMessage update_;
  uint32_t update_round_ = 0;
  SharedFrame frame_;
  std::optional<Verdict> late_verdict_;
  std::optional<OutgoingTransfer> outgoing_;
  bool retrying_ = false;
};

}  // namespace

std::unique_ptr<ClientSession> ClientSession::make(ClientSetup setup, Loop& loop,
                                                   ClientTransport& transport, ClientWork& work,
                                                   ClientStore& store, EventSink& sink,
                                                   Finished finished) {
  return std::make_unique<Driver>(std::move(setup), loop, transport, work, store, sink,
                                  std::move(finished));
}

}  // namespace tern
