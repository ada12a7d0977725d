// What somebody sees who records the network between a coordinator and its clients: nothing of
// models, updates, plans or software. The same search over the packets before they are encrypted
// finds all of it, so it can find something.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <unordered_map>

#include "base/bytes.h"
#include "base/rng.h"
#include "base/version.h"
#include "client/client_session.h"
#include "client/device_work.h"
#include "coordinator/coordinator.h"
#include "proto/net/zmq_client.h"
#include "proto/net/zmq_server.h"
#include "tests/proto/net/proxy.h"

namespace tern {
namespace {

constexpr uint32_t kClients = 3, kCohort = 2, kRounds = 6, kExamples = 16;
constexpr size_t kElements = 3000;
constexpr size_t kWindow = 16;  // floats
constexpr Duration kPatience = std::chrono::seconds(60);

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Everything that went one way or the other, in order.
using Record = std::string;

/// Finds pieces of many tensors in a record.
class TensorSearch {
 public:
  void add(const std::string& name, std::vector<float> values) {
    found_[name] = 0;
    tensors_.emplace_back(name, std::move(values));
  }
  /// How many runs of 16 floats of each tensor are in `record`, at any offset.
  std::map<std::string, size_t> in(const Record& record) const {
    struct Place {
      size_t tensor, first;
    };
    std::unordered_map<uint64_t, std::vector<Place>> places;  // by two floats
    for (size_t t = 0; t < tensors_.size(); ++t) {
      const std::vector<float>& values = tensors_[t].second;
      for (size_t i = 0; i + kWindow <= values.size(); ++i)
        places[load<uint64_t>(std::as_bytes(std::span(values)).data() + i * sizeof(float))]
            .push_back({t, i});
    }
    std::map<std::string, size_t> found = found_;
    constexpr size_t kBytes = kWindow * sizeof(float);
    for (size_t at = 0; at + kBytes <= record.size(); ++at) {
      const auto candidates =
          places.find(load<uint64_t>(reinterpret_cast<const std::byte*>(record.data() + at)));
      if (candidates == places.end()) continue;
      for (const Place& place : candidates->second) {
        const auto& [name, values] = tensors_[place.tensor];
        if (std::memcmp(record.data() + at, values.data() + place.first, kBytes) == 0)
          ++found[name];
      }
    }
    return found;
  }

 private:
  std::vector<std::pair<std::string, std::vector<float>>> tensors_;
  std::map<std::string, size_t> found_;  // all of them, with zeros
};

/// Pieces of 32 bytes that are in both: any content, whatever it means.
size_t common_pieces(const Record& a, const Record& b) {
  constexpr size_t kBytes = 32;
  const auto varied = [](std::string_view piece) {
    return std::set<char>(piece.begin(), piece.end()).size() >= kBytes / 2;
  };
  std::unordered_map<uint64_t, size_t> places;  // of every fourth piece of a
  for (size_t at = 0; at + kBytes <= a.size(); at += 4)
    if (varied(std::string_view(a).substr(at, kBytes)))
      places[load<uint64_t>(reinterpret_cast<const std::byte*>(a.data() + at))] = at;
  size_t common = 0;
  for (size_t at = 0; at + kBytes <= b.size(); ++at) {
    const auto place =
        places.find(load<uint64_t>(reinterpret_cast<const std::byte*>(b.data() + at)));
    common += place != places.end() && std::string_view(a).substr(place->second, kBytes) ==
                                           std::string_view(b).substr(at, kBytes);
  }
  return common;
}

class RecordingServer : public ServerTransport {
 public:
  RecordingServer(ServerTransport& inner, Record& record) : inner_(inner), record_(record) {}
  void start(Handler& handler) override { inner_.start(handler); }
  Status send(const Connection& to, Bytes packet) override {
    record_ += text_of(packet);
    return inner_.send(to, std::move(packet));
  }
  void drop(const Connection& connection) override { inner_.drop(connection); }
  TransportCounters counters() const override { return inner_.counters(); }

 private:
  ServerTransport& inner_;
  Record& record_;
};

class RecordingClient : public ClientTransport {
 public:
  RecordingClient(std::unique_ptr<ClientTransport> inner, Record& record)
      : inner_(std::move(inner)), record_(record) {}
  void connect(Handler& handler) override { inner_->connect(handler); }
  Status send(Bytes packet) override {
    record_ += text_of(packet);
    return inner_->send(std::move(packet));
  }
  void disconnect() override { inner_->disconnect(); }

