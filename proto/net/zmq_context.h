/// ZeroMQ's context and sockets, owned. The C API and not cppzmq: nearly every failure here is an
/// expected outcome that is decided by errno (would block, peer gone, interrupted), metadata may be
/// missing, and one option has no name in the headers; cppzmq throws in each of these cases.
#pragma once

#include <zmq.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "proto/transport.h"

namespace tern {

/// ZMQ_ZAP_ENFORCE_DOMAIN: a CURVE server without a ZAP handler refuses everybody, instead of
/// letting everybody in. libzmq has it since 4.3.3, zmq.h shows it only with the draft API.
inline constexpr int kZapEnforceDomain = 93;

/// One I/O thread and the sockets that belong to it.
/// Threads: sockets of one context may belong to different threads.
class ZmqContext {
 public:
  /// Errors: kUnsupported for a libzmq without CURVE or older than 4.3.3, kInternal.
  static Result<std::unique_ptr<ZmqContext>> open();
  /// Waits for sockets that were closed with something to send, so for their linger at most; every
  /// socket must have been closed.
  ~ZmqContext();
  ZmqContext(const ZmqContext&) = delete;
  ZmqContext& operator=(const ZmqContext&) = delete;

  void* handle() { return context_; }

 private:
  explicit ZmqContext(void* context) : context_(context) {}
  void* context_;
};

/// While one lives, signals to this thread wait: for calls that set sockets up. Interrupted, they
/// fail, or succeed without the event that a monitor should have had.
class SignalsWait {
 public:
  SignalsWait();
  ~SignalsWait();
  SignalsWait(const SignalsWait&) = delete;
  SignalsWait& operator=(const SignalsWait&) = delete;

 private:
  sigset_t before_{};
};

struct ZmqCloser {
  void operator()(void* socket) const { zmq_close(socket); }
};
/// Closed with the linger that was set; new_socket sets 0.
using ZmqSocket = std::unique_ptr<void, ZmqCloser>;

/// Errors: kNoSpace when there are no descriptors or sockets left, kInternal.
Result<ZmqSocket> new_socket(ZmqContext& context, int type);

/// Whether this is tcp://HOST:PORT, with a PORT from 1 to 65535 or, where `any_port`, 0 or *.
/// ZeroMQ itself would take 99999 for 34463. Errors: kInvalidArgument.
Status check_endpoint(std::string_view endpoint, bool any_port);

/// What went wrong in the last ZeroMQ call of this thread, "doing: reason".
Status zmq_failure(std::string_view doing);

/// Errors: kInternal; no option of Tern's is refused by a libzmq that works.
Status set_option(void* socket, int option, int value);
Status set_option(void* socket, int option, int64_t value);
Status set_option(void* socket, int option, std::span<const std::byte> value);
Status set_option(void* socket, int option, std::string_view value);

/// What both ends of Tern's connections have in common: message size, queues, and how a peer that
/// is gone is noticed: by TCP, not by ZeroMQ's heartbeats. libzmq (4.3.4 to this day: its issues
/// 3596, 3937, 4841) aborts the process when a connection breaks whose full receive queue keeps it
/// from being read, and then a ping comes or is due; and a peer may send pings whether we want them
/// or not. So receive queues have no bound here: what they hold is bounded by what peers may send,
/// and by the server, which ends who sends without end.
Status set_connection_options(void* socket);

/// An X25519 key pair, raw bytes.
struct CurveKeys {
  PeerKey public_key{};
  std::array<std::byte, 32> secret_key{};
};
/// A random pair, from libsodium.
CurveKeys make_curve_keys();
/// Errors: kInvalidArgument when the keys are not a pair. Cost: 30 us.
Status check_curve_keys(const CurveKeys& keys);
/// Dials as `own` and accepts no server but the one with `server_key`.
Status set_curve_client(void* socket, const CurveKeys& own, const PeerKey& server_key);

class ZmqMessage {
 public:
  ZmqMessage() { zmq_msg_init(&message_); }
  ~ZmqMessage() { zmq_msg_close(&message_); }
  ZmqMessage(const ZmqMessage&) = delete;
  ZmqMessage& operator=(const ZmqMessage&) = delete;

  std::span<const std::byte> bytes() const {
    auto* const message = const_cast<zmq_msg_t*>(&message_);  // the C API forgot const
    return {static_cast<const std::byte*>(zmq_msg_data(message)), zmq_msg_size(message)};
  }
  std::string_view text() const {
    return {reinterpret_cast<const char*>(bytes().data()), bytes().size()};
  }
  bool more() const { return zmq_msg_more(&message_) != 0; }
  /// Empty when there is none.
  std::string_view property(const char* name) const {
    const char* const value = zmq_msg_gets(&message_, name);
    return value ? value : "";
  }
  /// A copy, which costs a twentieth of what encryption does. ZeroMQ could borrow the bytes, but
  /// would give them back on its own thread.
  Status fill(std::span<const std::byte> bytes);
  zmq_msg_t* get() { return &message_; }

 private:
  zmq_msg_t message_;
};

/// Receives a part without blocking. False when there is none.
bool receive(void* socket, ZmqMessage& message);
/// Receives what is left of the message that `part` is of; it is always there.
void discard_rest(void* socket, ZmqMessage& part);
/// Sends a part without blocking; 0 or errno (EAGAIN: no room, EHOSTUNREACH: no such peer). `part`
/// is empty after it was sent.
int send(void* socket, ZmqMessage& part, bool more = false);
int send(void* socket, std::span<const std::byte> part, bool more = false);

/// Tells what happens to a socket's connections.
class ZmqMonitor {
 public:
  struct Event {
    uint16_t kind = 0;   ///< ZMQ_EVENT_...
    uint32_t value = 0;  ///< depends on the kind: a descriptor, errno, ...
  };

  /// Of `watched`, which outlives the monitor. The queue has no bound: with one, ZeroMQ's I/O
  /// thread would wait for us when it is full.
  static Result<ZmqMonitor> open(ZmqContext& context, void* watched, int events);
  void* socket() { return socket_.get(); }
  /// The next event, if there is one.
  std::optional<Event> next();

 private:
  // Stopped before our end closes: the I/O thread would wait for ever for somebody to take events.
  struct Stopper {
    void operator()(void* watched) const { zmq_socket_monitor(watched, nullptr, 0); }
  };
  ZmqMonitor(ZmqSocket socket, std::unique_ptr<void, Stopper> watched)
      : socket_(std::move(socket)), watched_(std::move(watched)) {}

  ZmqSocket socket_;
  std::unique_ptr<void, Stopper> watched_;
};

}  // namespace tern
