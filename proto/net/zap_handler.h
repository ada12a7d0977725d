/// Decides who may connect: the ZeroMQ Authentication Protocol (rfc.zeromq.org/spec/27), for CURVE
/// clients only, failing closed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
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
/// and the user id for a key that is allowed, 400 for anything else, also for what is no proper
/// request. While it isn't there, nobody gets in (kZapEnforceDomain).
/// Threads: one.
class ZapHandler {
 public:
  using Allow = std::function<bool(const PeerKey&)>;
  using Refused = std::function<void(const RefusedPeer&)>;

  /// Errors: kInternal, also when the context has another handler.
  static Result<std::unique_ptr<ZapHandler>> open(ZmqContext& context);

  /// Nobody is allowed before.
  void set_allow(Allow allow) { allow_ = std::move(allow); }
  /// Called for each client that proved a key that isn't allowed.
  void set_refused(Refused refused) { refused_ = std::move(refused); }

  void* socket() { return socket_.get(); }
  /// Receives and answers one request. False when there is none.
  bool answer_one();
  uint64_t malformed_requests() const { return malformed_; }

 private:
  explicit ZapHandler(ZmqSocket socket) : socket_(std::move(socket)) {}

  ZmqSocket socket_;
  Allow allow_;
  Refused refused_;
  uint64_t malformed_ = 0;
};

}  // namespace tern
