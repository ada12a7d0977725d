// How much a coordinator can take in: many light clients, without LibTorch, over real encrypted
// sockets on loopback. Two processes, one the coordinator and one all the clients. Prints one JSON
// object.
//
// Beside it, in the same run, raw CURVE sockets move the same parts and do nothing else: between
// two processes with one I/O thread each, one socket a client, a client's update up in each round
// and a download of the same size as Tern's down in each round but the first. Nobody waits for a
// round to end, as nothing depends on it there, and no messages go with the parts. Both keep what
// they free, as tern-coordinator does. `ratio` is Tern's bytes of parts a second, both ways, to
// those of the raw sockets.
//
// Each run is made without a journal, which the figures above are of, and with one in FOLDER: what
// that costs is under `journal`, with the calls of fsync and fdatasync for each acknowledged
// update.
//
//   fleet_load [CLIENTS [ROUNDS [ELEMENTS [CODEC [FOLDER]]]]]
//   fleet_load memory [ROUNDS [ELEMENTS [FOLDER]]]
//
// Default: 500 10 6500 float32 /var/tmp, 26 KB an update. An update has to fit into one part.
//
// `memory` asks what a coordinator with a journal and 200 clients needs at most when 20 and when
// all of them are asked for updates of a large model (25 million parameters, rotate:1024 | eden:4,
// server momentum) and send them at once: its peak resident memory to the model's size in float32.
// Both runs count as many updates, ROUNDS x 200, so that nearly every client has sent some: a
// connection that has moved something keeps its buffers, however few are busy at once.
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/freed_memory.h"
#include "base/program.h"
#include "base/thread_pool.h"
#include "compression/updates/error_feedback.h"
#include "coordinator/coordinator.h"
#include "proto/messages.h"
#include "proto/net/asio_loop.h"
#include "proto/net/tcp_info.h"
#include "proto/net/zmq_client.h"
#include "proto/net/zmq_server.h"
#include "proto/transfer.h"

// In place of the C library's, for SQLite as well.
static std::atomic<uint64_t> syncs;
extern "C" int fsync(int fd) {
  ++syncs;
  return static_cast<int>(::syscall(SYS_fsync, fd));
}
extern "C" int fdatasync(int fd) {
  ++syncs;
  return static_cast<int>(::syscall(SYS_fdatasync, fd));
}

namespace tern {
namespace {

constexpr int kRepeats = 3;

struct Load {
  uint32_t clients = 500;
  uint32_t cohort = 0;  // 0: all
  uint32_t rounds = 10;
  size_t elements = 6500;
  std::string codec = "float32";
  std::string folder = "/var/tmp";
  double server_momentum = 0;
  uint32_t keep_rounds = 0;
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
    const PacketContent content = open_packet(packet);
    if (content.message.empty()) return take_in(content.part);
    const Message message = need(parse_message(content.message));
    if (const auto* welcome = std::get_if<Welcome>(&message)) {
      number_ = welcome->client;
      send(Ready{.examples = 10});
    } else if (const auto* plan = std::get_if<PlanMessage>(&message)) {
      if (plan->task.download != DownloadKind::kNothing)
        incoming_.emplace(plan->task.download == DownloadKind::kSnapshot ? TransferKind::kSnapshot
                                                                         : TransferKind::kDeltas,
                          plan->task.task, plan->task.download_bytes);
      if (!content.part.empty()) take_in(content.part);
      const SharedFrame frame = frame_of(need(parse_plan(plan->plan.payload)));
      sent_ = shared_.loop.now();
      outgoing_.emplace(TransferKind::kUpdate, plan->task.task, std::vector{frame});
      need(transport_->send(outgoing_->begin_with(to_packet(
          UpdateMessage{.task = plan->task.task,
                        .client = number_,
                        .report = {.examples = 10, .samples_trained = 10, .steps = 1}}))));
      pump();
    } else if (const auto* credit = std::get_if<Credit>(&message)) {
      outgoing_->add_credit(credit->bytes);
      pump();
    } else if (const auto* verdict = std::get_if<Verdict>(&message)) {
      if (!verdict->counted) give_up(verdict->reason);
      shared_.acks.push_back(seconds(shared_.loop.now() - sent_));
    } else if (std::holds_alternative<Goodbye>(message)) {
      ++shared_.finished;
    }
  }

