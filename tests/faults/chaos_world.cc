#include "tests/faults/chaos_world.h"

#include <sys/resource.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <random>
#include <set>

#include "base/bytes.h"
#include "base/thread_pool.h"
#include "base/virtual_loop.h"
#include "client/client_session.h"
#include "client/device_work.h"
#include "config/model_card.h"
#include "coordinator/coordinator.h"
#include "coordinator/run_replay.h"
#include "proto/net/memory_transport.h"

namespace tern {
namespace {

constexpr uint32_t kClients = 100, kRounds = 10;
constexpr int64_t kElements = 1000;
/// Clients take what a clock is off by as long as it is less than 300 s.
constexpr double kClockError = 200;
constexpr int64_t kWallClock = 1'795'000'000;
constexpr Duration kLongestRun = std::chrono::hours(24 * 30);
constexpr uint64_t kRunId = 0xC4A05;

/// What a seed has in store. Probabilities are of each packet or each write.
struct Weather {
  double loss = 0, repeats = 0, disk_fault = 0;
  double latency = 0;           ///< seconds, at most
  double coordinator_life = 0;  ///< seconds, on average; 0: it isn't killed
  double client_life = 0;       ///< likewise, of all clients together
  bool partial = false;         ///< over-selection and deadlines
  bool keyframes = false;       ///< on the way down
  std::string schedule = "synchronous";
};

class Chance {
 public:
  explicit Chance(uint64_t seed) : generator_(seed) {}
  double uniform() { return static_cast<double>(generator_() >> 11) * 0x1p-53; }
  bool happens(double probability) { return uniform() < probability; }
  Duration within(double seconds) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds * uniform()));
  }
  Duration about(double seconds) {
    return std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(-seconds * std::log1p(-uniform())));
  }
  uint32_t below(uint32_t limit) { return static_cast<uint32_t>(uniform() * limit); }

 private:
  std::mt19937_64 generator_;
};

Weather draw_weather(uint64_t seed, Chance& chance) {
  return {.loss = 0.3 * chance.uniform(),
          .repeats = 0.5 * chance.uniform(),
          .disk_fault = chance.happens(0.5) ? 0.01 * chance.uniform() : 0,
          .latency = chance.happens(0.5) ? 0.05 : 2.0,
          .coordinator_life = 2 + 60 * chance.uniform(),
          .client_life = 0.5 + 10 * chance.uniform(),
          .partial = seed % 3 == 2,
          .keyframes = seed % 4 == 1,
          .schedule = seed % 9 == 5   ? "late-credit"
                      : seed % 9 == 8 ? "fedbuff"
                                      : "synchronous"};
}

[[noreturn]] void give_up(const Status& status) {
  if (when_a_seed_cannot_go_on) when_a_seed_cannot_go_on(status);
  std::fprintf(stderr, "chaos: %s\n", status.describe().c_str());
  std::_Exit(1);
}
void need(const Status& status) {
  if (!status.ok()) give_up(status);
}
template <typename T>
T need(Result<T> result) {
  if (!result) give_up(result.error());
  return *std::move(result);
}

/// While it is there, writes beyond the first page of a file fail (EFBIG).
class FullDisk {
 public:
  FullDisk() {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit page{.rlim_cur = 4096, .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &page);
  }
  ~FullDisk() { ::setrlimit(RLIMIT_FSIZE, &before_); }
  FullDisk(const FullDisk&) = delete;

 private:
  rlimit before_{};
};

/// One life of a process: after its end nothing of it is called back any more. Work is done in
/// this thread; a kill comes before it, or after it and before anybody hears of it. With the
/// probability `disk_fault` the disk takes no more than a page of any file meanwhile.
class Life : public Loop {
 public:
  explicit Life(Loop& world, Chance& chance, double disk_fault = 0, int64_t clock_error = 0)
      : world_(world), chance_(chance), disk_fault_(disk_fault), clock_error_(clock_error) {}
  ~Life() override { *alive_ = false; }

