/// Parts of a transfer from a hostile sender. An input is a script: the first bytes say how long
/// the sender's transfer is and what the receiver takes, then come parts: real ones, real ones with
/// changed headers or lengths, and raw bytes. Whatever is sent, the receiver holds no more than
/// what arrived and a part, takes only the part that is due, and is complete only when it is whole.
#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/rng.h"
#include "proto/transfer.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_memory.h"

namespace {

using namespace tern;

constexpr TaskId kTask = 0x1122334455667788;
constexpr TransferKind kKind = TransferKind::kDeltas;
/// Transfers of one small part, and around every border. The long ones cost far more time.
constexpr uint32_t kShort[] = {1, 2, 3, 5, 7, 63, 64, 1000};
constexpr uint32_t kLong[] = {kPartBytes - 1, kPartBytes, kPartBytes + 1, 2 * kPartBytes,
                              3 * kPartBytes - 1};
uint32_t length_of(uint8_t choice) {
  return choice < 240 ? kShort[choice % std::size(kShort)] : kLong[choice % std::size(kLong)];
}
/// For the vector of parts and the texts of refusals.
constexpr int64_t kSmallChange = 4096;

const Bytes& content() {
  static const Bytes bytes = [] {
    Bytes all(3 * kPartBytes);
    Rng rng(1, Purpose::kTest);
    for (std::byte& byte : all) byte = static_cast<std::byte>(rng.next());
    return all;
  }();
  return bytes;
}

/// The bytes of an input, one after another; zeros after its end.
class Script {
 public:
  explicit Script(std::span<const std::byte> bytes) : bytes_(bytes) {}
  bool over() const { return bytes_.empty(); }
  uint8_t next() { return static_cast<uint8_t>(take(1)[0]); }
  uint64_t number() {
    Bytes all = take(8);
    return load<uint64_t>(all.data());
  }
  Bytes take(size_t count) {
    Bytes taken(count);
    const size_t there = std::min(count, bytes_.size());
    std::copy_n(bytes_.begin(), there, taken.begin());
    bytes_ = bytes_.subspan(there);
    return taken;
  }

