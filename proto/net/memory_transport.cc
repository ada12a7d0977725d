#include "proto/net/memory_transport.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "proto/messages.h"
#include "proto/net/connection_table.h"
#include "proto/net/transport_rules.h"

namespace tern {
namespace {

constexpr size_t kMostPackets = 2 * kQueuePackets;

}  // namespace

/// One dial and the connection that came of it.
struct MemoryNetwork::Link {
  Link(const PeerKey& its_key, uint64_t its_dial) : key(its_key), dial(its_dial) {}

  const PeerKey key;
  const uint64_t dial;                   // counts the network's dials
  Client* client = nullptr;              // null when the client's end has let go
  bool open = false;                     // the dial was accepted
  bool closed = false;                   // nothing more goes to the server
  std::optional<Connection> connection;  // known to the server from the first packet on
  std::deque<Bytes> to_server;
  std::deque<Bytes> to_client;

  /// One direction of a link, which carries one packet at a time.
  class Direction {
   public:
    /// When a packet that is sent now arrives: never before one that was sent earlier.
    TimePoint there_at(TimePoint now, std::span<const std::byte> packet, double bytes_per_s,
                       Duration delay) {
      if (!open_packet(packet).part.empty()) {
        free_ = std::max(free_, now);
        if (bytes_per_s > 0)
          free_ += Duration(std::llround(static_cast<double>(packet.size()) / bytes_per_s * 1e9));
        last_ = std::max(last_, free_ + delay);
      }
      return std::max(last_, now);
    }

   private:
    TimePoint free_{};  // for the next one
    TimePoint last_{};  // arrives
  };

  MemoryLink speed;
  Direction up, down;
};

/// The server's end and the wires. Deliveries that are under way share it and the link.
struct MemoryNetwork::Core : ServerTransport, std::enable_shared_from_this<Core> {
  Core(Loop& its_loop, Allow allowed, Links its_speeds)
      : loop(its_loop), allow(std::move(allowed)), speeds(std::move(its_speeds)) {}

  void start(ServerTransport::Handler& its_handler) override;
  Status send(const Connection& to, Bytes packet) override;
  void drop(const Connection& connection) override;
  TransportCounters counters() const override;

  void dial(const LinkPtr& link);
  Status send_to_server(const LinkPtr& link, Bytes packet);
  void deliver_to_server(const LinkPtr& link);
  void deliver_to_client(const LinkPtr& link);
  /// The server's end has no more to do with the link.
  void forget(const LinkPtr& link);
  /// Tells the client, from the loop.
  void lose(const LinkPtr& link, const Status& reason);
  void post(void (Core::*deliver)(const LinkPtr&), const LinkPtr& link, Duration later = {}) {
    auto call = [self = shared_from_this(), deliver, link] { ((*self).*deliver)(link); };
    if (later > Duration{})
      loop.call_at(loop.now() + later, std::move(call));
    else
      loop.post(std::move(call));
  }

  Loop& loop;
  const Allow allow;
  const Links speeds;
  ServerTransport::Handler* handler = nullptr;
  bool up = true;
  uint64_t dials = 0;
  std::map<uint64_t, LinkPtr> links;  // by dial: what breaks them all goes in that order
  ConnectionTable<LinkPtr> connections;
  std::vector<LinkPtr> waiting;  // one for each packet that came before start()

  uint64_t handshakes_ok = 0;
  uint64_t handshakes_refused_key = 0;
  uint64_t packets_in = 0;
  uint64_t bytes_in = 0;
  uint64_t packets_out = 0;
  uint64_t bytes_out = 0;
  uint64_t queue_overflows = 0;
  uint64_t connections_dropped = 0;
};

class MemoryNetwork::Client : public ClientTransport {
 public:
  Client(std::shared_ptr<Core> core, const PeerKey& key) : core_(std::move(core)), key_(key) {}
  ~Client() override { let_go(); }

  void connect(Handler& handler) override {
    let_go();
    handler_ = &handler;
    link_ = std::make_shared<Link>(key_, ++core_->dials);
    link_->client = this;
    if (core_->speeds) link_->speed = core_->speeds(key_);
    core_->links[link_->dial] = link_;
    core_->post(&Core::dial, link_);
  }
  Status send(Bytes packet) override {
    TERN_CHECK_OK(check_packet(packet));
    if (!link_ || !link_->open) return not_connected();
    return core_->send_to_server(link_, std::move(packet));
  }
  void disconnect() override {
    if (!link_) return;
    // What is queued is under way; the server's end forgets the link after it.
    link_->client = nullptr;
    if (link_->to_server.empty()) core_->forget(link_);
    link_ = nullptr;
  }

  /// The handler to call. It may destroy this client.
  Handler& handler() { return *handler_; }
  void lost() { link_ = nullptr; }

 private:
  void let_go() {
    if (!link_) return;
    link_->client = nullptr;
    core_->forget(link_);
    link_ = nullptr;
  }