  TimePoint now() const override { return world_.now(); }
  int64_t unix_seconds() const override {
    return kWallClock + clock_error_ + world_.unix_seconds();
  }
  void post(Callback callback) override { world_.post(guarded(std::move(callback))); }
  TimerId call_at(TimePoint when, Callback callback) override {
    return world_.call_at(when, guarded(std::move(callback)));
  }
  void cancel(TimerId timer) override { world_.cancel(timer); }
  void run(Work work, Callback done) override {
    call_at(now() + chance_.within(0.02), [this, work = std::move(work), done = std::move(done)] {
      {
        const std::optional<FullDisk> fault =
            chance_.happens(disk_fault_) ? std::optional<FullDisk>(std::in_place) : std::nullopt;
        work(0);
      }
      call_at(now() + chance_.within(0.02), done);
    });
  }

 private:
  Callback guarded(Callback callback) {
    return [alive = alive_, callback = std::move(callback)] {
      if (*alive) callback();
    };
  }
  Loop& world_;
  Chance& chance_;
  const double disk_fault_;
  const int64_t clock_error_;  // seconds
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

/// A client's connection through the weather. Packets of one connection stay in order, as the
/// transport's contract says.
class RoughTransport : public ClientTransport, private ClientTransport::Handler {
 public:
  RoughTransport(MemoryNetwork& network, Life& life, Chance& chance, const Weather& weather,
                 const PeerKey& key)
      : network_(network), life_(life), chance_(chance), weather_(weather), key_(key) {}

  void connect(ClientTransport::Handler& handler) override {
    handler_ = &handler;
    ++generation_;
    in_until_ = out_until_ = life_.now();
    inner_ = network_.client(key_);
    inner_->connect(*this);
  }
  Status send(Bytes packet) override {
    if (!inner_) return {Code::kNotFound, "there is no connection"};
    const int times = 1 + chance_.happens(weather_.repeats);
    for (int i = 0; i < times; ++i)
      later(out_until_, [this, packet] {
        if (inner_) (void)inner_->send(packet);
      });
    return {};
  }
  void disconnect() override {
    ++generation_;
    if (inner_) inner_->disconnect();
    inner_.reset();
  }

 private:
  /// After a while, unless the packet is lost and its connection with it.
  void later(TimePoint& until, Loop::Callback deliver) {
    until = std::max(until, life_.now() + chance_.within(weather_.latency));
    const bool lost = chance_.happens(weather_.loss);
    life_.call_at(until, [this, lost, generation = generation_, deliver = std::move(deliver)] {
      if (generation != generation_) return;
      if (!lost) return deliver();
      on_lost({Code::kIo, "the cable was cut"});
    });
  }
  void on_connected() override { handler_->on_connected(); }
  void on_packet(std::span<const std::byte> packet) override {
    const int times = 1 + chance_.happens(weather_.repeats);
    for (int i = 0; i < times; ++i)
      later(in_until_,
            [this, bytes = Bytes(packet.begin(), packet.end())] { handler_->on_packet(bytes); });
  }
  void on_lost(const Status& reason) override {
    ++generation_;
    life_.post([gone = std::shared_ptr<ClientTransport>(std::move(inner_))] {
    });  // not from within its own call
    handler_->on_lost(reason);
  }

