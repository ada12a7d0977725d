/// Updates on their way from clients: their parts are put together, go to the disk where they are
/// many and there is a journal, and are checked on the loop's workers.
/// Threads: the loop's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/loop.h"
#include "base/mapped_file.h"
#include "coordinator/batched_work.h"
#include "coordinator/journal/blob_store.h"
#include "coordinator/run_log.h"
#include "coordinator/transfers/transfer_credit.h"
#include "coordinator/update_check.h"
#include "proto/messages.h"
#include "proto/transfer.h"
#include "proto/transport.h"

namespace tern {

/// An update on its way from its first part to the sum. A job and the coordinator hand it to each
/// other. With a journal one of several parts goes to the disk as it comes, where it has to be
/// anyway: what is in memory of it are the parts that came since.
struct Upload {
  UpdateMessage message;
  IncomingTransfer transfer;
  std::optional<UpdateRules> rules;  // of its task
  uint64_t received = 0;             // bytes, part headers included
  TimePoint last_at{};               // when its last part came
  bool asked_for_more = false;       // the next part was on its way by then
  uint64_t moved_bytes = 0;          // of parts that were,
  Duration moved_for{};              // and what they took
  std::vector<Bytes> unwritten;      // payloads for the file
  bool writing = false;              // some are on their way there
  std::shared_ptr<BlobWriter> file;  // once complete, it is here,
  std::optional<MappedFile> mapped;
  SharedFrame bytes;  // or here
  std::span<const std::byte> content() const { return mapped ? mapped->bytes() : *bytes; }
  Status check;  // of what the client has sent
  Status fault;  // of the coordinator's own disk
  std::optional<CheckedUpdate> update;
};
using SharedUpload = std::shared_ptr<Upload>;

class Uploads {
 public:
  struct Hooks {
    /// Tells a client how far it may go.
    std::function<void(const Connection&, const Credit&)> send;
    /// All of an update is here, or what came of it is no update: `check` says.
    std::function<void(const Upload&)> complete;
    /// On a worker: looks at a complete one's content.
    std::function<void(size_t worker, Upload&)> check;
    /// That is done, or there is nothing to look at.
    std::function<void(const SharedUpload&)> checked;
    /// What a client's link carried, in bytes a second.
    std::function<void(uint32_t client, double rate)> measured;
    /// The coordinator's own disk failed.
    std::function<void(const Status&)> failed;
  };

  /// All of them outlive the uploads. `log` may be null.
  Uploads(Loop& loop, TransferCredit& credit, RunLog* log, Hooks hooks);

  /// A client announces an update, in place of one that isn't complete.
  void begin(uint32_t client, const Connection& from, const UpdateMessage& message,
             UpdateRules rules);
  /// What it has announced is a long one and waits for credit.
  void give_credit(uint32_t client);
  /// False: a part that nobody waits for, the rest of an update that was refused or came too late.
  /// Errors: kInvalidArgument when it is beyond what the client was told.
  Result<bool> add(uint32_t client, std::span<const std::byte> part);

  bool idle(uint32_t client) const;
  /// What came of a client's earlier try is in memory until it is written.
  bool storing(uint32_t client) const { return storing_.contains(client); }
  /// Gives up what a client is sending, and says what that was.
  SharedUpload break_off(uint32_t client);
  /// break_off(), and nothing more is expected of its connection.
  void forget(uint32_t client) { at_hand_.erase(client); }
  /// Nobody is called back any more.
  void close() { closed_ = true; }

 private:
  using Share = std::unique_ptr<CreditPool::Share>;
  struct AtHand {
    Connection from;
    SharedUpload upload;
    // Of a long upload until it is stored. Not in the upload, whose last owner may be a worker.
    Share share;
    const Upload* share_of = nullptr;
  };

  Share* share_of(const Upload& upload);
  void stored(const Upload& upload, uint64_t bytes, bool complete);
  void store(const SharedUpload& upload);
  Status append(Upload& upload, const std::vector<Bytes>& parts);
  void measure(Upload& upload, size_t bytes);

  Loop& loop_;
  TransferCredit& credit_;
  RunLog* const log_;
  const Hooks hooks_;
  BatchedWork<SharedUpload> checks_;
  std::unordered_map<uint32_t, AtHand> at_hand_;
  std::unordered_set<uint32_t> storing_;  // clients whose updates are being written
  bool closed_ = false;
};

}  // namespace tern
