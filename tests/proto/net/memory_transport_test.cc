// What only the transport in memory has; the rest is in transport_contract_test.cc.
#include "proto/net/memory_transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/proto/net/transport_rig.h"

namespace tern {
namespace {

using testing::HasSubstr;

const Bytes kLetter{std::byte{'h'}};

TEST(MemoryTransport, ConnectionsBreakWhenTheServerGoesDown) {
  MemoryRig rig;
  ServerLog server;
  rig.server().start(server);
  ClientLog log;
  const PeerKey key = rig.make_key(true);
  const auto client = rig.client(key);
  client->connect(log);
  ASSERT_TRUE(rig.run_until([&] { return log.connected == 1; }));
  ASSERT_TRUE(client->send(kLetter).ok());
  ASSERT_TRUE(rig.run_until([&] { return server.packets.size() == 1; }));
  const Connection before = server.packets[0].first;

  ASSERT_TRUE(client->send(kLetter).ok());  // on its way when the server dies
  ClientLog dialling;
  const auto other = rig.client(rig.make_key(true));
  other->connect(dialling);
  {
    const CallInProgress call;
    rig.network().set_server_up(false);
  }
  ASSERT_TRUE(rig.run_until([&] { return log.lost && dialling.lost; }));
  EXPECT_THAT(log.lost->message(), HasSubstr("broke"));
  EXPECT_THAT(dialling.lost->message(), HasSubstr("nothing listens"));
  EXPECT_EQ(server.packets.size(), 1u);
  EXPECT_EQ(rig.server().send(before, kLetter).code(), Code::kNotFound);
  log.lost.reset();
  client->connect(log);
  ASSERT_TRUE(rig.run_until([&] { return log.lost.has_value(); }));
  EXPECT_EQ(log.connected, 1);

  rig.network().set_server_up(true);
  ServerLog anew;
  rig.server().start(anew);
  log.lost.reset();
  client->connect(log);
  ASSERT_TRUE(rig.run_until([&] { return log.connected == 2; }));
  ASSERT_TRUE(client->send(kLetter).ok());
  ASSERT_TRUE(rig.run_until([&] { return anew.packets.size() == 1; }));
  EXPECT_EQ(anew.packets[0].first.key, key);
  EXPECT_GT(anew.packets[0].first.number, before.number);
  EXPECT_EQ(server.packets.size(), 1u);
}

TEST(MemoryTransport, ClientsAndDeliveriesMayOutliveTheNetwork) {
  ThreadPool pool(1);
  AsioLoop loop(pool);
  ClientLog log;
  ServerLog server;
  auto network = std::make_unique<MemoryNetwork>(loop, [](const PeerKey&) { return true; });
  network->server().start(server);
  const auto client = network->client(PeerKey{});
  client->connect(log);
  ASSERT_TRUE(loop.run_until([&] { return log.connected == 1; }, kPatience));
  ASSERT_TRUE(client->send(kLetter).ok());
  network.reset();
  ASSERT_TRUE(loop.run_until([&] { return log.lost.has_value(); }, kPatience));
  EXPECT_TRUE(server.packets.empty());
  log.lost.reset();
  client->connect(log);
  ASSERT_TRUE(loop.run_until([&] { return log.lost.has_value(); }, kPatience));
  EXPECT_EQ(client->send(kLetter).code(), Code::kNotFound);
}

TEST(MemoryTransport, AHundredThousandClientsComeAndGo) {
  MemoryRig rig;
  ServerLog server;
  rig.server().start(server);
  uint64_t answered = 0;
  server.then = [&](const Connection& from, const Bytes& packet) {
    EXPECT_TRUE(rig.server().send(from, packet).ok());
    server.packets.clear();
  };
  constexpr int kAtOnce = 1000;
  for (int batch = 0; batch < 100; ++batch) {
    std::vector<ClientLog> logs(kAtOnce);
    std::vector<std::unique_ptr<ClientTransport>> clients;
    const uint64_t before = answered;
    for (int i = 0; i < kAtOnce; ++i) {
      PeerKey key{};
      const int number = batch * kAtOnce + i;
      for (size_t b = 0; b < 4; ++b) key[b] = static_cast<std::byte>(number >> (8 * b));
      rig.allowed = {};  // asked at the dial only
      rig.allowed.insert(key);
      clients.push_back(rig.client(key));
      logs[static_cast<size_t>(i)].then_connected = [client = clients.back().get()] {
        EXPECT_TRUE(client->send(kLetter).ok());
      };
      logs[static_cast<size_t>(i)].then_packet = [&answered] { ++answered; };
      clients.back()->connect(logs[static_cast<size_t>(i)]);
      ASSERT_TRUE(rig.run_until([&] { return logs[static_cast<size_t>(i)].connected == 1; }));
    }
    ASSERT_TRUE(rig.run_until([&] { return answered == before + kAtOnce; }));
  }
  EXPECT_EQ(answered, 100'000u);
}

}  // namespace
}  // namespace tern
