// What only the ZeroMQ transport has to stand: strangers, broken streams, exhausted systems. The
// rest is in transport_contract_test.cc.
#include "proto/net/zmq_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <random>
#include <thread>

#include "tests/proto/net/proxy.h"
#include "tests/proto/net/transport_rig.h"

namespace tern {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::StartsWith;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

const Bytes kHello{std::byte{'h'}, std::byte{'i'}};

size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  size_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

/// CPU time of this process or thread.
double cpu_seconds(int who) {
  rusage usage{};
  getrusage(who, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}
/// Of all threads but this one: ZeroMQ's, since the pool's have nothing to do.
double other_threads_seconds() { return cpu_seconds(RUSAGE_SELF) - cpu_seconds(RUSAGE_THREAD); }

/// A TCP connection that speaks no ZeroMQ unless told to.
class RawSocket {
 public:
  RawSocket() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {}
  explicit RawSocket(uint16_t port) : RawSocket() { connect(port); }
  RawSocket(RawSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  RawSocket& operator=(RawSocket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~RawSocket() {
    if (fd_ >= 0) close(fd_);
  }
  void connect(uint16_t port) {
    if (fd_ < 0) return;  // no descriptors; hung_up() then
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
      EXPECT_EQ(errno, EINPROGRESS);
    }
  }
  /// Bytes sent; the rest did not fit.
  size_t send(std::span<const std::byte> bytes) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    return sent < 0 ? 0 : static_cast<size_t>(sent);
  }
  bool connected() const {
    sockaddr_in peer{};
    socklen_t size = sizeof peer;
    return getpeername(fd_, reinterpret_cast<sockaddr*>(&peer), &size) == 0;
  }
  /// Whether the other side has hung up; reads what comes.
  bool hung_up() {
    std::array<std::byte, 4096> sink{};
    for (;;) {
      const ssize_t got = recv(fd_, sink.data(), sink.size(), 0);
      if (got == 0) return true;
      if (got < 0) return errno != EAGAIN && errno != ENOTCONN;
    }
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

Bytes random_bytes(std::mt19937& random, size_t count) {
  Bytes bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

/// The first 64 bytes of every ZMTP 3.1 connection.
Bytes greeting(const char* mechanism = "CURVE") {
  Bytes bytes(64);
  bytes[0] = std::byte{0xff};
  bytes[8] = std::byte{1};
  bytes[9] = std::byte{0x7f};
  bytes[10] = std::byte{3};
  bytes[11] = std::byte{1};
  std::memcpy(bytes.data() + 12, mechanism, std::strlen(mechanism));
  return bytes;
}

class ZmqServerTest : public testing::Test {
 public:
  explicit ZmqServerTest(ZmqServerOptions options = {}) : rig(std::move(options)) {
    if (rig.zmq_server) rig.server().start(log);
  }

  uint16_t port() { return port_of(rig.zmq_server->endpoint()); }
  uint64_t counter(std::string_view name) { return rig.server().counters().at(name); }
  std::unique_ptr<ClientTransport> connect(const PeerKey& key, ClientLog& client_log) {
    auto client = rig.client(key);
    client->connect(client_log);
    EXPECT_TRUE(rig.run_until([&] { return client_log.connected > 0 || client_log.lost; }));
    EXPECT_EQ(client_log.connected, 1) << (client_log.lost ? client_log.lost->describe() : "");
    return client;
  }
  /// Dials with an honest key and gets a packet through.
  void expect_honest_client_works() {
    ClientLog client_log;
    const auto client = connect(rig.make_key(), client_log);
    const size_t before = log.packets.size();
    const Bytes packet = make_packet(77, 77, 5000);
    ASSERT_TRUE(client->send(packet).ok());
    ASSERT_TRUE(rig.run_until([&] { return log.packets.size() > before; }));
    EXPECT_EQ(log.packets.back().second, packet);
    ASSERT_TRUE(rig.server().send(log.packets.back().first, packet).ok());
    ASSERT_TRUE(rig.run_until([&] { return !client_log.packets.empty(); }));
    log.packets.clear();
  }
  /// A DEALER with an allowed key that does what ZmqClient never would.
  ZmqSocket rogue(const CurveKeys& keys, const std::string& endpoint) {
    ZmqSocket socket = std::move(new_socket(*rig.context, ZMQ_DEALER).value());
    EXPECT_TRUE(set_curve_client(socket.get(), keys, rig.server_keys.public_key).ok());
    EXPECT_TRUE(set_option(socket.get(), ZMQ_RECONNECT_IVL, -1).ok());
    EXPECT_EQ(zmq_connect(socket.get(), endpoint.c_str()), 0);
    return socket;
  }

  ZmqRig rig;
  ServerLog log;
};

ZmqServerOptions options_at(const std::string& listen) {
  ZmqServerOptions options;
  options.listen = listen;
  options.own = make_curve_keys();
  options.allow = [](const PeerKey&) { return true; };
  return options;
}

Status open_status(ZmqServerOptions options) {
  ThreadPool pool(1);
  AsioLoop loop(pool);
  const auto server = ZmqServer::open(loop, std::move(options));
  return server ? Status() : server.error();
}

TEST(ZmqServerOpen, RefusesToOpenWithoutItsZapHandler) {
  ZmqServerOptions options = options_at("tcp://127.0.0.1:*");
  options.without_zap_handler_for_test = true;
  const Status status = open_status(std::move(options));
  EXPECT_EQ(status.code(), Code::kInternal);
  EXPECT_THAT(status.message(),
              StartsWith("the self-probe with an unknown key failed, but the ZAP"));
}

TEST(ZmqServerOpen, RefusesToOpenWithoutEnforcement) {
  ZmqServerOptions options = options_at("tcp://127.0.0.1:*");
  options.without_zap_enforcement_for_test = true;
  const Status status = open_status(std::move(options));
  EXPECT_EQ(status.code(), Code::kInternal);
  EXPECT_THAT(status.message(), StartsWith("the self-probe without a ZAP handler was accepted"));
  options = options_at("tcp://127.0.0.1:*");
  options.without_zap_enforcement_for_test = true;
  options.without_zap_handler_for_test = true;
  EXPECT_EQ(open_status(std::move(options)).code(), Code::kInternal);
}

TEST(ZmqServerOpen, SaysWhatIsWrongWithAnEndpoint) {
  for (const char* const bad :
       {"", "7700", "tcp://", "tcp://127.0.0.1", "ipc:///tmp/x", "tcp://127.0.0.1:99999",
        "tcp://127.0.0.1:-1", "tcp://127.0.0.1:7700x", "tcp://192.0.2.1:7700", "tcp://:7700"}) {
    const Status status = open_status(options_at(bad));
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << bad << ": " << status.describe();
  }
  ZmqServerOptions options = options_at("tcp://127.0.0.1:*");
  options.own.public_key = make_curve_keys().public_key;
  EXPECT_THAT(open_status(std::move(options)).message(), HasSubstr("not a pair"));
  options = options_at("tcp://127.0.0.1:*");
  options.allow = nullptr;
  EXPECT_EQ(open_status(std::move(options)).code(), Code::kInvalidArgument);
}

TEST(ZmqServerOpen, SaysThatThePortIsInUse) {
  const int holder = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(holder, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(holder, 1), 0);
  ASSERT_EQ(getsockname(holder, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string endpoint = fmt::format("tcp://127.0.0.1:{}", ntohs(address.sin_port));
  const Status status = open_status(options_at(endpoint));
  EXPECT_EQ(status.code(), Code::kInUse);
  EXPECT_EQ(status.message(), endpoint + " is in use by another process");
  close(holder);
  EXPECT_TRUE(open_status(options_at(endpoint)).ok());
}

TEST(ZmqServerOpen, TakesAPortAgainAndListensOnIpv6) {
  ThreadPool pool(1);
  AsioLoop loop(pool);
  auto first = ZmqServer::open(loop, options_at("tcp://127.0.0.1:0"));
  ASSERT_TRUE(first) << first.error().describe();
  const std::string endpoint = (*first)->endpoint();
  EXPECT_GT(port_of(endpoint), 0);
  EXPECT_EQ(open_status(options_at(endpoint)).code(), Code::kInUse);
  first->reset();
  EXPECT_TRUE(open_status(options_at(endpoint)).ok());

  auto six = ZmqServer::open(loop, options_at("tcp://[::1]:*"));
  if (!six) GTEST_SKIP() << "no IPv6 here: " << six.error().describe();
  EXPECT_THAT((*six)->endpoint(), StartsWith("tcp://[::1]:"));
}

TEST(ZmqServerOpen, LetsNothingOfTheProbeBeSeen) {
  ZmqRig rig;
  ServerLog log;
  rig.server().start(log);
  rig.settle(milliseconds(100));
  for (const auto& [name, count] : rig.server().counters()) EXPECT_EQ(count, 0u) << name;
  EXPECT_TRUE(log.packets.empty());
  EXPECT_EQ(rig.zmq_server->wire_bytes().in, 0u);
}

TEST_F(ZmqServerTest, StrangersGetNowhere) {
  // Unknown key.
  ClientLog unknown;
  const auto stranger = rig.client(rig.make_key(false));
  stranger->connect(unknown);
  ASSERT_TRUE(rig.run_until([&] { return unknown.lost.has_value(); }));
  EXPECT_THAT(unknown.lost->message(), HasSubstr("refused this key"));

  // The right list, the wrong server key.
  ClientLog misled;
  const PeerKey key = rig.make_key();
  ZmqClient misled_client(rig.loop, *rig.context,
                          {.server = rig.zmq_server->endpoint(),
                           .server_key = make_curve_keys().public_key,
                           .own = rig.secrets.at(key)});
  misled_client.connect(misled);
  ASSERT_TRUE(rig.run_until([&] { return misled.lost.has_value(); }));
  EXPECT_THAT(misled.lost->message(), HasSubstr("is server_key really the key"));

  // No encryption, and a server that wants a password.
  for (const bool plain : {false, true}) {
    const ZmqSocket open = std::move(new_socket(*rig.context, ZMQ_DEALER).value());
    if (plain) {
      ASSERT_TRUE(set_option(open.get(), ZMQ_PLAIN_USERNAME, std::string_view("admin")).ok());
      ASSERT_TRUE(set_option(open.get(), ZMQ_PLAIN_PASSWORD, std::string_view("admin")).ok());
    }
    auto monitor = ZmqMonitor::open(*rig.context, open.get(), ZMQ_EVENT_ALL).value();
    ASSERT_EQ(zmq_connect(open.get(), rig.zmq_server->endpoint().c_str()), 0);
    ZmqMessage packet;
    ASSERT_TRUE(packet.fill(kHello).ok());
    send(open.get(), packet);
    bool failed = false;
    ASSERT_TRUE(rig.run_until([&] {
      while (const auto event = monitor.next()) {
        EXPECT_NE(event->kind, ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
        failed = failed || event->kind == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL ||
                 event->kind == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
      }
      return failed;
    }));
  }

  // A listener that says nothing, and old protocol versions.
  RawSocket silent(port());
  RawSocket version_two(port());
  RawSocket version_one(port());
  ASSERT_TRUE(rig.run_until([&] { return version_two.connected() && version_one.connected(); }));
  Bytes two = greeting();
  two[10] = std::byte{1};
  two[11] = std::byte{5};
  version_two.send(two);
  version_one.send(Bytes{std::byte{1}, std::byte{0}, std::byte{2}, std::byte{0}, std::byte{'x'}});
  EXPECT_TRUE(rig.run_until([&] { return version_two.hung_up() && version_one.hung_up(); }));

  EXPECT_EQ(counter("handshakes_refused_key"), 1u);
  // Of the two that spoke the wrong protocol ZeroMQ doesn't always tell both.
  EXPECT_TRUE(rig.run_until([&] { return counter("handshakes_failed_protocol") >= 1; }));
  EXPECT_EQ(counter("handshakes_ok"), 0u);
  EXPECT_EQ(counter("packets_in"), 0u);
  expect_honest_client_works();
  EXPECT_EQ(counter("handshakes_ok"), 1u);
  EXPECT_EQ(counter("stray_dropped"), 0u);
}

class ZmqServerRefusals : public ZmqServerTest {
 public:
  ZmqServerRefusals() : ZmqServerTest(options()) {}
  static inline std::vector<RefusedPeer> refused;
  static ZmqServerOptions options() {
    refused.clear();
    ZmqServerOptions result;
    result.refused = [](const RefusedPeer& peer) { refused.push_back(peer); };
    return result;
  }
};

TEST_F(ZmqServerRefusals, TellWhoItWas) {
  ClientLog unknown;
  const PeerKey key = rig.make_key(false);
  const auto stranger = rig.client(key);
  stranger->connect(unknown);
  ASSERT_TRUE(rig.run_until([&] { return unknown.lost.has_value(); }));
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].address, "127.0.0.1");
  EXPECT_EQ(refused[0].key, key);
}

TEST_F(ZmqServerTest, GarbageOfEveryLength) {
  std::mt19937 random(1);
  std::vector<RawSocket> sockets;
  for (size_t length = 0; length <= 2000; ++length) {
    sockets.emplace_back(port());
    ASSERT_TRUE(rig.run_until([&] { return sockets.back().connected(); }));
    // Half of them begin as a connection should, so that the garbage meets another reader.
    Bytes bytes = length % 2 == 1 ? greeting() : Bytes();
    std::ranges::copy(random_bytes(random, length), std::back_inserter(bytes));
    EXPECT_EQ(sockets.back().send(bytes), bytes.size());
    if (sockets.size() > 100) sockets.erase(sockets.begin(), sockets.begin() + 50);
  }
  sockets.clear();
  ASSERT_TRUE(rig.run_until([&] { return counter("disconnected") == 2001; }));
  EXPECT_EQ(counter("packets_in"), 0u);
  EXPECT_EQ(counter("handshakes_ok"), 0u);
  expect_honest_client_works();
}

TEST_F(ZmqServerTest, ReplayedConnectionsAreWorthNothing) {
  std::vector<char> recorded;
  Proxy recorder(rig.loop, port(), [&](std::vector<char>& piece, size_t) {
    recorded.insert(recorded.end(), piece.begin(), piece.end());
  });
  {
    ClientLog client_log;
    const auto client = rig.client(rig.make_key(), recorder.endpoint());
    client->connect(client_log);
    ASSERT_TRUE(rig.run_until([&] { return client_log.connected == 1; }));
    for (uint32_t i = 0; i < 20; ++i)
      ASSERT_TRUE(client->send(make_packet(1, i, 100 * i + 1)).ok());
    ASSERT_TRUE(rig.run_until([&] { return log.packets.size() == 20; }));
  }
  log.packets.clear();
  const uint64_t before = counter("packets_in");
  std::vector<RawSocket> replays;
  for (int i = 0; i < 50; ++i) {
    replays.emplace_back(port());
    ASSERT_TRUE(rig.run_until([&] { return replays.back().connected(); }));
    // Whole, in pieces, and cut short.
    const std::span<const std::byte> all = std::as_bytes(std::span(recorded));
    const size_t cut = i % 3 == 2 ? all.size() * static_cast<size_t>(i) / 50 : all.size();
    if (i % 3 == 1) {
      replays.back().send(all.first(64));
      rig.settle(milliseconds(1));
      replays.back().send(all.subspan(64, cut - 64));
    } else {
      replays.back().send(all.first(cut));
    }
  }
  rig.settle(milliseconds(100));
  expect_honest_client_works();
  EXPECT_EQ(counter("packets_in"), before + 1);
  EXPECT_EQ(counter("handshakes_ok"), 2u);
}

TEST_F(ZmqServerTest, FlippedBitsBreakTheConnectionAndChangeNoPacket) {
  std::mt19937 random(2);
  int broken = 0;
  constexpr int kRuns = 60;
  for (int run = 0; run < kRuns; ++run) {
    // Greeting and handshake are the first 600 bytes or so, the packets another 50,000.
    const size_t where = run % 2 == 0 ? random() % 600 : random() % 50'000;
    const char flip = static_cast<char>(1 << (random() % 8));
    Proxy proxy(rig.loop, port(), [&](std::vector<char>& piece, size_t offset) {
      if (where >= offset && where - offset < piece.size()) piece[where - offset] ^= flip;
    });
    ClientLog client_log;
    const auto client = rig.client(rig.make_key(), proxy.endpoint());
    log.packets.clear();
    uint32_t sent = 0;
    client_log.then_connected = [&] {
      for (; sent < 10; ++sent) EXPECT_TRUE(client->send(make_packet(3, sent, 5000)).ok());
    };
    client->connect(client_log);
    // Greetings have bytes that mean nothing, and a long frame that was announced never comes.
    rig.run_until([&] { return client_log.lost || log.packets.size() == 10; }, milliseconds(100));
    broken += log.packets.size() < 10;
    for (uint32_t i = 0; i < log.packets.size(); ++i)
      ASSERT_EQ(log.packets[i].second, make_packet(3, i, 5000)) << "flipped at " << where;
  }
  EXPECT_GT(broken, kRuns * 3 / 4);
  expect_honest_client_works();
}

TEST_F(ZmqServerTest, MultipartAndEmptyMessagesAreDiscardedWhole) {
  const PeerKey key = rig.make_key();
  const ZmqSocket socket = rogue(rig.secrets.at(key), rig.zmq_server->endpoint());
  const auto part = [&](const Bytes& bytes, bool more) {
    ZmqMessage message;
    ASSERT_TRUE(message.fill(bytes).ok());
    ASSERT_TRUE(rig.run_until([&] { return send(socket.get(), message, more) == 0; }));
  };
  part(kHello, true);
  part(make_packet(1, 1, 100'000), true);
  part(kHello, false);
  part({}, false);
  part({}, true);
  part({}, false);
  part(kHello, false);
  ASSERT_TRUE(rig.run_until([&] { return !log.packets.empty(); }));
  EXPECT_EQ(log.packets.size(), 1u);
  EXPECT_EQ(log.packets[0].second, kHello);
  EXPECT_EQ(log.packets[0].first.key, key);
  EXPECT_EQ(counter("multipart_dropped"), 2u);
  EXPECT_EQ(counter("empty_dropped"), 1u);
}

TEST_F(ZmqServerTest, MessagesThatAreTooLongEndTheConnection) {
  const ZmqSocket socket = rogue(rig.secrets.at(rig.make_key()), rig.zmq_server->endpoint());
  ZmqMessage message;
  ASSERT_TRUE(message.fill(make_packet(1, 1, kMaxPacketBytes + 100)).ok());
  ASSERT_TRUE(rig.run_until([&] { return send(socket.get(), message) == 0; }));
  ASSERT_TRUE(rig.run_until([&] { return counter("disconnected") == 1; }));
  EXPECT_TRUE(log.packets.empty());
  expect_honest_client_works();
}

TEST_F(ZmqServerTest, ClientsCannotChooseTheirRoutingId) {
  const CurveKeys keys = rig.secrets.at(rig.make_key());
  for (const std::string_view id : {std::string_view("victim"), std::string_view("\1abcd", 5)}) {
    const uint64_t before = counter("disconnected");
    ZmqSocket socket = std::move(new_socket(*rig.context, ZMQ_DEALER).value());
    ASSERT_TRUE(set_option(socket.get(), ZMQ_ROUTING_ID, id).ok());
    ASSERT_TRUE(set_option(socket.get(), ZMQ_RECONNECT_IVL, -1).ok());
    ASSERT_TRUE(set_curve_client(socket.get(), keys, rig.server_keys.public_key).ok());
    ASSERT_EQ(zmq_connect(socket.get(), rig.zmq_server->endpoint().c_str()), 0);
    ZmqMessage message;
    ASSERT_TRUE(message.fill(kHello).ok());
    ASSERT_EQ(send(socket.get(), message), 0);
    ASSERT_TRUE(rig.run_until([&] { return counter("disconnected") == before + 1; }));
  }
  EXPECT_TRUE(log.packets.empty());
  EXPECT_EQ(counter("stray_dropped"), 2u) << testing::PrintToString(rig.server().counters());
}

// An honest libzmq sends a message of several parts only when it is complete; this one gets stuck
// on the way.
TEST_F(ZmqServerTest, WhoHoardsAnUnfinishedMessageIsCutOff) {
  constexpr size_t kThrough = kMostUnfinished + (8 << 20);
  Proxy proxy(rig.loop, port(), [&](std::vector<char>& piece, size_t offset) {
    if (offset >= kThrough) piece.clear();
  });
  const ZmqSocket socket = rogue(rig.secrets.at(rig.make_key()), proxy.endpoint());
  ASSERT_TRUE(set_option(socket.get(), ZMQ_SNDHWM, 0).ok());
  ZmqMessage hello;
  ASSERT_TRUE(hello.fill(kHello).ok());
  ASSERT_TRUE(rig.run_until([&] { return send(socket.get(), hello) == 0; }));
  ASSERT_TRUE(rig.run_until([&] { return log.packets.size() == 1; }));
  const Bytes part(kMaxPacketBytes);
  for (size_t sent = 0; sent < kThrough + (4 << 20); sent += part.size()) {
    ZmqMessage message;
    ASSERT_TRUE(message.fill(part).ok());
    ASSERT_EQ(send(socket.get(), message, true), 0);
  }
  ZmqMessage last;
  ASSERT_TRUE(last.fill(kHello).ok());
  ASSERT_EQ(send(socket.get(), last), 0);
  ASSERT_TRUE(rig.run_until([&] { return counter("hoarders_closed") == 1; }));
  ASSERT_TRUE(rig.run_until([&] { return counter("disconnected") == 1; }));
  EXPECT_EQ(log.packets.size(), 1u);
  EXPECT_EQ(counter("multipart_dropped"), 0u);
}

// libzmq aborts the process when a connection breaks that it has stopped to read because a queue is
// full, and a ping is among what it has read.
TEST(ZmqServerBusy, SurvivesPingsAndResetsWhileItIsBusy) {
  ZmqRig rig;  // not started: packets pile up
  const auto counter = [&](std::string_view name) { return rig.server().counters().at(name); };
  constexpr size_t kPackets = 100;
  // Everything after the handshake arrives at once.
  bool hold = false;
  std::vector<char> held;
  Proxy proxy(rig.loop, port_of(rig.zmq_server->endpoint()), [&](std::vector<char>& piece, size_t) {
    held.insert(held.end(), piece.begin(), piece.end());
    piece.clear();
    if (!hold) piece.swap(held);
  });
  const PeerKey key = rig.make_key();
  ZmqSocket socket = std::move(new_socket(*rig.context, ZMQ_DEALER).value());
  ASSERT_TRUE(set_curve_client(socket.get(), rig.secrets.at(key), rig.server_keys.public_key).ok());
  ASSERT_TRUE(set_option(socket.get(), ZMQ_RECONNECT_IVL, -1).ok());
  ASSERT_TRUE(set_option(socket.get(), ZMQ_HEARTBEAT_IVL, 2).ok());
  ASSERT_TRUE(set_option(socket.get(), ZMQ_HEARTBEAT_TIMEOUT, 60'000).ok());
  ASSERT_EQ(zmq_connect(socket.get(), proxy.endpoint().c_str()), 0);
  ASSERT_TRUE(rig.run_until([&] { return counter("handshakes_ok") == 1; }));
  hold = true;
  for (size_t i = 0; i < kPackets; ++i) {
    ZmqMessage message;
    ASSERT_TRUE(message.fill(kHello).ok());
    ASSERT_TRUE(rig.run_until([&] { return send(socket.get(), message) == 0; }));
  }
  ASSERT_TRUE(rig.run_until([&] { return held.size() > kPackets * 37 + 500; }));
  const uint64_t before = rig.zmq_server->wire_bytes().in;
  hold = false;
  ASSERT_TRUE(rig.run_until([&] { return rig.zmq_server->wire_bytes().in > before + 3500; }));
  proxy.reset_connections();
  rig.settle(milliseconds(20));
  ServerLog log;
  rig.server().start(log);
  EXPECT_TRUE(rig.run_until([&] { return log.packets.size() == kPackets; }));
  rig.settle(milliseconds(20));
}

TEST_F(ZmqServerTest, LongWaitsOfTheLoopEndNoHonestConnection) {
  constexpr size_t kPackets = 2 * kMostUnfinished / kMaxPacketBytes;
  const ZmqSocket socket = rogue(rig.secrets.at(rig.make_key()), rig.zmq_server->endpoint());
  ASSERT_TRUE(set_option(socket.get(), ZMQ_SNDHWM, 0).ok());
  ZmqMessage message;
  ASSERT_TRUE(message.fill(kHello).ok());
  ASSERT_TRUE(rig.run_until([&] { return send(socket.get(), message) == 0; }));
  ASSERT_TRUE(rig.run_until([&] { return log.packets.size() == 1; }));
  log.then = [&](const Connection&, const Bytes&) { log.packets.back().second.clear(); };
  for (size_t i = 0; i < kPackets; ++i) {
    ASSERT_TRUE(message.fill(Bytes(kMaxPacketBytes)).ok());
    ASSERT_EQ(send(socket.get(), message), 0);
  }
  // The loop doesn't run while all of it arrives, and until the next look is overdue.
  const TimePoint due = rig.loop.now() + milliseconds(1100);
  while (rig.zmq_server->wire_bytes().in < kPackets * kMaxPacketBytes || rig.loop.now() < due)
    std::this_thread::yield();
  ASSERT_TRUE(rig.run_until([&] { return log.packets.size() == kPackets + 1; }));
  EXPECT_EQ(counter("hoarders_closed"), 0u);
  EXPECT_EQ(counter("disconnected"), 0u);
}

class ZmqServerImpatient : public ZmqServerTest {
 public:
  ZmqServerImpatient() : ZmqServerTest(options()) {}
  static ZmqServerOptions options() {
    ZmqServerOptions result;
    result.handshake_limit = milliseconds(500);
    result.silence_limit = milliseconds(500);
    return result;
  }
};

TEST_F(ZmqServerImpatient, ConnectionsThatSayNothingEnd) {
  RawSocket silent(port());
  RawSocket greeted(port());
  ASSERT_TRUE(rig.run_until([&] { return greeted.connected(); }));
  greeted.send(greeting());
  ClientLog talker_log;
  const auto talker = connect(rig.make_key(), talker_log);
  ASSERT_TRUE(talker->send(kHello).ok());
  // On the list, but says nothing.
  ClientLog mute_log;
  const auto mute = connect(rig.make_key(), mute_log);
  ASSERT_TRUE(rig.run_until([&] { return silent.hung_up() && greeted.hung_up(); }));
  ASSERT_TRUE(rig.run_until([&] { return mute_log.lost.has_value(); }));
  EXPECT_THAT(mute_log.lost->message(), HasSubstr("broke"));
  EXPECT_GE(counter("silent_closed"), 1u);
  EXPECT_FALSE(talker_log.lost);
  ASSERT_TRUE(talker->send(kHello).ok());
  ASSERT_TRUE(rig.run_until([&] { return log.packets.size() == 2; }));
}

TEST_F(ZmqServerTest, ForgetsConnectionsThatAreGone) {
  for (int i = 0; i < 20; ++i) {
    ClientLog client_log;
    const auto client = connect(rig.make_key(), client_log);
    ASSERT_TRUE(client->send(kHello).ok());
    // Some are gone before their packet is read.
    if (i % 2 == 0) {
      ASSERT_TRUE(rig.run_until([&] { return log.packets.size() > static_cast<size_t>(i); }));
    }
    client->disconnect();
  }
  ASSERT_TRUE(rig.run_until([&] { return log.packets.size() == 20; }));
  EXPECT_TRUE(rig.run_until([&] { return counter("connections") == 0; }));
  EXPECT_EQ(counter("stray_dropped"), 0u);
}

TEST_F(ZmqServerTest, ClientsSayWhatToCheck) {
  const PeerKey key = rig.make_key();
  const auto reason = [&](const std::string& endpoint) {
    ClientLog client_log;
    ZmqClient client(rig.loop, *rig.context,
                     {.server = endpoint,
                      .server_key = rig.server_keys.public_key,
                      .own = rig.secrets.at(key),
                      .dial_limit = milliseconds(200)});
    {
      const CallInProgress call;
      client.connect(client_log);
    }
    EXPECT_TRUE(rig.run_until([&] { return client_log.lost.has_value(); }));
    EXPECT_EQ(client_log.connected, 0);
    return client_log.lost ? client_log.lost->describe() : "";
  };
  // A port that was free a moment ago.
  const std::string here = [&] {
    auto other = ZmqServer::open(rig.loop, options_at("tcp://127.0.0.1:*"));
    return other.value()->endpoint();
  }();
  EXPECT_EQ(reason(here), "nothing listens at " + here);
  EXPECT_THAT(reason("7700"), HasSubstr("is not an endpoint"));
  EXPECT_THAT(reason("tcp://127.0.0.1:x"), HasSubstr("is not an endpoint"));
  // Somebody who accepts and says nothing, and one who doesn't even do that.
  const int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(other, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(other, 10), 0);
  ASSERT_EQ(getsockname(other, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string there = fmt::format("tcp://127.0.0.1:{}", ntohs(address.sin_port));
  EXPECT_THAT(reason(there), HasSubstr("didn't finish the handshake within 0.2 s"));
  ASSERT_TRUE(set_deaf(other, true));
  EXPECT_THAT(reason(there), HasSubstr("timed out: nothing answered at " + there));
  close(other);
  // Keys that don't belong together.
  ClientLog client_log;
  CurveKeys mixed = make_curve_keys();
  mixed.public_key = key;
  ZmqClient client(rig.loop, *rig.context,
                   {.server = here, .server_key = rig.server_keys.public_key, .own = mixed});
  client.connect(client_log);
  ASSERT_TRUE(rig.run_until([&] { return client_log.lost.has_value(); }));
  EXPECT_THAT(client_log.lost->message(), HasSubstr("not a pair"));
}

TEST_F(ZmqServerTest, ClientsHearWhenTheServerGoes) {
  ClientLog client_log;
  const auto client = connect(rig.make_key(), client_log);
  ASSERT_TRUE(client->send(kHello).ok());
  ASSERT_TRUE(rig.run_until([&] { return log.packets.size() == 1; }));
  // With a full queue, too.
  for (int i = 0; i < 100; ++i)
    (void)rig.server().send(log.packets[0].first, Bytes(kMaxPacketBytes));
  const auto start = std::chrono::steady_clock::now();
  rig.zmq_server.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(1));
  ASSERT_TRUE(rig.run_until([&] { return client_log.lost.has_value(); }));
  EXPECT_EQ(client_log.lost->message(), "the connection broke");
}

TEST_F(ZmqServerTest, CountsTheBytesOfTheWire) {
  ClientLog client_log;
  const auto client = connect(rig.make_key(), client_log);
  for (uint32_t i = 0; i < 20; ++i) ASSERT_TRUE(client->send(make_packet(1, i, 100'000)).ok());
  ASSERT_TRUE(rig.run_until([&] { return log.packets.size() == 20; }));
  for (uint32_t i = 0; i < 10; ++i)
    ASSERT_TRUE(rig.server().send(log.packets[0].first, make_packet(1, i, 100'000)).ok());
  ASSERT_TRUE(rig.run_until([&] { return client_log.packets.size() == 10; }));
  TcpBytes bytes;
  ASSERT_TRUE(
      rig.run_until([&] { return (bytes = rig.zmq_server->wire_bytes()).out > 1'000'000; }));
  EXPECT_GT(bytes.in, 2'000'000u);
  EXPECT_LT(bytes.in, 2'010'000u);
  EXPECT_LT(bytes.out, 1'010'000u);
  // What was seen stays counted.
  client->disconnect();
  ASSERT_TRUE(rig.run_until([&] { return counter("disconnected") == 1; }));
  EXPECT_GE(rig.zmq_server->wire_bytes().in, bytes.in);
  EXPECT_GE(rig.zmq_server->wire_bytes().out, bytes.out);
}

TEST_F(ZmqServerTest, SignalsDoNoHarm) {
  struct sigaction storm {
  }, before{};
  storm.sa_handler = [](int) {};  // without SA_RESTART: every call may be interrupted
  ASSERT_EQ(sigaction(SIGUSR1, &storm, &before), 0);
  std::atomic<bool> end = false;
  const pthread_t loop_thread = pthread_self();
  std::thread shooter([&] {
    while (!end) {
      pthread_kill(loop_thread, SIGUSR1);  // this thread
      kill(getpid(), SIGUSR1);             // any
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  });
  log.then = [&](const Connection& from, const Bytes& packet) {
    EXPECT_TRUE(rig.server().send(from, packet).ok());
  };
  ClientLog client_log;
  const auto client = connect(rig.make_key(), client_log);
  const auto deadline = std::chrono::steady_clock::now() + milliseconds(500);
  uint32_t sent = 0;
  while (std::chrono::steady_clock::now() < deadline) {
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(client->send(make_packet(1, sent++, 5000)).ok());
    ASSERT_TRUE(rig.run_until([&] { return client_log.packets.size() == sent; }));
  }
  {
    ZmqRig another;  // opened and closed under fire
    EXPECT_TRUE(another.zmq_server);
  }
  end = true;
  shooter.join();
  ASSERT_EQ(sigaction(SIGUSR1, &before, nullptr), 0);
  for (uint32_t i = 0; i < sent; ++i) ASSERT_EQ(client_log.packets[i], make_packet(1, i, 5000));
  EXPECT_GT(sent, 100u);
}

TEST_F(ZmqServerTest, OpensAndDialsUnderFire) {
  struct sigaction storm {
  }, before{};
  storm.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGUSR1, &storm, &before), 0);
  std::atomic<bool> end = false;
  const pthread_t loop_thread = pthread_self();
  std::thread shooter([&] {
    while (!end) pthread_kill(loop_thread, SIGUSR1);  // as fast as can be: any call may be hit
  });
  for (int i = 0; i < 10; ++i) {
    ZmqRig another;
    ASSERT_TRUE(another.zmq_server);
    ClientLog client_log;
    const auto client = another.client(another.make_key());
    client->connect(client_log);
    ASSERT_TRUE(another.run_until([&] { return client_log.connected > 0 || client_log.lost; }));
    EXPECT_FALSE(client_log.lost) << client_log.lost->describe();
  }
  end = true;
  shooter.join();
  ASSERT_EQ(sigaction(SIGUSR1, &before, nullptr), 0);
}

TEST_F(ZmqServerTest, IdlesWithoutWork) {
  ClientLog client_log;
  const auto client = connect(rig.make_key(), client_log);
  ASSERT_TRUE(client->send(kHello).ok());
  ASSERT_TRUE(rig.run_until([&] { return log.packets.size() == 1; }));
  const double before = cpu_seconds(RUSAGE_SELF);
  rig.settle(milliseconds(500));
  EXPECT_LT(cpu_seconds(RUSAGE_SELF) - before, kSanitized ? 0.1 : 0.01);
}

TEST_F(ZmqServerTest, TimersGetTheirTurnUnderLoad) {
  log.then = [&](const Connection& from, const Bytes& packet) {
    (void)rig.server().send(from, packet);
  };
  ClientLog client_log;
  const auto client = connect(rig.make_key(), client_log);
  bool end = false;
  std::function<void()> feed = [&] {
    for (int i = 0; i < 500; ++i) (void)client->send(make_packet(1, 0, 10));
    if (!end) rig.loop.post(feed);
  };
  rig.loop.post(feed);
  Duration worst{};
  TimePoint due = rig.loop.now() + milliseconds(1);
  std::function<void()> timer = [&] {
    worst = std::max(worst, rig.loop.now() - due);
    due = rig.loop.now() + milliseconds(1);
    if (!end) rig.loop.call_at(due, timer);
  };
  rig.loop.call_at(due, timer);
  ASSERT_TRUE(rig.run_until([&] { return log.packets.size() > 20'000; }));
  end = true;
  EXPECT_LT(worst, milliseconds(kSanitized ? 500 : 100));
}

TEST_F(ZmqServerImpatient, FloodOfSilentAndGiantConnectionsTakesLittleMemory) {
  raise_descriptor_limit();
  constexpr size_t kSilent = 2000;
  constexpr size_t kGiant = 50;
  if (descriptor_limit() < 2 * (kSilent + kGiant) + 2100)
    GTEST_SKIP() << "only " << descriptor_limit() << " descriptors";
  ClientLog client_log;
  const auto client = connect(rig.make_key(), client_log);
  ASSERT_TRUE(client->send(kHello).ok());
  ASSERT_TRUE(rig.run_until([&] { return log.packets.size() == 1; }));
  const size_t before = resident_bytes();
  std::vector<RawSocket> sockets;
  for (size_t i = 0; i < kSilent; ++i) {
    sockets.emplace_back(port());
    if (i % 100 == 99) {
      ASSERT_TRUE(rig.run_until([&] { return sockets.back().connected(); }));
    }
  }
  // A command frame of 1 TB, and as much of it as the server takes.
  Bytes giant = greeting();
  for (const int byte : {6, 0, 0, 1, 0, 0, 0, 0, 0}) giant.push_back(static_cast<std::byte>(byte));
  giant.resize(1 << 20, std::byte{0x55});
  for (size_t i = 0; i < kGiant; ++i) {
    sockets.emplace_back(port());
    ASSERT_TRUE(rig.run_until([&] { return sockets.back().connected(); }));
    std::span<const std::byte> rest = giant;
    rest = rest.subspan(sockets.back().send(rest));
    rig.settle(milliseconds(1));
    sockets.back().send(rest);
  }
  ASSERT_TRUE(rig.run_until([&] { return counter("accepted") >= kSilent + kGiant; }));
  const size_t after = resident_bytes();
  const size_t grown = after > before ? after - before : 0;
  RecordProperty("grown_kB", static_cast<int>(grown / 1024));
  EXPECT_LT(grown, kSanitized ? size_t{1} << 30 : size_t{60} << 20);
  // An honest client isn't kept waiting, and the silent ones are gone after the handshake's limit.
  const auto start = std::chrono::steady_clock::now();
  expect_honest_client_works();
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(1));
  EXPECT_FALSE(client_log.lost);
  ASSERT_TRUE(rig.run_until([&] { return counter("disconnected") >= kSilent + kGiant; }));
}

TEST_F(ZmqServerTest, AtTheDescriptorLimitNothingSpinsAndConnectionsLive) {
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  ClientLog client_log;
  const auto client = connect(rig.make_key(), client_log);
  ASSERT_TRUE(client->send(kHello).ok());
  ASSERT_TRUE(rig.run_until([&] { return log.packets.size() == 1; }));

  // The attackers' descriptors first; what is left then is the server's.
  std::vector<RawSocket> attackers(600);
  const rlim_t low = static_cast<rlim_t>(attackers.back().fd()) + 100;
  if (attackers.back().fd() < 0) GTEST_SKIP() << "too few descriptors";
  const rlimit lowered{low, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &lowered), 0);
  struct Restore {
    rlimit limit;
    ~Restore() { setrlimit(RLIMIT_NOFILE, &limit); }
  } restore{limit};

  for (RawSocket& socket : attackers) socket.connect(port());
  ASSERT_TRUE(rig.run_until([&] { return counter("accept_pauses") >= 1; }));
  rig.settle();
  const double before = other_threads_seconds();
  uint32_t echoed = 0;
  log.then = [&](const Connection& from, const Bytes& packet) {
    EXPECT_TRUE(rig.server().send(from, packet).ok());
  };
  // An old connection works all the time; the flood goes on.
  const auto start = std::chrono::steady_clock::now();
  size_t next = 0;
  while (std::chrono::steady_clock::now() < start + milliseconds(1500)) {
    ASSERT_TRUE(client->send(kHello).ok());
    ++echoed;
    ASSERT_TRUE(rig.run_until([&] { return client_log.packets.size() == echoed; }));
    if (attackers[next].hung_up()) attackers[next] = RawSocket(port());
    next = (next + 1) % attackers.size();
    rig.settle(milliseconds(5));
  }
  const double busy = (other_threads_seconds() - before) / 1.5;
  RecordProperty("busy_permille", static_cast<int>(busy * 1000));
  EXPECT_LT(busy, kSanitized ? 0.5 : 0.1);
  EXPECT_FALSE(client_log.lost);

  // When the flood ends, the door opens again.
  attackers.clear();
  ClientLog late_log;
  const auto late = rig.client(rig.make_key());
  late->connect(late_log);
  ASSERT_TRUE(rig.run_until([&] { return late_log.connected == 1; }));
  EXPECT_FALSE(client_log.lost);
}

class ZapHandlerTest : public testing::Test {
 public:
  /// The reply's status, user id and number of parts to a request of these parts.
  struct Reply {
    std::string status, user;
    size_t parts = 0;
  };
  Reply ask(const std::vector<std::string>& parts) {
    for (size_t i = 0; i < parts.size(); ++i)
      EXPECT_EQ(send(asker.get(), std::as_bytes(std::span(parts[i])), i + 1 < parts.size()), 0);
    EXPECT_TRUE(handler->answer_one());
    EXPECT_FALSE(handler->answer_one());
    std::vector<std::string> reply;
    ZmqMessage part;
    do {
      if (!receive(asker.get(), part)) break;
      reply.emplace_back(part.text());
    } while (part.more());
    if (reply.size() != 6) return {"", "", reply.size()};
    EXPECT_EQ(reply[0], "1.0");
    return {reply[2], reply[4], reply.size()};
  }
  static std::string text_of(const PeerKey& key) {
    return {reinterpret_cast<const char*>(key.data()), key.size()};
  }

  VirtualClock clock;
  std::unique_ptr<ZmqContext> context = std::move(ZmqContext::open().value());
  std::unique_ptr<ZapHandler> handler = std::move(ZapHandler::open(*context, clock).value());
  ZmqSocket asker = [this] {
    ZmqSocket socket = std::move(new_socket(*context, ZMQ_REQ).value());
    EXPECT_EQ(zmq_connect(socket.get(), "inproc://zeromq.zap.01"), 0);
    return socket;
  }();
  const PeerKey key = make_curve_keys().public_key;
  const std::vector<std::string> good{"1.0", "1", "tern", "192.0.2.7", "", "CURVE", text_of(key)};
};

TEST_F(ZapHandlerTest, AllowsExactlyWhatItShould) {
  EXPECT_EQ(ask(good).status, "400");  // nobody, until told otherwise
  handler->set_allow([&](const PeerKey& asked) { return asked == key; });
  const Reply reply = ask(good);
  EXPECT_EQ(reply.status, "200");
  EXPECT_EQ(reply.user, user_id(key));
  ASSERT_TRUE(parse_user_id(reply.user));
  EXPECT_EQ(*parse_user_id(reply.user), key);

  std::vector<RefusedPeer> refused;
  handler->set_refused([&](const RefusedPeer& peer) { refused.push_back(peer); });
  auto other = good;
  const PeerKey stranger = make_curve_keys().public_key;
  other[6] = text_of(stranger);
  EXPECT_EQ(ask(other).status, "400");
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].address, "192.0.2.7");
  EXPECT_EQ(refused[0].key, stranger);
  EXPECT_EQ(handler->malformed_requests(), 0u);
}

TEST_F(ZapHandlerTest, RefusesWhatIsNoProperRequest) {
  handler->set_allow([](const PeerKey&) { return true; });
  uint64_t malformed = 0;
  const auto refuse = [&](const std::vector<std::string>& parts) {
    const Reply reply = ask(parts);
    EXPECT_EQ(reply.status, "400");
    EXPECT_EQ(reply.user, "");
    EXPECT_EQ(handler->malformed_requests(), ++malformed);
  };
  const auto with = [&](size_t part, const std::string& value) {
    auto parts = good;
    parts[part] = value;
    return parts;
  };
  for (const char* const version : {"", "1", "2.0", "1.00"}) refuse(with(0, version));
  for (const char* const domain : {"", "Tern", "tern ", "global"}) refuse(with(2, domain));
  for (const char* const mechanism : {"", "NULL", "PLAIN", "curve", "CURVE "})
    refuse(with(5, mechanism));
  for (const size_t length : {0u, 1u, 31u, 33u, 64u, 100'000u})
    refuse(with(6, std::string(length, 'k')));
  for (size_t parts = 1; parts < good.size(); ++parts)
    refuse({good.begin(), good.begin() + static_cast<ptrdiff_t>(parts)});
  auto longer = good;
  longer.emplace_back("");
  refuse(longer);
  longer.resize(1000);
  refuse(longer);
  EXPECT_EQ(ask(good).status, "200");
}

TEST_F(ZapHandlerTest, KeysThatComeTooOftenHaveToWait) {
  handler->set_allow([](const PeerKey&) { return true; });
  clock.advance_to(seconds(1000));
  for (int i = 0; i < kHandshakeBurst; ++i) EXPECT_EQ(ask(good).status, "200") << i;
  EXPECT_EQ(ask(good).status, "300");
  EXPECT_EQ(ask(good).user, "");
  auto other = good;
  other[6] = text_of(make_curve_keys().public_key);
  EXPECT_EQ(ask(other).status, "200");
  clock.advance_to(seconds(1000) + kHandshakePause);
  EXPECT_EQ(ask(good).status, "200");
  EXPECT_EQ(ask(good).status, "300");
  clock.advance_to(seconds(100'000));  // no credit grows beyond the burst
  for (int i = 0; i < kHandshakeBurst; ++i) EXPECT_EQ(ask(good).status, "200") << i;
  EXPECT_EQ(ask(good).status, "300");
}

TEST_F(ZmqServerImpatient, ClientsThatDialTooOftenAreTurnedAway) {
  const PeerKey key = rig.make_key();
  ClientLog client_log;
  const auto client = rig.client(key);
  client_log.then_connected = [&] { client->connect(client_log); };
  client->connect(client_log);
  ASSERT_TRUE(rig.run_until([&] { return client_log.lost.has_value(); }));
  EXPECT_GE(client_log.connected, kHandshakeBurst);
  EXPECT_THAT(client_log.lost->message(), HasSubstr("dial too often"));
  EXPECT_EQ(counter("handshakes_too_often"), 1u);
  expect_honest_client_works();
}

TEST_F(ZapHandlerTest, ThereIsOnlyOne) {
  EXPECT_FALSE(ZapHandler::open(*context, clock));
  for (const char* const bad : {"", "00", "zz"}) EXPECT_FALSE(parse_user_id(bad));
  std::string upper = user_id(key);
  upper[0] = 'A';
  EXPECT_FALSE(parse_user_id(upper));
  EXPECT_FALSE(parse_user_id(user_id(key) + "0"));
}

}  // namespace
}  // namespace tern
