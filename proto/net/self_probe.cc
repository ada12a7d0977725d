#include "proto/net/self_probe.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

namespace tern {
namespace {

using SteadyTime = std::chrono::steady_clock;

constexpr auto kStepLimit = std::chrono::seconds(2);
/// For the ends of the probe's own connections, whose events should not be counted later.
constexpr auto kTidyLimit = std::chrono::milliseconds(20);

enum class Outcome { kPending, kAccepted, kRefused, kFailed };

template <typename... Args>
Status probe_error(fmt::format_string<Args...> format, Args&&... args) {
  return Status(Code::kInternal,
                "the self-probe " + fmt::format(format, std::forward<Args>(args)...));
}

class Probe {
 public:
  explicit Probe(const ProbedServer& server) : server_(server) {}
  ~Probe() { unbind(); }

  Result<std::unique_ptr<ZapHandler>> run(
      const std::function<Result<std::unique_ptr<ZapHandler>>()>& open_handler) {
    TERN_CHECK_OK(bind());
    const CurveKeys stranger = make_curve_keys();

    TERN_TRY(const Outcome unguarded, dial(&stranger));
    if (unguarded == Outcome::kAccepted)
      return probe_error("without a ZAP handler was accepted: libzmq doesn't enforce the domain");

    TERN_TRY(handler_, open_handler());
    TERN_TRY(const Outcome unknown, dial(&stranger));
    if (unknown == Outcome::kAccepted)
      return probe_error("with an unknown key was accepted: the ZAP handler isn't asked");
    if (unknown != Outcome::kRefused || refused_by_server_ == 0)
      return probe_error("with an unknown key failed, but the ZAP handler didn't refuse it: {}",
                         handler_ ? "it isn't asked" : "there is none");

    const CurveKeys friendly = make_curve_keys();
    handler_->set_allow([&](const PeerKey& key) { return key == friendly.public_key; });
    TERN_TRY(const Outcome known, dial(&friendly));
    handler_->set_allow(nullptr);
    if (known != Outcome::kAccepted)
      return probe_error(
          "with an allowed key was refused: does the server's secret key belong to "
          "its public key?");
    if (packet_user_ != user_id(friendly.public_key))
      return probe_error("got a packet through that carries the key '{}' instead of its own",
                         packet_user_);

    TERN_TRY(const Outcome plain, dial(nullptr));
    if (plain == Outcome::kAccepted) return probe_error("without encryption was accepted");
    unbind();
    return std::move(handler_);
  }

 private:
  Status bind() {
    if (zmq_bind(server_.router, "tcp://127.0.0.1:*") != 0)
      return zmq_failure("the self-probe can't listen on the loopback interface");
    std::array<char, 128> endpoint{};
    size_t size = endpoint.size();
    if (zmq_getsockopt(server_.router, ZMQ_LAST_ENDPOINT, endpoint.data(), &size) != 0)
      return zmq_failure("the self-probe's port");
    endpoint_ = endpoint.data();
    return {};
  }

  /// Unbinding ends connections too. Waits, a little, until all have ended.
  void unbind() {
    if (endpoint_.empty()) return;
    wait_until([this] { return ended_ >= accepted_; }, nullptr, nullptr, kTidyLimit);
    zmq_unbind(server_.router, endpoint_.c_str());
    endpoint_.clear();
    wait_until([this] { return closed_; }, nullptr, nullptr, kTidyLimit);
  }

