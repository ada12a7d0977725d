#include "proto/net/zmq_server.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <functional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "proto/net/connection_table.h"
#include "proto/net/self_probe.h"
#include "proto/net/socket_watch.h"
#include "proto/net/transport_rules.h"
#include "proto/net/zmq_context.h"

namespace tern {
namespace {

constexpr int kBacklog = 4096;

/// Between looks at all connections, and between tries to listen again.
constexpr Duration kTick = std::chrono::seconds(1);

/// Descriptors that the rest of the program may need.
size_t head_room(size_t limit) { return std::clamp<size_t>(limit / 8, 64, 2048); }

/// A message part's length on the wire: a CURVE box in a frame (rfc.zeromq.org/spec/25, /spec/37).
uint64_t wire_size(size_t part) {
  const uint64_t boxed = part + 33;
  return boxed + (boxed > 255 ? 9 : 2);
}

/// Looks at connections wait for a moment when everything has been received, but not for ever.
constexpr int kMostDelays = 1000;

/// Connections that have to go at once when there is no descriptor left.
constexpr size_t kReliefStep = 256;
constexpr Duration kReliefPause = std::chrono::milliseconds(10);

/// Routing ids that the server makes; a client that brings its own isn't Tern's.
bool is_made_by_server(std::string_view routing_id) {
  return routing_id.size() == 5 && routing_id[0] == '\0';
}

Status bind_failure(const std::string& endpoint, int reason) {
  switch (reason) {
    case EADDRINUSE:
      return error(Code::kInUse, "{} is in use by another process", endpoint);
    case EACCES:
    case EPERM:
      return error(Code::kInvalidArgument, "{}: not permitted (ports below 1024 are for root)",
                   endpoint);
    case EADDRNOTAVAIL:
    case ENODEV:
      return error(Code::kInvalidArgument, "{}: this machine has no such address", endpoint);
    case EINVAL:
      return error(Code::kInvalidArgument, "{}: not an address", endpoint);
    default:
      return error(Code::kIo, "listening at {}: {}", endpoint, zmq_strerror(reason));
  }
}

}  // namespace

struct ZmqServer::Impl {
  /// A connection that has said something, by its routing id. It is remembered until nothing of it
  /// can arrive any more.
  struct Peer {
    Connection connection;
    std::optional<TcpSocket> tcp;
    bool dropped = false;
  };
  /// A TCP connection, by its descriptor, from accept to disconnect.
  struct Accepted {
    TcpSocket tcp;
    TimePoint since{};
    TcpBytes bytes{};                 // at the last look
    uint64_t received = 0;            // of them, in messages that were received whole
    std::optional<std::string> id{};  // its routing id, once it has said something
  };

  Impl(AsioLoop& its_loop, ZmqServerOptions its_options)
      : loop(its_loop), options(std::move(its_options)) {}
  ~Impl();

  Status open();
  Status set_up_router();
  Status listen();

  bool receive_packet();
  Peer* known(std::string_view routing_id, ZmqMessage& payload);
  void account(const Peer& peer, size_t part);
  /// Receives what is left of a message.
  void discard_rest(const Peer* peer, ZmqMessage& part);
  void forget_later(const std::string& routing_id);

  bool on_event();
  void on_accepted(int descriptor);
  void on_disconnected(int descriptor);

  void tick();
  void look_soon(int delays);
  void look_at_connections();
  void forget_closed();
  void drop(const Connection& connection);
  void end_dropped();

  void pause_listening();
  void relieve();
  void listen_again();

  AsioLoop& loop;
  ZmqServerOptions options;
  std::string endpoint;
  Handler* handler = nullptr;

  // Destroyed from the last to the first: watches, then what they watch, then the context.
  std::unique_ptr<ZmqContext> context;
  std::unique_ptr<ZapHandler> zap;
  ZmqSocket router;
  std::optional<ZmqMonitor> monitor;
  std::optional<SocketWatch> zap_watch;
  std::optional<SocketWatch> monitor_watch;
  std::optional<SocketWatch> router_watch;

  Loop::TimerId ticker = 0;
  Loop::TimerId reliever = 0;
  Loop::TimerId ender = 0;
  std::unordered_map<std::string, Peer> peers;
  ConnectionTable<std::string> connections;  // routing ids
  std::unordered_map<int, Accepted> accepted_now;
  std::deque<std::pair<TimePoint, TcpSocket>> to_end;       // dropped; until when they last
  std::deque<std::pair<TimePoint, std::string>> to_forget;  // routing ids; since when
  bool backlog = false;                                     // more may wait to be received
  TcpBytes bytes_of_closed;

