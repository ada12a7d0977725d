#include "simulations/fleet.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <optional>

#include "base/clock.h"
#include "base/rng.h"
#include "base/thread_pool.h"
#include "client/replica.h"
#include "client/session_machine.h"
#include "compression/updates/error_feedback.h"
#include "compression/updates/frame.h"
#include "config/model_card.h"
#include "coordinator/round_machine.h"
#include "coordinator/update_check.h"
#include "coordinator/warm_up.h"
#include "learning/torch_evaluator.h"
#include "learning/torch_trainer.h"

namespace tern {

namespace {

/// What belongs to one worker thread alone.
struct Worker {
  std::unique_ptr<Trainer> trainer;
  std::unique_ptr<Evaluator> evaluator;
  CodecScratch scratch;
  std::vector<float> update;
  FixedPointAccumulator sum;
};

/// One client's task, from its plan to its verdict.
struct TaskSlot {
  TaskSlot(uint32_t client, uint64_t schema_hash, ClientState loaded)
      : session(client, schema_hash, loaded.last_task_round), state(std::move(loaded)) {}

  SessionMachine session;
  ClientState state;
  PlanArrived plan;
  std::vector<Bytes> download;
  // Written by the worker.
  std::optional<UpdateMessage> message;
  PendingUpdate pending;
  std::vector<Bytes> upload;
  Status failure;  // when there is no message
  Bytes received;  // the transfer as the coordinator put it together
  Status check;    // the coordinator's dry decode
  std::optional<CheckedUpdate> update;
  bool done = false;
};

class InProcessFleet : public Fleet {
 public:
  InProcessFleet(const PreparedScenario& prepared, Codec up, Codec down,
                 std::vector<float> version_zero, std::vector<std::unique_ptr<Worker>> workers,
                 EventSink& sink)
      : scenario_(prepared.scenario),
        data_(prepared.data),
        test_clients_(prepared.test_clients),
        largest_examples_(prepared.largest_examples),
        up_(std::move(up)),
        down_(std::move(down)),
        model_(data_->schema, version_zero, prepared.scenario.seed),
        replica_(data_->schema.hash(), std::move(version_zero)),
        workers_(std::move(workers)),
        clock_(workers_.size()),
        sink_(sink),
        pool_(workers_.size()) {}

  /// A model from a file isn't known to clients as one from the seed is: it is published as version
  /// 1, so that each client downloads it, and is charged for it, before its first task.
  Status publish_initial(const std::vector<float>& initial) {
    std::vector<float> step(initial.size());
    for (size_t i = 0; i < step.size(); ++i) step[i] = initial[i] - model_.parameters()[i];
    TERN_TRY(const Codec lossless, Codec::parse("float32"));
    TERN_TRY(const SharedFrame frame, model_.publish(step, lossless, 0, main_scratch_));
    return apply_to_replica(*frame, main_scratch_);
  }

  Status restore(FleetState state) override {
    TERN_CHECK_OK(replica_.restore(state.model.version, state.model.parameters));
    TERN_CHECK_OK(model_.restore(std::move(state.model)));
    round_ = state.round;
    optimizer_ = std::move(state.optimizer);
    for (auto& [client, client_state] : state.clients)
      TERN_CHECK_OK(store_.save(client, std::move(client_state)));
    return {};
  }

  Result<bool> run(const std::atomic<bool>& stop, const RoundHook& after_round) override {
    clock_.start();
    Result<bool> stopped = play(stop, after_round);
    wait_for_jobs();
    clock_.stop();
    return stopped;
  }

  uint32_t round() const override { return round_; }
  const VersionedModel& model() const override { return model_; }
  const ParameterSchema& schema() const override { return data_->schema; }
  FleetState state() const override { return {round_, model_.state(), optimizer_, store_.all()}; }
  WorkSeconds seconds() const override { return clock_.totals(); }

 private:
  RoundRules rules() const {
    std::optional<Duration> deadline;
    if (scenario_.fleet.deadline_seconds)
      deadline = std::chrono::duration_cast<Duration>(
          std::chrono::duration<double>(*scenario_.fleet.deadline_seconds));
    return {.seed = scenario_.seed,
            .clients = static_cast<uint32_t>(data_->clients.size()),
            .rounds = scenario_.rounds,
            .cohort = scenario_.fleet.cohort,
            .asked = static_cast<uint32_t>(clients_asked(scenario_.fleet)),
            .min_updates = scenario_.fleet.min_updates,
            .deadline = deadline,
            .evaluate_every = scenario_.evaluation.every};
  }

