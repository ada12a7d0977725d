#include "proto/net/socket_watch.h"

#include <zmq.h>

#include <asio/posix/stream_descriptor.hpp>

namespace tern {
namespace {

/// Messages handled before timers and other sockets get their turn.
constexpr int kMessagesPerTurn = 256;
constexpr Duration kPollPause = std::chrono::milliseconds(10);

int descriptor_of(void* socket) {
  int descriptor = -1;
  size_t size = sizeof descriptor;
  zmq_getsockopt(socket, ZMQ_FD, &descriptor, &size);
  return descriptor;
}

}  // namespace

struct SocketWatch::State : std::enable_shared_from_this<State> {
  State(AsioLoop& its_loop, void* its_socket, Receive its_receive)
      : loop(its_loop),
        socket(its_socket),
        receive(std::move(its_receive)),
        descriptor(loop.context()) {
    asio::error_code failure;
    polled = static_cast<bool>(descriptor.assign(descriptor_of(socket), failure));
  }
  ~State() { let_go(); }

  void turn() {
    turn_posted = false;
    in_turn = true;
    const bool dry = handle_some();
    in_turn = false;
    dry ? wait() : post_turn();
  }
  bool handle_some() {
    for (int i = 0; i < kMessagesPerTurn && !stopped; ++i) {
      // A call that finds nothing has read all news. What comes after it wakes the descriptor.
      if (!receive()) return true;
    }
    return false;
  }
  void post_turn() {
    if (turn_posted || in_turn || stopped) return;
    turn_posted = true;
    loop.post([self = shared_from_this()] { self->turn(); });
  }
  void wait() {
    if (waiting || stopped) return;
    waiting = true;
    if (polled) {
      loop.call_at(loop.now() + kPollPause, [self = shared_from_this()] {
        self->waiting = false;
        self->post_turn();
      });
      return;
    }
    descriptor.async_wait(asio::posix::descriptor_base::wait_read,
                          [self = shared_from_this()](const asio::error_code& error) {
                            self->waiting = false;
                            if (!error && !self->turn_posted) self->turn();
                          });
  }
  /// The descriptor is ZeroMQ's to close.
  void let_go() {
    if (descriptor.is_open()) descriptor.release();
  }

  AsioLoop& loop;
  void* const socket;
  const Receive receive;
  asio::posix::stream_descriptor descriptor;
  bool polled = false;  // the system has no room for another watched descriptor
  bool turn_posted = false;
  bool in_turn = false;
  bool waiting = false;
  bool stopped = false;
};

SocketWatch::SocketWatch(AsioLoop& loop, void* socket, Receive receive)
    : state_(std::make_shared<State>(loop, socket, std::move(receive))) {
  state_->post_turn();
}

SocketWatch::~SocketWatch() {
  state_->stopped = true;
  state_->let_go();
}

void SocketWatch::after_use() { state_->post_turn(); }

}  // namespace tern
