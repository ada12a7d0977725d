// One suite for every transport: what proto/transport.h promises.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <ostream>

#include "proto/net/transport_rules.h"
#include "tests/proto/net/transport_rig.h"

namespace tern {
namespace {

using testing::HasSubstr;

const Bytes kGreeting{std::byte{'h'}, std::byte{'i'}};

struct Kind {
  const char* name;
  std::unique_ptr<TransportRig> (*make)();
};
void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class TransportContract : public testing::TestWithParam<Kind> {
 public:
  /// A client that is connected, and known to the server.
  struct Peer {
    std::unique_ptr<ClientTransport> transport;
    std::unique_ptr<ClientLog> log = std::make_unique<ClientLog>();
    Connection connection;
  };

  void start() { rig->server().start(server_log); }

  std::unique_ptr<ClientTransport> dial(const PeerKey& key, ClientLog& log) {
    auto client = rig->client(key);
    const CallInProgress call;
    client->connect(log);
    return client;
  }
  Status send(ClientTransport& client, Bytes packet) {
    const CallInProgress call;
    return client.send(std::move(packet));
  }
  Status send(const Connection& to, Bytes packet) {
    const CallInProgress call;
    return rig->server().send(to, std::move(packet));
  }
  /// Sends, waiting for room in the queue.
  template <typename To>
  void send_all(To& to, const std::vector<Bytes>& packets) {
    for (const Bytes& packet : packets) {
      Status sent;
      ASSERT_TRUE(rig->run_until([&] {
        return (sent = send(to, packet)).code() != Code::kOutOfRange;
      })) << sent.describe();
      ASSERT_TRUE(sent.ok()) << sent.describe();
    }
  }
  Peer connect(const PeerKey& key) { return connect(key, rig->client(key)); }
  Peer connect(const PeerKey& key, std::unique_ptr<ClientTransport> transport) {
    Peer peer;
    peer.transport = std::move(transport);
    {
      const CallInProgress call;
      peer.transport->connect(*peer.log);
    }
    EXPECT_TRUE(rig->run_until([&] { return peer.log->connected > 0 || peer.log->lost; }));
    EXPECT_EQ(peer.log->connected, 1) << (peer.log->lost ? peer.log->lost->describe() : "");
    const size_t before = server_log.packets.size();
    EXPECT_TRUE(send(*peer.transport, kGreeting).ok());
    EXPECT_TRUE(rig->run_until([&] { return server_log.packets.size() > before; }));
    if (server_log.packets.size() > before) peer.connection = server_log.packets.back().first;
    EXPECT_EQ(peer.connection.key, key);
    return peer;
  }
  uint64_t counter(std::string_view name) {
    const TransportCounters counters = rig->server().counters();
    const auto at = counters.find(name);
    return at == counters.end() ? 0 : at->second;
  }

  std::unique_ptr<TransportRig> rig = GetParam().make();
  ServerLog server_log;
};

TEST_P(TransportContract, CarriesPacketsWholeAndInOrderBothWays) {
  start();
  Peer peer = connect(rig->make_key());
  std::vector<Bytes> packets;
  packets.reserve(200);
  for (uint32_t i = 0; i < 200; ++i)
    packets.push_back(make_packet(1, i, i % 20 == 7 ? kMaxPacketBytes - i : 1 + i * 37));
  server_log.packets.clear();
  send_all(*peer.transport, packets);
  ASSERT_TRUE(rig->run_until([&] { return server_log.packets.size() >= packets.size(); }));
  ASSERT_EQ(server_log.packets.size(), packets.size());
  for (size_t i = 0; i < packets.size(); ++i) {
    EXPECT_EQ(server_log.packets[i].first, peer.connection);
    ASSERT_EQ(server_log.packets[i].second, packets[i]) << i;
  }
  send_all(peer.connection, packets);
  ASSERT_TRUE(rig->run_until([&] { return peer.log->packets.size() >= packets.size(); }));
  EXPECT_EQ(peer.log->packets, packets);
  EXPECT_GE(counter("packets_in"), packets.size());
  EXPECT_EQ(counter("packets_out"), packets.size());
}

TEST_P(TransportContract, TakesTheLongestPacketAndNoLonger) {
  start();
  Peer peer = connect(rig->make_key());
  const Bytes longest = make_packet(1, 0, kMaxPacketBytes);
  const Bytes longer = make_packet(1, 1, kMaxPacketBytes + 1);
  EXPECT_EQ(send(*peer.transport, longer).code(), Code::kOutOfRange);
  EXPECT_EQ(send(peer.connection, longer).code(), Code::kOutOfRange);
  EXPECT_EQ(send(*peer.transport, {}).code(), Code::kInvalidArgument);
  EXPECT_EQ(send(peer.connection, {}).code(), Code::kInvalidArgument);
  server_log.packets.clear();
  ASSERT_TRUE(send(*peer.transport, longest).ok());
  ASSERT_TRUE(send(peer.connection, longest).ok());
  ASSERT_TRUE(
      rig->run_until([&] { return !server_log.packets.empty() && !peer.log->packets.empty(); }));
  EXPECT_EQ(server_log.packets[0].second, longest);
  EXPECT_EQ(peer.log->packets[0], longest);
}

TEST_P(TransportContract, HoldsPacketsUntilTheServerStarts) {
  ClientLog log;
  const auto client = dial(rig->make_key(), log);
  ASSERT_TRUE(rig->run_until([&] { return log.connected == 1; }));
  ASSERT_TRUE(send(*client, kGreeting).ok());
  rig->settle();
  start();
  ASSERT_TRUE(rig->run_until([&] { return !server_log.packets.empty(); }));
  EXPECT_EQ(server_log.packets[0].second, kGreeting);
}

TEST_P(TransportContract, WithoutAConnectionSendsFail) {
  start();
  ClientLog log;
  const PeerKey stranger = rig->make_key(false);
  auto client = rig->client(stranger);
  EXPECT_EQ(send(*client, kGreeting).code(), Code::kNotFound);
  client->connect(log);
  EXPECT_EQ(send(*client, kGreeting).code(), Code::kNotFound);
  ASSERT_TRUE(rig->run_until([&] { return log.lost.has_value(); }));
  EXPECT_EQ(send(*client, kGreeting).code(), Code::kNotFound);
  Peer peer = connect(rig->make_key());
  peer.transport->disconnect();
  EXPECT_EQ(send(*peer.transport, kGreeting).code(), Code::kNotFound);
  EXPECT_EQ(send(Connection{peer.connection.key, peer.connection.number + 100}, kGreeting).code(),
            Code::kNotFound);
  EXPECT_EQ(send(Connection{stranger, peer.connection.number}, kGreeting).code(), Code::kNotFound);
  peer.transport->disconnect();  // once more does nothing
}

TEST_P(TransportContract, SendsToAConnectionThatIsGoneFail) {
  start();
  Peer peer = connect(rig->make_key());
  peer.transport->disconnect();
  Status sent;
  ASSERT_TRUE(rig->run_until([&] {
    return (sent = send(peer.connection, kGreeting)).code() == Code::kNotFound;
  })) << sent.describe();
  rig->settle();
  EXPECT_EQ(send(peer.connection, kGreeting).code(), Code::kNotFound);
  EXPECT_TRUE(peer.log->packets.empty() || !peer.log->lost);
  EXPECT_EQ(peer.log->losses, 0);
}

TEST_P(TransportContract, UnknownKeyNeverReachesTheHandler) {
  start();
  ClientLog log;
  const PeerKey stranger = rig->make_key(false);
  const auto client = dial(stranger, log);
  ASSERT_TRUE(rig->run_until([&] { return log.lost.has_value(); }));
  EXPECT_THAT(log.lost->message(), HasSubstr("the coordinator refused this key"));
  EXPECT_EQ(log.connected, 0);
  EXPECT_EQ(counter("handshakes_refused_key"), 1u);
  rig->settle();
  EXPECT_TRUE(server_log.packets.empty());
  // Put on the list, it gets in.
  rig->allowed.insert(stranger);
  log.lost.reset();
  client->connect(log);
  ASSERT_TRUE(rig->run_until([&] { return log.connected == 1; }));
  EXPECT_EQ(log.losses, 1);
}

TEST_P(TransportContract, ReconnectionHasTheSameKeyAndAnotherNumber) {
  start();
  const PeerKey key = rig->make_key();
  Peer peer = connect(key);
  for (int i = 0; i < 10; ++i) {
    const Connection before = peer.connection;
    if (i % 2 == 0) peer.transport->disconnect();
    peer.log->connected = 0;
    peer.transport->connect(*peer.log);
    ASSERT_TRUE(rig->run_until([&] { return peer.log->connected == 1; }));
    server_log.packets.clear();
    ASSERT_TRUE(send(*peer.transport, kGreeting).ok());
    ASSERT_TRUE(rig->run_until([&] { return !server_log.packets.empty(); }));
    peer.connection = server_log.packets[0].first;
    EXPECT_EQ(peer.connection.key, key);
    EXPECT_GT(peer.connection.number, before.number);
  }
  EXPECT_EQ(peer.log->losses, 0);
}

TEST_P(TransportContract, NothingOfAnOldConnectionComesIntoANewOne) {
  start();
  Peer peer = connect(rig->make_key());
  const Connection old = peer.connection;
  for (uint32_t i = 0; i < 20; ++i) EXPECT_TRUE(send(old, make_packet(1, i, 1000)).ok());
  peer.transport->connect(*peer.log);
  ASSERT_TRUE(rig->run_until([&] { return peer.log->connected == 2; }));
  peer.log->packets.clear();
  server_log.packets.clear();
  ASSERT_TRUE(send(*peer.transport, kGreeting).ok());
  ASSERT_TRUE(rig->run_until([&] { return !server_log.packets.empty(); }));
  EXPECT_TRUE(send(server_log.packets[0].first, kGreeting).ok());
  ASSERT_TRUE(rig->run_until([&] { return !peer.log->packets.empty(); }));
  rig->settle();
  EXPECT_EQ(peer.log->packets, std::vector<Bytes>{kGreeting});
  EXPECT_EQ(peer.log->losses, 0);
}

TEST_P(TransportContract, DropSilencesAConnection) {
  start();
  const PeerKey key = rig->make_key();
  Peer peer = connect(key);
  Peer other = connect(rig->make_key());
  const Bytes farewell = make_packet(9, 9, 99);
  EXPECT_TRUE(send(peer.connection, farewell).ok());
  {
    const CallInProgress call;
    rig->server().drop(peer.connection);
    rig->server().drop(peer.connection);
  }
  EXPECT_EQ(send(peer.connection, kGreeting).code(), Code::kNotFound);
  server_log.packets.clear();
  EXPECT_TRUE(send(*peer.transport, kGreeting).ok());
  EXPECT_TRUE(send(*other.transport, kGreeting).ok());
  ASSERT_TRUE(rig->run_until([&] { return !server_log.packets.empty(); }));
  // What was queued before is sent; then the connection ends.
  ASSERT_TRUE(rig->run_until([&] { return peer.log->lost.has_value(); }));
  EXPECT_EQ(peer.log->packets, std::vector<Bytes>{farewell});
  EXPECT_THAT(peer.log->lost->message(), HasSubstr("broke"));
  ASSERT_EQ(server_log.packets.size(), 1u);
  EXPECT_EQ(server_log.packets[0].first, other.connection);
  EXPECT_FALSE(other.log->lost);
  EXPECT_EQ(counter("connections_dropped"), 1u);
  Peer again = connect(key);  // a drop is no ban
  EXPECT_GT(again.connection.number, other.connection.number);
}

TEST_P(TransportContract, DropFromTheHandlerIsTheLastOfTheConnection) {
  start();
  Peer peer = connect(rig->make_key());
  server_log.packets.clear();
  server_log.then = [&](const Connection& from, const Bytes&) { rig->server().drop(from); };
  for (uint32_t i = 0; i < 30; ++i) EXPECT_TRUE(send(*peer.transport, make_packet(1, i, 100)).ok());
  ASSERT_TRUE(rig->run_until([&] { return !server_log.packets.empty(); }));
  rig->settle();
  EXPECT_EQ(server_log.packets.size(), 1u);
}

TEST_P(TransportContract, KeepsFourConnectionsOfAKey) {
  start();
  const PeerKey key = rig->make_key();
  std::vector<Peer> peers;
  peers.reserve(kConnectionsPerKey);
  for (size_t i = 0; i < kConnectionsPerKey; ++i) peers.push_back(connect(key));
  Peer other = connect(rig->make_key());
  rig->settle();
  for (const Peer& peer : peers) EXPECT_TRUE(send(peer.connection, kGreeting).ok());
  Peer fifth = connect(key);
  EXPECT_EQ(send(peers[0].connection, kGreeting).code(), Code::kNotFound);
  EXPECT_TRUE(send(peers[1].connection, kGreeting).ok());
  EXPECT_TRUE(send(fifth.connection, kGreeting).ok());
  EXPECT_TRUE(send(other.connection, kGreeting).ok());
  EXPECT_EQ(counter("connections_dropped"), 1u);
}

TEST_P(TransportContract, SlowNetworkFillsTheQueue) {
  start();
  const PeerKey key = rig->make_key();
  Peer peer = connect(key, rig->client_far_away(key));
  // Nothing moves while the loop doesn't run. The queue and the system's buffers take some.
  Status sent;
  size_t out = 0;
  while (out < 10'000 && (sent = send(peer.connection, make_packet(1, 0, kMaxPacketBytes))).ok())
    ++out;
  EXPECT_EQ(sent.code(), Code::kOutOfRange) << sent.describe();
  EXPECT_GE(out, kQueuePackets);
  EXPECT_EQ(counter("queue_overflows"), 1u);
  size_t in = 0;
  while (in < 10'000 && (sent = send(*peer.transport, make_packet(1, 0, kMaxPacketBytes))).ok())
    ++in;
  EXPECT_EQ(sent.code(), Code::kOutOfRange) << sent.describe();
  EXPECT_GE(in, kQueuePackets);
  // When they read again, what was taken arrives, and there is room.
  server_log.packets.clear();
  ASSERT_TRUE(rig->run_until(
      [&] { return peer.log->packets.size() == out && server_log.packets.size() == in; }));
  EXPECT_TRUE(rig->run_until([&] { return send(peer.connection, kGreeting).ok(); }));
  EXPECT_TRUE(rig->run_until([&] { return send(*peer.transport, kGreeting).ok(); }));
}

TEST_P(TransportContract, HoldsSixtyFourPacketsAtOnce) {
  start();
  Peer peer = connect(rig->make_key());
  server_log.packets.clear();
  for (int repeat = 0; repeat < 20; ++repeat) {
    // Whatever state the queue was left in by what went before.
    for (uint32_t i = 0; i < static_cast<uint32_t>(repeat); ++i)
      ASSERT_TRUE(send(*peer.transport, make_packet(1, i, 10)).ok());
    ASSERT_TRUE(
        rig->run_until([&] { return server_log.packets.size() == static_cast<size_t>(repeat); }));
    for (uint32_t i = 0; i < kQueuePackets; ++i) {
      ASSERT_TRUE(send(*peer.transport, make_packet(1, i, 10)).ok()) << i;
      ASSERT_TRUE(send(peer.connection, make_packet(1, i, 10)).ok()) << i;
    }
    ASSERT_TRUE(rig->run_until([&] {
      return server_log.packets.size() == kQueuePackets + static_cast<size_t>(repeat) &&
             peer.log->packets.size() == kQueuePackets;
    }));
    server_log.packets.clear();
    peer.log->packets.clear();
  }
}

TEST_P(TransportContract, DisconnectSendsWhatIsQueued) {
  start();
  Peer peer = connect(rig->make_key());
  server_log.packets.clear();
  std::vector<Bytes> packets;
  packets.reserve(kQueuePackets);
  for (uint32_t i = 0; i < kQueuePackets; ++i) packets.push_back(make_packet(1, i, 20'000 + i));
  for (const Bytes& packet : packets) ASSERT_TRUE(send(*peer.transport, packet).ok());
  {
    const CallInProgress call;
    peer.transport->disconnect();
  }
  ASSERT_TRUE(rig->run_until([&] { return server_log.packets.size() >= packets.size(); }));
  for (size_t i = 0; i < packets.size(); ++i) EXPECT_EQ(server_log.packets[i].second, packets[i]);
  EXPECT_EQ(peer.log->losses, 0);
}

TEST_P(TransportContract, ManyClientsInterleaved) {
  constexpr uint32_t kClients = 25;
  constexpr uint32_t kPackets = 40;
  start();
  std::vector<Peer> peers;
  std::map<Connection, uint32_t> sender;
  for (uint32_t i = 0; i < kClients; ++i) {
    peers.push_back(connect(rig->make_key()));
    sender[peers.back().connection] = i;
  }
  ASSERT_EQ(sender.size(), kClients);
  server_log.packets.clear();
  std::vector<uint32_t> heard(kClients);
  size_t wrong = 0;
  server_log.then = [&](const Connection& from, const Bytes& packet) {
    const uint32_t i = sender.at(from);
    wrong += packet != make_packet(i, heard[i], 1 + (i + heard[i]) % 3000);
    ++heard[i];
    wrong += !rig->server().send(from, packet).ok();
  };
  for (uint32_t p = 0; p < kPackets; ++p)
    for (uint32_t i = 0; i < kClients; ++i)
      ASSERT_TRUE(send(*peers[i].transport, make_packet(i, p, 1 + (i + p) % 3000)).ok());
  for (uint32_t i = 0; i < kClients; ++i) {
    ASSERT_TRUE(rig->run_until([&] { return peers[i].log->packets.size() == kPackets; })) << i;
    for (uint32_t p = 0; p < kPackets; ++p)
      EXPECT_EQ(peers[i].log->packets[p], make_packet(i, p, 1 + (i + p) % 3000));
  }
  EXPECT_EQ(wrong, 0u);
}

TEST_P(TransportContract, HandlersMayDoAnythingWithTheirClient) {
  start();
  server_log.then = [&](const Connection& from, const Bytes& packet) {
    (void)rig->server().send(from, packet);
  };
  // Destroyed in on_connected, in on_packet, in on_lost.
  for (int where = 0; where < 3; ++where) {
    ClientLog log;
    auto client = rig->client(rig->make_key(where != 2));
    bool gone = false;
    const auto destroy = [&] {
      client.reset();
      gone = true;
    };
    if (where == 0) log.then_connected = destroy;
    if (where == 1) {
      log.then_connected = [&] {
        EXPECT_TRUE(client->send(kGreeting).ok());
        EXPECT_TRUE(client->send(kGreeting).ok());
      };
      log.then_packet = destroy;
    }
    if (where == 2) log.then_lost = destroy;
    client->connect(log);
    ASSERT_TRUE(rig->run_until([&] { return gone; })) << where;
    rig->settle();
    EXPECT_LE(log.packets.size(), 1u);
    EXPECT_EQ(log.losses, where == 2 ? 1 : 0);
  }
  // Dialled anew from each of them.
  ClientLog log;
  const PeerKey key = rig->make_key(false);
  const auto client = rig->client(key);
  int round = 0;
  log.then_lost = [&] {
    rig->allowed.insert(key);
    log.lost.reset();
    client->connect(log);
  };
  log.then_connected = [&] {
    if (++round < 3)
      client->connect(log);
    else
      EXPECT_TRUE(client->send(kGreeting).ok());
  };
  log.then_packet = [&] { client->disconnect(); };
  client->connect(log);
  ASSERT_TRUE(rig->run_until([&] { return !log.packets.empty(); }));
  rig->settle();
  EXPECT_EQ(log.losses, 1);
  EXPECT_EQ(log.connected, 3);
  EXPECT_EQ(log.packets.size(), 1u);
}

const Kind kKinds[] = {
    {"Memory", []() -> std::unique_ptr<TransportRig> { return std::make_unique<MemoryRig>(); }},
    {"ZeroMq", []() -> std::unique_ptr<TransportRig> { return std::make_unique<ZmqRig>(); }},
};

INSTANTIATE_TEST_SUITE_P(Every, TransportContract, testing::ValuesIn(kKinds),
                         [](const auto& kind) { return kind.param.name; });

}  // namespace
}  // namespace tern