  Result<bool> play(const std::atomic<bool>& stop, const RoundHook& after_round) {
    RoundMachine machine(rules(), round_ + 1, sink_);
    // Until devices are modelled, a task takes no virtual time: the clock stands still and nothing
    // is late.
    const VirtualClock clock;
    for (;;) {
      const auto begun = machine.on(BeginRound{}, clock.now());
      if (const auto* finish = begun.empty() ? nullptr : std::get_if<FinishRun>(&begun.back()))
        return finish->stopped;
      TERN_CHECK_OK(send_tasks(machine.round(), begun));
      TERN_TRY(const bool counted, collect(machine, clock));
      if (counted) TERN_CHECK_OK(publish(machine.round()));
      round_ = machine.round();
      if (stop) (void)machine.on(StopRequested{}, clock.now());
      std::optional<Evaluation> evaluation;
      for (const RoundAction& action : machine.on(RoundEnded{}, clock.now()))
        if (const auto* asked = std::get_if<EvaluateModel>(&action)) {
          TERN_TRY(evaluation, evaluate(asked->scheduled));
        }
      TERN_CHECK_OK(after_round(round_, evaluation ? &*evaluation : nullptr));
    }
  }

  /// Makes plans and downloads, and puts the clients' work in the queue.
  Status send_tasks(uint32_t round, const std::vector<RoundAction>& actions) {
    TERN_TRY(Codec up, codec_of_round(up_, scenario_.compression.error_feedback.warmup, round));
    const RoundPlan plan{.round = round,
                         .version = model_.version(),
                         .model_sha256 = model_.sha256(),
                         .schema_hash = data_->schema.hash(),
                         .run_seed = scenario_.seed,
                         .codec = up.spec(),
                         .training = scenario_.training,
                         .grid_bits = kGridBits,
                         .stale_after = scenario_.compression.error_feedback.stale_after};
    round_rules_.emplace(UpdateRules{.codec = std::move(up),
                                     .schema_hash = data_->schema.hash(),
                                     .elements = data_->schema.elements(),
                                     .round = round,
                                     .base_version = model_.version(),
                                     .norm_bound = scenario_.strategy.norm_bound,
                                     .largest_examples = largest_examples_,
                                     .weight_shift = fedavg_weight_shift(largest_examples_)});
    slots_.clear();
    for (const RoundAction& action : actions) {
      const auto* send = std::get_if<SendTask>(&action);
      if (send == nullptr) continue;
      TERN_TRY(ClientState state, store_.load(send->client));
      TERN_TRY(const Download download, model_.download(state.held_version, main_scratch_));
      auto slot = std::make_unique<TaskSlot>(send->client, data_->schema.hash(), std::move(state));
      slot->plan = {plan, {.task = send->task, .client = send->client, .download = download.kind}};
      std::vector<std::span<const std::byte>> frames;
      for (const SharedFrame& frame : download.frames) frames.emplace_back(*frame);
      slot->download = split_into_parts(transfer_kind(download.kind), send->task, frames);
      if (!slot->download.empty())
        sink_.on({"download_sent",
                  {{"round", int64_t{round}},
                   {"client", int64_t{send->client}},
                   {"bytes", static_cast<int64_t>(total_bytes(slot->download))},
                   {"dense_bytes", static_cast<int64_t>(4 * data_->schema.elements())}}});
      slots_.push_back(std::move(slot));
    }
    // All answers come at one virtual time. Ties are broken by a draw: in the order of client
    // numbers over-selection would always drop the same clients.
    Rng ties(scenario_.seed, Purpose::kTies, round);
    ties.shuffle(std::span(slots_));
    for (const auto& slot : slots_)
      submit(WorkStage::kOther,
             [this, task = slot.get()](size_t worker) { do_task(worker, *task); });
    return {};
  }

  static TransferKind transfer_kind(DownloadKind kind) {
    return kind == DownloadKind::kSnapshot ? TransferKind::kSnapshot : TransferKind::kDeltas;
  }

  // ---- On a worker

  /// Plays the client's session up to its update, then the coordinator's receipt of it.
  void do_task(size_t index, TaskSlot& slot) {
    Worker& worker = *workers_[index];
    std::vector<SessionAction> actions = slot.session.on(slot.plan);
    // Each step leads to one more at most: the session waits for its answer.
    while (!actions.empty())
      actions =
          std::visit([&](const auto& action) { return carry_out(action, index, worker, slot); },
                     actions.front());
    if (slot.message) receive(worker, slot);
    clock_.book(index, WorkStage::kDecode);
    finish(slot);
  }

