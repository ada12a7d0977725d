/// The coordinator's end over ZeroMQ: one ROUTER socket with CURVE, and a ZAP handler that asks the
/// list of allowed keys and fails closed.
///
/// A peer is its key: it comes with each packet, as the User-Id that the ZAP handler gave when the
/// key was proved; the routing id, which a client can choose, only says where an answer goes. A
/// packet is a message of one part.
///
/// Bounds. A stranger: 10 s for the handshake (thousands who come at once share one I/O thread, and
/// with less none of them would get through), one frame of kMaxPacketBytes in memory. A connection
/// that never says anything ends after `silence_limit`. A peer on the list: so many handshakes in a
/// time (zap_handler.h), and kConnectionsPerKey connections. What it sends is stored until the loop
/// gets to it, and ZeroMQ stores the parts of an unfinished message without any bound. So a look
/// each second, when the loop has received all there is, ends connections that hold more than
/// kMostUnfinished, and those that hold most when all hold more than kMostUnfinishedInAll.
/// When descriptors run low the listening socket takes no connections for a second or more, without
/// refusing them; those that exist live on, unless not one is left: then some that have said
/// nothing have to go.
///
/// Limits: /proc isn't needed, Linux is. At a broken connection, wire_bytes() misses what it moved
/// since the last second's look.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "proto/net/asio_loop.h"
#include "proto/net/tcp_info.h"
#include "proto/net/zap_handler.h"
#include "proto/transport.h"

namespace tern {

struct ZmqServerOptions {
  /// tcp://HOST:PORT. HOST is an address of this machine ([...] for IPv6), an interface's name, or
  /// *; PORT 0 or * is any free one.
  std::string listen = "tcp://0.0.0.0:7700";
  CurveKeys own{};
  /// Asked in each handshake, from the loop.
  std::function<bool(const PeerKey&)> allow{};
  /// Told of whoever proved a key that isn't allowed, from the loop; may come as often as strangers
  /// like.
  std::function<void(const RefusedPeer&)> refused{};
  Duration handshake_limit = std::chrono::seconds(10);
  Duration silence_limit = std::chrono::seconds(30);
  /// What open() must notice.
  bool without_zap_handler_for_test = false;
  bool without_zap_enforcement_for_test = false;
};

/// Bytes that were read from a connection but are in no packet. An honest one has less than
/// kMaxPacketBytes of them, and what has come since the loop ran dry.
inline constexpr uint64_t kMostUnfinished = 48 << 20;
inline constexpr uint64_t kMostUnfinishedInAll = 1 << 30;

/// Counters: accepted, disconnected, accept_failed, accept_pauses, turned_away,
/// handshakes_ok, handshakes_refused_key, handshakes_too_often, handshakes_failed_protocol,
/// handshakes_failed_other, zap_malformed, connections, connections_dropped, silent_closed,
/// hoarders_closed, relief_closed, packets_in, bytes_in, packets_out, bytes_out, multipart_dropped,
/// empty_dropped, stray_dropped, queue_overflows.
///
/// Cost: 0.5 ms of CPU for a handshake, 40 kB for a connection (a quarter is what libzmq keeps of
/// its question to the ZAP handler), 3 us a second for each.
/// Threads: the loop's; ZeroMQ has one of its own for encryption and sockets.
class ZmqServer : public ServerTransport {
 public:
  /// Probes itself (self_probe.h), then listens; packets wait until start(). Blocks for about 10
  /// ms; no callback comes during it, and signals to this thread wait. Errors: kInUse when somebody
  /// listens there, kInvalidArgument for an endpoint or a key that can't be, kUnsupported for an
  /// unfit libzmq, kNoSpace without descriptors, kInternal when the probe finds that strangers
  /// would get in.
  static Result<std::unique_ptr<ZmqServer>> open(AsioLoop& loop, ZmqServerOptions options);
  /// Connections end; what is queued for them is lost.
  ~ZmqServer() override;

  /// Where it listens, with the port.
  const std::string& endpoint() const;

  void start(Handler& handler) override;
  Status send(const Connection& to, Bytes packet) override;
  void drop(const Connection& connection) override;
  TransportCounters counters() const override;

  /// Bytes of all TCP connections since open(), handshakes and encryption included, also those of
  /// strangers. Cost: 2 us a connection.
  TcpBytes wire_bytes();

 private:
  struct Impl;
  explicit ZmqServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tern
