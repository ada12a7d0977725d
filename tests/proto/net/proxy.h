/// A TCP proxy for tests, on the loop: while the loop doesn't run, the network stands still.
#pragma once

#include <fmt/format.h>

#include <asio/ip/tcp.hpp>
#include <asio/write.hpp>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "proto/net/asio_loop.h"

namespace tern {

inline uint16_t port_of(const std::string& endpoint) {
  return static_cast<uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1)));
}

/// Sits between clients and a server, on the loop. May record, change or withhold what they say.
class Proxy {
 public:
  using Tcp = asio::ip::tcp;
  /// Called with each piece of a stream and the offset where it starts; what it leaves in the piece
  /// is passed on.
  using Meddle = std::function<void(std::vector<char>& piece, size_t offset)>;

  /// `meddle` with what clients say, `meddle_down` with what the server says.
  Proxy(AsioLoop& loop, uint16_t upstream, Meddle meddle, Meddle meddle_down = {})
      : context_(loop.context()),
        acceptor_(context_, Tcp::endpoint(asio::ip::address_v4::loopback(), 0)),
        upstream_(asio::ip::address_v4::loopback(), upstream),
        meddle_(std::move(meddle)),
        meddle_down_(std::move(meddle_down)) {
    accept();
  }
  /// Ends every connection to the server as a host that crashed and came back would: with a reset.
  void reset_connections() {
    for (const std::weak_ptr<Pair>& weak : pairs_) {
      if (const auto pair = weak.lock()) {
        asio::error_code ignored;
        (void)pair->server.set_option(asio::socket_base::linger(true, 0), ignored);
        pair->close();
      }
    }
  }
  /// Stops reading what clients, or the server, say, until told to go on.
  void hold_up(bool held) { hold(up_, held, &Proxy::pass_up); }
  void hold_down(bool held) { hold(down_, held, &Proxy::pass_down); }
  std::string endpoint() const {
    return fmt::format("tcp://127.0.0.1:{}", acceptor_.local_endpoint().port());
  }

 private:
  struct Pair {
    explicit Pair(asio::io_context& context) : client(context), server(context) {}
    void close() {
      asio::error_code ignored;
      (void)client.close(ignored);
      (void)server.close(ignored);
    }
    Tcp::socket client;
    Tcp::socket server;
    size_t offset = 0, offset_down = 0;
    std::vector<char> up = std::vector<char>(65536), down = std::vector<char>(65536);
  };

  /// One direction of all connections.
  struct Valve {
    bool held = false;
    std::vector<std::shared_ptr<Pair>> waiting;
  };
  void hold(Valve& valve, bool held, void (Proxy::*pass)(const std::shared_ptr<Pair>&)) {
    valve.held = held;
    if (held) return;
    for (const auto& pair : std::exchange(valve.waiting, {})) (this->*pass)(pair);
  }

  void accept() {
    auto pair = std::make_shared<Pair>(context_);
    acceptor_.async_accept(pair->client, [this, pair](const asio::error_code& error) {
      if (error) return;
      asio::error_code failed;
      (void)pair->server.connect(upstream_, failed);
      if (!failed) {
        pairs_.push_back(pair);
        pass_up(pair);
        pass_down(pair);
      }
      accept();
    });
  }
  void pass_up(const std::shared_ptr<Pair>& pair) {
    if (up_.held) return up_.waiting.push_back(pair);
    pair->up.resize(65536);
    pair->client.async_read_some(
        asio::buffer(pair->up), [this, pair](const asio::error_code& error, size_t count) {
          if (error) return pair->close();
          pair->up.resize(count);
          if (meddle_) meddle_(pair->up, pair->offset);
          pair->offset += count;
          asio::async_write(pair->server, asio::buffer(pair->up),
                            [this, pair](const asio::error_code& failed, size_t) {
                              if (failed) return pair->close();
                              pass_up(pair);
                            });
        });
  }
  void pass_down(const std::shared_ptr<Pair>& pair) {
    if (down_.held) return down_.waiting.push_back(pair);
    pair->down.resize(65536);
    pair->server.async_read_some(
        asio::buffer(pair->down), [this, pair](const asio::error_code& error, size_t count) {
          if (error) return pair->close();
          pair->down.resize(count);
          if (meddle_down_) meddle_down_(pair->down, pair->offset_down);
          pair->offset_down += count;
          asio::async_write(pair->client, asio::buffer(pair->down),
                            [this, pair](const asio::error_code& failed, size_t) {
                              if (failed) return pair->close();
                              pass_down(pair);
                            });
        });
  }

  asio::io_context& context_;
  Tcp::acceptor acceptor_;
  Tcp::endpoint upstream_;
  Meddle meddle_;
  Meddle meddle_down_;
  std::vector<std::weak_ptr<Pair>> pairs_;
  Valve up_, down_;
};

}  // namespace tern