  std::vector<SessionAction> carry_out(const UpdateReplica& action, size_t index, Worker&,
                                       TaskSlot& slot) {
    Status status = check_download(action.kind, slot);
    clock_.book(index, WorkStage::kDecode);
    return slot.session.on(ReplicaUpdated{std::move(status)});
  }

  Status check_download(DownloadKind kind, const TaskSlot& slot) const {
    PartAssembler assembler(transfer_kind(kind), slot.plan.task.task,
                            std::numeric_limits<size_t>::max());
    for (const Bytes& part : slot.download) TERN_CHECK_OK(assembler.add(part));
    if ((kind == DownloadKind::kNothing) != slot.download.empty() ||
        (!slot.download.empty() && !assembler.complete()))
      return error(Code::kCorrupt, "the download of client {} is not whole", slot.plan.task.client);
    if (replica_.version() != slot.plan.plan.version)
      return error(Code::kInternal, "the fleet's replica is at version {}, the plan at {}",
                   replica_.version(), slot.plan.plan.version);
    return {};
  }

  std::vector<SessionAction> carry_out(const TrainLocally& action, size_t index, Worker& worker,
                                       TaskSlot& slot) {
    clock_.book(index, WorkStage::kOther);
    Result<TrainReport> report =
        worker.trainer->train(action.task, replica_.parameters(), worker.update);
    clock_.book(index, WorkStage::kTrain);
    return slot.session.on(TrainingDone{std::move(report)});
  }

  std::vector<SessionAction> carry_out(const EncodeAndStore& action, size_t index, Worker& worker,
                                       TaskSlot& slot) {
    Residual residual;
    if (action.codec.error_feedback()) {
      // A copy: what is aged for this task stays as it is if the task is rolled back.
      residual = slot.state.residual;
      residual.age(action.meta.round - slot.state.residual_round, action.stale_after);
    }
    Result<PendingUpdate> pending =
        encode_update(action.codec, action.meta, worker.update, residual, worker.scratch);
    Status status = pending ? Status() : std::move(pending).error();
    if (pending) slot.pending = *std::move(pending);
    clock_.book(index, WorkStage::kEncode);
    return slot.session.on(UpdateStored{std::move(status)});
  }

  std::vector<SessionAction> carry_out(const SendUpdate& action, size_t, Worker&, TaskSlot& slot) {
    const std::span<const std::byte> frame(slot.pending.frame);
    slot.upload = split_into_parts(TransferKind::kUpdate, action.message.task, {&frame, 1});
    slot.message = action.message;
    return {};
  }

  std::vector<SessionAction> carry_out(const ReportFailure& action, size_t, Worker&,
                                       TaskSlot& slot) {
    slot.failure = action.reason;
    return {};
  }

  // Verdicts are played on the main thread: see answer().
  std::vector<SessionAction> carry_out(const CommitResidual&, size_t, Worker&, TaskSlot&) {
    return {};
  }
  std::vector<SessionAction> carry_out(const RollBackResidual&, size_t, Worker&, TaskSlot&) {
    return {};
  }

  /// The coordinator's side of an upload: put together, dry decode.
  void receive(Worker& worker, TaskSlot& slot) {
    slot.check = [&]() -> Status {
      PartAssembler assembler(TransferKind::kUpdate, slot.message->task,
                              max_update_bytes(*round_rules_));
      for (const Bytes& part : slot.upload) TERN_CHECK_OK(assembler.add(part));
      if (!assembler.complete()) return error(Code::kCorrupt, "the update is not whole");
      slot.received = std::move(assembler).take();
      TERN_TRY(slot.update,
               check_update(*round_rules_, *slot.message, slot.received, worker.scratch));
      return {};
    }();
  }

  void finish(TaskSlot& slot) {
    const std::lock_guard lock(mutex_);
    slot.done = true;
    changed_.notify_all();
  }

  // ---- On the thread that owns the protocol state

