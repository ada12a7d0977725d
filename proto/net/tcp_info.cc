#include "proto/net/tcp_info.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace tern {

std::optional<TcpSocket> identify(int descriptor) {
  TcpSocket socket{descriptor, 0};
  socklen_t size = sizeof socket.cookie;
  if (getsockopt(descriptor, SOL_SOCKET, SO_COOKIE, &socket.cookie, &size) != 0)
    return std::nullopt;
  return socket;
}

std::optional<TcpBytes> tcp_bytes(const TcpSocket& socket) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (getsockopt(socket.descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  int unread = 0;
  if (ioctl(socket.descriptor, SIOCINQ, &unread) != 0) return std::nullopt;
  // Asked afterwards: then it was this socket before, too.
  const auto still = identify(socket.descriptor);
  if (!still || still->cookie != socket.cookie) return std::nullopt;
  return TcpBytes{.in = info.tcpi_bytes_received,
                  .out = info.tcpi_bytes_acked,
                  .unread = static_cast<uint64_t>(unread)};
}

bool end_connection(const TcpSocket& socket) {
  // A descriptor of our own cannot be closed and given to another connection in between. When there
  // is none left, that is a risk of a microsecond, for a connection that will be made again.
  const int own = fcntl(socket.descriptor, F_DUPFD_CLOEXEC, 0);
  const int at_hand = own >= 0 ? own : socket.descriptor;
  const auto still = identify(at_hand);
  const bool same = still && still->cookie == socket.cookie;
  if (same) shutdown(at_hand, SHUT_RDWR);
  if (own >= 0) close(own);
  return same;
}

bool set_deaf(int listener, bool deaf) {
  int unused = 0;
  if (!deaf) return setsockopt(listener, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused) == 0;
  sock_filter keep_nothing = BPF_STMT(BPF_RET | BPF_K, 0);
  const sock_fprog program{.len = 1, .filter = &keep_nothing};
  return setsockopt(listener, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

bool turn_away(int listener, int& spare, uint64_t& count) {
  for (;;) {
    int guest = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (guest < 0 && (errno == EMFILE || errno == ENFILE) && spare >= 0) {
      close(spare);
      guest = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      const int reason = errno;
      if (guest >= 0) close(guest);
      spare = open_spare();
      if (guest < 0) errno = reason;
    } else if (guest >= 0) {
      close(guest);
    }
    if (guest >= 0) {
      ++count;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return errno != EMFILE && errno != ENFILE;
    }
  }
}

int open_spare() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

size_t descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  return limit.rlim_cur;
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace tern