  int listener = -1;  // ZeroMQ's
  int spare = -1;
  bool paused = false;

  uint64_t accepted = 0, disconnected = 0, accept_failed = 0, accept_pauses = 0, turned_away = 0;
  uint64_t handshakes_ok = 0, handshakes_refused_key = 0, handshakes_too_often = 0,
           handshakes_failed_protocol = 0, handshakes_failed_other = 0;
  uint64_t connections_dropped = 0, silent_closed = 0, hoarders_closed = 0, relief_closed = 0;
  uint64_t packets_in = 0, bytes_in = 0, packets_out = 0, bytes_out = 0;
  uint64_t multipart_dropped = 0, empty_dropped = 0, stray_dropped = 0, queue_overflows = 0;
};

ZmqServer::Impl::~Impl() {
  loop.cancel(ticker);
  loop.cancel(reliever);
  loop.cancel(ender);
  if (spare >= 0) close(spare);
}

Status ZmqServer::Impl::set_up_router() {
  void* const socket = router.get();
  TERN_CHECK_OK(set_connection_options(socket));
  TERN_CHECK_OK(set_option(socket, ZMQ_ROUTER_MANDATORY, 1));
  TERN_CHECK_OK(set_option(socket, ZMQ_ROUTER_HANDOVER, 0));
  TERN_CHECK_OK(set_option(socket, ZMQ_BACKLOG, kBacklog));
  const auto handshake = std::chrono::ceil<std::chrono::milliseconds>(options.handshake_limit);
  TERN_CHECK_OK(set_option(socket, ZMQ_HANDSHAKE_IVL, static_cast<int>(handshake.count())));
  TERN_CHECK_OK(set_option(socket, ZMQ_CURVE_SERVER, 1));
  TERN_CHECK_OK(check_curve_keys(options.own));
  TERN_CHECK_OK(set_option(socket, ZMQ_CURVE_SECRETKEY, std::span(options.own.secret_key)));
  TERN_CHECK_OK(set_option(socket, ZMQ_ZAP_DOMAIN, kZapDomain));
  if (!options.without_zap_enforcement_for_test)
    TERN_CHECK_OK(set_option(socket, kZapEnforceDomain, 1));
  if (options.listen.find('[') != std::string::npos) TERN_CHECK_OK(set_option(socket, ZMQ_IPV6, 1));
  return {};
}

Status ZmqServer::Impl::open() {
  TERN_CHECK_OK(check_endpoint(options.listen, true));
  if (!options.allow) return {Code::kInvalidArgument, "nobody says which keys are allowed"};
  TERN_TRY(context, ZmqContext::open());
  TERN_TRY(router, new_socket(*context, ZMQ_ROUTER));
  TERN_CHECK_OK(set_up_router());
  TERN_TRY(monitor,
           ZmqMonitor::open(*context, router.get(),
                            ZMQ_EVENT_LISTENING | ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_ACCEPT_FAILED |
                                ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED |
                                ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                                ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                                ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL));
  TERN_TRY(zap, self_probe({*context, router.get(), *monitor, options.own.public_key},
                           [this]() -> Result<std::unique_ptr<ZapHandler>> {
                             if (options.without_zap_handler_for_test) return nullptr;
                             return ZapHandler::open(*context, loop);
                           }));
  TERN_CHECK_OK(listen());
  zap->set_allow(options.allow);
  zap->set_refused(options.refused);
  spare = open_spare();
  zap_watch.emplace(loop, zap->socket(), [this] { return zap->answer_one(); });
  monitor_watch.emplace(loop, monitor->socket(), [this] { return on_event(); });
  ticker = loop.call_at(loop.now() + kTick, [this] { tick(); });
  return {};
}

Status ZmqServer::Impl::listen() {
  std::string where = options.listen;
  if (where.ends_with(":0")) where.back() = '*';
  if (zmq_bind(router.get(), where.c_str()) != 0) return bind_failure(options.listen, zmq_errno());
  std::array<char, 256> bound{};
  size_t size = bound.size();
  if (zmq_getsockopt(router.get(), ZMQ_LAST_ENDPOINT, bound.data(), &size) != 0)
    return zmq_failure("asking where the socket listens");
  endpoint = bound.data();
  // What comes before is the probe's, what comes after are connections.
  while (listener < 0) {
    const auto event = monitor->next();
    if (!event) break;
    if (event->kind == ZMQ_EVENT_LISTENING) listener = static_cast<int>(event->value);
  }
  // ZeroMQ accepts when the descriptor is ready, but a connection may be gone by then.
  if (listener < 0 || fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK) != 0)
    return {Code::kInternal, "libzmq didn't say on which descriptor it listens"};
  return {};
}

