/// What both transports hold to beyond the words of proto/transport.h: limits, and the errors that
/// people read.
#pragma once

#include <chrono>
#include <cstddef>

#include "base/clock.h"
#include "proto/transport.h"

namespace tern {

/// At least this many packets fit into a connection's queue, each way; at most twice as many.
inline constexpr size_t kQueuePackets = 64;

/// Live connections of one key; one more, and the oldest is dropped. More than one, because a peer
/// may be back before its broken connection is noticed.
inline constexpr size_t kConnectionsPerKey = 4;

/// What was queued for a connection before it was dropped is still sent for this long; then it is
/// closed and the client hears on_lost.
inline constexpr Duration kDropGrace = std::chrono::seconds(1);

/// Errors: kInvalidArgument for an empty packet, kOutOfRange for one that is too long.
inline Status check_packet(const Bytes& packet) {
  if (packet.empty()) return {Code::kInvalidArgument, "an empty packet can't be sent"};
  if (packet.size() > kMaxPacketBytes)
    return error(Code::kOutOfRange, "a packet of {} bytes; the longest is {}", packet.size(),
                 kMaxPacketBytes);
  return {};
}

inline Status queue_is_full() {
  return {Code::kOutOfRange, "the peer reads too slowly: its queue is full"};
}
inline Status no_such_connection() { return {Code::kNotFound, "the connection is gone"}; }
inline Status not_connected() { return {Code::kNotFound, "there is no connection"}; }
inline Status connection_broke() { return {Code::kIo, "the connection broke"}; }
inline Status key_refused() {
  return {Code::kInvalidArgument,
          "the coordinator refused this key: is it on its list (tern keys allow)?"};
}

}  // namespace tern