 private:
  void send(const Message& message) { need(transport_->send(to_packet(message))); }
  /// Says what has come, and doesn't look at it.
  void take_in(std::span<const std::byte> part) {
    need(incoming_->add(part));
    incoming_->take_parts();
    if (const std::optional<Credit> credit = incoming_->credit_due()) send(*credit);
  }
  void pump() {
    need(outgoing_->pump([this](Bytes part) { return transport_->send(std::move(part)); }));
  }
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
  std::optional<IncomingTransfer> incoming_;
  std::optional<OutgoingTransfer> outgoing_;
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
  (void)loop.run_until([&] { return shared.finished == load.clients; }, std::chrono::minutes(30));
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
    if (event.name == "update_sent") bytes_up += static_cast<uint64_t>(event.number("bytes"));
    if (event.name == "download_sent") {
      bytes_down += static_cast<uint64_t>(event.number("bytes"));
      ++downloads;
    }
    if (event.name == "update_counted") ++updates;
  }
  TimePoint began{};
  double cpu = 0;
  uint64_t bytes_up = 0, bytes_down = 0;
  uint64_t updates = 0, downloads = 0;

 private:
  const Clock& clock_;
};

/// The coordinator's side; waits for the clients' process. `journal`: a folder, or none.
nlohmann::ordered_json run_tern(const Load& load, const Keys& keys, const std::string& journal) {
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
  const uint32_t cohort = load.cohort == 0 ? load.clients : load.cohort;
  setup.scenario.fleet = {.clients = load.clients, .cohort = cohort, .min_updates = cohort};
  setup.scenario.compression.up = load.codec;
  setup.scenario.compression.down = "ef | topk:0.01 | ternary | rice";
  setup.scenario.strategy.server_momentum = load.server_momentum;
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
  std::optional<RunLog> log;
  if (!journal.empty()) setup.log = &log.emplace(need(Journal::open(journal)), load.keep_rounds);
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
  syncs = 0;
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
  nlohmann::ordered_json figures{
      {"updates", counter.updates},
      {"seconds", took},
      {"updates_per_s", updates / took},
      {"bytes_per_s", static_cast<double>(counter.bytes_up + counter.bytes_down) / took},
      {"ack_p50_ms", 1e3 * acks[0]},
      {"ack_p99_ms", 1e3 * acks[1]},
      {"cpu_us_per_update", 1e6 * cpu / updates},
      {"peak_rss_bytes", usage.ru_maxrss * 1024},
      {"update_bytes", counter.bytes_up / counter.updates},
      {"download_bytes", counter.bytes_down / std::max<uint64_t>(counter.downloads, 1)}};
  if (log) {
    figures["commits"] = log->commits();
    figures["syncs_per_ack"] = static_cast<double>(syncs) / updates;
  }
  return figures;
}

/// What the raw sockets of one process have in common with the other's.
struct RawLoad {
  Bytes up, down;          // one part each
  uint32_t rounds = 0;     // parts up of each client
  uint32_t downloads = 0;  // parts down of each client
};

/// All clients' ends, until all is sent and received.
void run_raw_clients(const Load& load, const Keys& keys, const RawLoad& raw,
                     const std::string& endpoint, int go) {
  raise_descriptor_limit();
  auto context = need(ZmqContext::open());
  std::vector<ZmqSocket> sockets;
  sockets.reserve(load.clients);
  const std::byte hello{};
  for (uint32_t i = 0; i < load.clients; ++i) {
    sockets.push_back(need(new_socket(*context, ZMQ_DEALER)));
    void* const socket = sockets.back().get();
    need(set_option(socket, ZMQ_LINGER, 10000));
    need(set_curve_client(socket,
                          {keys.clients[i].public_key().curve, keys.clients[i].curve_secret()},
                          keys.server.public_key().curve));
    if (zmq_connect(socket, endpoint.c_str()) != 0) give_up(zmq_failure("connect"));
    zmq_send(socket, &hello, 1, 0);
  }
  char start = 0;
  if (::read(go, &start, 1) != 1) std::_Exit(1);
  for (uint32_t round = 0; round < raw.rounds; ++round)
    for (const ZmqSocket& socket : sockets) {
      ZmqMessage part;
      if (round > 0 && round <= raw.downloads && zmq_msg_recv(part.get(), socket.get(), 0) < 0)
        give_up(zmq_failure("receive"));
      zmq_send(socket.get(), raw.up.data(), raw.up.size(), 0);
    }
  sockets.clear();
  context.reset();  // waits until all is sent
}