  /// Hands the answers to the machine in the order of slots_. Gives whether the round
  /// counts.
  Result<bool> collect(RoundMachine& machine, const Clock& clock) {
    bool closed = false;
    for (auto& slot : slots_) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return slot->done; });
      }
      std::vector<RoundAction> actions;
      if (slot->message) {
        Event sent{"update_sent",
                   {{"round", int64_t{machine.round()}},
                    {"client", int64_t{slot->message->client}},
                    {"bytes", static_cast<int64_t>(total_bytes(slot->upload))},
                    {"dense_bytes", static_cast<int64_t>(4 * data_->schema.elements())},
                    {"loss", slot->message->report.mean_loss},
                    {"samples", static_cast<int64_t>(slot->message->report.samples_trained)}}};
        if (slot->update) sent.fields.emplace_back("norm", slot->update->frame.norm());
        sink_.on(sent);
        actions = machine.on(UpdateArrived{*slot->message, slot->check}, clock.now());
      } else {
        if (slot->failure.code() == Code::kOutOfRange || slot->failure.code() == Code::kInternal)
          // In one process a diverging model or a fault is worth stopping for.
          return std::move(slot->failure)
              .within(fmt::format("round {}, client {}", machine.round(), slot->plan.task.client));
        actions = machine.on(TaskFailed{slot->plan.task.task, slot->failure}, clock.now());
        TERN_CHECK_OK(put_back(*slot, false));
      }
      for (const RoundAction& action : actions) {
        if (std::holds_alternative<CloseRound>(action)) closed = true;
        if (const auto* refuse = std::get_if<RefuseUpdate>(&action))
          TERN_CHECK_OK(answer(
              *slot, {.task = refuse->message.task, .counted = false, .reason = refuse->reason}));
        if (const auto* count = std::get_if<CountUpdate>(&action)) {
          submit(WorkStage::kOther,
                 [this, task = slot.get()](size_t worker) { accumulate(worker, *task); });
          TERN_CHECK_OK(
              answer(*slot, {.task = count->message.task, .counted = true, .reason = {}}));
        }
      }
    }
    wait_for_jobs();  // also so that slots_ may go
    const std::lock_guard lock(mutex_);
    if (!job_failure_.ok()) return std::exchange(job_failure_, Status());
    return closed;
  }

  Status answer(TaskSlot& slot, Verdict verdict) {
    bool commit = false;
    for (const SessionAction& action : slot.session.on(VerdictArrived{std::move(verdict)}))
      if (std::holds_alternative<CommitResidual>(action)) commit = true;
    return put_back(slot, commit);
  }

  Status put_back(TaskSlot& slot, bool commit) {
    if (commit) {
      slot.state.residual.commit(std::move(slot.pending));
      slot.state.residual_round = slot.plan.plan.round;
    }
    slot.state.held_version = slot.plan.plan.version;
    slot.state.last_task_round = slot.session.last_task_round();
    return store_.save(slot.plan.task.client, std::move(slot.state));
  }

  void accumulate(size_t index, TaskSlot& slot) {
    Worker& worker = *workers_[index];
    Status status =
        decode_accumulate(slot.update->frame, slot.update->weight, 1.0, worker.scratch, worker.sum);
    clock_.book(index, WorkStage::kAggregate);
    if (status.ok()) return;
    const std::lock_guard lock(mutex_);
    job_failure_ = std::move(status);
  }

  Status publish(uint32_t round) {
    Status status;
    submit(WorkStage::kOther, [&](size_t index) { status = publish_on(index, round); });
    wait_for_jobs();
    TERN_CHECK_OK(status);
    sink_.on({"version_published",
              {{"round", int64_t{round}},
               {"version", int64_t{model_.version()}},
               {"delta_bytes", static_cast<int64_t>(last_delta_bytes_)},
               {"residual_norm", model_.residual_norm()}}});
    return {};
  }

  Status publish_on(size_t index, uint32_t round) {
    Worker& worker = *workers_[index];
    FixedPointAccumulator& sum = workers_.front()->sum;
    for (size_t w = 1; w < workers_.size(); ++w) {
      TERN_CHECK_OK(sum.merge(workers_[w]->sum));
      workers_[w]->sum.clear();
    }
    std::vector<float> step(data_->schema.elements());
    sum.mean(step);
    sum.clear();
    fedavg_step(scenario_.strategy, optimizer_, step);
    clock_.book(index, WorkStage::kAggregate);
    TERN_TRY(const Codec down,
             codec_of_round(down_, scenario_.compression.error_feedback.warmup_down, round));
    TERN_TRY(const SharedFrame delta, model_.publish(step, down, round, worker.scratch));
    last_delta_bytes_ = delta->size();
    clock_.book(index, WorkStage::kEncode);
    Status applied = apply_to_replica(*delta, worker.scratch);
    clock_.book(index, WorkStage::kDecode);
    return applied;
  }

  /// The clients' side of a publication: their code, the coordinator's frame, the hash compared.
  Status apply_to_replica(const Bytes& delta, CodecScratch& scratch) {
    const RoundPlan plan{
        .version = model_.version(), .model_sha256 = model_.sha256(), .grid_bits = kGridBits};
    return replica_.apply(plan, DownloadKind::kDeltas, delta, scratch);
  }

  Result<std::optional<Evaluation>> evaluate(bool scheduled) {
    std::vector<EvaluationPart> parts(workers_.front()->evaluator->part_count());
    if (parts.empty()) return std::optional<Evaluation>();  // no test data, no figures
    std::vector<Status> statuses(parts.size());
    for (size_t part = 0; part < parts.size(); ++part)
      submit(WorkStage::kOther, [&, part](size_t index) {
        Result<EvaluationPart> result =
            workers_[index]->evaluator->evaluate(model_.parameters(), part);
        if (result)
          parts[part] = *std::move(result);
        else
          statuses[part] = std::move(result).error();
        clock_.book(index, WorkStage::kEvaluate);
      });
    wait_for_jobs();
    for (Status& status : statuses) TERN_CHECK_OK(std::move(status));
    Evaluation evaluation =
        summarize_evaluation(parts, data_->data.test.labels,
                             static_cast<uint32_t>(data_->data.shape.classes), test_clients_);
    sink_.on({"model_evaluated",
              {{"round", int64_t{round_}},
               {"scheduled", int64_t{scheduled}},
               {"accuracy", evaluation.accuracy},
               {"loss", evaluation.loss}}});
    return std::optional(std::move(evaluation));
  }

  void submit(WorkStage rest, ThreadPool::Job job) {
    {
      const std::lock_guard lock(mutex_);
      ++jobs_;
    }
    pool_.submit([this, rest, work = std::move(job)](size_t worker) {
      clock_.book(worker, WorkStage::kIdle);
      work(worker);
      clock_.book(worker, rest);
      const std::lock_guard lock(mutex_);
      if (--jobs_ == 0) changed_.notify_all();
    });
  }

  void wait_for_jobs() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return jobs_ == 0; });
  }

  const Scenario scenario_;
  const std::shared_ptr<const LearningData> data_;
  const std::vector<std::vector<uint32_t>> test_clients_;
  const uint32_t largest_examples_;
  const Codec up_;
  const Codec down_;
  // Protocol state: the main thread's, or a single job's while the main thread waits for it.
  VersionedModel model_;
  Replica replica_;
  ServerOptimizerState optimizer_;
  std::optional<UpdateRules> round_rules_;        // of the round at hand
  std::vector<std::unique_ptr<TaskSlot>> slots_;  // of the round at hand; jobs read them
  MemoryClientStore store_;
  CodecScratch main_scratch_;
  uint32_t round_ = 0;
  size_t last_delta_bytes_ = 0;
  std::vector<std::unique_ptr<Worker>> workers_;
  WorkClock clock_;
  EventSink& sink_;

  std::mutex mutex_;  // guards jobs_, job_failure_ and TaskSlot::done
  std::condition_variable changed_;
  size_t jobs_ = 0;
  Status job_failure_;
  ThreadPool pool_;  // last: joins before anything it uses goes
};

}  // namespace

