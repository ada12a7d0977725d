/// What tests of whole sessions share: a virtual clock on which every machine has its own wall
/// clock and speed, connections that break when told, and clients whose "training" adds a constant,
/// so that the model a run must end with can be worked out by hand.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/virtual_loop.h"
#include "client/client_session.h"
#include "client/device_work.h"
#include "proto/messages.h"
#include "proto/net/memory_transport.h"

namespace tern {

/// Tests stop in 2026.
inline constexpr int64_t kWallClock = 1'795'000'000;

/// A run that takes longer than this hangs.
inline constexpr Duration kLongestRun = std::chrono::hours(24);

inline SecretKey test_key(int number) {
  SecretKey::Secret curve{}, signing{};
  curve[0] = signing[0] = static_cast<std::byte>(number);
  curve[1] = signing[1] = std::byte{7};
  return SecretKey::from_secrets(curve, signing);
}

inline PeerKey peer_key(uint32_t number) {
  PeerKey key{};
  store(key.data(), number);
  key[31] = std::byte{1};
  return key;
}

/// A model of `elements` parameters.
inline ParameterSchema test_schema(int64_t elements) {
  return *ParameterSchema::make(
      {{"fc.weight", {elements - 4}, TensorKind::kWeight}, {"fc.bias", {4}, TensorKind::kBias}});
}

class EventLog : public EventSink {
 public:
  void on(const Event& event) override {
    events_.push_back({std::string(event.name), {}});
    for (const auto& [key, value] : event.fields)
      events_.back().fields.emplace_back(std::string(key), value);
  }
  int count(std::string_view name) const {
    return static_cast<int>(std::ranges::count(events_, name, &Entry::name));
  }
  /// The text in `field` of each event of that name, a line each.
  std::string texts(std::string_view name, std::string_view field = "reason") const {
    std::string all;
    for (const Entry& event : events_)
      if (event.name == name)
        for (const auto& [key, value] : event.fields)
          if (key == field) all += std::get<std::string>(value) + "\n";
    return all;
  }
  /// The numbers in `field` of each event of that name.
  std::vector<int64_t> numbers(std::string_view name, std::string_view field) const {
    std::vector<int64_t> all;
    for (const Entry& event : events_)
      if (event.name == name)
        for (const auto& [key, value] : event.fields)
          if (key == field) all.push_back(std::get<int64_t>(value));
    return all;
  }

 private:
  struct Entry {
    std::string name;
    std::vector<std::pair<std::string, EventValue>> fields;
  };
  std::vector<Entry> events_;
};

/// One machine's view of the loop.
class MachineLoop : public Loop {
 public:
  explicit MachineLoop(Loop& loop) : loop_(loop) {}

  int64_t clock_offset = 0;                   ///< seconds, of the wall clock
  Duration work_takes{};                      ///< of each piece of work, on the virtual clock
  std::function<Duration()> next_work_takes;  ///< asked instead, if it is there

  TimePoint now() const override { return loop_.now(); }
  int64_t unix_seconds() const override { return kWallClock + loop_.unix_seconds() + clock_offset; }
  void post(Callback callback) override { loop_.post(std::move(callback)); }
  TimerId call_at(TimePoint when, Callback callback) override {
    return loop_.call_at(when, std::move(callback));
  }
  void cancel(TimerId timer) override { loop_.cancel(timer); }
  void run(Work work, Callback done) override {
    const Duration takes = next_work_takes ? next_work_takes() : work_takes;
    loop_.run(std::move(work), [this, takes, then = std::move(done)] {
      if (takes == Duration{}) return then();
      loop_.call_at(loop_.now() + takes, then);
    });
  }

 private:
  Loop& loop_;
};

/// A connection that can be watched, and cut at any packet. A cut loses what is on its way, both
/// ways.
class CuttableTransport : public ClientTransport, private ClientTransport::Handler {
 public:
  /// `cut`: the packet is lost, and the connection with it.
  enum class Fate { kPass, kCut };
  using Watch = std::function<Fate(std::span<const std::byte>)>;

