/// A run in one thread: a coordinator and its clients over a transport in memory, on a virtual
/// clock. A run that stands still or takes a virtual day fails its test.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "config/model_card.h"
#include "coordinator/coordinator.h"
#include "tests/client/test_client.h"

namespace tern {

struct FederationOptions {
  uint32_t clients = 4;
  uint32_t cohort = 0;  ///< 0: all clients
  double over_select = 1.0;
  uint32_t min_updates = 0;  ///< 0: the cohort
  uint32_t rounds = 3;
  std::optional<double> deadline_seconds = {};
  uint32_t evaluate_every = 0;
  EvaluateBy evaluate_by = EvaluateBy::kNobody;
  std::string up = "float32", down = "float32";
  std::string keyframe = {};
  std::vector<uint32_t> keyframe_every = {};
  int64_t elements = 24;
  std::optional<uint32_t> start_when = {};  ///< default: all clients
  uint32_t largest_examples = 0;
  uint32_t evaluators = 0;
  bool everyone_is_there = false;
  size_t workers = 1;
  RateControlConfig rate_control = {};
  std::vector<double> uplinks = {};
  std::vector<WarmUpStep> warmup = {};
  uint32_t joins_per_s = 500;
  std::string_view schedule = "synchronous";
  uint32_t max_staleness = 20;
  std::string_view selection = "uniform";
  std::optional<double> deadline_quantile = {};
};

class Federation {
 public:
  explicit Federation(FederationOptions its_options = {})
      : options(std::move(its_options)),
        schema(test_schema(options.elements)),
        pool_(options.workers),
        loop(pool_),
        machine(loop),
        network(loop, [](const PeerKey&) { return true; }) {
    for (uint32_t i = 0; i < options.clients; ++i) members[peer_key(i)] = {.number = i};
    for (uint32_t i = 0; i < options.evaluators; ++i)
      members[peer_key(100 + i)] = {.evaluator = true, .number = options.clients + i};
  }
  ~Federation() { pool_.wait_until_idle(); }

  Scenario scenario() const {
    Scenario scenario{.seed = 5, .rounds = options.rounds};
    scenario.fleet.clients = options.clients;
    scenario.fleet.cohort = options.cohort != 0 ? options.cohort : options.clients;
    scenario.fleet.over_select = options.over_select;
    scenario.fleet.min_updates =
        options.min_updates != 0 ? options.min_updates : scenario.fleet.cohort;
    scenario.fleet.deadline_seconds = options.deadline_seconds;
    scenario.fleet.schedule = options.schedule;
    scenario.fleet.max_staleness = options.max_staleness;
    scenario.fleet.selection = options.selection;
    scenario.fleet.deadline_quantile = options.deadline_quantile;
    scenario.model.name = "constant";
    scenario.compression.up = options.up;
    scenario.compression.down = options.down;
    scenario.compression.keyframe = options.keyframe;
    scenario.compression.keyframe_every = options.keyframe_every;
    scenario.compression.rate_control = options.rate_control;
    scenario.compression.error_feedback.warmup = options.warmup;
    scenario.evaluation.every = options.evaluate_every;
    scenario.server.joins_per_s = options.joins_per_s;
    return scenario;
  }

