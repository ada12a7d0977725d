#include "proto/net/zmq_client.h"

#include <cerrno>
#include <optional>
#include <utility>

#include "proto/net/socket_watch.h"
#include "proto/net/transport_rules.h"

namespace tern {
namespace {

constexpr int kFarewellMs = 1000;

}  // namespace

/// One dial and the connection that comes of it.
struct ZmqClient::Dial {
  explicit Dial(AsioLoop& its_loop) : loop(its_loop) {}
  ~Dial() { loop.cancel(timer); }

  AsioLoop& loop;
  // Destroyed from the last to the first: watches before what they watch.
  ZmqSocket socket;
  std::optional<ZmqMonitor> monitor;
  std::optional<SocketWatch> monitor_watch;
  std::optional<SocketWatch> packet_watch;  // once connected
  Loop::TimerId timer = 0;  // the dial's limit, or a failure that has yet to be told
  bool found = false;       // the host's name has an address
  bool answered = false;    // something listens there
  bool connected = false;
  bool broken = false;  // ended; what has arrived is still handled
};

ZmqClient::ZmqClient(AsioLoop& loop, ZmqContext& context, ZmqClientOptions options)
    : loop_(loop), context_(context), options_(std::move(options)) {}
ZmqClient::~ZmqClient() = default;

void ZmqClient::connect(Handler& handler) {
  handler_ = &handler;
  dial_.reset();
  auto dialled = dial();
  if (dialled) {
    dial_ = std::move(*dialled);
    dial_->timer = loop_.call_at(loop_.now() + options_.dial_limit, [this] {
      const double limit = seconds(options_.dial_limit);
      if (!dial_->found) {
        lose(error(Code::kNotFound, "{}: the host's name has no address", options_.server));
      } else if (!dial_->answered) {
        lose(error(Code::kIo, "timed out: nothing answered at {} within {:g} s", options_.server,
                   limit));
      } else {
        lose(error(Code::kIo, "timed out: {} didn't finish the handshake within {:g} s",
                   options_.server, limit));
      }
    });
    return;
  }
  dial_ = std::make_unique<Dial>(loop_);
  dial_->timer = loop_.call_at(
      loop_.now(), [this, failure = std::move(dialled).error()] { lose(Status(failure)); });
}

Result<std::unique_ptr<ZmqClient::Dial>> ZmqClient::dial() {
  TERN_CHECK_OK(check_endpoint(options_.server, false));
  const SignalsWait signals_wait;
  auto made = std::make_unique<Dial>(loop_);
  TERN_TRY(made->socket, new_socket(context_, ZMQ_DEALER));
  void* const socket = made->socket.get();
  TERN_CHECK_OK(set_connection_options(socket));
  TERN_CHECK_OK(set_option(socket, ZMQ_RECONNECT_IVL, -1));  // never: the caller decides when
  TERN_CHECK_OK(set_option(socket, ZMQ_IMMEDIATE, 1));
  TERN_CHECK_OK(set_option(socket, ZMQ_IPV6, 1));
  TERN_CHECK_OK(check_curve_keys(options_.own));
  TERN_CHECK_OK(set_curve_client(socket, options_.own, options_.server_key));
  TERN_TRY(made->monitor,
           ZmqMonitor::open(context_, socket, ZMQ_EVENT_ALL & ~ZMQ_EVENT_MONITOR_STOPPED));
  made->monitor_watch.emplace(loop_, made->monitor->socket(), [this] { return on_event(); });
  if (zmq_connect(socket, options_.server.c_str()) != 0)
    return error(Code::kInvalidArgument, "dialling {}: {}", options_.server,
                 zmq_strerror(zmq_errno()));
  return made;
}

bool ZmqClient::on_event() {
  const auto event = dial_->monitor->next();
  if (!event) return false;
  switch (event->kind) {
    case ZMQ_EVENT_CONNECT_DELAYED:
      dial_->found = true;
      break;
    case ZMQ_EVENT_CONNECTED:
      dial_->found = dial_->answered = true;
      break;
    case ZMQ_EVENT_CLOSED:
      if (!dial_->answered) lose(error(Code::kNotFound, "nothing listens at {}", options_.server));
      break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      on_connected();
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      lose(key_refused());
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
    case ZMQ_EVENT_DISCONNECTED:
      if (dial_->connected) {
        // What arrived before comes first.
        dial_->broken = true;
        dial_->packet_watch->after_use();
      } else {
        lose(error(Code::kInvalidArgument,
                   "the handshake failed: is server_key really the key of the coordinator at {}? "
                   "(It also turns away clients that dial too often.)",
                   options_.server));
      }
      break;
    default:
      break;
  }
  return true;  // the handler may have destroyed this client
}

void ZmqClient::on_connected() {
  loop_.cancel(dial_->timer);
  dial_->connected = true;
  dial_->packet_watch.emplace(loop_, dial_->socket.get(), [this] { return receive_packet(); });
  handler_->on_connected();
}

bool ZmqClient::receive_packet() {
  ZmqMessage packet;
  if (!receive(dial_->socket.get(), packet)) {
    if (dial_->broken) lose(connection_broke());
    return false;
  }
  if (packet.more()) {
    discard_rest(dial_->socket.get(), packet);
  } else if (const auto bytes = packet.bytes(); !bytes.empty() && bytes.size() <= kMaxPacketBytes) {
    handler_->on_packet(bytes);
  }
  return true;  // the handler may have destroyed this client
}

void ZmqClient::lose(const Status& reason) {
  dial_.reset();
  handler_->on_lost(reason);
}

Status ZmqClient::send(Bytes packet) {
  TERN_CHECK_OK(check_packet(packet));
  if (!dial_ || !dial_->connected || dial_->broken) return not_connected();
  ZmqMessage message;
  TERN_CHECK_OK(message.fill(packet));
  const int result = tern::send(dial_->socket.get(), message);
  dial_->packet_watch->after_use();
  if (result == 0) return {};
  if (result == EAGAIN) return queue_is_full();
  return error(Code::kInternal, "sending a packet: {}", zmq_strerror(result));
}

void ZmqClient::disconnect() {
  if (!dial_) return;
  // ZeroMQ sends the rest after the socket is closed.
  if (dial_->connected) (void)set_option(dial_->socket.get(), ZMQ_LINGER, kFarewellMs);
  dial_.reset();
}

}  // namespace tern