bool ZmqServer::Impl::receive_packet() {
  ZmqMessage id, payload;
  backlog = receive(router.get(), id) && id.more() && receive(router.get(), payload);
  if (!backlog) return false;
  Peer* const peer = known(id.text(), payload);
  if (peer) account(*peer, payload.bytes().size());
  if (!peer || peer->dropped) {
    ++stray_dropped;
    discard_rest(peer, payload);
    return true;
  }
  if (payload.more()) {
    ++multipart_dropped;
    discard_rest(peer, payload);
    return true;
  }
  const std::span<const std::byte> packet = payload.bytes();
  if (packet.empty() || packet.size() > kMaxPacketBytes) {
    ++empty_dropped;
    return true;
  }
  ++packets_in;
  bytes_in += packet.size();
  handler->on_packet(Connection(peer->connection), packet);
  return true;
}

/// Who sent the message, made known if need be; null for somebody who cannot be.
ZmqServer::Impl::Peer* ZmqServer::Impl::known(std::string_view routing_id, ZmqMessage& payload) {
  const auto key = parse_user_id(payload.property("User-Id"));
  if (!key) return nullptr;
  auto at = peers.find(std::string(routing_id));
  if (at == peers.end()) {
    // Its ACCEPTED event was there before its packet, but maybe not read yet.
    while (on_event()) {
    }
    at = peers.emplace(routing_id, Peer{}).first;
    Peer& peer = at->second;
    const auto tcp = accepted_now.find(zmq_msg_get(payload.get(), ZMQ_SRCFD));
    if (tcp != accepted_now.end()) {
      peer.tcp = tcp->second.tcp;
      // Another's id: that one is gone, and its descriptor is now this one's.
      if (tcp->second.id) forget_later(*tcp->second.id);
      tcp->second.id = at->first;
    } else {
      forget_later(at->first);  // gone before its packet was read
    }
    if (!is_made_by_server(routing_id)) {
      peer.dropped = true;
      if (peer.tcp) end_connection(*peer.tcp);
      return &peer;
    }
    peer.connection = connections.add(*key, at->first);
    if (const auto surplus = connections.surplus(*key)) drop(*surplus);
  }
  Peer& peer = at->second;
  if (!peer.dropped && peer.connection.key != *key) return nullptr;
  return &peer;
}

void ZmqServer::Impl::account(const Peer& peer, size_t part) {
  if (!peer.tcp) return;
  const auto at = accepted_now.find(peer.tcp->descriptor);
  if (at != accepted_now.end() && at->second.tcp.cookie == peer.tcp->cookie)
    at->second.received += wire_size(part);
}

void ZmqServer::Impl::discard_rest(const Peer* peer, ZmqMessage& part) {
  while (part.more() && receive(router.get(), part)) {
    if (peer) account(*peer, part.bytes().size());
  }
}

void ZmqServer::Impl::forget_later(const std::string& routing_id) {
  to_forget.emplace_back(loop.now(), routing_id);
}

void ZmqServer::Impl::forget_closed() {
  // What a connection sent before its end was readable a tick ago, and has been read.
  while (!backlog && !to_forget.empty() && to_forget.front().first + kTick <= loop.now()) {
    const auto at = peers.find(to_forget.front().second);
    if (at != peers.end()) {
      connections.erase(at->second.connection);
      peers.erase(at);
    }
    to_forget.pop_front();
  }
}

bool ZmqServer::Impl::on_event() {
  const auto event = monitor->next();
  if (!event) return false;
  switch (event->kind) {
    case ZMQ_EVENT_ACCEPTED:
      on_accepted(static_cast<int>(event->value));
      break;
    case ZMQ_EVENT_ACCEPT_FAILED:
      ++accept_failed;
      if (event->value == EMFILE || event->value == ENFILE || event->value == ENOBUFS ||
          event->value == ENOMEM)
        pause_listening();
      break;
    case ZMQ_EVENT_DISCONNECTED:
      on_disconnected(static_cast<int>(event->value));
      break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      ++handshakes_ok;
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      ++(event->value == 300 ? handshakes_too_often : handshakes_refused_key);
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      ++handshakes_failed_protocol;
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
      ++handshakes_failed_other;
      break;
    default:
      break;
  }
  return true;
}