/// Bytes a second, both ways, from the first part to the last.
double run_raw(const Load& load, const Keys& keys, const RawLoad& raw) {
  int where[2], go[2];
  if (::pipe(where) != 0 || ::pipe(go) != 0) std::_Exit(1);
  const pid_t child = ::fork();
  if (child == 0) {
    char endpoint[256] = {};
    if (::read(where[0], endpoint, sizeof endpoint - 1) <= 0) std::_Exit(1);
    run_raw_clients(load, keys, raw, endpoint, go[0]);
    std::_Exit(0);
  }
  raise_descriptor_limit();
  const auto context = need(ZmqContext::open());
  const ZmqSocket router = need(new_socket(*context, ZMQ_ROUTER));
  need(set_option(router.get(), ZMQ_SNDHWM, 0));
  need(set_option(router.get(), ZMQ_CURVE_SERVER, 1));
  need(set_option(router.get(), ZMQ_CURVE_SECRETKEY, std::span(keys.server.curve_secret())));
  if (zmq_bind(router.get(), "tcp://127.0.0.1:*") != 0) give_up(zmq_failure("bind"));
  char endpoint[256] = {};
  size_t length = sizeof endpoint;
  zmq_getsockopt(router.get(), ZMQ_LAST_ENDPOINT, endpoint, &length);
  if (::write(where[1], endpoint, std::strlen(endpoint)) < 0) std::_Exit(1);
  SteadyClock clock;
  std::vector<ZmqMessage> ids(load.clients);
  for (ZmqMessage& id : ids) {
    ZmqMessage hello;
    if (zmq_msg_recv(id.get(), router.get(), 0) < 0 ||
        zmq_msg_recv(hello.get(), router.get(), 0) < 0)
      give_up(zmq_failure("receive"));
  }
  const TimePoint began = clock.now();
  if (::write(go[1], "x", 1) != 1) std::_Exit(1);
  uint64_t bytes = 0;
  for (uint32_t round = 0; round < raw.downloads; ++round)
    for (ZmqMessage& id : ids) {
      zmq_send(router.get(), id.bytes().data(), id.bytes().size(), ZMQ_SNDMORE);
      zmq_send(router.get(), raw.down.data(), raw.down.size(), 0);
      bytes += raw.down.size();
    }
  for (uint64_t parts = 0; parts < uint64_t{load.clients} * raw.rounds; ++parts) {
    ZmqMessage id, part;
    if (zmq_msg_recv(id.get(), router.get(), 0) < 0 ||
        zmq_msg_recv(part.get(), router.get(), 0) < 0)
      give_up(zmq_failure("receive"));
    bytes += part.bytes().size();
  }
  const double took = seconds(clock.now() - began);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (status != 0) give_up(error(Code::kInternal, "the raw clients' process failed"));
  for (const int fd : {where[0], where[1], go[0], go[1]}) ::close(fd);
  return static_cast<double>(bytes) / took;
}

/// What `job` found, in a process of its own: neither side's memory is the other's.
nlohmann::ordered_json alone(const std::function<nlohmann::ordered_json()>& job) {
  int results[2];
  if (::pipe(results) != 0) give_up(error(Code::kIo, "no pipe"));
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string text = job().dump();
    if (::write(results[1], text.data(), text.size()) < 0) std::_Exit(1);
    std::_Exit(0);
  }
  std::string text(4096, ' ');
  int status = 0;
  ::waitpid(child, &status, 0);
  if (status != 0) give_up(error(Code::kInternal, "a process failed"));
  const ssize_t got = ::read(results[0], text.data(), text.size());
  for (const int fd : {results[0], results[1]}) ::close(fd);
  return nlohmann::ordered_json::parse(text.substr(0, static_cast<size_t>(std::max(got, 0l))));
}

Keys make_keys(const Load& load) {
  Keys keys{need(SecretKey::generate()), {}};
  keys.clients.reserve(load.clients);
  for (uint32_t i = 0; i < load.clients; ++i) keys.clients.push_back(need(SecretKey::generate()));
  return keys;
}

