// How much a coordinator can take in: many light clients, without LibTorch, over real encrypted
// sockets on loopback. Two processes, one the coordinator and one all the clients; beside it, in
// the same run, raw CURVE sockets that move the same parts between two processes and do nothing
// else. Prints one JSON object.
//
//   fleet_load [CLIENTS [ROUNDS [ELEMENTS [CODEC]]]]      default: 500 10 6500 float32 (26 KB an
//   update)
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/thread_pool.h"
#include "compression/updates/error_feedback.h"
#include "coordinator/coordinator.h"
#include "proto/messages.h"
#include "proto/net/asio_loop.h"
#include "proto/net/tcp_info.h"
#include "proto/net/zmq_client.h"
#include "proto/net/zmq_server.h"
#include "proto/transfer.h"

namespace tern {
namespace {

constexpr int kRepeats = 3;

struct Load {
  uint32_t clients = 500;
  uint32_t rounds = 10;
  size_t elements = 6500;
  std::string codec = "float32";
};

[[noreturn]] void give_up(const Status& status) {
  std::fprintf(stderr, "fleet_load: %s\n", status.describe().c_str());
  std::_Exit(1);
}
template <typename T>
T need(Result<T> result) {
  if (!result) give_up(result.error());
  return *std::move(result);
}
void need(const Status& status) {
  if (!status.ok()) give_up(status);
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto total = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return total(usage.ru_utime) + total(usage.ru_stime);
}

ParameterSchema schema_of(size_t elements) {
  return need(ParameterSchema::make({{"weights", {static_cast<int64_t>(elements)}}}));
}

/// A client that does no work: it answers every plan at once with a frame that is made once a
/// round. What is measured is the coordinator.
class LightClient : public ClientTransport::Handler {
 public:
  struct Shared {
    Load load;
    uint64_t schema_hash = 0;
    Loop& loop;
    uint32_t round = 0;
    SharedFrame frame;
    std::vector<double> acks;  // seconds from an update to its verdict
    uint32_t finished = 0;
  };
  LightClient(Shared& shared, std::unique_ptr<ClientTransport> transport)
      : shared_(shared), transport_(std::move(transport)) {
    transport_->connect(*this);
  }

  void on_connected() override { send(Hello{.schema_hash = shared_.schema_hash}); }
  void on_lost(const Status& reason) override { give_up(reason); }
  void on_packet(std::span<const std::byte> packet) override {
    if (is_part(packet)) return;  // of a download, which it doesn't look at
    const Message message = need(parse_message(packet));
    if (const auto* welcome = std::get_if<Welcome>(&message)) {
      number_ = welcome->client;
      send(Ready{.examples = 10});
    } else if (const auto* plan = std::get_if<PlanMessage>(&message)) {
      const SharedFrame frame = frame_of(need(parse_plan(plan->plan.payload)));
      sent_ = shared_.loop.now();
      send(UpdateMessage{.task = plan->task.task,
                         .client = number_,
                         .report = {.examples = 10, .samples_trained = 10, .steps = 1}});
      OutgoingTransfer transfer(TransferKind::kUpdate, plan->task.task, {frame});
      need(transfer.pump([this](Bytes part) { return transport_->send(std::move(part)); }));
    } else if (const auto* verdict = std::get_if<Verdict>(&message)) {
      if (!verdict->counted) give_up(verdict->reason);
      shared_.acks.push_back(seconds(shared_.loop.now() - sent_));
    } else if (std::holds_alternative<Goodbye>(message)) {
      ++shared_.finished;
    }
  }

 private:
  void send(const Message& message) { need(transport_->send(to_packet(message))); }
  SharedFrame frame_of(const RoundPlan& plan) {
    if (shared_.round != plan.round) {
      const Codec codec = need(Codec::parse(plan.codec));
      CodecScratch scratch;
      const std::vector<float> update(shared_.load.elements, 1.0f / 1024);
      PendingUpdate pending = need(encode_update(
          codec, {.base_version = plan.version, .round = plan.round, .seed = plan.round},
          schema_of(shared_.load.elements), update, {}, scratch));
      shared_.frame = std::make_shared<const Bytes>(std::move(pending.frame));
      shared_.round = plan.round;
    }
    return shared_.frame;
  }

