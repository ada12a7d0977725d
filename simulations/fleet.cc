#include "simulations/fleet.h"

#include <optional>
#include <unordered_map>

#include "base/thread_pool.h"
#include "client/client_session.h"
#include "config/model_card.h"
#include "coordinator/coordinator.h"
#include "simulations/devices.h"
#include "simulations/fleet_network.h"
#include "simulations/fleet_work.h"

namespace tern {

namespace {

/// Runs are told apart by clients that outlive one; here none does.
constexpr uint64_t kRunId = 1;

/// Clients of a simulation have nobody to tell what they do.
class NoSink : public EventSink {
 public:
  void on(const Event&) override {}
};

/// What the clients hold together.
HeldModels models_of(const VersionsState& state) {
  HeldModels models;
  const auto add = [&](uint32_t version, const SharedFloats& parameters) {
    models[version] = std::make_shared<const PublishedModel>(
        PublishedModel{.version = version, .parameters = *parameters});
  };
  for (const auto& [version, parameters] : state.bases)
    if (version > 0) add(version, parameters);
  add(state.version, state.parameters);
  return models;
}

/// A client that was asked at least once.
struct SimulatedClient {
  std::unique_ptr<ClientTransport> transport;
  std::unique_ptr<ClientSession> session;
};

class OneProcessFleet : public Fleet {
 public:
  OneProcessFleet(const PreparedScenario& prepared, const FleetOptions& options, SecretKey key,
                  ClientStore& memory, EventSink& sink)
      : options_(options),
        data_(prepared.data),
        test_clients_(prepared.test_clients),
        devices_(prepared.scenario, prepared.traces),
        key_(std::move(key)),
        plans_(std::make_shared<PlanCheck>(key_.public_key())),
        memory_(memory),
        sink_(sink),
        clock_(options.workers + options.elsewhere.size()),
        pool_(std::make_unique<ThreadPool>(
            options.workers + options.elsewhere.size(),
            ThreadPool::Hooks{
                .job_begins = [this](size_t worker) { clock_.book(worker, WorkStage::kIdle); },
                .job_ended = [this](size_t worker) { clock_.book(worker, WorkStage::kOther); }})) {}

  ~OneProcessFleet() override { pool_.reset(); }  // first: its jobs use all the rest