  MemoryNetwork& network_;
  Life& life_;
  Chance& chance_;
  const Weather& weather_;
  const PeerKey key_;
  ClientTransport::Handler* handler_ = nullptr;
  std::unique_ptr<ClientTransport> inner_;
  uint64_t generation_ = 0;
  TimePoint in_until_{}, out_until_{};
};

/// Half of it is drawn for client and round, half leads back to zero: a client with another model,
/// or with another residual, leads to another one.
class DrawnTrainer : public Trainer {
 public:
  explicit DrawnTrainer(const ParameterSchema& schema) : schema_(schema) {}
  const ParameterSchema& schema() const override { return schema_; }
  Result<TrainReport> train(const TrainTask& task, std::span<const float> base,
                            std::span<float> update) override {
    std::mt19937_64 generator(uint64_t{task.client} << 32 | task.round);
    for (size_t i = 0; i < update.size(); ++i)
      update[i] = static_cast<float>(static_cast<double>(generator() >> 40) * 0x1p-24 - 0.5) / 64 -
                  base[i] / 16;
    return TrainReport{
        .examples = 1 + task.client % 7, .samples_trained = 8, .steps = 1, .mean_loss = 0.5};
  }

 private:
  const ParameterSchema& schema_;
};

/// A device's disk: what was saved outlives the process.
class Disk : public ClientStore {
 public:
  Result<ClientState> load(uint32_t) override { return state_; }
  Status save(uint32_t, ClientState state) override {
    state_ = std::move(state);
    models_ = held();
    return {};
  }
  std::function<HeldModels()> held;
  const HeldModels& kept() const { return models_; }

 private:
  ClientState state_;
  HeldModels models_;
};

/// All events of a seed as one number, and who was told what.
class Witness : public EventSink {
 public:
  void on(const Event& event) override {
    add(event.name);
    for (const auto& [key, value] : event.fields) {
      add(key);
      std::visit(
          [this](const auto& v) {
            if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::string>)
              add(v);
            else
              add({reinterpret_cast<const char*>(&v), sizeof v});
          },
          value);
    }
    if (event.name == "verdict_received" && event.number("counted") == 1)
      told.emplace(static_cast<uint32_t>(event.number("round")),
                   static_cast<uint32_t>(event.number("client")));
    refused += event.name == "update_refused";
  }
  uint64_t refused = 0;
  uint64_t trace = 0xcbf29ce484222325;
  std::set<std::pair<uint32_t, uint32_t>> told;  ///< rounds and clients