  Shared& shared_;
  std::unique_ptr<ClientTransport> transport_;
  uint32_t number_ = 0;
  TimePoint sent_{};
};

struct Keys {
  SecretKey server;
  std::vector<SecretKey> clients;
};

/// All clients in one process, until the run is finished. Writes p50 and p99 in seconds to `out`.
void run_clients(const Load& load, const Keys& keys, const std::string& endpoint, int out) {
  ThreadPool pool(1);
  AsioLoop loop(pool);
  raise_descriptor_limit();
  const auto context = need(ZmqContext::open());
  LightClient::Shared shared{
      .load = load, .schema_hash = schema_of(load.elements).hash(), .loop = loop, .frame = {}};
  std::vector<std::unique_ptr<LightClient>> clients;
  clients.reserve(load.clients);
  for (const SecretKey& key : keys.clients)
    clients.push_back(std::make_unique<LightClient>(
        shared, std::make_unique<ZmqClient>(
                    loop, *context,
                    ZmqClientOptions{.server = endpoint,
                                     .server_key = keys.server.public_key().curve,
                                     .own = {key.public_key().curve, key.curve_secret()}})));
  (void)loop.run_until([&] { return shared.finished == load.clients; }, std::chrono::minutes(5));
  auto& times = shared.acks;
  std::ranges::sort(times);
  const double figures[2] = {times[times.size() / 2], times[times.size() * 99 / 100]};
  if (::write(out, figures, sizeof figures) != sizeof figures) std::_Exit(1);
}

class RoundCounter : public EventSink {
 public:
  explicit RoundCounter(const Clock& clock) : clock_(clock) {}
  void on(const Event& event) override {
    if (event.name == "round_started" && event.number("round") == 1) {
      began = clock_.now();
      cpu = cpu_seconds();
    }
    if (event.name == "update_sent") bytes += static_cast<uint64_t>(event.number("bytes"));
    if (event.name == "update_counted") ++updates;
  }
  TimePoint began{};
  double cpu = 0;
  uint64_t bytes = 0;
  uint64_t updates = 0;

