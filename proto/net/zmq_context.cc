#include "proto/net/zmq_context.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "proto/net/transport_rules.h"

namespace tern {
namespace {

// A peer that is gone without a word is noticed after 30 s, idle or not.
constexpr int kKeepaliveIdleSeconds = 10;
constexpr int kKeepaliveIntervalSeconds = 5;
constexpr int kKeepaliveCount = 4;
constexpr int kUnacknowledgedMs = 30'000;

// A sender learns of what was sent in steps of half the queue: at least kQueuePackets always fit.
constexpr int kSendQueue = 2 * kQueuePackets;

/// Of a CURVE message around a packet: its name, nonce, tag and flags.
constexpr int64_t kCurveOverhead = 64;

Status check_library() {
  int major = 0, minor = 0, patch = 0;
  zmq_version(&major, &minor, &patch);
  if (std::array{major, minor, patch} < std::array{4, 3, 3})
    return error(
        Code::kUnsupported,
        "libzmq {}.{}.{} has known holes that strangers can use; Tern needs 4.3.3 or newer", major,
        minor, patch);
  if (zmq_has("curve") != 1)
    return {Code::kUnsupported, "this libzmq was built without CURVE, so it can't encrypt"};
  return {};
}

using KeyText = std::array<char, 41>;  // Z85, and a zero

template <typename Call>
int without_interruption(Call call) {
  int result = 0;
  do {
    result = call();
  } while (result == -1 && zmq_errno() == EINTR);
  return result;
}

}  // namespace

Result<std::unique_ptr<ZmqContext>> ZmqContext::open() {
  TERN_CHECK_OK(check_library());
  void* const context = zmq_ctx_new();
  if (!context) return zmq_failure("making a ZeroMQ context");
  std::unique_ptr<ZmqContext> result(new ZmqContext(context));
  // As many as it takes: descriptors run out first.
  const int most = zmq_ctx_get(context, ZMQ_SOCKET_LIMIT);
  if (zmq_ctx_set(context, ZMQ_MAX_SOCKETS, most) != 0 ||
      zmq_ctx_set(context, ZMQ_IO_THREADS, 1) != 0 || zmq_ctx_set(context, ZMQ_BLOCKY, 0) != 0)
    return zmq_failure("setting up a ZeroMQ context");
  return result;
}

ZmqContext::~ZmqContext() {
  without_interruption([this] { return zmq_ctx_term(context_); });
}

SignalsWait::SignalsWait() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before_);
}

SignalsWait::~SignalsWait() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

Result<ZmqSocket> new_socket(ZmqContext& context, int type) {
  ZmqSocket socket(zmq_socket(context.handle(), type));
  if (!socket) {
    if (zmq_errno() == EMFILE)
      return Status(Code::kNoSpace, "no descriptors are left for another socket (ulimit -n)");
    return zmq_failure("making a ZeroMQ socket");
  }
  TERN_CHECK_OK(set_option(socket.get(), ZMQ_LINGER, 0));
  return socket;
}

Status check_endpoint(std::string_view endpoint, bool any_port) {
  constexpr std::string_view kScheme = "tcp://";
  const size_t colon = endpoint.rfind(':');
  bool good = endpoint.starts_with(kScheme) && colon > kScheme.size();
  if (good) {
    const std::string_view port = endpoint.substr(colon + 1);
    uint32_t number = 0;
    const auto [end, failure] = std::from_chars(port.data(), port.data() + port.size(), number);
    good = failure == std::errc() && end == port.data() + port.size() && number <= 65535 &&
           (number > 0 || any_port);
    good = good || (any_port && port == "*");
  }
  if (good) return {};
  return error(Code::kInvalidArgument, "'{}' is not an endpoint like tcp://{}:7700", endpoint,
               any_port ? "0.0.0.0" : "HOST");
}

Status zmq_failure(std::string_view doing) {
  return error(Code::kInternal, "{}: {}", doing, zmq_strerror(zmq_errno()));
}

Status set_option(void* socket, int option, std::span<const std::byte> value) {
  if (zmq_setsockopt(socket, option, value.data(), value.size()) == 0) return {};
  return error(Code::kInternal, "libzmq refuses its option {}: {}", option,
               zmq_strerror(zmq_errno()));
}
Status set_option(void* socket, int option, int value) {
  return set_option(socket, option, std::as_bytes(std::span(&value, 1)));
}
Status set_option(void* socket, int option, int64_t value) {
  return set_option(socket, option, std::as_bytes(std::span(&value, 1)));
}
Status set_option(void* socket, int option, std::string_view value) {
  return set_option(socket, option, std::as_bytes(std::span(value)));
}