  /// Makes the coordinator; once, before anything runs. `prepare` may change its setup.
  void open(CoordinatorHooks hooks = {},
            const std::function<void(CoordinatorSetup&)>& prepare = {}) {
    CoordinatorSetup setup{.scenario = scenario(), .schema = schema};
    setup.classes = 2;
    setup.clients = options.clients;
    setup.membership = [this](const PeerKey& peer) -> std::optional<Member> {
      const auto found = members.find(peer);
      return found == members.end() ? std::nullopt : std::optional(found->second);
    };
    setup.run_id = kRunId;
    setup.uplinks = options.uplinks;
    setup.workers = options.workers;
    setup.largest_examples = options.largest_examples;
    setup.start_when = options.start_when.value_or(options.clients);
    setup.everyone_is_there = options.everyone_is_there;
    setup.evaluate_by = options.evaluate_by;
    if (prepare) prepare(setup);
    hooks.after_round = [this, then = hooks.after_round](uint32_t round,
                                                         const Evaluation* evaluation) -> Status {
      ++rounds_ended;
      if (evaluation != nullptr) evaluations.push_back(*evaluation);
      return then ? then(round, evaluation) : Status();
    };
    hooks.finished = [this](Result<bool> stopped) { ended = std::move(stopped); };
    Result<std::unique_ptr<Coordinator>> made = Coordinator::make(
        std::move(setup), std::move(hooks), machine, network.server(), key, events);
    ASSERT_TRUE(made) << made.error().describe();
    coordinator = *std::move(made);
  }
  TestClient& add_client(uint32_t number, TestClientOptions client_options = {}) {
    return add_client_with_key(peer_key(number), client_options);
  }
  TestClient& add_client_with_key(const PeerKey& peer, TestClientOptions client_options = {}) {
    clients.push_back(std::make_unique<TestClient>(loop, network, schema, key.public_key(), peer,
                                                   client_options));
    return *clients.back();
  }
  /// All that aren't there yet.
  void add_clients() {
    for (auto i = static_cast<uint32_t>(clients.size()); i < options.clients; ++i) add_client(i);
  }
  /// Starts whoever has not been started.
  void start() {
    if (!coordinator) open();
    ASSERT_NE(coordinator, nullptr);
    started = true;
    coordinator->start();
    for (const auto& client : clients)
      if (!client->session) client->start();
  }
  bool run_until(const std::function<bool()>& over) {
    const Status status = loop.run_until([&] { return over() || loop.now() > kLongestRun; });
    return status.ok() && over();
  }
  /// To the end of the run, and until the clients have heard of it.
  void run() {
    if (!started) start();
    ASSERT_TRUE(run_until([this] { return ended.has_value(); })) << "the run hangs";
    ASSERT_TRUE(*ended) << ended->error().describe();
    const TimePoint farewell = loop.now() + std::chrono::seconds(1);
    loop.call_at(farewell, [] {});
    (void)run_until([&] { return loop.now() >= farewell; });
  }
  void run_for(Duration time) {
    const TimePoint until = loop.now() + time;
    loop.call_at(until, [] {});
    (void)run_until([&] { return loop.now() >= until; });
  }

  /// What the model must be after updates have been summed: version 0 + `rounds` times the mean of
  /// these clients' constants. Exact where the mean is a multiple of 2^-20.
  std::vector<float> expected(const std::vector<uint32_t>& counted, uint32_t rounds) const {
    std::vector<float> parameters(schema.elements());
    initialize_parameters(schema, scenario().seed, kGridBits, parameters);
    for (size_t i = 0; i < parameters.size(); ++i) {
      double sum = 0;
      for (const uint32_t client : counted) sum += double{constant_update(client, i)};
      parameters[i] += static_cast<float>(rounds * sum / static_cast<double>(counted.size()));
    }
    return parameters;
  }
  std::vector<float> parameters() const {
    const auto published = coordinator->model().parameters();
    return {published.begin(), published.end()};
  }

  static constexpr uint64_t kRunId = 0xABCD;

  const FederationOptions options;
  const ParameterSchema schema;
  const SecretKey key = test_key(1);
  EventLog events;

 private:
  ThreadPool pool_;

 public:
  VirtualLoop loop;
  MachineLoop machine;  ///< the coordinator's
  MemoryNetwork network;
  std::map<PeerKey, Member> members;
  std::unique_ptr<Coordinator> coordinator;
  std::vector<std::unique_ptr<TestClient>> clients;
  bool started = false;
  int rounds_ended = 0;
  std::vector<Evaluation> evaluations;
  std::optional<Result<bool>> ended;
};

}  // namespace tern
