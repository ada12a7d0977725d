/// Tells when a ZeroMQ socket has something to receive, on the loop's thread.
///
/// ZeroMQ's descriptor only says that the socket has news, once: any call on the socket may take
/// the news away. So whoever uses the socket outside of `receive` calls after_use(), and a turn
/// ends only when there is nothing left, or goes on after others had theirs.
#pragma once

#include <functional>
#include <memory>

#include "proto/net/asio_loop.h"

namespace tern {

/// Cost: nothing while the socket is idle. Threads: the loop's.
class SocketWatch {
 public:
  /// Receives and handles one message; false when there was none. May destroy the watch.
  using Receive = std::function<bool()>;

  /// `socket` outlives the watch. The first turn comes from the loop. When the system has no room
  /// for another watched descriptor, the socket gets a turn each 10 ms.
  SocketWatch(AsioLoop& loop, void* socket, Receive receive);
  /// `receive` isn't called again.
  ~SocketWatch();
  SocketWatch(const SocketWatch&) = delete;
  SocketWatch& operator=(const SocketWatch&) = delete;

  /// After a send or receive elsewhere.
  void after_use();

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with what the loop has yet to call
};

}  // namespace tern