Status set_connection_options(void* socket) {
  TERN_CHECK_OK(set_option(socket, ZMQ_MAXMSGSIZE, int64_t{kMaxPacketBytes} + kCurveOverhead));
  TERN_CHECK_OK(set_option(socket, ZMQ_SNDHWM, kSendQueue));
  TERN_CHECK_OK(set_option(socket, ZMQ_RCVHWM, 0));
  TERN_CHECK_OK(set_option(socket, ZMQ_TCP_KEEPALIVE, 1));
  TERN_CHECK_OK(set_option(socket, ZMQ_TCP_KEEPALIVE_IDLE, kKeepaliveIdleSeconds));
  TERN_CHECK_OK(set_option(socket, ZMQ_TCP_KEEPALIVE_INTVL, kKeepaliveIntervalSeconds));
  TERN_CHECK_OK(set_option(socket, ZMQ_TCP_KEEPALIVE_CNT, kKeepaliveCount));
  return set_option(socket, ZMQ_TCP_MAXRT, kUnacknowledgedMs);
}

CurveKeys make_curve_keys() {
  KeyText public_text{}, secret_text{};
  CurveKeys keys;
  zmq_curve_keypair(public_text.data(), secret_text.data());
  zmq_z85_decode(reinterpret_cast<uint8_t*>(keys.public_key.data()), public_text.data());
  zmq_z85_decode(reinterpret_cast<uint8_t*>(keys.secret_key.data()), secret_text.data());
  return keys;
}

Status check_curve_keys(const CurveKeys& keys) {
  KeyText public_text{}, secret_text{}, made_text{};
  zmq_z85_encode(public_text.data(), reinterpret_cast<const uint8_t*>(keys.public_key.data()),
                 keys.public_key.size());
  zmq_z85_encode(secret_text.data(), reinterpret_cast<const uint8_t*>(keys.secret_key.data()),
                 keys.secret_key.size());
  if (zmq_curve_public(made_text.data(), secret_text.data()) != 0)
    return zmq_failure("computing a public key");
  if (made_text == public_text) return {};
  return {Code::kInvalidArgument, "the secret and the public key are not a pair"};
}

Status set_curve_client(void* socket, const CurveKeys& own, const PeerKey& server_key) {
  TERN_CHECK_OK(set_option(socket, ZMQ_CURVE_SERVERKEY, std::span(server_key)));
  TERN_CHECK_OK(set_option(socket, ZMQ_CURVE_PUBLICKEY, std::span(own.public_key)));
  return set_option(socket, ZMQ_CURVE_SECRETKEY, std::span(own.secret_key));
}

bool receive(void* socket, ZmqMessage& message) {
  return without_interruption([&] { return zmq_msg_recv(message.get(), socket, ZMQ_DONTWAIT); }) !=
         -1;
}

void discard_rest(void* socket, ZmqMessage& part) {
  while (part.more() && receive(socket, part)) {
  }
}

Status ZmqMessage::fill(std::span<const std::byte> bytes) {
  zmq_msg_close(&message_);
  if (zmq_msg_init_size(&message_, bytes.size()) == 0) {
    std::ranges::copy(bytes, static_cast<std::byte*>(zmq_msg_data(&message_)));
    return {};
  }
  zmq_msg_init(&message_);
  return zmq_failure("making a message");
}

int send(void* socket, ZmqMessage& part, bool more) {
  const int flags = ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0);
  const auto try_it = [&] {
    return without_interruption([&] { return zmq_msg_send(part.get(), socket, flags); });
  };
  if (try_it() != -1) return 0;
  if (zmq_errno() != EAGAIN) return zmq_errno();
  // For a millisecond, a call that sends doesn't look whether there is room again. This one does.
  int events = 0;
  size_t size = sizeof events;
  without_interruption([&] { return zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size); });
  return try_it() != -1 ? 0 : zmq_errno();
}

int send(void* socket, std::span<const std::byte> part, bool more) {
  ZmqMessage message;
  if (!message.fill(part).ok()) return ENOMEM;
  return send(socket, message, more);
}

Result<ZmqMonitor> ZmqMonitor::open(ZmqContext& context, void* watched, int events) {
  static std::atomic<uint64_t> monitors = 0;
  const std::string endpoint = fmt::format("inproc://tern-monitor-{}", ++monitors);
  if (zmq_socket_monitor(watched, endpoint.c_str(), events) != 0)
    return zmq_failure("monitoring a socket");
  std::unique_ptr<void, Stopper> stopper(watched);
  TERN_TRY(ZmqSocket socket, new_socket(context, ZMQ_PAIR));
  TERN_CHECK_OK(set_option(socket.get(), ZMQ_RCVHWM, 0));
  if (zmq_connect(socket.get(), endpoint.c_str()) != 0) return zmq_failure("monitoring a socket");
  return ZmqMonitor(std::move(socket), std::move(stopper));
}

std::optional<ZmqMonitor::Event> ZmqMonitor::next() {
  ZmqMessage message;
  Event event;
  if (!receive(socket_.get(), message)) return std::nullopt;
  const auto bytes = message.bytes();
  if (bytes.size() >= sizeof event.kind + sizeof event.value) {
    std::memcpy(&event.kind, bytes.data(), sizeof event.kind);
    std::memcpy(&event.value, bytes.data() + sizeof event.kind, sizeof event.value);
  }
  discard_rest(socket_.get(), message);
  return event;
}

}  // namespace tern