  std::shared_ptr<Core> core_;
  const PeerKey key_;
  Handler* handler_ = nullptr;
  LinkPtr link_;
};

void MemoryNetwork::Core::start(ServerTransport::Handler& its_handler) {
  handler = &its_handler;
  for (const LinkPtr& link : std::exchange(waiting, {})) post(&Core::deliver_to_server, link);
}

Status MemoryNetwork::Core::send(const Connection& to, Bytes packet) {
  TERN_CHECK_OK(check_packet(packet));
  const LinkPtr* const entry = connections.find(to);
  if (!entry || !(*entry)->client) return no_such_connection();
  Link& link = **entry;
  if (link.to_client.size() >= kMostPackets) {
    ++queue_overflows;
    return queue_is_full();
  }
  ++packets_out;
  bytes_out += packet.size();
  const TimePoint now = loop.now();
  const TimePoint there = link.down.there_at(now, packet, link.speed.down_bytes_per_s, {});
  link.to_client.push_back(std::move(packet));
  post(&Core::deliver_to_client, *entry, there - now);
  return {};
}

void MemoryNetwork::Core::drop(const Connection& connection) {
  LinkPtr* const entry = connections.find(connection);
  if (!entry) return;
  const LinkPtr link = *entry;
  ++connections_dropped;
  connections.erase(connection);
  link->closed = true;
  link->to_server.clear();
  loop.call_at(loop.now() + kDropGrace,
               [self = shared_from_this(), link] { self->lose(link, connection_broke()); });
}

TransportCounters MemoryNetwork::Core::counters() const {
  return {{"handshakes_ok", handshakes_ok},     {"handshakes_refused_key", handshakes_refused_key},
          {"packets_in", packets_in},           {"bytes_in", bytes_in},
          {"packets_out", packets_out},         {"bytes_out", bytes_out},
          {"queue_overflows", queue_overflows}, {"connections_dropped", connections_dropped}};
}

void MemoryNetwork::Core::dial(const LinkPtr& link) {
  if (!link->client) return;
  if (!up) {
    lose(link, {Code::kNotFound, "nothing listens there"});
  } else if (!allow(link->key)) {
    ++handshakes_refused_key;
    lose(link, key_refused());
  } else {
    ++handshakes_ok;
    link->open = true;
    link->client->handler().on_connected();
  }
}

Status MemoryNetwork::Core::send_to_server(const LinkPtr& link, Bytes packet) {
  if (link->closed) return {};  // the server dropped it, which the client has yet to hear
  if (link->to_server.size() >= kMostPackets) {
    ++queue_overflows;
    return queue_is_full();
  }
  const TimePoint now = loop.now();
  const TimePoint there =
      link->up.there_at(now, packet, link->speed.up_bytes_per_s, link->speed.round_trip);
  link->to_server.push_back(std::move(packet));
  post(&Core::deliver_to_server, link, there - now);
  return {};
}

void MemoryNetwork::Core::deliver_to_server(const LinkPtr& link) {
  if (link->closed) return;
  if (!handler) {
    waiting.push_back(link);
    return;
  }
  const Bytes packet = std::move(link->to_server.front());
  link->to_server.pop_front();
  if (!link->connection) {
    link->connection = connections.add(link->key, link);
    if (const auto surplus = connections.surplus(link->key)) drop(*surplus);
  }
  ++packets_in;
  bytes_in += packet.size();
  handler->on_packet(*link->connection, packet);
  if (!link->client && link->to_server.empty()) forget(link);
}

void MemoryNetwork::Core::deliver_to_client(const LinkPtr& link) {
  if (!link->client || link->to_client.empty()) return;
  const Bytes packet = std::move(link->to_client.front());
  link->to_client.pop_front();
  link->client->handler().on_packet(packet);
}

void MemoryNetwork::Core::forget(const LinkPtr& link) {
  link->closed = true;
  link->to_server.clear();
  if (link->connection) connections.erase(*link->connection);
  links.erase(link->dial);
}

void MemoryNetwork::Core::lose(const LinkPtr& link, const Status& reason) {
  forget(link);
  Client* const client = std::exchange(link->client, nullptr);
  if (!client) return;
  client->lost();
  client->handler().on_lost(reason);
}

MemoryNetwork::MemoryNetwork(Loop& loop, Allow allow, Links links)
    : core_(std::make_shared<Core>(loop, std::move(allow), std::move(links))) {}

MemoryNetwork::~MemoryNetwork() { set_server_up(false); }

ServerTransport& MemoryNetwork::server() { return *core_; }

void MemoryNetwork::set_server_up(bool up) {
  core_->up = up;
  if (up) return;
  core_->handler = nullptr;
  core_->waiting.clear();
  for (const auto& [dial, link] : std::exchange(core_->links, {})) {
    if (!link->open) continue;  // its dial is under way and will find nothing
    core_->forget(link);
    core_->loop.post([core = core_, link = link] { core->lose(link, connection_broke()); });
  }
}

std::unique_ptr<ClientTransport> MemoryNetwork::client(const PeerKey& key) {
  return std::make_unique<Client>(core_, key);
}

}  // namespace tern