 private:
  std::unique_ptr<ClientTransport> inner_;
  Record& record_;
};

/// Numbers that nobody meets by accident; different ones for each task. Their mean over two clients
/// of the same weight is on the grid of published models, so that a delta travels with the very
/// bits by which versions differ.
class RandomTrainer : public Trainer {
 public:
  using Told = std::function<void(const TrainTask&, std::span<const float>)>;
  RandomTrainer(const ParameterSchema& schema, Told told)
      : schema_(schema), told_(std::move(told)) {}
  const ParameterSchema& schema() const override { return schema_; }
  Result<TrainReport> train(const TrainTask& task, std::span<const float>,
                            std::span<float> update) override {
    Rng rng(task.seed, Purpose::kTest, task.round, task.client);
    for (float& value : update)
      value =
          static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(0.01 * rng.normal(), 19)), -19));
    told_(task, update);
    return TrainReport{.examples = kExamples, .samples_trained = kExamples, .steps = 1};
  }

 private:
  const ParameterSchema& schema_;
  Told told_;
};

struct Sink : EventSink {
  void on(const Event& event) override { ++seen[std::string(event.name)]; }
  std::map<std::string, int> seen;
};

/// A whole run through a proxy that records, and what was said in it.
class CaptureTest : public testing::Test {
 public:
  struct Device {
    SecretKey key;
    std::unique_ptr<DeviceWork> work;
    MemoryClientStore store;
    std::unique_ptr<RecordingClient> transport;
    std::unique_ptr<ClientSession> session;
    bool finished = false;
  };

  void run(const std::string& up, const std::string& down) {
    ThreadPool pool(1);
    AsioLoop loop(pool);
    const SecretKey server_key = *SecretKey::generate();
    const PublicKey& server_public = server_key.public_key();
    std::vector<Device> devices;
    std::map<PeerKey, uint32_t> numbers;
    for (uint32_t i = 0; i < kClients; ++i) {
      devices.push_back({*SecretKey::generate(), {}, {}, {}, {}});
      numbers[devices.back().key.public_key().curve] = i;
    }
    ZmqServerOptions options{.listen = "tcp://127.0.0.1:*"};
    options.own = {server_public.curve, server_key.curve_secret()};
    options.allow = [&](const PeerKey& key) { return numbers.contains(key); };
    const auto server = ZmqServer::open(loop, std::move(options));
    ASSERT_TRUE(server) << server.error().describe();
    const auto record = [this](std::vector<char>& piece, size_t) {
      captured.append(piece.data(), piece.size());
    };
    Proxy proxy(loop, port_of((*server)->endpoint()), record, record);
    RecordingServer recording(**server, packets);

    const ParameterSchema schema =
        *ParameterSchema::make({{"weights", {static_cast<int64_t>(kElements)}}});
    CoordinatorSetup setup{.schema = schema};
    setup.scenario.seed = 11;
    setup.scenario.rounds = kRounds;
    setup.scenario.fleet = {.clients = kClients, .cohort = kCohort, .min_updates = kCohort};
    setup.scenario.compression.up = up;
    setup.scenario.compression.down = down;
    setup.clients = kClients;
    setup.membership = [&](const PeerKey& key) {
      const auto found = numbers.find(key);
      return found == numbers.end() ? std::nullopt : std::optional(Member{.number = found->second});
    };
    setup.run_id = 1;
    setup.start_when = kClients;
    setup.everyone_is_there = false;
    setup.evaluate_by = EvaluateBy::kNobody;
    std::optional<Result<bool>> ended;
    std::unique_ptr<Coordinator> coordinator;
    std::vector<std::vector<float>> versions;
    const auto keep_version = [&] {
      const auto parameters = coordinator->model().parameters();
      versions.emplace_back(parameters.begin(), parameters.end());
      hashes.push_back(coordinator->model().sha256());
    };
    CoordinatorHooks hooks;
    hooks.after_round = [&](uint32_t, const Evaluation*) {
      keep_version();
      return Status();
    };
    hooks.finished = [&](Result<bool> stopped) { ended = std::move(stopped); };
    auto made =
        Coordinator::make(std::move(setup), std::move(hooks), loop, recording, server_key, sink);
    ASSERT_TRUE(made) << made.error().describe();
    coordinator = std::move(*made);
    keep_version();
    coordinator->start();

    const auto context = std::move(ZmqContext::open().value());
    for (Device& device : devices) {
      device.work = std::make_unique<DeviceWork>(schema, [&](const Welcome&) {
        return Result<DeviceData>(DeviceData{
            .trainer = std::make_unique<RandomTrainer>(
                schema,
                [this](const TrainTask& task, std::span<const float> update) {
                  tensors.add(fmt::format("update of client {}, round {}", task.client, task.round),
                              {update.begin(), update.end()});
                }),
            .evaluator = nullptr,
            .examples = kExamples});
      });
      device.transport = std::make_unique<RecordingClient>(
          std::make_unique<ZmqClient>(
              loop, *context,
              ZmqClientOptions{.server = proxy.endpoint(),
                               .server_key = server_public.curve,
                               .own = {device.key.public_key().curve, device.key.curve_secret()}}),
          packets);
      device.session = ClientSession::make(
          {.schema_hash = schema.hash(), .plans = std::make_shared<PlanCheck>(server_public)}, loop,
          *device.transport, *device.work, device.store, sink, [&device](const Status& status) {
            EXPECT_TRUE(status.ok()) << status.describe();
            device.finished = true;
          });
      device.session->start();
    }
    ASSERT_TRUE(loop.run_until(
        [&] { return ended && std::ranges::all_of(devices, [](auto& d) { return d.finished; }); },
        kPatience));
    ASSERT_TRUE(*ended) << ended->error().describe();
    ASSERT_EQ(versions.size(), kRounds + 1);
    EXPECT_EQ(sink.seen["round_closed"], static_cast<int>(kRounds));
    EXPECT_EQ(sink.seen["update_counted"], static_cast<int>(kRounds * kCohort));
    EXPECT_GT(captured.size(), packets.size());  // all of it passed here, with what encryption adds

    const auto add_difference = [&](const char* what, size_t to, size_t from) {
      std::vector<float> values(kElements);
      for (size_t i = 0; i < kElements; ++i) values[i] = versions[to][i] - versions[from][i];
      tensors.add(fmt::format("{} of version {}", what, to), std::move(values));
    };
    for (size_t v = 1; v < versions.size(); ++v) {
      add_difference("delta", v, v - 1);
      if (v > 1) add_difference("snapshot", v, 0);
      tensors.add(fmt::format("model of version {}", v), versions[v]);
    }
  }