 private:
  void add(std::string_view bytes) {
    for (const char c : bytes) trace = (trace ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
};

class World {
 public:
  World(uint64_t seed, const Weather& weather, std::string folder)
      : weather_(weather),
        chance_(seed),
        folder_(std::move(folder)),
        schema_(*ParameterSchema::make({{"fc.weight", {kElements - 4}, TensorKind::kWeight},
                                        {"fc.bias", {4}, TensorKind::kBias}})),
        pool_(1),
        loop_(pool_),
        network_(loop_, [](const PeerKey&) { return true; }) {
    scenario_.seed = 1;
    scenario_.rounds = kRounds;
    scenario_.fleet = {.clients = kClients, .cohort = kClients, .min_updates = kClients};
    if (weather_.partial)
      scenario_.fleet = {.clients = kClients,
                         .cohort = 50,
                         .schedule = weather_.schedule,
                         .over_select = 1.4,
                         .min_updates = 40,
                         .deadline_seconds = 0.5 + 8 * chance_.uniform()};
    scenario_.model.name = "chaos";
    scenario_.compression.up = scenario_.compression.down = "ef | topk:0.05 | ternary | rice";
    if (weather_.keyframes) {
      scenario_.compression.down = "topk:0.02 | ternary | rice";
      scenario_.compression.keyframe = "ef | topk:0.05 | ternary | rice";
      scenario_.compression.keyframe_every = {3};
    }
    scenario_.strategy.server_momentum = 0.5;
    scenario_.strategy.server_average_every = 4;
    scenario_.evaluation.every = 1u << 30;
    SecretKey::Secret curve{}, signing{};
    curve[0] = signing[0] = std::byte{1};
    key_.emplace(SecretKey::from_secrets(curve, signing));
    plans_ = std::make_shared<PlanCheck>(key_->public_key());
    clients_.resize(kClients);
  }

  Outcome run() {
    std::filesystem::remove_all(folder_);
    start_coordinator();
    for (uint32_t i = 0; i < kClients; ++i) start_client(i);
    if (weather_.coordinator_life > 0) next_coordinator_kill();
    if (weather_.client_life > 0) next_client_kill();
    need(loop_.run_until([this] { return over_ || loop_.now() > kLongestRun; }));
    if (!over_) give_up(error(Code::kInternal, "the run hangs in round {}", round_));
    Outcome outcome = outcome_;
    outcome.trace = witness_.trace;
    outcome.virtual_seconds = seconds(loop_.now());
    outcome.served_hash = to_hex(server_.coordinator->model().sha256());
    for (Client& client : clients_) client = {};
    server_ = {};
    judge(outcome);
    std::filesystem::remove_all(folder_);
    return outcome;
  }

 private:
  struct Server {
    std::unique_ptr<Life> life;
    std::unique_ptr<RunLog> log;
    std::unique_ptr<Coordinator> coordinator;
  };
  struct Client {
    std::unique_ptr<Disk> disk;  // outlives the rest
    std::unique_ptr<Life> life;
    std::unique_ptr<RoughTransport> transport;
    std::unique_ptr<DeviceWork> work;
    std::unique_ptr<ClientSession> session;
  };

  std::string journal() const { return fmt::format("{}/{}", folder_, lives_); }

  void start_coordinator() {
    Journal opened = need(Journal::open(journal()));
    std::unique_ptr<RunState> state =
        need(RunState::make({.scenario = scenario_, .schema = schema_, .clients = kClients}));
    ReplayedRun replayed = need(replay(opened, *state, {}));
    const auto clock_error = static_cast<int64_t>(kClockError * (2 * chance_.uniform() - 1));
    server_.life = std::make_unique<Life>(loop_, chance_, weather_.disk_fault, clock_error);
    server_.log = std::make_unique<RunLog>(std::move(opened), 0);
    CoordinatorSetup setup{.scenario = scenario_, .schema = schema_};
    setup.classes = 2;
    setup.clients = kClients;
    setup.membership = [](const PeerKey& key) {
      return std::optional(Member{.number = load<uint32_t>(key.data())});
    };
    setup.run_id = kRunId;
    setup.largest_examples = 7;
    setup.everyone_is_there = true;
    setup.evaluate_by = EvaluateBy::kNobody;
    setup.log = server_.log.get();
    setup.state = std::move(state);
    setup.replayed = std::move(replayed);
    CoordinatorHooks hooks;
    hooks.after_round = [this](uint32_t round, const Evaluation*) {
      round_ = round;
      return Status();
    };
    // A disk that fails from here until the coordinator is started again.
    hooks.finished = [this](const Result<bool>& ended) {
      if (ended) {
        over_ = true;
      } else {
        ++outcome_.disk_faults;
        loop_.post([this] { kill_coordinator(); });
      }
    };
    server_.coordinator = need(Coordinator::make(std::move(setup), std::move(hooks), *server_.life,
                                                 network_.server(), *key_, witness_));
    network_.set_server_up(true);
    server_.coordinator->start();
  }

  void kill_coordinator() {
    if (over_) return;
    network_.set_server_up(false);
    // What a kill leaves, and not what closing the database does to it.
    const std::string before = journal();
    ++lives_;
    std::filesystem::copy(before, journal());  // the files of this folder
    // Blobs never change once they have their names.
    using std::filesystem::copy_options;
    std::filesystem::copy(before + "/blobs", journal() + "/blobs",
                          copy_options::recursive | copy_options::create_hard_links);
    server_ = {};
    std::filesystem::remove_all(before);
    loop_.call_at(loop_.now() + chance_.within(1), [this] { start_coordinator(); });
  }

  void next_coordinator_kill() {
    loop_.call_at(loop_.now() + chance_.about(weather_.coordinator_life), [this] {
      if (over_) return;
      if (server_.coordinator) {
        ++outcome_.coordinator_kills;
        kill_coordinator();
      }
      next_coordinator_kill();
    });
  }

  void start_client(uint32_t number) {
    Client& client = clients_[number];
    if (!client.disk) client.disk = std::make_unique<Disk>();
    PeerKey key{};
    store(key.data(), number);
    key[31] = std::byte{1};
    client.life = std::make_unique<Life>(loop_, chance_);
    client.transport =
        std::make_unique<RoughTransport>(network_, *client.life, chance_, weather_, key);
    client.work = std::make_unique<DeviceWork>(schema_, [this](const Welcome& welcome) {
      DeviceData data{.classes = 2, .examples = 1 + welcome.client % 7};
      data.trainer = std::make_unique<DrawnTrainer>(schema_);
      return Result<DeviceData>(std::move(data));
    });
    client.work->keep_models(client.disk->kept());
    client.disk->held = [work = client.work.get()] { return work->models(); };
    ClientSetup setup{.schema_hash = schema_.hash(), .plans = plans_, .number = number};
    setup.jitter_seed = number;
    client.session =
        ClientSession::make(std::move(setup), *client.life, *client.transport, *client.work,
                            *client.disk, witness_, [](const Status& status) {
                              if (!status.ok()) give_up(status);
                            });
    client.session->start();
  }

  void next_client_kill() {
    loop_.call_at(loop_.now() + chance_.about(weather_.client_life), [this] {
      if (over_) return;
      const uint32_t number = chance_.below(kClients);
      Client& client = clients_[number];
      if (client.session) {
        ++outcome_.client_kills;
        client.life.reset();  // nothing calls it back any more
        client.session.reset();
        client.transport.reset();
        client.work.reset();
        loop_.call_at(loop_.now() + chance_.within(5), [this, number] {
          if (!over_) start_client(number);
        });
      }
      next_client_kill();
    });
  }

  /// What the journal says of the run, from its first row.
  void judge(Outcome& outcome) {
    Journal opened = need(Journal::open(journal()));
    const std::unique_ptr<RunState> state =
        need(RunState::make({.scenario = scenario_, .schema = schema_, .clients = kClients}));
    std::set<std::pair<uint32_t, uint32_t>> counted;
    ReplayOptions options{.from_start = true};
    options.round_ended = [&](const ReplayedRound& round) {
      outcome.void_rounds += !round.version;
      for (size_t i = 0; i < round.counted.size(); ++i)
        outcome.doubled += !counted.emplace(round.asked_in[i], round.counted[i]).second;
    };
    const Result<ReplayedRun> replayed = replay(opened, *state, options);
    outcome.replays = replayed && replayed->ended_rounds == kRounds;
    outcome.hash = to_hex(state->model().sha256());
    outcome.late = witness_.refused;
    outcome.partial = weather_.partial;
    outcome.keyframes = weather_.keyframes;
    for (const auto& verdict : witness_.told) outcome.lost += !counted.contains(verdict);
  }

  const Weather weather_;
  Chance chance_;
  const std::string folder_;
  const ParameterSchema schema_;
  Scenario scenario_;
  std::optional<SecretKey> key_;
  std::shared_ptr<PlanCheck> plans_;
  Witness witness_;
  ThreadPool pool_;
  VirtualLoop loop_;
  MemoryNetwork network_;
  Server server_;
  std::vector<Client> clients_;
  uint32_t lives_ = 0, round_ = 0;
  bool over_ = false;
  Outcome outcome_;
};

}  // namespace

std::function<void(const Status&)> when_a_seed_cannot_go_on;

Outcome run_undisturbed(bool keyframes, const std::string& folder) {
  return World(0, Weather{.keyframes = keyframes}, folder).run();
}

Outcome run_seed(uint64_t seed, const std::string& folder) {
  Chance chance(seed);
  const Weather weather = draw_weather(seed, chance);
  return World(seed, weather, folder).run();
}

}  // namespace tern
