#include "coordinator/daemon/coordinator_daemon.h"

#include <asio/signal_set.hpp>
#include <csignal>
#include <filesystem>
#include <random>
#include <thread>

#include "base/durable_file.h"
#include "base/safetensors.h"
#include "base/thread_pool.h"
#include "config/chain_fit.h"
#include "config/deployment.h"
#include "config/model_card.h"
#include "coordinator/client_registry.h"
#include "coordinator/coordinator.h"
#include "coordinator/daemon/initial_model.h"
#include "coordinator/daemon/open_run.h"
#include "coordinator/views/metrics.h"
#include "coordinator/views/run_folder.h"
#include "coordinator/views/summary.h"
#include "proto/net/asio_loop.h"
#include "proto/net/zmq_server.h"

namespace tern {

namespace {

/// How long clients get to take what was sent last.
constexpr Duration kFarewell = std::chrono::seconds(1);

/// Runs, too, are told apart by more than their seed: a client's memory is of one run.
uint64_t random_run_id() {
  std::random_device source;
  return uint64_t{source()} << 32 | source() | 1;
}

EvaluateBy evaluate_by(const std::string& name) {
  if (name == "attached") return EvaluateBy::kAttached;
  return name == "none" ? EvaluateBy::kNobody : EvaluateBy::kClients;
}

/// The list of clients as it is now: read again on SIGHUP.
class Members {
 public:
  Members(std::string file, ClientRegistry registry)
      : file_(std::move(file)), registry_(std::move(registry)) {
    number_evaluators();
  }

  uint32_t clients() const { return registry_.clients(); }
  std::vector<double> uplinks() const {
    std::vector<double> rates;
    rates.reserve(clients());
    for (uint32_t number = 0; number < clients(); ++number)
      rates.push_back(registry_.client(number)->uplink);
    return rates;
  }
  std::optional<Member> find(const PeerKey& key) const {
    const RegisteredPeer* const peer = registry_.find(key);
    if (peer == nullptr || peer->revoked) return std::nullopt;
    if (peer->role == RegisteredPeer::Role::kClient) return Member{.number = peer->number};
    return Member{.evaluator = true, .number = evaluators_.at(key)};
  }
  /// Errors: the list stays as it was.
  Status reload() {
    TERN_TRY(ClientRegistry registry, ClientRegistry::load(file_));
    if (registry.clients() != registry_.clients())
      return Status(Code::kInvalidArgument,
                    fmt::format("has {} clients, this run began with {}: who comes new takes part "
                                "in the next run",
                                registry.clients(), registry_.clients()),
                    {.file = file_});
    for (const RegisteredPeer& peer : registry.peers()) {
      const RegisteredPeer* const before = registry_.find(peer.key.curve);
      if (before != nullptr && before->number != peer.number)
        return Status(Code::kInvalidArgument,
                      "a client has another number than before: lines must not be reordered during "
                      "a run",
                      {.file = file_, .line = peer.line});
    }
    registry_ = std::move(registry);
    number_evaluators();
    return {};
  }

 private:
  void number_evaluators() {
    evaluators_.clear();
    uint32_t number = registry_.clients();
    for (const RegisteredPeer& peer : registry_.peers())
      if (peer.role == RegisteredPeer::Role::kEvaluator) evaluators_[peer.key.curve] = number++;
  }

  std::string file_;
  ClientRegistry registry_;
  std::map<PeerKey, uint32_t> evaluators_;
};

/// What one run of the daemon is made of; members in the order in which they need each other.
class Daemon {
 public:
  Daemon(const Scenario& scenario, ParameterSchema schema, Members members, SecretKey key,
         RunFolder folder)
      : scenario_(scenario),
        schema_(std::move(schema)),
        members_(std::move(members)),
        key_(std::move(key)),
        folder_(std::move(folder)),
        metrics_(scenario.target),
        work_clock_(std::max(1u, std::thread::hardware_concurrency())),
        pool_(std::make_unique<ThreadPool>(
            std::max(1u, std::thread::hardware_concurrency()),
            ThreadPool::Hooks{
                .job_begins = [this](size_t w) { work_clock_.book(w, WorkStage::kIdle); },
                .job_ended = [this](size_t w) { work_clock_.book(w, WorkStage::kOther); }})),
        loop_(*pool_) {
    events_.add(metrics_);
  }
  ~Daemon() { pool_.reset(); }  // first: its jobs use all the rest

