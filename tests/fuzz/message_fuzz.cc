/// Control messages, plans and manifests from a hostile sender. What parses is written back to the
/// same bytes, and no input costs more memory than 4 times its length + 4 KiB. Mutations start from
/// real packets, and the header is repaired after most of them, so that the fields are reached.
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/rng.h"
#include "proto/messages.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_memory.h"

namespace {

using namespace tern;

constexpr size_t kHeaderBytes = 8;
constexpr size_t kTypes = std::variant_size_v<Message>;

/// Fields with values that matter.
class Fields {
 public:
  explicit Fields(uint32_t seed) : rng_(seed, Purpose::kTest) {}

  uint64_t number() {
    switch (rng_.below(4)) {
      case 0:
        return rng_.below(4);
      case 1:
        return std::numeric_limits<uint64_t>::max() - rng_.below(2);
      case 2:
        return uint64_t{1} << rng_.below(64);
      default:
        return rng_.next64();
    }
  }
  uint32_t number32() { return static_cast<uint32_t>(number()); }
  double real() { return rng_.normal() * static_cast<double>(number()); }
  uint32_t below(uint32_t bound) { return rng_.below(bound); }
  size_t length() { return rng_.below(8) == 0 ? rng_.below(3000) : rng_.below(40); }
  std::string text() {
    std::string text(length(), 'x');
    for (char& c : text) c = static_cast<char>(rng_.next());
    return text;
  }
  Bytes bytes() {
    Bytes bytes(length());
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng_.next());
    return bytes;
  }
  template <typename Array>
  Array array() {
    Array array;
    for (std::byte& byte : array) byte = static_cast<std::byte>(rng_.next());
    return array;
  }
  std::vector<uint32_t> list() {
    std::vector<uint32_t> list(length() / 4);
    for (uint32_t& value : list) value = number32();
    return list;
  }
  Status status() {
    const auto code = static_cast<Code>(rng_.below(11));
    return code == Code::kOk ? Status() : Status(code, text());
  }
  SignedBytes signed_bytes(Bytes payload) {
    return {.payload = std::move(payload),
            .key = number(),
            .issued = static_cast<int64_t>(number()),
            .expires = static_cast<int64_t>(number()),
            .signature = array<Signature>()};
  }
  RoundPlan plan() {
    RoundPlan plan{
        .kind = static_cast<PlanKind>(rng_.below(2)),
        .run_id = number(),
        .round = number32(),
        .version = number32(),
        .model_sha256 = array<Digest>(),
        .schema_hash = number(),
        .run_seed = number(),
        .cohort = number32(),
        .min_updates = number32(),
        .codec = rng_.below(2) == 0 ? "rotate:1024 | eden:1" : text(),
        .training = {},
        .versions = {.periods = list(), .chain = number32() % 2 == 1, .root = number32()},
        .grid_bits = static_cast<int32_t>(number()),
        .stale_after = number32(),
        .residual16 = number32() % 2 == 1};
    plan.training = {.learning_rate = real(),
                     .momentum = real(),
                     .weight_decay = real(),
                     .batch_size = number32(),
                     .local_epochs = number32(),
                     .local_steps = number32()};
    return plan;
  }
  ModelManifest manifest() {
    return {.run_id = number(),
            .version = number32(),
            .parent_sha256 = array<Digest>(),
            .sha256 = array<Digest>(),
            .schema_hash = number()};
  }
  Message message() {
    switch (rng_.below(kTypes)) {
      case 0:
        return Hello{.protocol_low = static_cast<uint16_t>(number()),
                     .protocol_high = static_cast<uint16_t>(number()),
                     .software = text(),
                     .schema_hash = number(),
                     .run_id = number(),
                     .held_version = number32(),
                     .unix_seconds = static_cast<int64_t>(number())};
      case 1:
        return Welcome{.protocol = static_cast<uint16_t>(number()),
                       .run_id = number(),
                       .client = number32(),
                       .clients = number32(),
                       .seed = number(),
                       .unix_seconds = static_cast<int64_t>(number()),
                       .last_task = number(),
                       .last_fate = static_cast<Fate>(rng_.below(3)),
                       .partition = text()};
      case 2:
        return Refusal{status()};
      case 3:
        return Goodbye{.finished = rng_.below(2) == 1, .reason = text()};
      case 4:
        return PlanMessage{
            .plan = signed_bytes(rng_.below(2) == 0 ? bytes() : to_bytes(plan())),
            .manifest = signed_bytes(rng_.below(2) == 0 ? bytes() : to_bytes(manifest())),
            .task = {.task = number(),
                     .client = number32(),
                     .download = static_cast<DownloadKind>(rng_.below(3)),
                     .download_bytes = number()}};
      case 5:
        return UpdateMessage{.task = number(),
                             .client = number32(),
                             .report = {.examples = number32(),
                                        .samples_trained = number(),
                                        .steps = number32(),
                                        .mean_loss = real()}};
      case 6:
        return Verdict{.task = number(), .counted = rng_.below(2) == 1, .reason = status()};
      case 7:
        return TaskFailure{.task = number(), .held_version = number32(), .reason = status()};
      case 8:
        return Credit{.task = number(), .bytes = number()};
      case 9:
        return EvaluationReport{.task = number(),
                                .client = number32(),
                                .loss_sum = real(),
                                .examples = list(),
                                .predicted = list(),
                                .correct = list()};
      default:
        return Ready{.examples = number32(), .test_examples = number32()};
    }
  }