void ZmqServer::Impl::on_accepted(int descriptor) {
  ++accepted;
  const auto tcp = identify(descriptor);
  if (!tcp) {  // gone already
    ++disconnected;
    return;
  }
  accepted_now[descriptor] = Accepted{.tcp = *tcp, .since = loop.now()};
  const size_t limit = descriptor_limit();
  if (static_cast<size_t>(descriptor) + head_room(limit) >= limit) pause_listening();
}

void ZmqServer::Impl::on_disconnected(int descriptor) {
  const auto at = accepted_now.find(descriptor);
  // Counted already, or the self-probe's, whose ends come late on a busy machine.
  if (at == accepted_now.end()) return;
  ++disconnected;
  Accepted& connection = at->second;
  if (const auto last = tcp_bytes(connection.tcp)) connection.bytes = *last;
  bytes_of_closed.in += connection.bytes.in;
  bytes_of_closed.out += connection.bytes.out;
  if (connection.id) forget_later(*connection.id);
  accepted_now.erase(at);
}

void ZmqServer::Impl::tick() {
  forget_closed();
  if (paused) listen_again();
  look_soon(0);
}

/// Looks when the router has run dry: what is left then waits for the rest of its message.
void ZmqServer::Impl::look_soon(int delays) {
  if (router_watch) router_watch->after_use();
  ticker = loop.call_at(loop.now(), [this, delays] {
    if (backlog && delays < kMostDelays) return look_soon(delays + 1);
    look_at_connections();
    ticker = loop.call_at(loop.now() + kTick, [this] { tick(); });
  });
}

void ZmqServer::Impl::look_at_connections() {
  uint64_t pending = 0;
  std::vector<std::pair<uint64_t, TcpSocket>> holders;
  for (auto& [descriptor, connection] : accepted_now) {
    const auto bytes = tcp_bytes(connection.tcp);
    if (!bytes) continue;  // its DISCONNECTED is under way
    connection.bytes = *bytes;
    const uint64_t known_bytes = connection.received + bytes->unread;
    const uint64_t held = bytes->in > known_bytes ? bytes->in - known_bytes : 0;
    if (!connection.id && connection.since + options.silence_limit <= loop.now()) {
      ++silent_closed;
      end_connection(connection.tcp);
    } else if (held > kMostUnfinished) {
      ++hoarders_closed;
      end_connection(connection.tcp);
    } else if (held > kMaxPacketBytes) {
      pending += held;
      holders.emplace_back(held, connection.tcp);
    }
  }
  if (pending <= kMostUnfinishedInAll) return;
  std::ranges::sort(holders, std::greater(), &std::pair<uint64_t, TcpSocket>::first);
  for (size_t i = 0; pending > kMostUnfinishedInAll; ++i) {
    ++hoarders_closed;
    end_connection(holders[i].second);
    pending -= holders[i].first;
  }
}

void ZmqServer::Impl::drop(const Connection& connection) {
  const std::string* const routing_id = connections.find(connection);
  if (!routing_id) return;
  ++connections_dropped;
  Peer& peer = peers.at(*routing_id);
  peer.dropped = true;
  connections.erase(connection);
  if (!peer.tcp) return;
  to_end.emplace_back(loop.now() + kDropGrace, *peer.tcp);
  if (to_end.size() == 1) end_dropped();
}

void ZmqServer::Impl::end_dropped() {
  for (; !to_end.empty() && to_end.front().first <= loop.now(); to_end.pop_front())
    end_connection(to_end.front().second);
  if (!to_end.empty()) ender = loop.call_at(to_end.front().first, [this] { end_dropped(); });
}

void ZmqServer::Impl::pause_listening() {
  if (paused) return;
  paused = true;
  ++accept_pauses;
  // Whoever comes now hears nothing and tries again. Those who wait already are turned away: while
  // there is no descriptor for them, ZeroMQ's I/O thread would try without end. Unbinding is no way
  // out, since it ends every connection that came through the socket.
  set_deaf(listener, true);
  relieve();
}

