/// A client's end over ZeroMQ: dials out only, as its own key, to the one server key it was given.
/// Each dial has a DEALER socket of its own, so that nothing of an old connection gets into a new
/// one.
#pragma once

#include <memory>
#include <string>

#include "proto/net/asio_loop.h"
#include "proto/net/zmq_context.h"
#include "proto/transport.h"

namespace tern {

struct ZmqClientOptions {
  std::string server = "tcp://127.0.0.1:7700";  ///< tcp://HOST:PORT
  PeerKey server_key{};                         ///< no other is talked to
  CurveKeys own{};
  Duration dial_limit = std::chrono::seconds(20);
};

/// on_lost says what a person should check: kInvalidArgument (the key was refused; the server has
/// another key; not an endpoint), kNotFound (nothing listens there; no such host), kIo (the
/// connection broke; timed out), kNoSpace (no descriptors).
/// A packet of several parts, which a server of Tern never sends, is ignored.
/// Threads: the loop's. Clients may share a context and its I/O thread; context and loop outlive
/// the client.
class ZmqClient : public ClientTransport {
 public:
  ZmqClient(AsioLoop& loop, ZmqContext& context, ZmqClientOptions options);
  /// Disconnects at once; what is queued is lost, unless disconnect() was called before.
  ~ZmqClient() override;

  void connect(Handler& handler) override;
  Status send(Bytes packet) override;
  void disconnect() override;

 private:
  struct Dial;

  Result<std::unique_ptr<Dial>> dial();
  bool on_event();
  bool receive_packet();
  void on_connected();
  void lose(const Status& reason);

  AsioLoop& loop_;
  ZmqContext& context_;
  const ZmqClientOptions options_;
  Handler* handler_ = nullptr;
  std::unique_ptr<Dial> dial_;
};

}  // namespace tern