 private:
  std::span<const std::byte> bytes_;
};

/// The header of a part at this place of such a transfer; one of nothing beyond its end.
Bytes header_of(uint64_t transfer, uint32_t index) {
  const uint64_t count = transfer / kPartBytes + (transfer % kPartBytes != 0 ? 1 : 0);
  const uint64_t offset = std::min(uint64_t{index} * kPartBytes, transfer);
  Bytes header(kPartHeaderBytes);
  std::memcpy(header.data(), "TRNP\1\0", 6);
  store(header.data() + 6, static_cast<uint8_t>(kKind));
  store(header.data() + 8, kTask);
  store(header.data() + 16, index);
  store(header.data() + 20, static_cast<uint32_t>(count));
  store(header.data() + 24, transfer);
  store(header.data() + 32, offset);
  store(header.data() + 40,
        static_cast<uint32_t>(std::min<uint64_t>(kPartBytes, transfer - offset)));
  return header;
}

/// What a part that is taken has to look like; nothing when there is no such part.
std::optional<Bytes> due(uint64_t transfer, uint32_t index) {
  const uint64_t count = transfer / kPartBytes + (transfer % kPartBytes != 0 ? 1 : 0);
  if (index >= count || count > UINT32_MAX) return std::nullopt;
  return header_of(transfer, index);
}

/// The part that is due of the sender's transfer; the last one once it is over.
void put_real_part(uint32_t transfer, uint32_t index, Bytes& part) {
  const Bytes header =
      header_of(transfer, std::min(index, static_cast<uint32_t>((transfer - 1) / kPartBytes)));
  part.assign(header.begin(), header.end());
  const auto payload = std::span(content()).subspan(load<uint64_t>(header.data() + 32),
                                                    load<uint32_t>(header.data() + 40));
  part.insert(part.end(), payload.begin(), payload.end());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Script script(std::as_bytes(std::span(data, size)));
  const uint32_t length = length_of(script.next());
  uint64_t max_bytes = length;
  switch (script.next() % 4) {
    case 0:
      max_bytes = length - 1;
      break;
    case 1:
      max_bytes = script.number();
      break;
    default:
      break;
  }
  std::optional<IncomingTransfer> receiver;
  FuzzMemory memory = memory_of([&] { receiver.emplace(kKind, kTask, max_bytes); });
  static Bytes arrived, part;  // their memory is used again: large blocks are dear under ASan
  arrived.clear();
  uint64_t transfer = 0;  // as the first part said
  uint32_t accepted = 0;
  uint64_t credit = kCreditWindow;
  for (int sent = 0; sent < 12 && !script.over(); ++sent) {
    const uint8_t what = script.next();
    switch (what % 8) {
      case 0:
        part = script.take(size_t{what} / 8 * 4);
        break;
      case 1:  // headers of the script's own, with the payload they speak of if there is one
        put_real_part(length, accepted, part);
        for (size_t at = 16; at < 44; ++at) part[at] = static_cast<std::byte>(script.next());
        part.resize(kPartHeaderBytes + load<uint32_t>(part.data() + 40) % (kPartBytes + 2));
        break;
      case 2:
        put_real_part(length, script.next(), part);
        break;
      case 3:
        put_real_part(length, accepted, part);
        for (int change = 0; change <= what / 64; ++change)
          part[script.next() % kPartHeaderBytes] = static_cast<std::byte>(script.next());
        break;
      case 4:
        put_real_part(length, accepted, part);
        part.resize(std::min<size_t>(part.size() + 1, part.size() - 2 + what / 64));
        break;
      case 5: {  // the next part of a transfer of another length, or one too many
        const uint64_t claimed = what < 128   ? length
                                 : what < 192 ? max_bytes - script.next() % 4
                                              : script.number();
        part = header_of(claimed, accepted + what / 8u % 2);
        part.resize(kPartHeaderBytes + load<uint32_t>(part.data() + 40));
        break;
      }
      default:
        put_real_part(length, accepted, part);
    }
    (void)label_of(part);
    const bool was_complete = receiver->complete();
    Status status;
    std::optional<Credit> due_credit;
    memory = memory_of(
        [&] {
          status = receiver->add(part);
          due_credit = receiver->credit_due();
        },
        memory);
    if (status.ok()) {
      TERN_FUZZ_CHECK(!was_complete);
      TERN_FUZZ_CHECK(part.size() >= kPartHeaderBytes);
      if (accepted == 0) transfer = load<uint64_t>(part.data() + 24);
      TERN_FUZZ_CHECK(transfer <= max_bytes);
      const std::optional<Bytes> header = due(transfer, accepted);
      TERN_FUZZ_CHECK(header);
      TERN_FUZZ_CHECK(std::equal(header->begin(), header->end(), part.begin()));
      TERN_FUZZ_CHECK(part.size() == kPartHeaderBytes + load<uint32_t>(header->data() + 40));
      arrived.insert(arrived.end(), part.begin() + kPartHeaderBytes, part.end());
      ++accepted;
    } else {
      TERN_FUZZ_CHECK(!status.message().empty());
      TERN_FUZZ_CHECK(status.code() != Code::kInternal);
    }
    TERN_FUZZ_CHECK(receiver->received() == arrived.size() + accepted * uint64_t{kPartHeaderBytes});
    TERN_FUZZ_CHECK(receiver->complete() == (accepted > 0 && arrived.size() == transfer));
    TERN_FUZZ_CHECK(memory.most_live <=
                    static_cast<int64_t>(arrived.size() + kPartBytes) + kSmallChange);
    TERN_FUZZ_CHECK(memory.live <= static_cast<int64_t>(arrived.size()) + kSmallChange);
    if (due_credit) {
      // The end of a long transfer is told, too, and once.
      TERN_FUZZ_CHECK(!was_complete);
      TERN_FUZZ_CHECK(!receiver->complete() || receiver->received() >= kAcknowledgedBytes);
      TERN_FUZZ_CHECK(due_credit->task == kTask);
      TERN_FUZZ_CHECK(due_credit->bytes > credit);
      TERN_FUZZ_CHECK(due_credit->bytes == receiver->received() + kCreditWindow);
      credit = due_credit->bytes;
    } else if (receiver->complete()) {
      TERN_FUZZ_CHECK(was_complete || receiver->received() < kAcknowledgedBytes);
    } else {
      // The sender can always go on with at least one part.
      TERN_FUZZ_CHECK(credit >= receiver->received() + kPartHeaderBytes + kPartBytes);
    }
  }
  if (receiver->complete()) TERN_FUZZ_CHECK(receiver->take() == arrived);
  return 0;
}