  Status open(std::vector<float> initial, uint32_t classes,
              const CoordinatorDaemonOptions& options) {
    TERN_TRY(OpenRun run, open_run(folder_.file(kJournalFolder), scenario_, schema_,
                                   {.clients = members_.clients(),
                                    .uplinks = members_.uplinks(),
                                    .initial = initial,
                                    .workers = pool_->size()}));
    const bool goes_on = run.replayed.origin.has_value();
    if (goes_on && run.replayed.ended_rounds >= scenario_.rounds &&
        std::filesystem::exists(folder_.file("summary.json")))
      return Status(Code::kInUse, "the folder already holds a finished run; choose another one",
                    {.file = scenario_.server.state_dir});
    const uint64_t run_id = goes_on ? run.replayed.origin->run_id : random_run_id();
    events_.add(log_.emplace(stderr, fmt::format("{:016x}", run_id),
                             LogOptions{.least = options.log_level}));
    run_log_.emplace(std::move(run.journal), scenario_.server.keep_rounds);
    if (goes_on) TERN_CHECK_OK(go_on(run.replayed));
    ZmqServerOptions server{.listen = scenario_.server.listen};
    server.own = {key_.public_key().curve, key_.curve_secret()};
    server.allow = [this](const PeerKey& peer) { return members_.find(peer).has_value(); };
    server.without_zap_handler_for_test = options.without_zap_handler;
    server.refused = [this](const RefusedPeer& peer) {
      events_.on({"handshake_refused",
                  {{"address", peer.address},
                   {"key", to_hex(peer.key).substr(0, 16)},
                   {"reason", "its key is not on the list, or was revoked"}}});
    };
    TERN_TRY(server_, ZmqServer::open(loop_, std::move(server)));
    CoordinatorSetup setup{.scenario = scenario_, .schema = schema_};
    setup.classes = classes;
    setup.initial = std::move(initial);
    setup.clients = members_.clients();
    setup.uplinks = members_.uplinks();
    setup.membership = [this](const PeerKey& peer) { return members_.find(peer); };
    setup.run_id = run_id;
    setup.log = &*run_log_;
    setup.state = std::move(run.state);
    setup.replayed = std::move(run.replayed);
    setup.workers = pool_->size();
    setup.largest_examples = scenario_.fleet.max_examples;
    setup.start_when = scenario_.server.start_when;
    setup.everyone_is_there = false;
    setup.plan_lifetime = std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(scenario_.server.plan_lifetime_seconds));
    setup.evaluate_by = evaluate_by(scenario_.server.evaluate);
    CoordinatorHooks hooks;
    hooks.after_round = [this](uint32_t, const Evaluation* evaluation) {
      return after_round(evaluation);
    };
    hooks.notes = [this] {
      return nlohmann::ordered_json{{"totals", to_json(metrics_.totals())},
                                    {"row", metrics_.rows().back()}};
    };
    hooks.book = [this](size_t worker, WorkStage stage) { work_clock_.book(worker, stage); };
    hooks.finished = [this](Result<bool> stopped) {
      stopped_ = std::move(stopped);
      loop_.call_at(loop_.now() + kFarewell, [this] { loop_.stop(); });
    };
    TERN_TRY(coordinator_,
             Coordinator::make(std::move(setup), std::move(hooks), loop_, *server_, key_, events_));
    TERN_CHECK_OK(folder_.begin_metrics(metrics_.rows()));
    return write_durably(folder_.file("scenario.toml"),
                         std::string_view(print_scenario(scenario_)));
  }

