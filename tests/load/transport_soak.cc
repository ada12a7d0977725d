// Whether signals and full queues can hang the transport, given time: clients and a server send to
// each other over encrypted sockets on loopback, all on one loop, while a storm of SIGUSR1 hits the
// loop's thread and the process, and in phases somebody's network stops reading until the queues
// are full, then goes on. The tests of tests/proto/net do the same for half a second.
//
//   transport_soak SECONDS
//
// Every packet must arrive whole, in order and once, or its sender must have been told that the
// queue is full. Prints a line every half minute and one at the end. Exit status: 0, 1 when a
// packet was lost, doubled or changed, a connection broke or nothing moved for 5 s, 2 for bad
// usage.
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "base/rng.h"
#include "base/thread_pool.h"
#include "proto/net/asio_loop.h"
#include "proto/net/zmq_client.h"
#include "proto/net/zmq_server.h"
#include "tests/proto/net/proxy.h"

namespace tern {
namespace {

constexpr size_t kClients = 4;
constexpr Duration kPhase = std::chrono::milliseconds(1500), kBeat = std::chrono::milliseconds(1);
constexpr Duration kPatience = std::chrono::seconds(5);
/// Packets that one end tries to send to another in a beat.
constexpr int kBurst = 16;
/// Packets on their way where nobody holds them up. More than a queue holds, so that a network
/// that merely is slow fills it now and then, too.
constexpr uint64_t kMostOnTheWay = 300;

std::atomic<uint64_t> signals = 0, moved = 0;
static_assert(std::atomic<uint64_t>::is_always_lock_free);  // for the signal handler

[[noreturn]] void give_up(const std::string& what) {
  std::printf("FAILED: %s\n", what.c_str());
  std::fflush(stdout);
  std::_Exit(1);
}
template <typename T>
T need(Result<T> result) {
  if (!result) give_up(result.error().describe());
  return *std::move(result);
}

/// One direction of one connection.
struct Stream {
  uint32_t number = 0;
  uint64_t sent = 0, received = 0, bytes = 0, told_full = 0;
  uint64_t most_on_the_way = 0;
  bool held = false;

  /// Mostly some kilobytes, now and then as long as can be; all of it follows from its index.
  static Bytes packet(uint32_t number, uint64_t index) {
    Rng rng(number, Purpose::kTest, static_cast<uint32_t>(index));
    const size_t most = rng.below(50) == 0 ? kMaxPacketBytes : 40'000;
    Bytes packet(16 + rng.below(static_cast<uint32_t>(most - 15)));
    const uint64_t head[2] = {number, index};
    std::memcpy(packet.data(), head, sizeof head);
    const uint64_t seed = rng.next64();
    for (size_t i = 16; i + 8 <= packet.size(); i += 8) {
      const uint64_t word = seed + i;
      std::memcpy(packet.data() + i, &word, 8);
    }
    return packet;
  }
  template <typename Send>
  void feed(Send send) {
    for (int i = 0; i < kBurst && (held || sent - received < kMostOnTheWay); ++i) {
      const Status status = send(packet(number, sent));
      if (status.code() == Code::kOutOfRange) {
        ++told_full;
        return;
      }
      if (!status.ok()) give_up(status.describe());
      ++sent;
      most_on_the_way = std::max(most_on_the_way, sent - received);
    }
  }
  void receive(std::span<const std::byte> got) {
    if (received >= sent) give_up(fmt::format("stream {}: a packet that nobody sent", number));
    if (!std::ranges::equal(got, packet(number, received)))
      give_up(fmt::format("stream {}: packet {} is another, or changed", number, received));
    ++received;
    bytes += got.size();
    moved.fetch_add(1, std::memory_order_relaxed);
  }
};

class Soak : public ServerTransport::Handler {
 public:
  explicit Soak(Duration length) : end_(loop_.now() + length) {
    ZmqServerOptions options = listen();
    options.allow = [this](const PeerKey& key) { return by_key_.contains(key); };
    server_ = need(ZmqServer::open(loop_, std::move(options)));
    server_->start(*this);
    for (uint32_t i = 0; i < kClients; ++i) {
      clients_.push_back(std::make_unique<Client>(*this, i));
      by_key_[clients_.back()->keys.public_key] = clients_.back().get();
    }
    for (const auto& client : clients_) client->transport.connect(*client);
    loop_.call_at(loop_.now() + kBeat, [this] { beat(); });
    loop_.call_at(loop_.now() + kPhase, [this] { next_phase(); });
    loop_.call_at(loop_.now() + std::chrono::seconds(30), [this] { say_now_and_then(); });
  }

  void run() {
    loop_.run();
    print();
  }

  void print() const {
    uint64_t sent = 0, received = 0, bytes = 0, full = 0, most = 0;
    for (const auto& client : clients_)
      for (const Stream* stream : {&client->up, &client->down}) {
        sent += stream->sent;
        received += stream->received;
        bytes += stream->bytes;
        full += stream->told_full;
        most = std::max(most, stream->most_on_the_way);
      }
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    std::printf(
        "%.0f s: %llu packets sent, %llu received in order, %.1f GB; told that the queue is full "
        "%llu times, most on the way %llu packets; %llu phases, %llu signals, %ld MiB at most\n",
        seconds(loop_.now()), static_cast<unsigned long long>(sent),
        static_cast<unsigned long long>(received), 1e-9 * static_cast<double>(bytes),
        static_cast<unsigned long long>(full), static_cast<unsigned long long>(most),
        static_cast<unsigned long long>(phases_), static_cast<unsigned long long>(signals.load()),
        usage.ru_maxrss / 1024);
    std::fflush(stdout);
  }