 private:
  Rng rng_;
};

void repair_header(uint8_t* data, unsigned seed) {
  std::memcpy(data, "TRNM", 4);
  if (seed % 8 != 0) data[4] = static_cast<uint8_t>(1 + data[4] % kTypes);
  data[5] = 0;
  if (seed % 16 != 2) {
    data[6] = static_cast<uint8_t>(kProtocolHigh);
    data[7] = 0;
  }
}

/// The value, unless `bytes` are refused; counts what that costs.
template <typename Parse>
auto parsed_cheaply(const Parse& parse, std::span<const std::byte> bytes) {
  auto result = parse(std::span<const std::byte>());  // refused
  TERN_FUZZ_CHECK(!result);
  const FuzzMemory memory = memory_of([&] { result = parse(bytes); });
  TERN_FUZZ_CHECK(memory.allocated <= 4 * bytes.size() + 4096);
  if (!result) {
    TERN_FUZZ_CHECK(result.error().code() == Code::kCorrupt ||
                    result.error().code() == Code::kUnsupported);
    TERN_FUZZ_CHECK(!result.error().message().empty());
    if (bytes.size() <= 9) TERN_FUZZ_CHECK(memory.allocated <= result.error().message().size() + 1);
  }
  return result;
}

}  // namespace

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  if (size < kHeaderBytes || seed % 64 == 0) {
    Fields fields(seed);
    const uint32_t choice = fields.below(8);
    const Bytes fresh = choice == 0   ? to_bytes(fields.plan())
                        : choice == 1 ? to_bytes(fields.manifest())
                                      : to_packet(fields.message());
    if (fresh.size() <= most) {
      std::memcpy(data, fresh.data(), fresh.size());
      size = fresh.size();
    }
  }
  const bool packet = size >= 4 && std::memcmp(data, "TRNM", 4) == 0;
  size = LLVMFuzzerMutate(data, size, most);
  if (packet && size >= kHeaderBytes && seed % 16 != 1) repair_header(data, seed / 16);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const Bytes whole(bytes.begin(), bytes.end());
  const PacketContent content = open_packet(bytes);
  TERN_FUZZ_CHECK(content.message.size() + content.part.size() == size);
  TERN_FUZZ_CHECK(content.part.empty() || content.part.data() == bytes.data());
  if (const auto message = parsed_cheaply(parse_message, bytes)) {
    TERN_FUZZ_CHECK(size <= kMaxMessageBytes);
    TERN_FUZZ_CHECK(!is_part(bytes));
    // Hello and Refusal are read in every protocol version, and written in this one.
    Bytes expected = whole;
    if (message->index() == 0 || message->index() == 2) store(expected.data() + 6, kProtocolHigh);
    TERN_FUZZ_CHECK(to_packet(*message) == expected);
  }
  if (const auto plan = parsed_cheaply(parse_plan, bytes))
    TERN_FUZZ_CHECK(to_bytes(*plan) == whole);
  if (const auto manifest = parsed_cheaply(parse_manifest, bytes))
    TERN_FUZZ_CHECK(to_bytes(*manifest) == whole);
  return 0;
}