  Result<DaemonResult> run() {
    events_.on({"listening",
                {{"endpoint", server_->endpoint()},
                 {"clients", int64_t{members_.clients()}},
                 {"model", scenario_.model.name},
                 {"self_probe", "passed"}}});
    if (!scenario_.fleet.deadline_seconds)
      events_.on({"no_deadline",
                  {{"advice",
                    "without fleet.deadline a client that vanishes holds its round up until it is "
                    "back"}}});
    wait_for_signal();
    wait_for_hangup();
    coordinator_->start();
    loop_.run();
    pool_->wait_until_idle();
    if (!stopped_) return error(Code::kInternal, "the loop ended before the run");
    events_.on({"journal_written",
                {{"records", static_cast<int64_t>(run_log_->records())},
                 {"commits", static_cast<int64_t>(run_log_->commits())}}});
    // A run that failed leaves its results so far, too.
    DaemonResult result{.summary = summary(), .interrupted = *stopped_ && **stopped_};
    const Status written =
        write_results(folder_, {.scenario = scenario_,
                                .schema = schema_,
                                .model = coordinator_->model(),
                                .rows = metrics_.rows(),
                                .summary = result.summary,
                                .evaluation = evaluation_ ? &*evaluation_ : nullptr});
    if (!*stopped_) return stopped_->error();
    TERN_CHECK_OK(written);
    return result;
  }

 private:
  /// Takes up what the views knew of a run.
  Status go_on(const ReplayedRun& run) {
    const uint32_t first_kept = run.ended_rounds + 1 - static_cast<uint32_t>(run.notes.size());
    TERN_TRY(std::vector<nlohmann::ordered_json> rows, folder_.read_metrics(first_kept));
    for (const auto& notes : run.notes) rows.push_back(notes.at("row"));
    if (!run.last_notes.is_null()) {
      metrics_.restore(totals_from_json(run.last_notes.at("totals")), rows);
      wall_before_ = run.last_notes.at("row").at("seconds");
      wire_before_ = {.in = metrics_.totals().wire_up.value_or(0),
                      .out = metrics_.totals().wire_down.value_or(0)};
    }
    const JournalRecovery& recovery = run_log_->journal().recovery();
    if (recovery.unfinished_bytes > 0)
      events_.on({"journal_tail_dropped",
                  {{"bytes", static_cast<int64_t>(recovery.unfinished_bytes)},
                   {"meaning", "the last write was cut short; nobody was told of it"}}});
    events_.on({"run_recovered",
                {{"rounds", int64_t{run.ended_rounds}},
                 {"updates", static_cast<int64_t>(run.updates)},
                 {"open_round", int64_t{run.open ? run.open->round : 0}}}});
    return {};
  }

  Status after_round(const Evaluation* evaluation) {
    if (evaluation != nullptr) evaluation_ = *evaluation;
    const TcpBytes wire = server_->wire_bytes();
    events_.on({"wire_bytes",
                {{"up", static_cast<int64_t>(wire_before_.in + wire.in)},
                 {"down", static_cast<int64_t>(wire_before_.out + wire.out)}}});
    TERN_CHECK_OK(folder_.append(metrics_.finish_round(wall_seconds())));
    return keep_model();
  }

  double wall_seconds() const { return wall_before_ + seconds(loop_.now()); }

  /// Whatever ends this process, the newest version is there.
  Status keep_model() {
    const VersionedModel& model = coordinator_->model();
    if (model.version() == kept_version_) return {};
    kept_version_ = model.version();
    return write_model(folder_, schema_, model, scenario_.model.name);
  }

  nlohmann::ordered_json summary() const {
    std::vector<StageSeconds> spent = stage_seconds(work_clock_.totals());
    // Training and evaluation take the clients' time.
    std::erase_if(spent, [](const StageSeconds& stage) {
      return stage.stage == kWorkStageNames[static_cast<size_t>(WorkStage::kTrain)] ||
             stage.stage == kWorkStageNames[static_cast<size_t>(WorkStage::kEvaluate)];
    });
    return make_summary({.scenario = scenario_,
                         .totals = metrics_.totals(),
                         .rounds = coordinator_->round(),
                         .parameters = schema_.elements(),
                         .model_sha256 = coordinator_->model().sha256(),
                         .evaluation = evaluation_ ? &*evaluation_ : nullptr,
                         .wall_seconds = wall_seconds(),
                         .stage_seconds = spent,
                         .workers = pool_->size()});
  }

