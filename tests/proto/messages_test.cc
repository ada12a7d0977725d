/// Control messages: what is written is read back, what is read would be written so, and hostile
/// bytes cost next to nothing.
#include "proto/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <set>
#include <tuple>

#include "base/bytes.h"
#include "base/rng.h"
#include "tests/proto/counting_allocator.h"
#include "tests/proto/hex.h"

namespace tern {
namespace {

using testing::HasSubstr;

constexpr size_t kHeaderBytes = 8;
constexpr size_t kTypes = std::variant_size_v<Message>;
constexpr uint32_t kMost32 = std::numeric_limits<uint32_t>::max();
constexpr uint64_t kMost64 = std::numeric_limits<uint64_t>::max();
constexpr int64_t kLowest = std::numeric_limits<int64_t>::min(),
                  kHighest = std::numeric_limits<int64_t>::max();
constexpr double kLargest = std::numeric_limits<double>::max(),
                 kDenormal = std::numeric_limits<double>::denorm_min();

// ---- Comparing: every field, so that none is forgotten on both ways

auto fields(const Hello& m) {
  return std::tuple(m.protocol_low, m.protocol_high, m.software, m.schema_hash, m.run_id,
                    m.held_version, m.unix_seconds);
}
auto fields(const Welcome& m) {
  return std::tuple(m.protocol, m.run_id, m.client, m.clients, m.seed, m.unix_seconds, m.last_task,
                    m.last_fate, m.partition, m.reconnect_pause_ms);
}
auto fields(const Ready& m) { return std::tuple(m.examples, m.test_examples); }
auto fields(const Status& status) { return std::tuple(status.code(), status.message()); }
auto fields(const Refusal& m) { return fields(m.reason); }
auto fields(const Goodbye& m) { return std::tuple(m.finished, m.reason); }
auto fields(const TrainingPlan& m) {
  return std::tuple(m.learning_rate, m.momentum, m.weight_decay, m.batch_size, m.local_epochs,
                    m.local_steps);
}
auto fields(const RoundPlan& m) {
  return std::tuple(m.kind, m.run_id, m.round, m.version, m.model_sha256, m.schema_hash, m.run_seed,
                    m.cohort, m.min_updates, m.codec, fields(m.training), m.versions.periods,
                    m.versions.chain, m.versions.root, m.grid_bits, m.stale_after, m.residual16);
}
auto fields(const ModelManifest& m) {
  return std::tuple(m.run_id, m.version, m.parent_sha256, m.sha256, m.schema_hash);
}
auto fields(const SignedBytes& m) {
  return std::tuple(m.payload, m.key, m.issued, m.expires, m.signature);
}
auto fields(const PlanMessage& m) {
  return std::tuple(fields(m.plan), fields(m.manifest), m.task.task, m.task.client, m.task.download,
                    m.task.download_bytes);
}
auto fields(const UpdateMessage& m) {
  return std::tuple(m.task, m.client, m.report.examples, m.report.samples_trained, m.report.steps,
                    m.report.mean_loss);
}
auto fields(const Verdict& m) { return std::tuple(m.task, m.counted, fields(m.reason)); }
auto fields(const TaskFailure& m) { return std::tuple(m.task, m.held_version, fields(m.reason)); }
auto fields(const Credit& m) { return std::tuple(m.task, m.bytes); }
auto fields(const EvaluationReport& m) {
  return std::tuple(m.task, m.client, m.loss_sum, m.examples, m.predicted, m.correct);
}

bool equal(const Message& a, const Message& b) {
  return std::visit(
      [&b](const auto& left) {
        const auto* right = std::get_if<std::decay_t<decltype(left)>>(&b);
        return right != nullptr && fields(left) == fields(*right);
      },
      a);
}

// ---- Messages

template <typename Array>
Array counting_from(int first) {
  Array bytes;
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(first + static_cast<int>(i));
  return bytes;
}

Bytes some_bytes(size_t n) {
  Bytes bytes(n);
  Rng rng(1, Purpose::kTest, 0, 0, static_cast<uint32_t>(n));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng.next());
  return bytes;
}

constexpr uint64_t kRun = 0xA1A2A3A4A5A6A7A8, kSchema = 0x1122334455667788,
                   kTask = 0x0807060504030201;
constexpr int64_t kTime = 1'795'000'000;

RoundPlan sample_plan() {
  return {.kind = PlanKind::kTrain,
          .run_id = kRun,
          .round = 5,
          .version = 4,
          .model_sha256 = counting_from<Digest>(1),
          .schema_hash = kSchema,
          .run_seed = 9,
          .cohort = 10,
          .min_updates = 8,
          .codec = "ef | topk:0.01 | ternary | rice",
          .training = {.learning_rate = 0.05,
                       .momentum = 0.9,
                       .weight_decay = 0.0001,
                       .batch_size = 10,
                       .local_epochs = 2,
                       .local_steps = 0},
          .versions = {.periods = {10, 100}, .chain = false, .root = 1},
          .grid_bits = 20,
          .stale_after = 50,
          .residual16 = true};
}

ModelManifest sample_manifest() {
  return {.run_id = kRun,
          .version = 4,
          .parent_sha256 = counting_from<Digest>(33),
          .sha256 = counting_from<Digest>(1),
          .schema_hash = kSchema};
}

SignedBytes sample_signed(Bytes payload, int first) {
  return {.payload = std::move(payload),
          .key = 0xC1C2C3C4C5C6C7C8,
          .issued = kTime,
          .expires = kTime + 600,
          .signature = counting_from<Signature>(first)};
}

/// One of each type, in the order of their numbers.
std::vector<Message> samples() {
  return {
      Hello{.protocol_low = 1,
            .protocol_high = 3,
            .software = "tern 0.1.0",
            .schema_hash = kSchema,
            .run_id = kRun,
            .held_version = 7,
            .unix_seconds = kTime},
      Welcome{.protocol = 2,
              .run_id = kRun,
              .client = 3,
              .clients = 100,
              .seed = 9,
              .unix_seconds = kTime + 1,
              .last_task = kTask,
              .last_fate = Fate::kCounted,
              .partition = "shards:2",
              .reconnect_pause_ms = 90'000},
      Refusal{{Code::kUnsupported, "too old"}},
      Goodbye{.finished = true, .reason = "done"},
      PlanMessage{.plan = sample_signed(to_bytes(sample_plan()), 64),
                  .manifest = sample_signed(to_bytes(sample_manifest()), 128),
                  .task = {.task = kTask,
                           .client = 3,
                           .download = DownloadKind::kDeltas,
                           .download_bytes = 1'234'567}},
      UpdateMessage{
          .task = kTask,
          .client = 3,
          .report = {.examples = 600, .samples_trained = 1200, .steps = 120, .mean_loss = 0.75}},
      Verdict{.task = kTask, .counted = false, .reason = {Code::kOutOfRange, "norm"}},
      TaskFailure{.task = kTask, .held_version = 4, .reason = {Code::kIo, "disk"}},
      Credit{.task = kTask, .bytes = 1'048'832},
      EvaluationReport{.task = kTask,
                       .client = 3,
                       .loss_sum = 12.5,
                       .examples = {5, 6},
                       .predicted = {4, 7},
                       .correct = {3, 5}},
      Ready{.examples = 600, .test_examples = 100}};
}

std::string text_of(size_t length) {
  std::string text(length, 'a');
  for (size_t i = 0; i < length; ++i) text[i] = static_cast<char>(i * 7);
  return text;
}

std::vector<uint32_t> list_of(size_t length) {
  std::vector<uint32_t> list(length);
  for (size_t i = 0; i < length; ++i) list[i] = static_cast<uint32_t>(i * 0x9E3779B9u);
  return list;
}

/// What the fields can hold at most and at least.
std::vector<Message> extremes() {
  const std::string longest = text_of(8 * 1024), longest_reason = text_of(1024);
  const SignedBytes none{};
  std::vector<Message> all = {
      Hello{.protocol_low = 0, .protocol_high = 0},
      Hello{.protocol_low = 0xFFFF,
            .protocol_high = 0xFFFF,
            .software = longest,
            .schema_hash = kMost64,
            .run_id = kMost64,
            .held_version = kMost32,
            .unix_seconds = kLowest},
      Welcome{},
      Welcome{.protocol = 0xFFFF,
              .run_id = kMost64,
              .client = kMost32,
              .clients = kMost32,
              .seed = kMost64,
              .unix_seconds = kHighest,
              .last_task = kMost64,
              .last_fate = Fate::kRefused,
              .partition = std::string(1000, 'p'),
              .reconnect_pause_ms = kMost32},
      Refusal{},
      Refusal{{Code::kInternal, longest_reason}},
      Refusal{{Code::kInvalidArgument, ""}},
      Goodbye{},
      Goodbye{.finished = true, .reason = longest},
      PlanMessage{},
      PlanMessage{.plan = {.payload = some_bytes(8 * 1024),
                           .key = kMost64,
                           .issued = kLowest,
                           .expires = kHighest,
                           .signature = counting_from<Signature>(0)},
                  .manifest = {.payload = some_bytes(kMaxMessageBytes - kHeaderBytes - 8 * 1024 -
                                                     2 * (4 + 8 + 8 + 8 + 64) - 21),
                               .key = 1,
                               .issued = kHighest,
                               .expires = kLowest},
                  .task = {.task = kMost64,
                           .client = kMost32,
                           .download = DownloadKind::kSnapshot,
                           .download_bytes = kMost64}},
      UpdateMessage{},
      UpdateMessage{.task = kMost64,
                    .client = kMost32,
                    .report = {.examples = kMost32,
                               .samples_trained = kMost64,
                               .steps = kMost32,
                               .mean_loss = -kLargest}},
      UpdateMessage{.report = {.mean_loss = kDenormal}},
      Verdict{},
      Verdict{.task = kMost64, .counted = true, .reason = {Code::kCancelled, longest_reason}},
      TaskFailure{},
      TaskFailure{
          .task = kMost64, .held_version = kMost32, .reason = {Code::kCorrupt, longest_reason}},
      Credit{},
      Credit{.task = kMost64, .bytes = kMost64},
      EvaluationReport{},
      EvaluationReport{.loss_sum = -0.0, .examples = list_of(2048), .predicted = list_of(2000)},
      EvaluationReport{.task = kMost64,
                       .client = kMost32,
                       .loss_sum = kLargest,
                       .examples = list_of(1362),
                       .predicted = list_of(1362),
                       .correct = list_of(1362)},
      Ready{},
      Ready{.examples = kMost32, .test_examples = kMost32}};
  for (int code = 1; code <= static_cast<int>(Code::kInternal); ++code)
    all.push_back(Refusal{{static_cast<Code>(code), name(static_cast<Code>(code))}});
  return all;
}

std::vector<Message> samples_and_extremes() {
  std::vector<Message> all = samples(), more = extremes();
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::string hex(const Bytes& bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", static_cast<int>(byte));
  return text;
}

/// Hello and Refusal are read in every protocol version, and written in this one.
bool opening(const Bytes& packet) { return packet[4] == std::byte{1} || packet[4] == std::byte{3}; }

std::string refusal(std::span<const std::byte> packet) {
  const Result<Message> message = parse_message(packet);
  EXPECT_FALSE(message);
  return message ? "" : message.error().message();
}

// ---- What a packet holds

TEST(Packets, HoldAMessageOrAPartOrBoth) {
  const Bytes message = to_packet(Credit{.task = 3, .bytes = 4});
  const Bytes frame(100, std::byte{9});
  const std::span<const std::byte> frames[] = {frame};
  const Bytes part = split_into_parts(TransferKind::kUpdate, 3, frames).front();
  Bytes both = part;
  both.insert(both.end(), message.begin(), message.end());
  const auto as_bytes = [](std::span<const std::byte> span) {
    return Bytes(span.begin(), span.end());
  };
  EXPECT_EQ(as_bytes(open_packet(message).message), message);
  EXPECT_TRUE(open_packet(message).part.empty());
  EXPECT_EQ(as_bytes(open_packet(part).part), part);
  EXPECT_TRUE(open_packet(part).message.empty());
  EXPECT_EQ(as_bytes(open_packet(both).part), part);
  EXPECT_EQ(as_bytes(open_packet(both).message), message);
  // Nothing of a hostile packet is lost or read twice.
  for (size_t length = 0; length <= both.size(); ++length) {
    const auto cut = std::span(both).first(length);
    const PacketContent content = open_packet(cut);
    EXPECT_EQ(content.part.size() + content.message.size(), length);
    if (length < both.size() - message.size() + 8) {
      EXPECT_TRUE(length < 4 || content.message.empty()) << length;
    }
  }
  for (size_t at = 0; at < both.size(); ++at)
    for (const int bit : {0, 6, 7}) {
      Bytes changed = both;
      changed[at] ^= static_cast<std::byte>(1 << bit);
      const PacketContent content = open_packet(changed);
      EXPECT_EQ(content.part.size() + content.message.size(), changed.size());
      EXPECT_TRUE(content.part.empty() || content.part.data() == changed.data());
      EXPECT_TRUE(content.message.empty() || content.message.size() == message.size() ||
                  content.part.empty())
          << at;
    }
}

// ---- What is written is read back

TEST(Messages, ComeBackWithEveryField) {
  for (const Message& message : samples_and_extremes()) {
    const Bytes packet = to_packet(message);
    EXPECT_LE(packet.size(), kMaxMessageBytes);
    EXPECT_EQ(open_packet(packet).message.size(), packet.size());
    const Result<Message> back = parse_message(packet);
    ASSERT_TRUE(back) << "type " << message.index() + 1 << ": " << back.error().describe();
    EXPECT_TRUE(equal(message, *back)) << "type " << message.index() + 1;
    EXPECT_EQ(to_packet(*back), packet);
  }
}

TEST(Messages, PlansAndManifestsComeBackWithEveryField) {
  RoundPlan most = sample_plan();
  most = {.kind = PlanKind::kEvaluate,
          .run_id = kMost64,
          .round = kMost32,
          .version = kMost32,
          .model_sha256 = counting_from<Digest>(200),
          .schema_hash = kMost64,
          .run_seed = kMost64,
          .cohort = kMost32,
          .min_updates = kMost32,
          .codec = text_of(8 * 1024),
          .training = {.learning_rate = kLargest,
                       .momentum = -kLargest,
                       .weight_decay = kDenormal,
                       .batch_size = kMost32,
                       .local_epochs = kMost32,
                       .local_steps = kMost32},
          .grid_bits = std::numeric_limits<int32_t>::min(),
          .stale_after = kMost32,
          .residual16 = true};
  for (const RoundPlan& plan : {sample_plan(), most, RoundPlan{}}) {
    const Result<RoundPlan> back = parse_plan(to_bytes(plan));
    ASSERT_TRUE(back) << back.error().describe();
    EXPECT_EQ(fields(*back), fields(plan));
  }
  const ModelManifest extreme{.run_id = kMost64,
                              .version = kMost32,
                              .parent_sha256 = counting_from<Digest>(255),
                              .schema_hash = kMost64};
  for (const ModelManifest& manifest : {sample_manifest(), extreme, ModelManifest{}}) {
    const Result<ModelManifest> back = parse_manifest(to_bytes(manifest));
    ASSERT_TRUE(back) << back.error().describe();
    EXPECT_EQ(fields(*back), fields(manifest));
  }
}

TEST(Messages, TextThatIsTooLongIsCutSoThatItIsRead) {
  const std::string endless(20'000, 'x');
  const auto back = [](const Message& message) {
    Result<Message> read = parse_message(to_packet(message));
    EXPECT_TRUE(read) << read.error().describe();
    return *std::move(read);
  };
  EXPECT_EQ(std::get<Hello>(back(Hello{.software = endless})).software.size(), 8 * 1024u);
  EXPECT_EQ(std::get<Goodbye>(back(Goodbye{.reason = endless})).reason.size(), 8 * 1024u);
  const Status reason(Code::kIo, endless);
  EXPECT_EQ(std::get<Refusal>(back(Refusal{reason})).reason.message().size(), 1024u);
  EXPECT_EQ(std::get<Verdict>(back(Verdict{.reason = reason})).reason.message().size(), 1024u);
  EXPECT_EQ(std::get<TaskFailure>(back(TaskFailure{.reason = reason})).reason.message().size(),
            1024u);
}

// ---- The bytes of protocol version 2. They were written by another encoder than Tern's and stay
// as they are for ever.

const std::pair<const char*, const char*> kGoldenPackets[] = {
    {"Hello",
     "54524e4d01000200010003000a0000007465726e20302e312e308877665544332211a8a7a6a5a4a3"
     "a2a107000000c086fd6a00000000"},
    {"Welcome",
     "54524e4d020002000200a8a7a6a5a4a3a2a103000000640000000900000000000000c186fd6a0000"
     "0000010203040506070801080000007368617264733a32905f0100"},
    {"Refusal", "54524e4d030002000307000000746f6f206f6c64"},
    {"Goodbye", "54524e4d040002000104000000646f6e65"},
    {"PlanMessage",
     "54524e4d05000200aa00000000a8a7a6a5a4a3a2a105000000040000000102030405060708090a0b"
     "0c0d0e0f101112131415161718191a1b1c1d1e1f20887766554433221109000000000000000a0000"
     "00080000001f0000006566207c20746f706b3a302e3031207c207465726e617279207c2072696365"
     "9a9999999999a93fcdccccccccccec3f2d431cebe2361a3f0a000000020000000000000002000000"
     "0a000000640000000001000000140000003200000001c8c7c6c5c4c3c2c1c086fd6a000000001889"
     "fd6a00000000404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f6061"
     "62636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f54000000a8a7a6a5a4a3"
     "a2a1040000002122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f400102"
     "030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f208877665544332211c8c7"
     "c6c5c4c3c2c1c086fd6a000000001889fd6a00000000808182838485868788898a8b8c8d8e8f9091"
     "92939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9"
     "babbbcbdbebf0102030405060708030000000187d6120000000000"},
    {"UpdateMessage",
     "54524e4d0600020001020304050607080300000058020000b0040000000000007800000000000000"
     "0000e83f"},
    {"Verdict", "54524e4d0700020001020304050607080006040000006e6f726d"},
    {"TaskFailure", "54524e4d0800020001020304050607080400000007040000006469736b"},
    {"Credit", "54524e4d0900020001020304050607080001100000000000"},
    {"EvaluationReport",
     "54524e4d0a0002000102030405060708030000000000000000002940020000000500000006000000"
     "020000000400000007000000020000000300000005000000"},
    {"Ready", "54524e4d0b0002005802000064000000"},
};
const char kGoldenPlan[] =
    "00a8a7a6a5a4a3a2a105000000040000000102030405060708090a0b0c0d0e0f1011121314151617"
    "18191a1b1c1d1e1f20887766554433221109000000000000000a000000080000001f000000656620"
    "7c20746f706b3a302e3031207c207465726e617279207c20726963659a9999999999a93fcdcccccc"
    "ccccec3f2d431cebe2361a3f0a0000000200000000000000020000000a0000006400000000010000"
    "00140000003200000001";
const char kGoldenManifest[] =
    "a8a7a6a5a4a3a2a1040000002122232425262728292a2b2c2d2e2f303132333435363738393a3b3c"
    "3d3e3f400102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2088776655"
    "44332211";

TEST(Messages, HaveTheBytesOfVersionTwo) {
  const std::vector<Message> all = samples();
  ASSERT_EQ(all.size(), kTypes);
  ASSERT_EQ(std::size(kGoldenPackets), kTypes);
  for (size_t type = 0; type < kTypes; ++type) {
    const auto& [what, bytes] = kGoldenPackets[type];
    ASSERT_EQ(all[type].index(), type);
    EXPECT_EQ(hex(to_packet(all[type])), bytes) << what;
    const Result<Message> back = parse_message(from_hex(bytes));
    ASSERT_TRUE(back) << what;
    EXPECT_TRUE(equal(*back, all[type])) << what;
  }
  EXPECT_EQ(hex(to_bytes(sample_plan())), kGoldenPlan);
  EXPECT_EQ(hex(to_bytes(sample_manifest())), kGoldenManifest);
}

// ---- Hostile bytes

TEST(Messages, RefuseEveryTruncationAndTrailingByte) {
  for (const Message& message : samples_and_extremes()) {
    Bytes packet = to_packet(message);
    for (size_t length = 0; length < packet.size(); ++length)
      ASSERT_FALSE(parse_message(std::span(packet).first(length)))
          << "type " << message.index() + 1 << ", " << length << " of " << packet.size();
    for (int value = 0; value < 256; ++value) {
      Bytes longer = packet;
      longer.push_back(static_cast<std::byte>(value));
      ASSERT_FALSE(parse_message(longer)) << "type " << message.index() + 1;
    }
  }
  const Bytes plan = to_bytes(sample_plan()), manifest = to_bytes(sample_manifest());
  for (size_t length = 0; length < plan.size(); ++length)
    ASSERT_FALSE(parse_plan(std::span(plan).first(length)));
  for (size_t length = 0; length < manifest.size(); ++length)
    ASSERT_FALSE(parse_manifest(std::span(manifest).first(length)));
  Bytes longer = plan;
  longer.push_back({});
  EXPECT_FALSE(parse_plan(longer));
  longer = manifest;
  longer.push_back({});
  EXPECT_FALSE(parse_manifest(longer));
}

/// One message, one encoding: whatever parses is written back to the very same bytes.
void expect_canonical(const Bytes& packet) {
  const Result<Message> message = parse_message(packet);
  if (!message) return;
  Bytes expected = packet;
  if (opening(packet)) store(expected.data() + 6, kProtocolHigh);
  ASSERT_EQ(to_packet(*message), expected) << hex(packet);
}

TEST(Messages, AFlippedBitIsRefusedOrIsAnotherMessageWithTheseBytes) {
  for (const Message& message : samples_and_extremes()) {
    Bytes packet = to_packet(message);
    for (size_t bit = 0; bit < 8 * packet.size(); ++bit) {
      // Deep within long texts and lists one place is like another.
      if (bit == 8 * 500 && packet.size() > 1500) bit = 8 * (packet.size() - 200);
      const auto mask = static_cast<std::byte>(1 << bit % 8);
      packet[bit / 8] ^= mask;
      ASSERT_NO_FATAL_FAILURE(expect_canonical(packet));
      packet[bit / 8] ^= mask;
    }
  }
  const auto each_flip = [](Bytes bytes, const auto& parse) {
    for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      const auto mask = static_cast<std::byte>(1 << bit % 8);
      bytes[bit / 8] ^= mask;
      if (const auto parsed = parse(bytes)) {
        ASSERT_EQ(to_bytes(*parsed), bytes) << "bit " << bit;
      }
      bytes[bit / 8] ^= mask;
    }
  };
  each_flip(to_bytes(sample_plan()), parse_plan);
  each_flip(to_bytes(sample_manifest()), parse_manifest);
}

TEST(Messages, WhatParsesOfRandomBytesIsWrittenBackToThem) {
  Rng rng(3, Purpose::kTest);
  for (int i = 0; i < 200'000; ++i) {
    const Bytes head = to_packet(Ready{});
    Bytes packet(head.begin(), head.begin() + kHeaderBytes);
    packet[4] = static_cast<std::byte>(rng.below(kTypes + 2));
    const size_t body = rng.below(80);
    for (size_t b = 0; b < body; ++b)
      packet.push_back(static_cast<std::byte>(rng.below(3) == 0 ? rng.next() : rng.below(3)));
    ASSERT_NO_FATAL_FAILURE(expect_canonical(packet));
  }
}

TEST(Messages, OfAnUnknownTypeAreNamed) {
  Bytes packet = to_packet(Ready{});
  for (int type = static_cast<int>(kTypes) + 1; type < 256; ++type) {
    packet[4] = static_cast<std::byte>(type);
    const Result<Message> message = parse_message(packet);
    ASSERT_FALSE(message);
    EXPECT_EQ(message.error().code(), Code::kUnsupported);
    EXPECT_THAT(message.error().message(), HasSubstr(fmt::format("unknown type {}", type)));
  }
  packet[4] = std::byte{0};
  EXPECT_EQ(parse_message(packet).error().code(), Code::kCorrupt);
}

TEST(Messages, OfAnotherProtocolSayWhatThisProgramSpeaks) {
  for (const Message& message : samples()) {
    for (const uint16_t protocol : {uint16_t{0}, uint16_t{1}, uint16_t{0xFFFF}}) {
      Bytes packet = to_packet(message);
      store(packet.data() + 6, protocol);
      const Result<Message> read = parse_message(packet);
      if (opening(packet)) {
        ASSERT_TRUE(read) << "whatever a peer speaks, it can say so and be told why not";
        EXPECT_TRUE(equal(*read, message));
        continue;
      }
      ASSERT_FALSE(read);
      EXPECT_EQ(read.error().code(), Code::kUnsupported);
      EXPECT_THAT(read.error().message(),
                  HasSubstr(fmt::format("of protocol {}, this program speaks 2 to 2", protocol)));
    }
  }
}

TEST(Messages, AreRefusedWithAnotherMagicAReservedByteOrBeyondTheLongest) {
  const Bytes packet = to_packet(Ready{});
  for (const size_t at : {0u, 1u, 2u, 3u, 5u})
    for (int value = 1; value < 256; ++value) {
      Bytes changed = packet;
      changed[at] ^= static_cast<std::byte>(value);
      ASSERT_FALSE(parse_message(changed)) << at;
    }
  EXPECT_THAT(refusal({}), HasSubstr("0 bytes"));
  Bytes longest(kMaxMessageBytes + 1);
  std::copy(packet.begin(), packet.begin() + kHeaderBytes, longest.begin());
  EXPECT_THAT(refusal(longest), HasSubstr("16385 bytes"));
}

TEST(Messages, HoldNoNumberThatIsNone) {
  const double none[] = {
      std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::quiet_NaN(),
      std::numeric_limits<double>::signaling_NaN(), std::numeric_limits<double>::infinity(),
      -std::numeric_limits<double>::infinity()};
  for (const double value : none) {
    EXPECT_FALSE(parse_message(to_packet(UpdateMessage{.report = {.mean_loss = value}})));
    EXPECT_FALSE(parse_message(to_packet(EvaluationReport{.loss_sum = value})));
    for (double TrainingPlan::*field :
         {&TrainingPlan::learning_rate, &TrainingPlan::momentum, &TrainingPlan::weight_decay}) {
      RoundPlan plan = sample_plan();
      plan.training.*field = value;
      EXPECT_FALSE(parse_plan(to_bytes(plan)));
    }
  }
}

/// How many of the 256 values of this byte are accepted; only 0 and those that follow it may be.
int values_of(Bytes packet, size_t at) {
  int accepted = 0;
  for (int value = 0; value < 256; ++value) {
    packet[at] = static_cast<std::byte>(value);
    if (!parse_message(packet)) continue;
    EXPECT_EQ(value, accepted);
    ++accepted;
  }
  return accepted;
}

TEST(Messages, HoldNoEnumOrBooleanThatIsNone) {
  EXPECT_EQ(values_of(to_packet(Welcome{}), kHeaderBytes + 42), 3) << "fate";
  EXPECT_EQ(values_of(to_packet(Goodbye{}), kHeaderBytes), 2) << "finished";
  EXPECT_EQ(values_of(to_packet(Verdict{}), kHeaderBytes + 8), 2) << "counted";
  EXPECT_EQ(values_of(to_packet(Refusal{}), kHeaderBytes), 11) << "code";
  EXPECT_EQ(values_of(to_packet(Verdict{}), kHeaderBytes + 9), 11) << "code";
  EXPECT_EQ(values_of(to_packet(TaskFailure{}), kHeaderBytes + 12), 11) << "code";
  EXPECT_EQ(values_of(to_packet(PlanMessage{}), kHeaderBytes + 2 * 92 + 12), 3) << "download";
  Bytes plan = to_bytes(sample_plan());
  for (int kind = 0; kind < 256; ++kind) {
    plan[0] = static_cast<std::byte>(kind);
    EXPECT_EQ(bool(parse_plan(plan)), kind <= 1) << kind;
  }
}

TEST(Messages, SuccessHasNoReasonAndAReasonIsShort) {
  Bytes packet = to_packet(Refusal{{Code::kIo, "disk"}});
  packet[kHeaderBytes] = std::byte{0};
  EXPECT_FALSE(parse_message(packet)) << "ok, because: disk";
  EXPECT_EQ(to_packet(Refusal{{Code::kOk, "disk"}}), to_packet(Refusal{}));
  packet = to_packet(Refusal{{Code::kIo, std::string(1024, 'x')}});
  store(packet.data() + kHeaderBytes + 1, uint32_t{1025});
  packet.push_back(std::byte{'x'});
  EXPECT_FALSE(parse_message(packet));
}

// ---- What hostile bytes cost

TEST(MessageAllocation, TheCounterCounts) {
  std::vector<char> bytes;
  EXPECT_EQ(spent_by([&] { bytes.reserve(1000); }), 1000u);
}

/// All three readers of hostile bytes.
void expect_cheap(std::span<const std::byte> packet) {
  const size_t most = 4 * packet.size() + 4096;
  size_t spent = spent_by([&] { (void)parse_message(packet); });
  ASSERT_LE(spent, most);
  spent = spent_by([&] { (void)parse_plan(packet); });
  ASSERT_LE(spent, most);
  spent = spent_by([&] { (void)parse_manifest(packet); });
  ASSERT_LE(spent, most);
}

TEST(MessageAllocation, IsAtMostFourTimesThePacketWhateverItClaims) {
  for (const Message& message : samples_and_extremes()) {
    const Bytes packet = to_packet(message);
    ASSERT_NO_FATAL_FAILURE(expect_cheap(packet));
    // Wherever a count may stand.
    for (size_t at = kHeaderBytes; at + 4 <= std::min<size_t>(packet.size(), 600); ++at)
      for (const uint32_t count : {kMost32, kMost32 / 2, 0x40000000u, 8192u, 8193u, 2048u, 2049u}) {
        Bytes changed = packet;
        store(changed.data() + at, count);
        ASSERT_NO_FATAL_FAILURE(expect_cheap(changed));
      }
  }
  for (const RoundPlan& plan : {sample_plan(), RoundPlan{}}) {
    const Bytes bytes = to_bytes(plan);
    for (size_t at = 0; at + 4 <= bytes.size(); ++at) {
      Bytes changed = bytes;
      store(changed.data() + at, kMost32);
      ASSERT_NO_FATAL_FAILURE(expect_cheap(changed));
    }
  }
}

TEST(MessageAllocation, OfRandomBytesIsAtMostFourTimesThePacket) {
  Rng rng(5, Purpose::kTest);
  for (int i = 0; i < 20'000; ++i) {
    Bytes packet = to_packet(Ready{});
    packet[4] = static_cast<std::byte>(1 + rng.below(kTypes));
    packet.resize(kHeaderBytes + rng.below(i % 50 == 0 ? kMaxMessageBytes : 200));
    for (size_t at = kHeaderBytes; at < packet.size(); ++at)
      packet[at] = static_cast<std::byte>(rng.below(2) == 0 ? 0 : rng.next());
    ASSERT_NO_FATAL_FAILURE(expect_cheap(packet));
  }
}

TEST(MessageAllocation, OfNineBytesIsTheTextOfTheRefusalAlone) {
  // Nine bytes made a stock archive take gigabytes.
  for (int type = 0; type < 256; ++type)
    for (int value = 0; value < 256; ++value) {
      Bytes packet = to_packet(Ready{});
      packet.resize(9);
      packet[4] = static_cast<std::byte>(type);
      packet[8] = static_cast<std::byte>(value);
      std::optional<Result<Message>> message;
      const size_t spent = spent_by([&] { message.emplace(parse_message(packet)); });
      ASSERT_FALSE(*message);
      ASSERT_LE(spent, message->error().message().size() + 1);
    }
  // A count of 2^32 - 1 behind the header.
  for (int type = 0; type < 256; ++type) {
    Bytes packet = to_packet(Ready{});
    packet.resize(12);
    packet[4] = static_cast<std::byte>(type);
    store(packet.data() + 8, kMost32);
    std::optional<Result<Message>> message;
    const size_t spent = spent_by([&] { message.emplace(parse_message(packet)); });
    ASSERT_FALSE(*message);
    ASSERT_LE(spent, message->error().message().size() + 1);
  }
}

// ---- Tasks

TEST(TaskId, DiffersBetweenRunsRoundsClientsAndKinds) {
  std::set<TaskId> ids;
  size_t made = 0;
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, kMost64})
    for (const uint32_t round : {1u, 2u, 1000u, kMost32})
      for (const uint32_t client : {0u, 1u, 2u, 1000u, kMost32 - 1}) {
        ids.insert({task_id(seed, round, client), evaluation_id(seed, round, client)});
        made += 2;
      }
  EXPECT_EQ(ids.size(), made);
  EXPECT_EQ(task_id(1, 2, 3), task_id(1, 2, 3));
  EXPECT_FALSE(ids.contains(0)) << "0 stands for none";
}

}  // namespace
}  // namespace tern
