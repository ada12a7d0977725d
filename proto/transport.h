/// Packets between a coordinator and its clients. A packet is one control message (messages.h), one
/// part of a transfer (parts.h), or both, at most kMaxPacketBytes. Two implementations, ZeroMQ with
/// CURVE and one in memory (proto/net), keep this contract, and one suite of tests holds both to
/// it:
///
/// - Packets of one connection arrive whole, in order, each at most once; a connection that breaks
///   loses what was on its way. Whoever needs more repeats and numbers what he says.
/// - A peer's key has been proved before its first packet reaches the handler.
/// - Nothing calls back from within a call: handlers run from the loop.
///
/// Threads: everything on the loop's thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "proto/parts.h"

namespace tern {

/// Longest packet; also what a stranger can make a coordinator hold for each connection.
inline constexpr size_t kMaxPacketBytes = 320 * 1024;

/// A CURVE public key: who a peer is.
using PeerKey = std::array<std::byte, 32>;

/// One connection of a peer. A peer that reconnects has the same key and another number.
struct Connection {
  PeerKey key{};
  uint64_t number = 0;  ///< made by the server's end, never used twice
  auto operator<=>(const Connection&) const = default;
};

/// What a transport saw, by name: packets_in, bytes_in, handshakes_refused_key, ...
using TransportCounters = std::map<std::string_view, uint64_t>;

/// A coordinator's end.
class ServerTransport {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    /// `packet` is valid during the call. Never empty, never longer than kMaxPacketBytes.
    virtual void on_packet(const Connection& from, std::span<const std::byte> packet) = 0;
  };

  virtual ~ServerTransport() = default;
  /// Packets go to `handler` from now on; it outlives the transport.
  virtual void start(Handler& handler) = 0;
  /// Queues a packet. Errors: kNotFound when the connection is gone; kOutOfRange when the packet is
  /// too long, or when the peer reads so slowly that the queue for it is full.
  virtual Status send(const Connection& to, Bytes packet) = 0;
  /// Nothing more from this connection reaches the handler, and sends to it fail.
  virtual void drop(const Connection& connection) = 0;
  virtual TransportCounters counters() const = 0;
};

/// A client's end: one connection at a time.
class ClientTransport {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    /// The server proved its key and accepted ours.
    virtual void on_connected() = 0;
    virtual void on_packet(std::span<const std::byte> packet) = 0;
    /// No connection came about, or it broke; `reason` is for people. After it nothing more comes
    /// until connect() is called again.
    virtual void on_lost(const Status& reason) = 0;
  };

  virtual ~ClientTransport() = default;
  /// Dials once; on_connected or on_lost follows. While connected or dialling: drops that
  /// connection first, without on_lost. Whoever wants to try again does so after a pause of his
  /// own.
  virtual void connect(Handler& handler) = 0;
  /// Queues a packet. Errors: kNotFound without a connection, kOutOfRange as above.
  virtual Status send(Bytes packet) = 0;
  /// Sends what is queued, for a second at most, and disconnects. on_lost doesn't follow.
  virtual void disconnect() = 0;
};

}  // namespace tern
