/// What clients download: plans go out with the parts of what a client lacks of the model, as far
/// as it gives credit and, where that is long, as its turn comes.
/// Threads: the loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/event.h"
#include "base/loop.h"
#include "coordinator/transfers/transfer_credit.h"
#include "proto/messages.h"
#include "proto/transfer.h"
#include "proto/transport.h"

namespace tern {

class Downloads {
 public:
  /// Sends a message, with the first part of a transfer if there is one; false when the connection
  /// is of no use any more.
  using Send = std::function<bool(const Connection&, const Message&, OutgoingTransfer*)>;

  /// All of them outlive the downloads. `dense_bytes`: of a whole model.
  Downloads(Loop& loop, ServerTransport& transport, TransferCredit& credit, EventSink& sink,
            int64_t dense_bytes, Send send)
      : loop_(loop),
        transport_(transport),
        credit_(credit),
        sink_(sink),
        dense_bytes_(dense_bytes),
        send_(std::move(send)) {}

  /// In place of what a client was sent before, if that isn't over. `frames` may be empty.
  void start(uint32_t client, const Connection& to, const PlanMessage& message, uint32_t round,
             TransferKind kind, std::vector<SharedFrame> frames);
  /// A client has taken in a part of it.
  void received(uint32_t client, const Credit& credit);
  /// Accounts for a client's download, whole or broken off. Event: download_sent.
  void end(uint32_t client);
  /// end(), and nothing more is expected of its connection.
  void forget(uint32_t client);
  /// Whether nothing of a download is open.
  bool idle(uint32_t client) const;

 private:
  struct Download {
    Connection to;
    std::optional<OutgoingTransfer> transfer;
    uint32_t round = 0;
    bool announced = false;  // the message before its parts is sent
    bool retrying = false;
    // Until all of it has come, which is later than it is sent.
    std::unique_ptr<CreditPool::Share> share;
    TaskId task = 0;
    uint64_t bytes = 0;
  };

  Download* of(uint32_t client, const Connection& to);
  void take_turn(uint32_t client, Download& download);
  void pump(uint32_t client, Download& download);
  void end(uint32_t client, Download& download);

  Loop& loop_;
  ServerTransport& transport_;
  TransferCredit& credit_;
  EventSink& sink_;
  const int64_t dense_bytes_;
  const Send send_;
  std::unordered_map<uint32_t, Download> downloads_;
};

}  // namespace tern