void ZmqServer::Impl::relieve() {
  reliever = 0;
  if (turn_away(listener, spare, turned_away)) return;
  // The I/O thread took the last descriptor first. Some have to go: those who have said nothing.
  size_t ended = 0;
  for (const bool silent : {true, false}) {
    for (const auto& [descriptor, connection] : accepted_now) {
      if (ended >= kReliefStep) break;
      if (connection.id.has_value() == silent) continue;
      ended += end_connection(connection.tcp);
      ++relief_closed;
    }
    if (ended > 0) break;
  }
  reliever = loop.call_at(loop.now() + kReliefPause, [this] { relieve(); });
}

void ZmqServer::Impl::listen_again() {
  if (spare < 0) spare = open_spare();
  // The lowest free number is what the next connection would get.
  const int next = open_spare();
  if (next >= 0) close(next);
  const size_t limit = descriptor_limit();
  if (spare < 0 || next < 0 || static_cast<size_t>(next) + head_room(limit) >= limit) return;
  set_deaf(listener, false);
  paused = false;
}

ZmqServer::ZmqServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ZmqServer::~ZmqServer() = default;

Result<std::unique_ptr<ZmqServer>> ZmqServer::open(AsioLoop& loop, ZmqServerOptions options) {
  const SignalsWait signals_wait;
  auto impl = std::make_unique<Impl>(loop, std::move(options));
  TERN_CHECK_OK(impl->open());
  return std::unique_ptr<ZmqServer>(new ZmqServer(std::move(impl)));
}

const std::string& ZmqServer::endpoint() const { return impl_->endpoint; }

void ZmqServer::start(Handler& handler) {
  impl_->handler = &handler;
  if (!impl_->router_watch)
    impl_->router_watch.emplace(impl_->loop, impl_->router.get(),
                                [impl = impl_.get()] { return impl->receive_packet(); });
}

Status ZmqServer::send(const Connection& to, Bytes packet) {
  TERN_CHECK_OK(check_packet(packet));
  const std::string* const routing_id = impl_->connections.find(to);
  if (!routing_id) return no_such_connection();
  const size_t size = packet.size();
  ZmqMessage message;
  TERN_CHECK_OK(message.fill(packet));
  void* const router = impl_->router.get();
  int result = tern::send(router, std::as_bytes(std::span(*routing_id)), true);
  if (result == 0) result = tern::send(router, message);
  if (impl_->router_watch) impl_->router_watch->after_use();
  switch (result) {
    case 0:
      ++impl_->packets_out;
      impl_->bytes_out += size;
      return {};
    case EAGAIN:
      ++impl_->queue_overflows;
      return queue_is_full();
    case EHOSTUNREACH:
      impl_->forget_later(*routing_id);
      impl_->connections.erase(to);
      return no_such_connection();
    default:
      return error(Code::kInternal, "sending a packet: {}", zmq_strerror(result));
  }
}

void ZmqServer::drop(const Connection& connection) { impl_->drop(connection); }

TransportCounters ZmqServer::counters() const {
  const Impl& of = *impl_;
  return {{"accepted", of.accepted},
          {"disconnected", of.disconnected},
          {"accept_failed", of.accept_failed},
          {"accept_pauses", of.accept_pauses},
          {"turned_away", of.turned_away},
          {"handshakes_ok", of.handshakes_ok},
          {"handshakes_refused_key", of.handshakes_refused_key},
          {"handshakes_too_often", of.handshakes_too_often},
          {"handshakes_failed_protocol", of.handshakes_failed_protocol},
          {"handshakes_failed_other", of.handshakes_failed_other},
          {"zap_malformed", of.zap->malformed_requests()},
          {"connections", of.connections.size()},
          {"connections_dropped", of.connections_dropped},
          {"silent_closed", of.silent_closed},
          {"hoarders_closed", of.hoarders_closed},
          {"relief_closed", of.relief_closed},
          {"packets_in", of.packets_in},
          {"bytes_in", of.bytes_in},
          {"packets_out", of.packets_out},
          {"bytes_out", of.bytes_out},
          {"multipart_dropped", of.multipart_dropped},
          {"empty_dropped", of.empty_dropped},
          {"stray_dropped", of.stray_dropped},
          {"queue_overflows", of.queue_overflows}};
}

TcpBytes ZmqServer::wire_bytes() {
  TcpBytes sum = impl_->bytes_of_closed;
  for (auto& [descriptor, connection] : impl_->accepted_now) {
    if (const auto bytes = tcp_bytes(connection.tcp)) connection.bytes = *bytes;
    sum.in += connection.bytes.in;
    sum.out += connection.bytes.out;
  }
  return sum;
}

}  // namespace tern