std::string journal_folder(const Load& load) {
  return fmt::format("{}/tern-fleet-load-{}", load.folder, ::getpid());
}

int run_memory(Load load) {
  load.codec = "rotate:1024 | eden:4";
  load.server_momentum = 0.9;
  load.keep_rounds = 1;
  const auto model_bytes = static_cast<double>(4 * load.elements);
  nlohmann::ordered_json runs = nlohmann::ordered_json::array();
  load.clients = 200;
  const uint32_t rounds = load.rounds;
  const Keys keys = make_keys(load);
  for (const uint32_t cohort : {20u, 200u}) {
    load.cohort = cohort;
    load.rounds = rounds * load.clients / cohort;
    nlohmann::ordered_json figures =
        alone([&] { return run_tern(load, keys, journal_folder(load)); });
    std::filesystem::remove_all(journal_folder(load));
    figures["models"] = figures["peak_rss_bytes"].get<double>() / model_bytes;
    figures["updates_a_round"] = cohort;
    figures["rounds"] = load.rounds;
    runs.push_back(std::move(figures));
  }
  std::printf("%s\n", nlohmann::ordered_json{{"elements", load.elements},
                                             {"codec", load.codec},
                                             {"model_bytes", model_bytes},
                                             {"runs", runs}}
                          .dump(2)
                          .c_str());
  return 0;
}

int run(const Load& load) {
  const Keys keys = make_keys(load);
  nlohmann::ordered_json runs = nlohmann::ordered_json::array();
  double raw_best = 0, rate_best = 0;
  std::vector<double> ratios, kept;
  const std::string journal = journal_folder(load);
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    nlohmann::ordered_json figures = alone([&] { return run_tern(load, keys, ""); });
    figures["journal"] = alone([&] { return run_tern(load, keys, journal); });
    std::filesystem::remove_all(journal);
    kept.push_back(figures["journal"]["updates_per_s"].get<double>() /
                   figures["updates_per_s"].get<double>());
    const RawLoad parts{.up = Bytes(figures["update_bytes"].get<size_t>()),
                        .down = Bytes(figures["download_bytes"].get<size_t>()),
                        .rounds = load.rounds,
                        .downloads = load.rounds - 1};
    const auto raw = alone([&] { return run_raw(load, keys, parts); }).get<double>();
    figures["raw_bytes_per_s"] = raw;
    figures["ratio"] = figures["bytes_per_s"].get<double>() / raw;
    ratios.push_back(figures["ratio"].get<double>());
    raw_best = std::max(raw_best, raw);
    rate_best = std::max(rate_best, figures["bytes_per_s"].get<double>());
    runs.push_back(std::move(figures));
  }
  std::ranges::sort(ratios);
  std::ranges::sort(kept);
  std::printf("%s\n", nlohmann::ordered_json{{"clients", load.clients},
                                             {"rounds", load.rounds},
                                             {"codec", load.codec},
                                             {"elements", load.elements},
                                             {"ratio_median", ratios[ratios.size() / 2]},
                                             {"ratio_of_best", rate_best / raw_best},
                                             {"journal_ratio_median", kept[kept.size() / 2]},
                                             {"runs", runs}}
                          .dump(2)
                          .c_str());
  return 0;
}

}  // namespace
}  // namespace tern

int main(int argc, char** argv) {
  tern::keep_freed_memory();
  tern::Load load;
  const bool memory = argc > 1 && std::strcmp(argv[1], "memory") == 0;
  const auto number = [&](int at, auto& value) {
    if (argc > at)
      value = static_cast<std::remove_reference_t<decltype(value)>>(
          std::strtoul(argv[at], nullptr, 10));
  };
  const auto text = [&](int at, std::string& value) {
    if (argc > at) value = argv[at];
  };
  if (memory) {
    load.rounds = 3;
    load.elements = 25'000'000;
    number(2, load.rounds);
    number(3, load.elements);
    text(4, load.folder);
  } else {
    number(1, load.clients);
    number(2, load.rounds);
    number(3, load.elements);
    text(4, load.codec);
    text(5, load.folder);
  }
  try {
    return memory ? tern::run_memory(load) : tern::run(load);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "fleet_load: %s\n", problem.what());
    return 1;
  }
}
