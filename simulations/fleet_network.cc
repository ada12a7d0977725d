#include "simulations/fleet_network.h"

#include <map>

#include "base/bytes.h"
#include "base/virtual_loop.h"
#include "proto/net/asio_loop.h"
#include "proto/net/memory_transport.h"
#include "proto/net/tcp_info.h"
#include "proto/net/zmq_client.h"
#include "proto/net/zmq_server.h"

namespace tern {

namespace {

/// In memory nobody has to prove anything: a client's key is its number.
class MemoryFleetNetwork : public FleetNetwork {
 public:
  MemoryFleetNetwork(const Devices& devices, ThreadPool& pool, bool early_results)
      : loop_(pool, early_results),
        network_(
            loop_, [](const PeerKey&) { return true; },
            [&devices](const PeerKey& key) { return devices.link(number_of(key)); }) {}

  Loop& loop() override { return loop_; }
  void start_at(TimePoint now) override { loop_.start_at(now); }
  ServerTransport& server() override { return network_.server(); }
  std::optional<Member> member(const PeerKey& key) const override {
    return Member{.number = number_of(key)};
  }
  Result<std::unique_ptr<ClientTransport>> client(uint32_t number) override {
    PeerKey key{};
    store(key.data(), number);
    return network_.client(key);
  }
  Status run_until(const std::function<bool()>& over) override { return loop_.run_until(over); }
  std::optional<std::pair<uint64_t, uint64_t>> wire_bytes() override { return std::nullopt; }

 private:
  static uint32_t number_of(const PeerKey& key) { return load<uint32_t>(key.data()); }

  VirtualLoop loop_;
  MemoryNetwork network_;
};

/// Every client has a key and a socket of its own; all of them share one thread of ZeroMQ.
class ZmqFleetNetwork : public FleetNetwork {
 public:
  explicit ZmqFleetNetwork(ThreadPool& pool) : loop_(pool) {}

  Status open(const SecretKey& key) {
    raise_descriptor_limit();
    server_key_ = key.public_key().curve;
    TERN_TRY(context_, ZmqContext::open());
    ZmqServerOptions options{.listen = "tcp://127.0.0.1:*"};
    options.own = {server_key_, key.curve_secret()};
    options.allow = [this](const PeerKey& peer) { return numbers_.contains(peer); };
    TERN_TRY(server_, ZmqServer::open(loop_, std::move(options)));
    return {};
  }

  Loop& loop() override { return loop_; }
  ServerTransport& server() override { return *server_; }
  std::optional<Member> member(const PeerKey& key) const override {
    const auto found = numbers_.find(key);
    return found == numbers_.end() ? std::nullopt : std::optional(Member{.number = found->second});
  }
  Result<std::unique_ptr<ClientTransport>> client(uint32_t number) override {
    TERN_TRY(const SecretKey key, SecretKey::generate());
    numbers_[key.public_key().curve] = number;
    return std::make_unique<ZmqClient>(
        loop_, *context_,
        ZmqClientOptions{.server = server_->endpoint(),
                         .server_key = server_key_,
                         .own = {key.public_key().curve, key.curve_secret()}});
  }
  Status run_until(const std::function<bool()>& over) override {
    while (!loop_.run_until(over, std::chrono::hours(1))) {
    }
    return {};
  }
  std::optional<std::pair<uint64_t, uint64_t>> wire_bytes() override {
    const TcpBytes bytes = server_->wire_bytes();
    return std::pair{bytes.in, bytes.out};
  }

 private:
  AsioLoop loop_;
  PeerKey server_key_{};
  std::map<PeerKey, uint32_t> numbers_;
  std::unique_ptr<ZmqContext> context_;  // outlives the clients: they go before the network
  std::unique_ptr<ZmqServer> server_;
};

}  // namespace

Result<std::unique_ptr<FleetNetwork>> FleetNetwork::make(FleetTransport kind, const SecretKey& key,
                                                         const Devices& devices, ThreadPool& pool,
                                                         bool all_are_waited_for) {
  if (kind == FleetTransport::kMemory)
    return std::unique_ptr<FleetNetwork>(
        std::make_unique<MemoryFleetNetwork>(devices, pool, all_are_waited_for));
  auto network = std::make_unique<ZmqFleetNetwork>(pool);
  TERN_CHECK_OK(network->open(key));
  return std::unique_ptr<FleetNetwork>(std::move(network));
}

}  // namespace tern
