/// Decides who may connect: the ZeroMQ Authentication Protocol (rfc.zeromq.org/spec/27), for CURVE
/// clients only, failing closed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/clock.h"
#include "base/status.h"
#include "proto/net/connection_table.h"
#include "proto/net/zmq_context.h"
#include "proto/transport.h"

namespace tern {

/// The domain of Tern's sockets; requests for another are refused.
inline constexpr std::string_view kZapDomain = "tern";

/// A key as the User-Id of its packets: 64 hexadecimal digits.
std::string user_id(const PeerKey& key);
/// Errors: kInvalidArgument for what user_id never gives.
Result<PeerKey> parse_user_id(std::string_view text);

/// Somebody who was not let in.
struct RefusedPeer {
  std::string address;  ///< an IP address
  PeerKey key{};
};

/// Answers every client's handshake of every socket of its context whose domain is kZapDomain: 200
/// and the user id for a key that is allowed, 300 (try again later) when it comes too often, 400
/// for anything else, also for what is no proper request. While it isn't there, nobody gets in
/// (kZapEnforceDomain).
/// A key may come kHandshakeBurst times at once, and again each kHandshakePause. What costs a
/// server 0.5 ms each is one reason; the other, that a client who opens connections by the ten
/// thousand and gives them routing ids like the server's own (a counter of 32 bits) sooner or later
/// has one that the server is about to use, on which libzmq aborts the process. Cost: 64 bytes for
/// each key that ever got in. Threads: one.
inline constexpr int kHandshakeBurst = 30;
inline constexpr Duration kHandshakePause = std::chrono::seconds(1);

class ZapHandler {
 public:
  using Allow = std::function<bool(const PeerKey&)>;
  using Refused = std::function<void(const RefusedPeer&)>;

  /// `clock` outlives the handler. Errors: kInternal, also when the context has another handler.
  static Result<std::unique_ptr<ZapHandler>> open(ZmqContext& context, const Clock& clock);

  /// Nobody is allowed before.
  void set_allow(Allow allow) { allow_ = std::move(allow); }
  /// Called for each client that proved a key that isn't allowed.
  void set_refused(Refused refused) { refused_ = std::move(refused); }

  void* socket() { return socket_.get(); }
  /// Receives and answers one request. False when there is none.
  bool answer_one();
  uint64_t malformed_requests() const { return malformed_; }

 private:
  ZapHandler(ZmqSocket socket, const Clock& clock) : socket_(std::move(socket)), clock_(clock) {}
  bool comes_too_often(const PeerKey& key);

  ZmqSocket socket_;
  const Clock& clock_;
  std::unordered_map<PeerKey, TimePoint, PeerKeyHash> paid_until_;
  Allow allow_;
  Refused refused_;
  uint64_t malformed_ = 0;
};

}  // namespace tern