  void wait_for_signal() {
    signals_.async_wait([this](const asio::error_code& failure, int number) {
      if (failure) return;
      signals_.clear();  // the next one ends the program as usual
      events_.on({"signal", {{"name", number == SIGTERM ? "SIGTERM" : "SIGINT"}}});
      coordinator_->stop();
    });
  }

  void wait_for_hangup() {
    hangup_.async_wait([this](const asio::error_code& failure, int) {
      if (failure) return;
      const Status status = members_.reload();
      if (status.ok()) {
        events_.on({"clients_reloaded", {{"clients", int64_t{members_.clients()}}}});
        coordinator_->members_changed();
      } else {
        events_.on({"clients_not_reloaded", {{"reason", status.describe()}}});
      }
      wait_for_hangup();
    });
  }

  const Scenario scenario_;
  const ParameterSchema schema_;
  Members members_;
  const SecretKey key_;
  RunFolder folder_;
  std::optional<LogView> log_;
  std::optional<RunLog> run_log_;
  MetricsView metrics_;
  EventFan events_;
  WorkClock work_clock_;
  std::unique_ptr<ThreadPool> pool_;
  AsioLoop loop_;
  asio::signal_set signals_{loop_.context(), SIGTERM, SIGINT};
  asio::signal_set hangup_{loop_.context(), SIGHUP};
  std::unique_ptr<ZmqServer> server_;
  std::unique_ptr<Coordinator> coordinator_;
  std::optional<Result<bool>> stopped_;
  std::optional<Evaluation> evaluation_;
  uint32_t kept_version_ = 0;
  double wall_before_ = 0;  // of the run, before this process
  TcpBytes wire_before_{};
};

}  // namespace

Result<DaemonResult> run_coordinator(const LoadedScenario& loaded,
                                     const CoordinatorDaemonOptions& options) {
  Scenario scenario = loaded.scenario;
  TERN_CHECK_OK(check_server(scenario));
  TERN_TRY(const TaskShape shape, task_shape(scenario));
  TERN_TRY(ParameterSchema schema, model_schema(scenario.model, shape));
  TERN_CHECK_OK(check_chains(scenario.compression, schema));
  TERN_TRY(SecretKey key, SecretKey::load(scenario.server.key));
  TERN_TRY(ClientRegistry registry, ClientRegistry::load(scenario.server.clients));
  if (scenario.fleet.clients != 0 && scenario.fleet.clients != registry.clients())
    return Status(Code::kInvalidArgument,
                  fmt::format("is {}, but {} lists {}", scenario.fleet.clients,
                              scenario.server.clients, registry.clients()),
                  {.key = "fleet.clients"});
  scenario.fleet.clients = registry.clients();
  if (clients_asked(scenario.fleet) > registry.clients())
    return Status(Code::kInvalidArgument,
                  fmt::format("a round asks {} clients, {} lists {}", clients_asked(scenario.fleet),
                              scenario.server.clients, registry.clients()),
                  {.key = "fleet.cohort"});
  TERN_TRY(std::vector<float> initial, read_initial(scenario.model.initial, schema));
  raise_descriptor_limit();
  const std::string& state_dir = scenario.server.state_dir;
  const bool goes_on = std::filesystem::exists(fmt::format("{}/{}", state_dir, kJournalFolder));
  TERN_TRY(RunFolder folder,
           RunFolder::open(state_dir, goes_on ? RunStart::kJournal : RunStart::kNew));
  Daemon daemon(scenario, std::move(schema), Members(scenario.server.clients, std::move(registry)),
                std::move(key), std::move(folder));
  TERN_CHECK_OK(daemon.open(std::move(initial), static_cast<uint32_t>(shape.classes), options));
  return daemon.run();
}

}  // namespace tern
