#include "proto/messages.h"

#include "base/rng.h"
#include "proto/message_archive.h"

namespace tern {

template <>
struct LastOf<Code> {
  static constexpr Code kValue = Code::kInternal;
};
template <>
struct LastOf<Fate> {
  static constexpr Fate kValue = Fate::kRefused;
};
template <>
struct LastOf<PlanKind> {
  static constexpr PlanKind kValue = PlanKind::kEvaluate;
};
template <>
struct LastOf<DownloadKind> {
  static constexpr DownloadKind kValue = DownloadKind::kSnapshot;
};

// The fields of each message, in the order of the wire. cereal finds these by argument-dependent
// lookup.

/// Longest message of a Status.
constexpr size_t kMaxReasonBytes = 1024;

void CEREAL_SAVE_FUNCTION_NAME(MessageWriter& archive, const Status& status) {
  Code code = status.code();
  archive(one_of(code), status.ok() ? std::string() : status.message().substr(0, kMaxReasonBytes));
}
void CEREAL_LOAD_FUNCTION_NAME(MessageReader& archive, Status& status) {
  Code code{};
  std::string message;
  archive(one_of(code), message);
  if (message.size() > (code == Code::kOk ? 0 : kMaxReasonBytes)) archive.refuse();
  status = code == Code::kOk ? Status() : Status(code, std::move(message));
}
template <typename Archive>
void serialize(Archive& archive, Hello& m) {
  archive(m.protocol_low, m.protocol_high, m.software, m.schema_hash, m.run_id, m.held_version,
          m.unix_seconds);
}
template <typename Archive>
void serialize(Archive& archive, Welcome& m) {
  archive(m.protocol, m.run_id, m.client, m.clients, m.seed, m.unix_seconds, m.last_task,
          one_of(m.last_fate), m.partition, m.reconnect_pause_ms);
}
template <typename Archive>
void serialize(Archive& archive, Ready& m) {
  archive(m.examples, m.test_examples);
}
template <typename Archive>
void serialize(Archive& archive, Refusal& m) {
  archive(m.reason);
}
template <typename Archive>
void serialize(Archive& archive, Goodbye& m) {
  archive(m.finished, m.reason);
}
template <typename Archive>
void serialize(Archive& archive, TrainingPlan& m) {
  archive(m.learning_rate, m.momentum, m.weight_decay, m.batch_size, m.local_epochs, m.local_steps);
}
template <typename Archive>
void serialize(Archive& archive, VersionTree& m) {
  archive(m.periods, m.chain, m.root);
}
template <typename Archive>
void serialize(Archive& archive, RoundPlan& m) {
  archive(one_of(m.kind), m.run_id, m.round, m.version, m.model_sha256, m.schema_hash, m.run_seed,
          m.cohort, m.min_updates, m.codec, m.training, m.versions, m.grid_bits, m.stale_after,
          m.residual16);
}
template <typename Archive>
void serialize(Archive& archive, ModelManifest& m) {
  archive(m.run_id, m.version, m.parent_sha256, m.sha256, m.schema_hash);
}
template <typename Archive>
void serialize(Archive& archive, SignedBytes& m) {
  archive(m.payload, m.key, m.issued, m.expires, m.signature);
}
template <typename Archive>
void serialize(Archive& archive, ClientTask& m) {
  archive(m.task, m.client, one_of(m.download), m.download_bytes);
}
template <typename Archive>
void serialize(Archive& archive, PlanMessage& m) {
  archive(m.plan, m.manifest, m.task);
}
template <typename Archive>
void serialize(Archive& archive, TrainReport& m) {
  archive(m.examples, m.samples_trained, m.steps, m.mean_loss);
}
template <typename Archive>
void serialize(Archive& archive, UpdateMessage& m) {
  archive(m.task, m.client, m.report);
}
template <typename Archive>
void serialize(Archive& archive, Verdict& m) {
  archive(m.task, m.counted, m.reason);
}
template <typename Archive>
void serialize(Archive& archive, TaskFailure& m) {
  archive(m.task, m.held_version, m.reason);
}
template <typename Archive>
void serialize(Archive& archive, Credit& m) {
  archive(m.task, m.bytes);
}
template <typename Archive>
void serialize(Archive& archive, EvaluationReport& m) {
  archive(m.task, m.client, m.loss_sum, m.examples, m.predicted, m.correct);
}

namespace {

constexpr uint32_t kMessageMagic = 0x4D4E5254;  // "TRNM"
constexpr size_t kTypeAt = 4, kZeroAt = 5, kProtocolAt = 6, kHeaderBytes = 8;

/// On the wire a message's type is its place in Message + 1.
template <size_t Index = 0>
Result<Message> read_body(size_t index, MessageReader& reader) {
  if constexpr (Index == std::variant_size_v<Message>) {
    return error(Code::kUnsupported, "a message of unknown type {}", index + 1);
  } else {
    if (index != Index) return read_body<Index + 1>(index, reader);
    std::variant_alternative_t<Index, Message> message;
    reader(message);
    return Message(std::in_place_index<Index>, std::move(message));
  }
}

template <typename T>
Bytes fields_of(const T& value) {
  MessageWriter writer;
  writer(value);
  return std::move(writer).take();
}

template <typename T>
Result<T> parse_fields(std::span<const std::byte> bytes, const char* what) {
  MessageReader reader(bytes);
  T value;
  reader(value);
  if (!reader.ok() || reader.left() > 0) return error(Code::kCorrupt, "not a {}", what);
  return value;
}

}  // namespace

TaskId task_id(uint64_t run_seed, uint32_t round, uint32_t client) {
  return mix(run_seed, uint64_t{round} << 32 | client);
}

TaskId evaluation_id(uint64_t run_seed, uint32_t round, uint32_t client) {
  return mix(task_id(run_seed, round, client), 1);
}

Bytes to_packet(const Message& message) {
  MessageWriter writer;
  Bytes header(kHeaderBytes);
  store(header.data(), kMessageMagic);
  store(header.data() + kTypeAt, static_cast<uint8_t>(message.index() + 1));
  store(header.data() + kProtocolAt, kProtocolHigh);
  writer.put(header.data(), header.size());
  std::visit([&](const auto& m) { writer(m); }, message);
  return std::move(writer).take();
}

PacketContent open_packet(std::span<const std::byte> packet) {
  if (!is_part(packet)) return {.message = packet, .part = {}};
  const size_t length = claimed_length(packet);
  if (packet.size() < length + kHeaderBytes ||
      load<uint32_t>(packet.data() + length) != kMessageMagic)
    return {.message = {}, .part = packet};
  return {.message = packet.subspan(length), .part = packet.first(length)};
}

Result<Message> parse_message(std::span<const std::byte> bytes) {
  if (bytes.size() < kHeaderBytes || bytes.size() > kMaxMessageBytes ||
      load<uint32_t>(bytes.data()) != kMessageMagic || bytes[kZeroAt] != std::byte{0})
    return error(Code::kCorrupt, "not a message ({} bytes)", bytes.size());
  const auto type = load<uint8_t>(bytes.data() + kTypeAt);
  const auto protocol = load<uint16_t>(bytes.data() + kProtocolAt);
  // A Hello reads the same in every version, and a Refusal says why there is no common one.
  const bool opening = type == 1 || type == 3;
  if (!opening && (protocol < kProtocolLow || protocol > kProtocolHigh))
    return error(Code::kUnsupported, "a message of protocol {}, this program speaks {} to {}",
                 protocol, kProtocolLow, kProtocolHigh);
  if (type == 0) return error(Code::kCorrupt, "a message of type 0");
  MessageReader reader(bytes.subspan(kHeaderBytes));
  Result<Message> message = read_body(type - 1u, reader);
  if (message && (!reader.ok() || reader.left() > 0))
    return error(Code::kCorrupt, "a message of type {} with fields that can't be, {} bytes left",
                 type, reader.left());
  return message;
}

Bytes to_bytes(const RoundPlan& plan) { return fields_of(plan); }
Bytes to_bytes(const ModelManifest& manifest) { return fields_of(manifest); }
Result<RoundPlan> parse_plan(std::span<const std::byte> bytes) {
  return parse_fields<RoundPlan>(bytes, "plan");
}
Result<ModelManifest> parse_manifest(std::span<const std::byte> bytes) {
  return parse_fields<ModelManifest>(bytes, "model manifest");
}

}  // namespace tern
