/// What tests of transports share: a loop, a server with its list of allowed keys, clients, and
/// handlers that write down what they hear.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "proto/net/asio_loop.h"
#include "proto/net/memory_transport.h"
#include "proto/net/zmq_client.h"
#include "proto/net/zmq_server.h"
#include "proto/transport.h"
#include "tests/proto/net/proxy.h"

namespace tern {

inline constexpr Duration kPatience = std::chrono::seconds(10);

/// A packet that tells who sent it and which it is, and can be checked whole.
inline Bytes make_packet(uint32_t sender, uint32_t index, size_t size) {
  Bytes packet(size);
  uint64_t state = (uint64_t{sender} << 32 | index) * 0x9e3779b97f4a7c15U + size;
  for (std::byte& byte : packet) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    byte = static_cast<std::byte>(state >> 56);
  }
  return packet;
}

/// While one lives, no handler may be called.
class CallInProgress {
 public:
  CallInProgress() { ++depth(); }
  ~CallInProgress() { --depth(); }
  static int& depth() {
    static int calls = 0;
    return calls;
  }
};

struct ServerLog : ServerTransport::Handler {
  void on_packet(const Connection& from, std::span<const std::byte> packet) override {
    EXPECT_EQ(CallInProgress::depth(), 0) << "called back from within a call";
    packets.emplace_back(from, Bytes(packet.begin(), packet.end()));
    if (then) then(from, packets.back().second);
  }
  std::vector<std::pair<Connection, Bytes>> packets;
  std::function<void(const Connection&, const Bytes&)> then;
};

struct ClientLog : ClientTransport::Handler {
  void on_connected() override {
    EXPECT_EQ(CallInProgress::depth(), 0) << "called back from within a call";
    ++connected;
    if (then_connected) then_connected();
  }
  void on_packet(std::span<const std::byte> packet) override {
    EXPECT_EQ(CallInProgress::depth(), 0) << "called back from within a call";
    EXPECT_GT(connected, 0);
    EXPECT_FALSE(lost.has_value()) << "a packet after on_lost";
    packets.emplace_back(packet.begin(), packet.end());
    if (then_packet) then_packet();
  }
  void on_lost(const Status& reason) override {
    EXPECT_EQ(CallInProgress::depth(), 0) << "called back from within a call";
    EXPECT_FALSE(reason.ok());
    ++losses;
    lost = reason;
    if (then_lost) then_lost();
  }
  int connected = 0;
  int losses = 0;
  std::vector<Bytes> packets;
  std::optional<Status> lost;
  std::function<void()> then_connected;
  std::function<void()> then_packet;
  std::function<void()> then_lost;
};

class TransportRig {
 public:
  virtual ~TransportRig() = default;
  virtual ServerTransport& server() = 0;
  /// A fresh key, on the server's list or not.
  virtual PeerKey make_key(bool allowed = true) = 0;
  virtual std::unique_ptr<ClientTransport> client(const PeerKey& key) = 0;
  /// Its network stands still while the loop doesn't run.
  virtual std::unique_ptr<ClientTransport> client_far_away(const PeerKey& key) {
    return client(key);
  }

  /// Asks `done` after each callback, and now and then for what no callback tells.
  bool run_until(const std::function<bool()>& done, Duration at_most = kPatience) {
    const TimePoint deadline = loop.now() + at_most;
    while (!loop.run_until(done, std::chrono::milliseconds(5))) {
      // Once more, should the whole machine have stood still.
      if (loop.now() > deadline) return loop.run_until(done, std::chrono::milliseconds(100));
    }
    return true;
  }
  /// Gives everything that is under way a chance to arrive.
  void settle(Duration time = std::chrono::milliseconds(50)) {
    loop.run_until([] { return false; }, time);
  }

  ThreadPool pool{1};
  AsioLoop loop{pool};
  std::set<PeerKey> allowed;
};

class MemoryRig : public TransportRig {
 public:
  ServerTransport& server() override { return network_.server(); }
  PeerKey make_key(bool is_allowed) override {
    PeerKey key{};
    key[0] = static_cast<std::byte>(++keys_);
    if (is_allowed) allowed.insert(key);
    return key;
  }
  std::unique_ptr<ClientTransport> client(const PeerKey& key) override {
    return network_.client(key);
  }
  MemoryNetwork& network() { return network_; }

 private:
  int keys_ = 0;
  MemoryNetwork network_{loop, [this](const PeerKey& key) { return allowed.contains(key); }};
};

class ZmqRig : public TransportRig {
 public:
  ZmqRig() : ZmqRig(ZmqServerOptions{}) {}
  /// Fills in what `options` leaves out.
  explicit ZmqRig(ZmqServerOptions options) {
    options.listen = "tcp://127.0.0.1:*";
    options.own = server_keys;
    if (!options.allow)
      options.allow = [this](const PeerKey& key) { return allowed.contains(key); };
    auto made = ZmqServer::open(loop, std::move(options));
    if (!made) {
      ADD_FAILURE() << made.error().describe();
      return;
    }
    zmq_server = std::move(*made);
  }
  ServerTransport& server() override { return *zmq_server; }
  PeerKey make_key(bool is_allowed = true) override {
    const CurveKeys keys = make_curve_keys();
    secrets[keys.public_key] = keys;
    if (is_allowed) allowed.insert(keys.public_key);
    return keys.public_key;
  }
  std::unique_ptr<ClientTransport> client(const PeerKey& key) override {
    return client(key, zmq_server->endpoint());
  }
  std::unique_ptr<ClientTransport> client(const PeerKey& key, const std::string& endpoint) {
    return std::make_unique<ZmqClient>(
        loop, *context,
        ZmqClientOptions{
            .server = endpoint, .server_key = server_keys.public_key, .own = secrets.at(key)});
  }

  std::unique_ptr<ClientTransport> client_far_away(const PeerKey& key) override {
    proxies.push_back(std::make_unique<Proxy>(loop, port_of(zmq_server->endpoint()), nullptr));
    return client(key, proxies.back()->endpoint());
  }

  const CurveKeys server_keys = make_curve_keys();
  std::map<PeerKey, CurveKeys> secrets;
  std::unique_ptr<ZmqContext> context = std::move(ZmqContext::open().value());
  std::unique_ptr<ZmqServer> zmq_server;
  std::vector<std::unique_ptr<Proxy>> proxies;
};

}  // namespace tern