  CuttableTransport(MemoryNetwork& network, Loop& loop, const PeerKey& key)
      : network_(network), loop_(loop), key_(key) {}

  Watch on_way_in, on_way_out;
  int dials = 0;
  std::vector<Message> said;  ///< by the client, in order
  uint64_t part_bytes_in = 0, part_bytes_out = 0;

  void connect(ClientTransport::Handler& handler) override {
    ++dials;
    handler_ = &handler;
    inner_ = network_.client(key_);
    inner_->connect(*this);
  }
  Status send(Bytes packet) override {
    if (!inner_) return {Code::kNotFound, "there is no connection"};
    if (on_way_out && on_way_out(packet) == Fate::kCut) {
      cut();
      return {};
    }
    const PacketContent content = open_packet(packet);
    part_bytes_out += content.part.size();
    if (!content.message.empty()) said.push_back(*parse_message(content.message));
    return inner_->send(std::move(packet));
  }
  void disconnect() override {
    ++generation_;
    if (inner_) inner_->disconnect();
    inner_.reset();
  }

  void cut() {
    inner_.reset();
    loop_.post([this, generation = ++generation_] {
      if (generation == generation_) handler_->on_lost({Code::kIo, "the cable was cut"});
    });
  }

 private:
  void on_connected() override { handler_->on_connected(); }
  void on_packet(std::span<const std::byte> packet) override {
    if (on_way_in && on_way_in(packet) == Fate::kCut) return cut();
    part_bytes_in += open_packet(packet).part.size();
    handler_->on_packet(packet);
  }
  void on_lost(const Status& reason) override { handler_->on_lost(reason); }

  MemoryNetwork& network_;
  Loop& loop_;
  const PeerKey key_;
  ClientTransport::Handler* handler_ = nullptr;
  std::unique_ptr<ClientTransport> inner_;
  uint64_t generation_ = 0;
};

/// The type of a packet's message: an alternative of Message, or nothing for a part alone.
template <typename T>
const T* as(const std::optional<Message>& message) {
  return message ? std::get_if<T>(&*message) : nullptr;
}
inline std::optional<Message> read(std::span<const std::byte> packet) {
  const Result<Message> message = parse_message(open_packet(packet).message);
  return message ? std::optional(*message) : std::nullopt;
}

/// What client `client` adds to parameter i in each task: exact in float32, in any sum of a test.
inline float constant_update(uint32_t client, size_t i) {
  return static_cast<float>(client + 1) * static_cast<float>(1 + i % 4) / 4096;
}

/// What a test wants to happen while clients train, and what happened.
struct TrainingLog {
  std::vector<TrainTask> tasks;
  std::function<Status(const TrainTask&)> fail;  ///< may say that training fails
};

class ConstantTrainer : public Trainer {
 public:
  ConstantTrainer(const ParameterSchema& schema, uint32_t examples, TrainingLog& log)
      : schema_(schema), examples_(examples), log_(log) {}
  const ParameterSchema& schema() const override { return schema_; }
  Result<TrainReport> train(const TrainTask& task, std::span<const float>,
                            std::span<float> update) override {
    log_.tasks.push_back(task);
    if (log_.fail) TERN_CHECK_OK(log_.fail(task));
    for (size_t i = 0; i < update.size(); ++i) update[i] = constant_update(task.client, i);
    return TrainReport{
        .examples = examples_, .samples_trained = examples_, .steps = 1, .mean_loss = 0.5};
  }

 private:
  const ParameterSchema& schema_;
  uint32_t examples_;
  TrainingLog& log_;
};

/// Of 10 examples of class 0 it recognizes as many as its client's number, and takes the others for
/// class 1.
class NumberedEvaluator : public Evaluator {
 public:
  static constexpr uint32_t kExamples = 10;
  explicit NumberedEvaluator(uint32_t client) : client_(client) {}
  size_t part_count() const override { return 2; }
  Result<EvaluationPart> evaluate(std::span<const float>, size_t part) override {
    EvaluationPart result;
    for (uint32_t i = 0; i < kExamples / 2; ++i) {
      result.predicted.push_back(part * kExamples / 2 + i < client_ ? 0 : 1);
      result.loss.push_back(0.25f * static_cast<float>(client_));
    }
    return result;
  }