  Status open(const PreparedScenario& prepared) {
    const Scenario& scenario = prepared.scenario;
    const FleetTransport transport = options_.transport;
    for (size_t i = 0; i < options_.workers; ++i) {
      TERN_TRY(std::shared_ptr<LocalPlace> place, LocalPlace::make(data_));
      test_parts_ = place->part_count();
      places_.push_back(std::move(place));
    }
    places_.insert(places_.end(), options_.elsewhere.begin(), options_.elsewhere.end());
    std::vector<float> version_zero(data_->schema.elements());
    initialize_parameters(data_->schema, scenario.seed, kGridBits, version_zero);
    work_.emplace(data_, std::move(version_zero), places_,
                  transport == FleetTransport::kMemory ? &devices_ : nullptr, clock_,
                  scenario.fleet.asynchronous() ? scenario.fleet.max_staleness : 0);
    // Otherwise a late client could begin after its round, and a checkpoint would miss it.
    const bool all_are_waited_for = !scenario.fleet.asynchronous() &&
                                    clients_asked(scenario.fleet) == scenario.fleet.min_updates;
    TERN_TRY(network_, FleetNetwork::make(transport, key_, devices_, *pool_, all_are_waited_for));
    CoordinatorSetup setup{.scenario = scenario, .schema = data_->schema};
    setup.classes = static_cast<uint32_t>(data_->data.shape.classes);
    setup.initial = prepared.initial;
    setup.clients = data_->clients.clients();
    setup.membership = [this](const PeerKey& key) { return network_->member(key); };
    setup.run_id = kRunId;
    setup.workers = pool_->size();
    setup.largest_examples = prepared.largest_examples;
    may_leave_ = transport == FleetTransport::kMemory && !devices_.take_time() &&
                 !scenario.fleet.asynchronous();
    const bool come_and_go = transport == FleetTransport::kMemory && devices_.come_and_go();
    setup.everyone_is_there = !come_and_go;
    setup.uplinks = uplinks_of(prepared);
    for (uint32_t client = 0; client < setup.clients; ++client)
      setup.examples.push_back(data_->clients.examples(client));
    setup.stop_on_failure = true;
    time_is_virtual_ = transport == FleetTransport::kMemory && devices_.take_time();
    CoordinatorHooks hooks;
    hooks.evaluate = [this](bool, CoordinatorHooks::Evaluated done) { evaluate(std::move(done)); };
    hooks.after_round = [this](uint32_t round, const Evaluation* evaluation) {
      if (const auto wire = network_->wire_bytes())
        sink_.on({"wire_bytes",
                  {{"up", static_cast<int64_t>(wire->first)},
                   {"down", static_cast<int64_t>(wire->second)}}});
      say_time();
      if (may_leave_ && clients_.size() > options_.most_connected)
        network_->loop().post([this] { let_idle_ones_go(); });
      return (*after_round_)(round, evaluation);
    };
    if (come_and_go) {
      hooks.available = [this, clients = setup.clients] {
        return devices_.available(clients, network_->loop().now());
      };
      hooks.next_arrival = [this, clients = setup.clients] {
        return devices_.next_arrival(clients, network_->loop().now());
      };
    }
    hooks.wanted = [this](uint32_t client) { wake(client); };
    hooks.stop_requested = [this] { return stop_->load(); };
    hooks.book = [this](size_t worker, WorkStage stage) { clock_.book(worker, stage); };
    hooks.finished = [this](Result<bool> stopped) { end(std::move(stopped)); };
    TERN_TRY(coordinator_, Coordinator::make(std::move(setup), std::move(hooks), network_->loop(),
                                             network_->server(), key_, sink_));
    return {};
  }

  Status restore(FleetState state) override {
    network_->start_at(state.time);
    TERN_CHECK_OK(work_->restore(models_of(state.model)));
    return coordinator_->restore({.round = state.round,
                                  .model = std::move(state.model),
                                  .optimizer = std::move(state.optimizer),
                                  .rate = std::move(state.rate),
                                  .experiences = std::move(state.experiences)});
  }

  Result<bool> run(const std::atomic<bool>& stop, const RoundHook& after_round) override {
    stop_ = &stop;
    after_round_ = &after_round;
    clock_.start();
    coordinator_->start();
    const Status status = network_->run_until([this] { return ended_.has_value(); });
    pool_->wait_until_idle();
    clock_.stop();
    if (!status.ok()) return status;
    return *std::move(ended_);
  }

  uint32_t round() const override { return coordinator_->round(); }
  const VersionedModel& model() const override { return coordinator_->model(); }
  const ParameterSchema& schema() const override { return data_->schema; }
  FleetState state() const override {
    CoordinatorState coordinator = coordinator_->state();
    return {.round = coordinator.round,
            .time = time_is_virtual_ ? network_->loop().now() : Duration{},
            .model = std::move(coordinator.model),
            .optimizer = std::move(coordinator.optimizer),
            .rate = std::move(coordinator.rate),
            .experiences = std::move(coordinator.experiences)};
  }
  WorkSeconds seconds() const override {
    pool_->wait_until_idle();
    return clock_.totals();
  }

 private:
  void end(Result<bool> stopped) {
    if (!ended_) ended_ = std::move(stopped);
  }