 private:
  struct Client : ClientTransport::Handler {
    Client(Soak& its_soak, uint32_t number)
        : soak(its_soak),
          proxy(soak.loop_, port_of(soak.server_->endpoint()), nullptr),
          transport(
              soak.loop_, *soak.context_,
              {.server = proxy.endpoint(), .server_key = soak.keys_.public_key, .own = keys}) {
      up.number = 2 * number;
      down.number = 2 * number + 1;
    }
    void on_connected() override { connected = true; }
    void on_packet(std::span<const std::byte> packet) override { down.receive(packet); }
    void on_lost(const Status& reason) override { give_up(reason.describe()); }

    Soak& soak;
    const CurveKeys keys = make_curve_keys();
    Proxy proxy;
    ZmqClient transport;
    bool connected = false;
    std::optional<Connection> connection;  // at the server, from its first packet on
    Stream up, down;
  };

  ZmqServerOptions listen() const {
    ZmqServerOptions options{.listen = "tcp://127.0.0.1:*"};
    options.own = keys_;
    return options;
  }

  void on_packet(const Connection& from, std::span<const std::byte> packet) override {
    Client& client = *by_key_.at(from.key);
    if (client.connection && *client.connection != from) give_up("a connection came back");
    client.connection = from;
    client.up.receive(packet);
  }

  void beat() {
    const bool over = loop_.now() >= end_;
    bool empty = true;
    for (const auto& client : clients_) {
      if (!over && client->connected)
        client->up.feed([&](Bytes packet) { return client->transport.send(std::move(packet)); });
      if (!over && client->connection)
        client->down.feed(
            [&](Bytes packet) { return server_->send(*client->connection, std::move(packet)); });
      empty = empty && client->up.sent == client->up.received &&
              client->down.sent == client->down.received;
    }
    if (over && empty) return loop_.stop();
    if (over) hold(0);
    loop_.call_at(loop_.now() + kBeat, [this] { beat(); });
  }

  /// Nobody held up, then one after the other, some, and all.
  void next_phase() {
    if (loop_.now() >= end_) return;
    ++phases_;
    hold(phases_ % 2 == 0 ? 0 : rng_.below(1u << (2 * kClients)));
    if (phases_ % 16 == 15) hold((1u << (2 * kClients)) - 1);
    if (phases_ % 8 == 0) (void)need(ZmqServer::open(loop_, another()));  // under fire
    loop_.call_at(loop_.now() + kPhase, [this] { next_phase(); });
  }
  ZmqServerOptions another() const {
    ZmqServerOptions options = listen();
    options.allow = [](const PeerKey&) { return false; };
    return options;
  }

  void hold(uint32_t streams) {
    for (uint32_t i = 0; i < kClients; ++i) {
      Client& client = *clients_[i];
      client.proxy.hold_up(client.up.held = (streams >> (2 * i) & 1) != 0);
      client.proxy.hold_down(client.down.held = (streams >> (2 * i + 1) & 1) != 0);
    }
  }

  void say_now_and_then() {
    print();
    loop_.call_at(loop_.now() + std::chrono::seconds(30), [this] { say_now_and_then(); });
  }

  ThreadPool pool_{1};
  AsioLoop loop_{pool_};
  const TimePoint end_;
  const CurveKeys keys_ = make_curve_keys();
  std::unique_ptr<ZmqContext> context_ = need(ZmqContext::open());
  std::unique_ptr<ZmqServer> server_;
  std::map<PeerKey, Client*> by_key_;
  std::vector<std::unique_ptr<Client>> clients_;
  Rng rng_{1, Purpose::kTest};
  uint64_t phases_ = 0;
};

/// Ends the process when nothing moves; on a thread of its own, since the loop may be what hangs.
void watch(const std::atomic<bool>& end) {
  uint64_t seen = 0;
  SteadyClock clock;
  TimePoint at = clock.now();
  while (!end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    if (const uint64_t now = moved; now != seen) {
      seen = now;
      at = clock.now();
    }
    if (clock.now() - at > kPatience) give_up("nothing has moved for 5 s");
  }
}

int run(Duration length) {
  struct sigaction storm {};
  storm.sa_handler = [](int) { signals.fetch_add(1, std::memory_order_relaxed); };
  sigaction(SIGUSR1, &storm, nullptr);  // without SA_RESTART: every call may be interrupted
  std::atomic<bool> end = false;
  const pthread_t loop_thread = pthread_self();
  std::thread shooter([&] {
    while (!end) {
      pthread_kill(loop_thread, SIGUSR1);
      kill(getpid(), SIGUSR1);  // whichever thread takes it
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });
  std::thread watchdog([&] { watch(end); });
  {
    Soak soak(length);
    soak.run();
  }
  end = true;
  shooter.join();
  watchdog.join();
  std::printf("passed\n");
  return 0;
}

}  // namespace
}  // namespace tern

int main(int argc, char** argv) {
  constexpr char kUsage[] =
      "usage: transport_soak SECONDS\n"
      "Sends packets both ways between clients and a server on loopback for so long, under a "
      "storm\n"
      "of signals and with queues that fill up and drain. Exit status: 0 when every packet "
      "arrived\n"
      "in order and once, 1 when not or when nothing moved for 5 s.\n";
  const std::string_view argument = argc == 2 ? argv[1] : "";
  if (argument == "--help" || argument == "-h") return std::fputs(kUsage, stdout) < 0;
  uint32_t length = 0;
  const auto [at, failure] =
      std::from_chars(argument.data(), argument.data() + argument.size(), length);
  if (failure != std::errc() || at != argument.data() + argument.size() || length == 0) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  return tern::run(std::chrono::seconds(length));
}
