#include "coordinator/transfers/uploads.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace tern {

Uploads::Uploads(Loop& loop, TransferCredit& credit, RunLog* log, Hooks hooks)
    : loop_(loop),
      credit_(credit),
      log_(log),
      hooks_(std::move(hooks)),
      checks_(
          loop,
          [this](size_t worker, const SharedUpload& upload) { hooks_.check(worker, *upload); },
          [this](const SharedUpload& upload) {
            if (!closed_) hooks_.checked(upload);
          }) {}

void Uploads::begin(uint32_t client, const Connection& from, const UpdateMessage& message,
                    UpdateRules rules) {
  const uint64_t most = max_update_bytes(rules);
  AtHand& at_hand = at_hand_[client];
  at_hand.share.reset();
  at_hand.from = from;
  at_hand.upload =
      std::make_shared<Upload>(Upload{.message = message,
                                      .transfer = {TransferKind::kUpdate, message.task, most},
                                      .rules = std::move(rules)});
}

void Uploads::give_credit(uint32_t client) {
  const auto found = at_hand_.find(client);
  if (found == at_hand_.end() || !found->second.upload || found->second.share) return;
  AtHand& at_hand = found->second;
  at_hand.share_of = at_hand.upload.get();
  at_hand.share =
      credit_.join([this, to = at_hand.from, task = at_hand.upload->message.task](uint64_t credit) {
        hooks_.send(to, Credit{task, credit});
      });
}

Result<bool> Uploads::add(uint32_t client, std::span<const std::byte> part) {
  const auto found = at_hand_.find(client);
  if (found == at_hand_.end() || !found->second.upload) return false;
  const SharedUpload upload = found->second.upload;
  const std::optional<PartLabel> label = label_of(part);
  if (!label || label->task != upload->message.task) return false;
  upload->check = upload->transfer.add(part);
  measure(*upload, part.size());
  upload->received += part.size();
  Share* share = share_of(*upload);
  // A long update was announced alone and goes as far as it was told to.
  const uint64_t granted = share != nullptr ? (*share)->granted() : 0;
  if (upload->check.ok() && upload->transfer.total_bytes() > kCreditWindow &&
      upload->received > granted)
    return error(Code::kInvalidArgument, "{} bytes of an update, {} were asked for",
                 upload->received, granted);
  const bool complete = upload->transfer.complete();
  if (!upload->check.ok() || complete) {
    found->second.upload.reset();
    hooks_.complete(*upload);
    if (!upload->check.ok()) {
      found->second.share.reset();
      hooks_.checked(upload);
      return true;
    }
    // Of an update in one part nothing shows, nor where links take no time.
    if (const double took = seconds(upload->moved_for); took > 0)
      hooks_.measured(client, static_cast<double>(upload->moved_bytes) / took);
  }
  if (share != nullptr) {
    (*share)->set_length(upload->transfer.total_bytes());
    (*share)->received(upload->received);
    upload->asked_for_more = (*share)->promised() > 0;
  } else {
    upload->asked_for_more = true;
  }
  if (log_ != nullptr && upload->transfer.parts() > 1) {
    std::ranges::move(upload->transfer.take_parts(), std::back_inserter(upload->unwritten));
    store(upload);
    return true;
  }
  stored(*upload, upload->received, complete);
  if (complete) checks_.add(upload);
  return true;
}

bool Uploads::idle(uint32_t client) const {
  const auto found = at_hand_.find(client);
  return found == at_hand_.end() || (!found->second.upload && !found->second.share);
}

SharedUpload Uploads::break_off(uint32_t client) {
  const auto found = at_hand_.find(client);
  if (found == at_hand_.end() || !found->second.upload) return nullptr;
  SharedUpload upload = std::exchange(found->second.upload, nullptr);
  found->second.share.reset();
  return upload;
}

/// Null for one that has none, or whose connection is over.
Uploads::Share* Uploads::share_of(const Upload& upload) {
  const auto found = at_hand_.find(upload.message.client);
  if (found == at_hand_.end() || found->second.share_of != &upload) return nullptr;
  return found->second.share ? &found->second.share : nullptr;
}

/// So much of it doesn't wait in memory any more, or isn't on the way.
void Uploads::stored(const Upload& upload, uint64_t bytes, bool complete) {
  Share* share = share_of(upload);
  if (share == nullptr) return;
  if (complete)
    share->reset();
  else
    (*share)->stored(bytes);
  credit_.watch();
}

/// Brings what has come of an upload to the disk; then more may come, or it is complete.
void Uploads::store(const SharedUpload& upload) {
  if (upload->unwritten.empty() || std::exchange(upload->writing, true)) return;
  storing_.insert(upload->message.client);
  auto parts = std::make_shared<std::vector<Bytes>>(std::exchange(upload->unwritten, {}));
  auto done = std::make_shared<Status>();
  loop_.run([this, upload, parts, done](size_t) { *done = append(*upload, *parts); },
            [this, upload, done, bytes = upload->received, complete = upload->transfer.complete()] {
              if (closed_) return;
              if (!done->ok()) return hooks_.failed(*done);
              upload->writing = false;
              storing_.erase(upload->message.client);
              stored(*upload, bytes, complete);
              if (complete) return checks_.add(upload);
              // One that was broken off meanwhile ends here.
              const auto found = at_hand_.find(upload->message.client);
              const bool at_hand = found != at_hand_.end() && found->second.upload == upload;
              if (upload->transfer.complete() || at_hand) store(upload);
            });
}

/// On a worker.
Status Uploads::append(Upload& upload, const std::vector<Bytes>& parts) {
  if (upload.file == nullptr) {
    TERN_TRY(BlobWriter file, log_->blobs().begin());
    upload.file = std::make_shared<BlobWriter>(std::move(file));
  }
  for (const Bytes& part : parts) TERN_CHECK_OK(upload.file->append(part));
  return {};
}

/// A part that was on its way when the one before it came took the time between them; one that had
/// to wait for its turn says nothing of the link.
void Uploads::measure(Upload& upload, size_t bytes) {
  const TimePoint now = loop_.now();
  if (upload.asked_for_more) {
    upload.moved_bytes += bytes;
    upload.moved_for += now - upload.last_at;
  }
  upload.last_at = now;
}

}  // namespace tern