  /// A client comes into being when it is first asked.
  void wake(uint32_t number) {
    if (clients_.contains(number)) return;  // on its way
    Result<std::unique_ptr<ClientTransport>> transport = network_->client(number);
    if (!transport) return end(tl::unexpected(std::move(transport).error()));
    SimulatedClient& client = clients_[number];
    client.transport = *std::move(transport);
    client.session = ClientSession::make(
        {.schema_hash = data_->schema.hash(), .plans = plans_, .number = number}, network_->loop(),
        *client.transport, *work_, memory_, no_sink_, [this](Status status) {
          if (!status.ok()) end(tl::unexpected(std::move(status)));
        });
    client.session->start();
  }

  void let_idle_ones_go() {
    std::erase_if(clients_, [this](const auto& client) {
      if (!client.second.session->idle() || !coordinator_->let_go(client.first)) return false;
      client.second.session->stop();
      return true;
    });
  }

  void say_time() {
    if (time_is_virtual_)
      sink_.on({"virtual_time", {{"seconds", tern::seconds(network_->loop().now())}}});
  }

  void evaluate(CoordinatorHooks::Evaluated done) {
    say_time();
    struct Progress {
      std::vector<EvaluationPart> parts;
      Status status;
      size_t open = 0;
      CoordinatorHooks::Evaluated done;
    };
    auto progress = std::make_shared<Progress>();
    progress->parts.resize(test_parts_);
    progress->open = progress->parts.size();
    progress->done = std::move(done);
    if (progress->open == 0) {  // no test data, no figures
      network_->loop().post([progress] { progress->done(std::optional<Evaluation>()); });
      return;
    }
    for (size_t part = 0; part < progress->parts.size(); ++part) {
      auto result = std::make_shared<Result<EvaluationPart>>(EvaluationPart{});
      network_->loop().run(
          [this, part, result](size_t worker) {
            const VersionedModel& model = coordinator_->model();
            *result = places_[worker]->evaluate({model.parameters(), model.sha256()}, part);
            clock_.book(worker, WorkStage::kEvaluate);
          },
          [this, part, progress, result] {
            if (*result)
              progress->parts[part] = **std::move(result);
            else
              progress->status = std::move(*result).error();
            if (--progress->open > 0) return;
            if (!progress->status.ok())
              return progress->done(tl::unexpected(std::move(progress->status)));
            progress->done(std::optional<Evaluation>(
                summarize_evaluation(progress->parts, data_->data.test.labels,
                                     static_cast<uint32_t>(data_->data.shape.classes),
                                     test_clients_, data_->data.test.labels_each)));
          });
    }
  }

  const FleetOptions options_;
  const std::shared_ptr<const LearningData> data_;
  const std::vector<std::vector<uint32_t>> test_clients_;
  const Devices devices_;
  bool time_is_virtual_ = false;
  bool may_leave_ = false;  // without a difference to who is counted
  const SecretKey key_;
  const std::shared_ptr<PlanCheck> plans_;
  ClientStore& memory_;  // of the clients
  EventSink& sink_;
  NoSink no_sink_;
  WorkClock clock_;
  std::unique_ptr<ThreadPool> pool_;
  std::vector<std::shared_ptr<WorkPlace>> places_;  // one for each worker
  size_t test_parts_ = 0;                           // of an evaluation
  std::optional<FleetWork> work_;
  std::unique_ptr<FleetNetwork> network_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unordered_map<uint32_t, SimulatedClient> clients_;
  const std::atomic<bool>* stop_ = nullptr;
  const RoundHook* after_round_ = nullptr;
  std::optional<Result<bool>> ended_;
};

}  // namespace

Result<std::unique_ptr<Fleet>> Fleet::make(const PreparedScenario& prepared,
                                           const FleetOptions& options, ClientStore& memory,
                                           EventSink& sink) {
  TERN_TRY(SecretKey key, SecretKey::generate());
  auto fleet = std::make_unique<OneProcessFleet>(prepared, options, std::move(key), memory, sink);
  TERN_CHECK_OK(fleet->open(prepared));
  return std::unique_ptr<Fleet>(std::move(fleet));
}

}  // namespace tern