  Record packets;   // as they were given to the transports
  Record captured;  // what the proxy saw, both ways
  TensorSearch tensors;
  std::vector<Digest> hashes;  // by version
  Sink sink;
};

TEST_F(CaptureTest, NothingOfADenseRunIsReadable) {
  ASSERT_NO_FATAL_FAILURE(run("float32", "float32"));

  const auto plain = tensors.in(packets);
  size_t snapshots = 0, deltas = 0, updates = 0;
  for (const auto& [name, runs] : plain) {
    if (name.starts_with("update")) {
      EXPECT_GE(runs, kElements - kWindow + 1) << name;
      ++updates;
    }
    if (name.starts_with("delta")) deltas += runs > 0;
    if (name.starts_with("snapshot")) snapshots += runs > 0;
  }
  EXPECT_EQ(updates, size_t{kRounds} * kCohort);
  EXPECT_GE(deltas, 2u);
  EXPECT_GE(snapshots, 1u);
  for (const auto& [name, runs] : tensors.in(captured)) EXPECT_EQ(runs, 0u) << name;
}

TEST_F(CaptureTest, NothingOfPlansAndGreetingsIsReadable) {
  const std::string up = "ef | topk:0.1 | ternary | rice";
  ASSERT_NO_FATAL_FAILURE(run(up, "ef | topk:0.05 | ternary | rice"));

  const std::string software = fmt::format("tern {}", kVersion);
  EXPECT_NE(packets.find(up), Record::npos);
  EXPECT_NE(packets.find(software), Record::npos);
  EXPECT_EQ(captured.find(up), Record::npos);
  EXPECT_EQ(captured.find("ternary"), Record::npos);
  EXPECT_EQ(captured.find(software), Record::npos);
  for (size_t version = 0; version < hashes.size(); ++version) {
    // Nobody is told of the last one, from which nothing is trained.
    if (version + 1 < hashes.size()) {
      EXPECT_NE(packets.find(text_of(hashes[version])), Record::npos) << version;
    }
    EXPECT_EQ(captured.find(text_of(hashes[version])), Record::npos) << version;
    EXPECT_EQ(captured.find(to_hex(hashes[version])), Record::npos) << version;
  }
}

TEST_F(CaptureTest, NoPieceOfAnyPacketIsThere) {
  ASSERT_NO_FATAL_FAILURE(run("rotate:1024 | eden:1", "ef | topk:0.05 | ternary | rice"));
  EXPECT_GT(common_pieces(packets, packets), packets.size() / 8);
  EXPECT_EQ(common_pieces(packets, captured), 0u);
}

}  // namespace
}  // namespace tern
