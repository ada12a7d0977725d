/// The transport's twin without sockets, for simulations and tests of protocol logic: any number of
/// clients and one server over a Loop, with the same rules as over ZeroMQ (proto/transport.h) and
/// no cryptography: a client says its key and is believed.
#pragma once

#include <functional>
#include <memory>

#include "base/loop.h"
#include "proto/transport.h"

namespace tern {

/// What the link of one client does on the loop's clock, beside everybody else's.
struct MemoryLink {
  double up_bytes_per_s = 0;  ///< 0: what is sent is there at once
  double down_bytes_per_s = 0;
  Duration round_trip{};
};

/// Parts, and the messages that travel with them, take the time that their bytes need, one after
/// the other in each direction. Messages alone, tens of bytes, take none, so that it makes no
/// difference whether a client was connected before: simulations save their state where no part is
/// on its way. The whole round trip lies on the way to the server, which can't tell the difference.
///
/// Counters: handshakes_ok, handshakes_refused_key, packets_in, bytes_in, packets_out, bytes_out,
/// queue_overflows, connections_dropped.
/// Cost: a client holds about 100 bytes, a connection about 400 and its queues; a packet is moved,
/// not copied, and is one post to the loop each.
/// Threads: everything on the loop's thread. The loop outlives the network; clients may outlive it
/// and then find that nothing listens.
class MemoryNetwork {
 public:
  using Allow = std::function<bool(const PeerKey&)>;
  using Links = std::function<MemoryLink(const PeerKey&)>;

  /// Both are asked at each dial. Without `links` nothing takes time.
  MemoryNetwork(Loop& loop, Allow allow, Links links = {});
  /// Every connection breaks.
  ~MemoryNetwork();
  MemoryNetwork(const MemoryNetwork&) = delete;
  MemoryNetwork& operator=(const MemoryNetwork&) = delete;

  ServerTransport& server();
  /// As if the server's process died (false): every connection breaks, its handler hears nothing
  /// more and is forgotten, and dials fail; or was there again (true), to be started anew. Numbers
  /// of connections go on.
  void set_server_up(bool up);
  std::unique_ptr<ClientTransport> client(const PeerKey& key);

 private:
  struct Core;
  struct Link;
  class Client;
  using LinkPtr = std::shared_ptr<Link>;  // shared by both ends and by what is posted
  std::shared_ptr<Core> core_;            // shared with what is posted and with the clients
};

}  // namespace tern
