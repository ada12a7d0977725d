#include "proto/net/zap_handler.h"

#include <algorithm>
#include <vector>

namespace tern {
namespace {

constexpr const char* kEndpoint = "inproc://zeromq.zap.01";
constexpr std::string_view kVersion = "1.0";

// What a request's parts are; the credentials of CURVE are one part.
enum Part { kVersionPart, kRequestId, kDomain, kAddress, kRoutingId, kMechanism, kKey, kParts };

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

std::string user_id(const PeerKey& key) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : key) {
    text += kDigits[std::to_integer<size_t>(byte >> 4)];
    text += kDigits[std::to_integer<size_t>(byte & std::byte{15})];
  }
  return text;
}

Result<PeerKey> parse_user_id(std::string_view text) {
  PeerKey key;
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  };
  bool good = text.size() == 2 * key.size();
  for (size_t i = 0; good && i < key.size(); ++i) {
    const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
    good = high >= 0 && low >= 0;
    if (good) key[i] = static_cast<std::byte>(high * 16 + low);
  }
  if (!good) return Status(Code::kInvalidArgument, "not a user id of 64 hexadecimal digits");
  return key;
}

Result<std::unique_ptr<ZapHandler>> ZapHandler::open(ZmqContext& context, const Clock& clock) {
  TERN_TRY(ZmqSocket socket, new_socket(context, ZMQ_REP));
  if (zmq_bind(socket.get(), kEndpoint) != 0) return zmq_failure("binding the ZAP handler");
  return std::unique_ptr<ZapHandler>(new ZapHandler(std::move(socket), clock));
}

/// Each handshake costs kHandshakePause, on a credit of kHandshakeBurst of them.
bool ZapHandler::comes_too_often(const PeerKey& key) {
  const TimePoint now = clock_.now();
  TimePoint& paid_until = paid_until_.try_emplace(key, now).first->second;
  const TimePoint then = std::max(now, paid_until) + kHandshakePause;
  if (then > now + kHandshakeBurst * kHandshakePause) return true;
  paid_until = then;
  return false;
}

bool ZapHandler::answer_one() {
  std::vector<std::string> parts;
  bool more = false;
  do {
    ZmqMessage part;
    if (!receive(socket_.get(), part)) return false;
    // What is too much is read and forgotten, but makes the count wrong.
    if (parts.size() <= kParts) parts.emplace_back(part.text());
    more = part.more();
  } while (more);

  PeerKey key{};
  const bool proper = parts.size() == kParts && parts[kVersionPart] == kVersion &&
                      parts[kDomain] == kZapDomain && parts[kMechanism] == "CURVE" &&
                      parts[kKey].size() == key.size();
  enum class Answer { kRefused, kLater, kWelcome } answer = Answer::kRefused;
  if (!proper) {
    ++malformed_;
  } else {
    std::ranges::copy(bytes_of(parts[kKey]), key.begin());
    if (!allow_ || !allow_(key)) {
      if (refused_) refused_({parts[kAddress], key});
    } else {
      answer = comes_too_often(key) ? Answer::kLater : Answer::kWelcome;
    }
  }

  static constexpr std::string_view kStatus[] = {"400", "300", "200"};
  static constexpr std::string_view kText[] = {"not on the list", "too often", "OK"};
  const std::string request_id = parts.size() > kRequestId ? parts[kRequestId] : "";
  const std::string id = answer == Answer::kWelcome ? user_id(key) : "";
  const auto index = static_cast<size_t>(answer);
  const std::string_view reply[] = {kVersion, request_id, kStatus[index], kText[index], id, ""};
  for (const std::string_view& part : reply)
    send(socket_.get(), bytes_of(part), &part != &reply[std::size(reply) - 1]);
  return true;
}

}  // namespace tern
