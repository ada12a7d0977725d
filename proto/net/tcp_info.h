/// What the kernel knows of a TCP connection whose descriptor belongs to somebody else, who may
/// close it at any time and whose next connection may get the same number: everything here goes by
/// the socket's cookie, which is never used twice. Linux only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace tern {

/// Bytes of a connection's TCP streams: headers, retransmissions and what is still under way don't
/// count.
struct TcpBytes {
  uint64_t in = 0;
  uint64_t out = 0;
  uint64_t unread = 0;  ///< of `in`, those that the process hasn't read
};

struct TcpSocket {
  int descriptor = -1;
  uint64_t cookie = 0;
};

/// Nothing when `descriptor` isn't a socket.
std::optional<TcpSocket> identify(int descriptor);
/// Nothing when the socket is gone.
std::optional<TcpBytes> tcp_bytes(const TcpSocket& socket);
/// Ends the connection as if the peer had closed it; its owner will notice and close it. False when
/// the socket is gone.
bool end_connection(const TcpSocket& socket);

/// Lets a listening socket drop whoever wants to connect, without a word, so that they try again
/// for a while; or take them again.
bool set_deaf(int listener, bool deaf);
/// Accepts and closes whoever waits in the listener's queue, and counts them. `spare` is a
/// descriptor that may be closed and made anew when there is no other. False when some wait and
/// there is none.
bool turn_away(int listener, int& spare, uint64_t& count);
/// A descriptor that can be spared; -1 when there is none.
int open_spare();

/// The limit of this process's descriptors.
size_t descriptor_limit();
/// Raises it as far as it goes. Programs call it once, at the start.
void raise_descriptor_limit();

}  // namespace tern