Result<std::unique_ptr<Fleet>> Fleet::make(const PreparedScenario& prepared, size_t workers,
                                           EventSink& sink) {
  const Scenario& scenario = prepared.scenario;
  const ParameterSchema& schema = prepared.data->schema;
  TERN_TRY(Codec up, Codec::parse(scenario.compression.up));
  TERN_TRY(Codec down, Codec::parse(scenario.compression.down));
  std::vector<float> version_zero(schema.elements());
  initialize_parameters(schema, scenario.seed, kGridBits, version_zero);
  std::vector<std::unique_ptr<Worker>> made;
  for (size_t i = 0; i < workers; ++i) {
    auto worker = std::make_unique<Worker>();
    TERN_TRY(worker->trainer, make_trainer(prepared.data));
    TERN_TRY(worker->evaluator, make_evaluator(prepared.data));
    TERN_TRY(worker->sum, FixedPointAccumulator::make(schema.elements(), prepared.bounds));
    worker->update.resize(schema.elements());
    made.push_back(std::move(worker));
  }
  auto fleet = std::make_unique<InProcessFleet>(prepared, std::move(up), std::move(down),
                                                std::move(version_zero), std::move(made), sink);
  if (!prepared.initial.empty()) TERN_CHECK_OK(fleet->publish_initial(prepared.initial));
  return std::unique_ptr<Fleet>(std::move(fleet));
}

}  // namespace tern