 private:
  uint32_t client_;
};

struct TestClientOptions {
  uint32_t examples = 8;  ///< 0: nothing to train on
  bool evaluates = false;
  const PublicKey* server = nullptr;  ///< another key to trust than the coordinator's
  uint64_t schema_hash = 0;           ///< another than the model's
  std::optional<Duration> give_up_after = {};
};

/// A client as the daemon makes it, but for its sockets and its training.
class TestClient {
 public:
  TestClient(VirtualLoop& its_loop, MemoryNetwork& network, const ParameterSchema& schema,
             const PublicKey& server, const PeerKey& key, TestClientOptions options = {})
      : loop(its_loop),
        transport(network, its_loop, key),
        work(schema,
             [this, &schema, options](const Welcome& welcome) -> Result<DeviceData> {
               ++loads;
               if (load_fails) return error(Code::kInvalidArgument, "there are no such data");
               DeviceData data{.test_labels = std::vector<uint32_t>(NumberedEvaluator::kExamples),
                               .classes = 2,
                               .examples = options.examples};
               if (options.examples > 0)
                 data.trainer =
                     std::make_unique<ConstantTrainer>(schema, options.examples, training);
               if (options.evaluates)
                 data.evaluator = std::make_unique<NumberedEvaluator>(welcome.client);
               return data;
             }),
        setup_{.schema_hash = options.schema_hash != 0 ? options.schema_hash : schema.hash(),
               .plans = std::make_shared<PlanCheck>(options.server ? *options.server : server),
               .give_up_after = options.give_up_after} {}

  void start() {
    session = ClientSession::make(setup_, loop, transport, work, store, events,
                                  [this](Status status) { finished = std::move(status); });
    session->start();
  }
  /// What the client remembers; while no task is under way.
  const ClientState& state(uint32_t number) const { return store.all().at(number); }
  template <typename T>
  std::vector<T> said() const {
    std::vector<T> all;
    for (const Message& message : transport.said)
      if (const T* one = std::get_if<T>(&message)) all.push_back(*one);
    return all;
  }

  MachineLoop loop;
  CuttableTransport transport;
  TrainingLog training;
  std::atomic<int> loads = 0;  ///< counted where the work is done, read by the test
  bool load_fails = false;
  DeviceWork work;
  MemoryClientStore store;
  EventLog events;
  std::unique_ptr<ClientSession> session;
  std::optional<Status> finished;

 private:
  ClientSetup setup_;
};

/// A peer that says whatever a test wants.
class RawPeer : public ClientTransport::Handler {
 public:
  RawPeer(MemoryNetwork& network, const PeerKey& key) : transport_(network.client(key)) {}

  std::function<void()> when_connected;
  std::function<void(const Message&)> when_told;
  std::function<void(std::span<const std::byte>)> when_sent_a_part;
  std::vector<Message> told;
  std::vector<std::string> losses;

  void connect() { transport_->connect(*this); }
  Status say(const Message& message) { return transport_->send(to_packet(message)); }
  Status send(Bytes packet) { return transport_->send(std::move(packet)); }
  void disconnect() { transport_->disconnect(); }
  template <typename T>
  std::vector<T> heard() const {
    std::vector<T> all;
    for (const Message& message : told)
      if (const T* one = std::get_if<T>(&message)) all.push_back(*one);
    return all;
  }

 private:
  void on_connected() override {
    if (when_connected) when_connected();
  }
  void on_packet(std::span<const std::byte> packet) override {
    const PacketContent content = open_packet(packet);
    if (!content.message.empty()) {
      const Result<Message> message = parse_message(content.message);
      ASSERT_TRUE(message) << message.error().describe();
      told.push_back(*message);
      if (when_told) when_told(*message);
    }
    if (!content.part.empty() && when_sent_a_part) when_sent_a_part(content.part);
  }
  void on_lost(const Status& reason) override { losses.push_back(reason.describe()); }

  std::unique_ptr<ClientTransport> transport_;
};

}  // namespace tern