  /// Dials once with `keys`, or without encryption, and sends a packet if it gets in.
  Result<Outcome> dial(const CurveKeys* keys) {
    TERN_TRY(const ZmqSocket client, new_socket(server_.context, ZMQ_DEALER));
    TERN_CHECK_OK(set_option(client.get(), ZMQ_RECONNECT_IVL, -1));
    TERN_CHECK_OK(set_option(client.get(), ZMQ_IMMEDIATE, 1));
    if (keys) TERN_CHECK_OK(set_curve_client(client.get(), *keys, server_.public_key));
    TERN_TRY(ZmqMonitor monitor, ZmqMonitor::open(server_.context, client.get(), ZMQ_EVENT_ALL));
    if (zmq_connect(client.get(), endpoint_.c_str()) != 0)
      return zmq_failure("the self-probe can't dial");

    Outcome outcome = Outcome::kPending;
    refused_by_server_ = 0;
    failed_at_server_ = false;
    packet_user_.clear();
    bool sent = false;
    const auto concluded = [&] {
      if (outcome == Outcome::kAccepted && !sent)
        sent = send(client.get(), std::as_bytes(std::span("probe", 5))) == 0;
      if (outcome == Outcome::kAccepted) return keys == nullptr || !packet_user_.empty();
      if (outcome == Outcome::kRefused) return refused_by_server_ > 0;
      // Without a handler, libzmq 4.3.4 says so, but doesn't always hang up.
      if (outcome == Outcome::kPending && failed_at_server_) outcome = Outcome::kFailed;
      return outcome != Outcome::kPending;
    };
    // A key that gets in where it shouldn't is reported with or without its packet.
    if (!wait_until(concluded, &monitor, &outcome, kStepLimit) && outcome != Outcome::kAccepted)
      return probe_error("had no answer within {} s", kStepLimit.count());
    return outcome;
  }

  /// Lets the server and the probe's client go on until `done()`.
  bool wait_until(const std::function<bool()>& done, ZmqMonitor* client, Outcome* outcome,
                  SteadyTime::duration at_most) {
    const auto deadline = SteadyTime::now() + at_most;
    for (;;) {
      while (const auto event = server_.monitor.next()) on_server_event(*event);
      if (client) {
        while (const auto event = client->next()) on_client_event(*event, *outcome);
      }
      while (handler_ && handler_->answer_one()) {
      }
      receive_packets();
      if (done()) return true;
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(deadline - SteadyTime::now()).count();
      if (left <= 0) return false;
      std::vector<zmq_pollitem_t> items{{server_.monitor.socket(), 0, ZMQ_POLLIN, 0},
                                        {server_.router, 0, ZMQ_POLLIN, 0}};
      if (client) items.push_back({client->socket(), 0, ZMQ_POLLIN, 0});
      if (handler_) items.push_back({handler_->socket(), 0, ZMQ_POLLIN, 0});
      zmq_poll(items.data(), static_cast<int>(items.size()), left);  // EINTR: goes round
    }
  }

  void on_server_event(const ZmqMonitor::Event& event) {
    if (event.kind == ZMQ_EVENT_ACCEPTED) ++accepted_;
    if (event.kind == ZMQ_EVENT_DISCONNECTED) ++ended_;
    if (event.kind == ZMQ_EVENT_CLOSED) closed_ = true;
    if (event.kind == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) ++refused_by_server_;
    if (event.kind == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL) failed_at_server_ = true;
  }

  static void on_client_event(const ZmqMonitor::Event& event, Outcome& outcome) {
    if (outcome != Outcome::kPending) return;  // the first counts
    switch (event.kind) {
      case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        outcome = Outcome::kAccepted;
        break;
      case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        outcome = Outcome::kRefused;
        break;
      case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
      case ZMQ_EVENT_DISCONNECTED:
      case ZMQ_EVENT_CLOSED:
        outcome = Outcome::kFailed;
        break;
      default:
        break;
    }
  }

  void receive_packets() {
    ZmqMessage message;
    while (receive(server_.router, message)) {
      if (message.more()) continue;
      const std::string_view user = message.property("User-Id");
      packet_user_ = user.empty() ? "none" : user;
    }
  }

  const ProbedServer& server_;
  std::string endpoint_;
  std::unique_ptr<ZapHandler> handler_;
  int accepted_ = 0;
  int ended_ = 0;
  int refused_by_server_ = 0;
  bool failed_at_server_ = false;
  bool closed_ = false;
  std::string packet_user_;  // of the last packet
};

}  // namespace

Result<std::unique_ptr<ZapHandler>> self_probe(
    const ProbedServer& server,
    const std::function<Result<std::unique_ptr<ZapHandler>>()>& open_handler) {
  return Probe(server).run(open_handler);
}

}  // namespace tern