 private:
  const Clock& clock_;
};

/// The coordinator's side; waits for the clients' process.
nlohmann::ordered_json run_tern(const Load& load, const Keys& keys) {
  int results[2], where[2];
  if (::pipe(results) != 0 || ::pipe(where) != 0) std::_Exit(1);
  const pid_t child = ::fork();
  if (child == 0) {
    char endpoint[256] = {};
    if (::read(where[0], endpoint, sizeof endpoint - 1) <= 0) std::_Exit(1);
    run_clients(load, keys, endpoint, results[1]);
    std::_Exit(0);
  }
  raise_descriptor_limit();
  ThreadPool pool(1);
  AsioLoop loop(pool);
  std::map<PeerKey, uint32_t> numbers;
  for (uint32_t i = 0; i < load.clients; ++i) numbers[keys.clients[i].public_key().curve] = i;
  ZmqServerOptions options{.listen = "tcp://127.0.0.1:0"};
  options.own = {keys.server.public_key().curve, keys.server.curve_secret()};
  options.allow = [&](const PeerKey& key) { return numbers.contains(key); };
  const auto server = need(ZmqServer::open(loop, std::move(options)));
  RoundCounter counter(loop);
  CoordinatorSetup setup{.schema = schema_of(load.elements)};
  setup.scenario.rounds = load.rounds;
  setup.scenario.fleet = {
      .clients = load.clients, .cohort = load.clients, .min_updates = load.clients};
  setup.scenario.compression.up = load.codec;
  setup.scenario.compression.down = "ef | topk:0.01 | ternary | rice";
  setup.scenario.evaluation.every = 1u << 30;
  setup.clients = load.clients;
  setup.membership = [&](const PeerKey& key) {
    const auto found = numbers.find(key);
    return found == numbers.end() ? std::nullopt : std::optional(Member{.number = found->second});
  };
  setup.run_id = 1;
  setup.workers = 1;
  setup.start_when = load.clients;
  setup.everyone_is_there = false;
  setup.evaluate_by = EvaluateBy::kNobody;
  double took = 0, cpu = 0;
  CoordinatorHooks hooks;
  hooks.finished = [&](const Result<bool>& stopped) {
    if (!stopped) give_up(stopped.error());
    took = seconds(loop.now() - counter.began);
    cpu = cpu_seconds() - counter.cpu;
    loop.call_at(loop.now() + std::chrono::seconds(1), [&] { loop.stop(); });
  };
  const auto coordinator = need(
      Coordinator::make(std::move(setup), std::move(hooks), loop, *server, keys.server, counter));
  coordinator->start();
  const std::string endpoint = server->endpoint();
  if (::write(where[1], endpoint.data(), endpoint.size()) < 0) std::_Exit(1);
  loop.run();
  int status = 0;
  ::waitpid(child, &status, 0);
  double acks[2] = {};
  if (status != 0 || ::read(results[0], acks, sizeof acks) != sizeof acks)
    give_up(error(Code::kInternal, "the clients' process failed"));
  for (const int fd : {results[0], results[1], where[0], where[1]}) ::close(fd);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto updates = static_cast<double>(counter.updates);
  return {{"updates", counter.updates},
          {"seconds", took},
          {"updates_per_s", updates / took},
          {"bytes_per_s", static_cast<double>(counter.bytes) / took},
          {"ack_p50_ms", 1e3 * acks[0]},
          {"ack_p99_ms", 1e3 * acks[1]},
          {"cpu_us_per_update", 1e6 * cpu / updates},
          {"peak_rss_bytes", usage.ru_maxrss * 1024},
          {"part_bytes", counter.bytes / counter.updates}};
}

/// Raw sockets: each client's process side sends `rounds` parts and does nothing else; the server
/// counts them. Bytes a second from the first part to the last.
double run_raw(const Load& load, const Keys& keys, size_t part_bytes) {
  int where[2], go[2];
  if (::pipe(where) != 0 || ::pipe(go) != 0) std::_Exit(1);
  const pid_t child = ::fork();
  if (child == 0) {
    raise_descriptor_limit();
    char endpoint[256] = {};
    if (::read(where[0], endpoint, sizeof endpoint - 1) <= 0) std::_Exit(1);
    auto context = need(ZmqContext::open());
    std::vector<ZmqSocket> sockets;
    sockets.reserve(load.clients);
    const Bytes hello(1);
    for (uint32_t i = 0; i < load.clients; ++i) {
      sockets.push_back(need(new_socket(*context, ZMQ_DEALER)));
      void* const socket = sockets.back().get();
      need(set_option(socket, ZMQ_LINGER, 10000));
      need(set_curve_client(socket,
                            {keys.clients[i].public_key().curve, keys.clients[i].curve_secret()},
                            keys.server.public_key().curve));
      if (zmq_connect(socket, endpoint) != 0) give_up(zmq_failure("connect"));
      zmq_send(socket, hello.data(), hello.size(), 0);
    }
    char start = 0;
    if (::read(go[0], &start, 1) != 1) std::_Exit(1);
    const Bytes part(part_bytes, std::byte{7});
    for (uint32_t round = 0; round < load.rounds; ++round)
      for (const ZmqSocket& socket : sockets) zmq_send(socket.get(), part.data(), part.size(), 0);
    sockets.clear();
    context.reset();  // waits until all is sent
    std::_Exit(0);
  }
  raise_descriptor_limit();
  const auto context = need(ZmqContext::open());
  const ZmqSocket router = need(new_socket(*context, ZMQ_ROUTER));
  const int yes = 1;
  zmq_setsockopt(router.get(), ZMQ_CURVE_SERVER, &yes, sizeof yes);
  zmq_setsockopt(router.get(), ZMQ_CURVE_SECRETKEY, keys.server.curve_secret().data(), 32);
  if (zmq_bind(router.get(), "tcp://127.0.0.1:*") != 0) give_up(zmq_failure("bind"));
  char endpoint[256] = {};
  size_t length = sizeof endpoint;
  zmq_getsockopt(router.get(), ZMQ_LAST_ENDPOINT, endpoint, &length);
  if (::write(where[1], endpoint, std::strlen(endpoint)) < 0) std::_Exit(1);
  SteadyClock clock;
  TimePoint began{};
  uint64_t bytes = 0, greeted = 0;
  const uint64_t wanted = uint64_t{load.clients} * load.rounds * part_bytes;
  while (bytes < wanted) {
    ZmqMessage id, part;
    if (zmq_msg_recv(id.get(), router.get(), 0) < 0 ||
        zmq_msg_recv(part.get(), router.get(), 0) < 0)
      give_up(zmq_failure("receive"));
    if (part.bytes().size() == 1) {
      if (++greeted == load.clients) {
        began = clock.now();
        if (::write(go[1], "x", 1) != 1) std::_Exit(1);
      }
      continue;
    }
    bytes += part.bytes().size();
  }
  const double took = seconds(clock.now() - began);
  ::waitpid(child, nullptr, 0);
  for (const int fd : {where[0], where[1], go[0], go[1]}) ::close(fd);
  return static_cast<double>(bytes) / took;
}

int run(const Load& load) {
  Keys keys{need(SecretKey::generate()), {}};
  keys.clients.reserve(load.clients);
  for (uint32_t i = 0; i < load.clients; ++i) keys.clients.push_back(need(SecretKey::generate()));
  nlohmann::ordered_json best, runs = nlohmann::ordered_json::array();
  double raw_best = 0, rate_best = 0;
  std::vector<double> ratios;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    // In a process of its own, so that the peak of memory is this run's.
    int results[2];
    if (::pipe(results) != 0) return 1;
    const pid_t child = ::fork();
    if (child == 0) {
      const std::string text = run_tern(load, keys).dump();
      if (::write(results[1], text.data(), text.size()) < 0) std::_Exit(1);
      std::_Exit(0);
    }
    std::string text(4096, ' ');
    int status = 0;
    ::waitpid(child, &status, 0);
    const ssize_t got = ::read(results[0], text.data(), text.size());
    if (status != 0 || got <= 0) return 1;
    auto figures = nlohmann::ordered_json::parse(text.substr(0, static_cast<size_t>(got)));
    const double raw = run_raw(load, keys, figures["part_bytes"].get<size_t>());
    figures["raw_bytes_per_s"] = raw;
    figures["ratio"] = figures["bytes_per_s"].get<double>() / raw;
    ratios.push_back(figures["ratio"].get<double>());
    raw_best = std::max(raw_best, raw);
    rate_best = std::max(rate_best, figures["bytes_per_s"].get<double>());
    runs.push_back(std::move(figures));
    for (const int fd : {results[0], results[1]}) ::close(fd);
  }
  std::ranges::sort(ratios);
  std::printf("%s\n", nlohmann::ordered_json{{"clients", load.clients},
                                             {"rounds", load.rounds},
                                             {"codec", load.codec},
                                             {"elements", load.elements},
                                             {"ratio_median", ratios[ratios.size() / 2]},
                                             {"ratio_of_best", rate_best / raw_best},
                                             {"runs", runs}}
                          .dump(2)
                          .c_str());
  return 0;
}

}  // namespace
}  // namespace tern

int main(int argc, char** argv) {
  tern::Load load;
  if (argc > 1) load.clients = static_cast<uint32_t>(std::strtoul(argv[1], nullptr, 10));
  if (argc > 2) load.rounds = static_cast<uint32_t>(std::strtoul(argv[2], nullptr, 10));
  if (argc > 3) load.elements = std::strtoul(argv[3], nullptr, 10);
  if (argc > 4) load.codec = argv[4];
  try {
    return tern::run(load);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "fleet_load: %s\n", problem.what());
    return 1;
  }
}
