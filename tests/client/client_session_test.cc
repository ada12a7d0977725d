// One client against a coordinator that a test plays: what it obeys, what it refuses and says, and
// what it remembers when connections, runs and verdicts get lost.
#include "client/client_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <limits>

#include "client/file_client_store.h"
#include "compression/updates/frame.h"
#include "coordinator/versions.h"
#include "proto/transfer.h"
#include "tests/client/test_client.h"

namespace tern {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using Cut = CuttableTransport::Fate;

constexpr uint64_t kRun = 0xABCD;
constexpr uint32_t kNumber = 2;
constexpr char kErrorFeedback[] = "ef | topk:0.25 | ternary | rice";

/// A coordinator that says what a test wants.
class Script : public ServerTransport::Handler {
 public:
  explicit Script(int64_t elements = 24)
      : schema(test_schema(elements)),
        loop(pool_),
        machine(loop),
        network(loop, [](const PeerKey&) { return true; }),
        model(schema, 5) {
    network.server().start(*this);
  }
  ~Script() override { pool_.wait_until_idle(); }

  TestClient& add_client(TestClientOptions options = {}) {
    client_ =
        std::make_unique<TestClient>(loop, network, schema, key.public_key(), peer_key(7), options);
    return *client_;
  }
  TestClient& start(TestClientOptions options = {}) {
    TestClient& client = client_ ? *client_ : add_client(options);
    client.start();
    return client;
  }
  /// Starts a client and waits until it is ready.
  TestClient& ready(TestClientOptions options = {}) {
    TestClient& client = start(options);
    EXPECT_TRUE(until([this] { return count<Ready>() == 1; }));
    return client;
  }

  bool until(const std::function<bool()>& over, Duration most = hours(2)) {
    const TimePoint last = loop.now() + most;
    const Loop::TimerId timer = loop.call_at(last, [] {});
    const Status status = loop.run_until([&] { return over() || loop.now() >= last; });
    loop.cancel(timer);
    return status.ok() && over();
  }
  void pass(Duration time = seconds(1)) {
    (void)until([] { return false; }, time);
  }

  // ---- What it says

  void say(const Message& message) {
    EXPECT_TRUE(network.server().send(*connection, to_packet(message)).ok());
  }
  void send(Bytes packet) {
    EXPECT_TRUE(network.server().send(*connection, std::move(packet)).ok());
  }

  RoundPlan plan(uint32_t round, PlanKind kind = PlanKind::kTrain) const {
    RoundPlan plan{.kind = kind,
                   .run_id = run_id,
                   .round = round,
                   .version = model.version(),
                   .model_sha256 = model.sha256(),
                   .schema_hash = schema.hash(),
                   .run_seed = 5,
                   .cohort = 1,
                   .min_updates = 1,
                   .codec = codec,
                   .training = {},
                   .grid_bits = kGridBits,
                   .stale_after = 50};
    return plan;
  }
  ModelManifest manifest() const {
    return {.run_id = run_id,
            .version = model.version(),
            .parent_sha256 = {},
            .sha256 = model.sha256(),
            .schema_hash = schema.hash()};
  }
  SignedBytes sign(const RoundPlan& what) const {
    const int64_t now = machine.unix_seconds();
    return sign_bytes(key, kPlanPurpose, to_bytes(what), now, now + 600);
  }
  SignedBytes sign(const ModelManifest& what) const {
    const int64_t now = machine.unix_seconds();
    return sign_bytes(key, kManifestPurpose, to_bytes(what), now, now + 600);
  }
  PlanMessage message(const RoundPlan& what, uint32_t held) {
    Result<Download> download = model.download(held, scratch_);
    PlanMessage message{.plan = sign(what), .manifest = sign(manifest()), .task = {}};
    message.task = {.task = task_of(what), .client = number, .download = download->kind};
    for (const SharedFrame& frame : download->frames) message.task.download_bytes += frame->size();
    download_ = std::move(download->frames);
    return message;
  }
  TaskId task_of(const RoundPlan& what) const {
    return what.kind == PlanKind::kTrain ? task_id(5, what.round, number)
                                         : evaluation_id(5, what.round, number);
  }
  /// The download of the last message(), in parts.
  std::vector<Bytes> parts_of(const PlanMessage& what) const {
    std::vector<std::span<const std::byte>> frames;
    frames.reserve(download_.size());
    for (const SharedFrame& frame : download_) frames.emplace_back(*frame);
    return split_into_parts(what.task.download == DownloadKind::kSnapshot ? TransferKind::kSnapshot
                                                                          : TransferKind::kDeltas,
                            what.task.task, frames);
  }
  /// A plan with all that belongs to it, for a client that holds `held`.
  TaskId ask(uint32_t round, PlanKind kind = PlanKind::kTrain, std::optional<uint32_t> held = {}) {
    const PlanMessage what = message(plan(round, kind), held.value_or(model.version()));
    say(what);
    for (Bytes& part : parts_of(what)) send(std::move(part));
    return what.task.task;
  }
  void publish(const char* spec = "float32") {
    std::vector<float> step(schema.elements());
    for (size_t i = 0; i < step.size(); ++i) step[i] = static_cast<float>(i % 7) / 1024;
    ASSERT_TRUE(model.publish(step, *Codec::parse(spec), model.version() + 1, scratch_));
  }
  void verdict(TaskId task, bool counted) {
    say(Verdict{.task = task,
                .counted = counted,
                .reason = counted ? Status() : Status(Code::kOutOfRange, "too late")});
  }

  // ---- What it heard

  template <typename T>
  std::vector<T> heard() const {
    std::vector<T> all;
    for (const Message& one : messages)
      if (const T* match = std::get_if<T>(&one)) all.push_back(*match);
    return all;
  }
  template <typename T>
  size_t count() const {
    return heard<T>().size();
  }
  /// Transfers that arrived whole.
  size_t frames() const { return frames_.size(); }
  const Bytes& frame(size_t index) const { return frames_.at(index); }

  bool greets = true;   ///< answers Hello
  bool credits = true;  ///< answers parts
  Welcome welcome{.run_id = kRun, .client = kNumber, .clients = 10, .seed = 5};
  uint64_t run_id = kRun;
  uint32_t number = kNumber;
  std::string codec = kErrorFeedback;

  const ParameterSchema schema;
  const SecretKey key = test_key(1);

 private:
  void on_packet(const Connection& from, std::span<const std::byte> packet) override {
    const PacketContent content = open_packet(packet);
    if (!content.message.empty()) on_message(from, content.message);
    if (!content.part.empty()) on_part(content.part);
  }
  void on_part(std::span<const std::byte> part) {
    const PartLabel label = *label_of(part);
    EXPECT_EQ(label.kind, TransferKind::kUpdate);
    if (!incoming_ || incoming_->task() != label.task) return;
    ASSERT_TRUE(incoming_->add(part).ok());
    if (incoming_->complete()) {
      frames_.push_back(incoming_->take());
      incoming_.reset();
    } else if (const auto credit = incoming_->credit_due(); credit && credits) {
      say(*credit);
    }
  }
  void on_message(const Connection& from, std::span<const std::byte> bytes) {
    const Result<Message> message = parse_message(bytes);
    ASSERT_TRUE(message) << message.error().describe();
    messages.push_back(*message);
    if (std::holds_alternative<Hello>(*message)) {
      connection = from;
      incoming_.reset();
      welcome.unix_seconds = machine.unix_seconds();
      if (greets) say(welcome);
    }
    if (const auto* update = std::get_if<UpdateMessage>(&*message))
      incoming_.emplace(TransferKind::kUpdate, update->task, uint64_t{1} << 30);
  }

  ThreadPool pool_{1};
  CodecScratch scratch_;
  std::vector<SharedFrame> download_;
  std::optional<IncomingTransfer> incoming_;
  std::vector<Bytes> frames_;

 public:
  VirtualLoop loop;
  MachineLoop machine;
  MemoryNetwork network;
  VersionedModel model;
  std::optional<Connection> connection;
  std::vector<Message> messages;

 private:
  std::unique_ptr<TestClient> client_;
};

std::vector<float> residual_of(const TestClient& client) {
  return client.state(kNumber).memory.residual;
}

// ---- Greeting

TEST(ClientSession, SaysWhatItIsSetUpForAndWhatItHolds) {
  Script script;
  TestClient& client = script.ready({.examples = 8, .evaluates = true});
  const std::vector<Hello> hellos = script.heard<Hello>();
  ASSERT_EQ(hellos.size(), 1u);
  EXPECT_EQ(hellos[0].protocol_low, kProtocolLow);
  EXPECT_EQ(hellos[0].protocol_high, kProtocolHigh);
  EXPECT_THAT(hellos[0].software, HasSubstr("tern "));
  EXPECT_EQ(hellos[0].schema_hash, script.schema.hash());
  EXPECT_EQ(hellos[0].run_id, 0u);
  EXPECT_EQ(hellos[0].held_version, 0u);
  EXPECT_EQ(hellos[0].unix_seconds, client.loop.unix_seconds());
  const std::vector<Ready> readies = script.heard<Ready>();
  ASSERT_EQ(readies.size(), 1u);
  EXPECT_EQ(readies[0].examples, 8u);
  EXPECT_EQ(readies[0].test_examples, NumberedEvaluator::kExamples);
  EXPECT_EQ(client.events.count("connected"), 1);
}

TEST(ClientSession, NoAnswerInHalfAMinuteIsALostConnection) {
  Script script;
  script.greets = false;
  TestClient& client = script.start();
  script.pass(seconds(29));
  EXPECT_EQ(client.transport.dials, 1);
  script.pass(seconds(3));
  EXPECT_EQ(client.transport.dials, 2);
  EXPECT_THAT(client.events.texts("connection_lost"), HasSubstr("no answer within 30 s"));
  script.greets = true;
  EXPECT_TRUE(script.until([&] { return script.count<Ready>() == 1; }));
}

TEST(ClientSession, PausesDoubleToHalfAMinuteAndAreStretched) {
  Script script;
  script.network.set_server_up(false);
  TestClient& client = script.add_client();
  std::vector<double> dialled;
  int before = 0;
  client.start();
  while (client.transport.dials < 14) {
    ASSERT_TRUE(script.until([&] { return client.transport.dials > before; }));
    before = client.transport.dials;
    dialled.push_back(tern::seconds(script.loop.now()));
  }
  EXPECT_EQ(client.events.count("connection_lost"), 1) << "said once, not at each attempt";
  bool stretched = false;
  for (size_t i = 1; i < dialled.size(); ++i) {
    const double pause = dialled[i] - dialled[i - 1];
    const double meant = std::min(0.2 * std::pow(2, i - 1), 30.0);
    EXPECT_GE(pause, 0.5 * meant - 1e-6) << i;
    EXPECT_LE(pause, 1.5 * meant + 1e-6) << i;
    stretched |= std::abs(pause - meant) > 0.1 * meant;
  }
  EXPECT_TRUE(stretched);
  // And begin anew after a Welcome.
  script.network.set_server_up(true);
  script.network.server().start(script);
  ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 1; }));
  client.transport.cut();
  const TimePoint cut_at = script.loop.now();
  ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 2; }));
  EXPECT_LT(script.loop.now() - cut_at, milliseconds(400));
  EXPECT_EQ(client.events.count("connection_lost"), 2);
}

TEST(ClientSession, GivesUpWhenItIsToldTo) {
  Script script;
  script.network.set_server_up(false);
  TestClient& client = script.start({.give_up_after = minutes(5)});
  ASSERT_TRUE(script.until([&] { return client.finished.has_value(); }));
  EXPECT_THAT(client.finished->describe(),
              AllOf(HasSubstr("giving up"), HasSubstr("nothing listens")));
  EXPECT_GE(script.loop.now(), minutes(5));
  EXPECT_LT(script.loop.now(), minutes(6));
}

TEST(ClientSession, ARefusalEndsItAndSaysWhy) {
  Script script;
  TestClient& client = script.ready();
  script.say(Refusal{{Code::kUnsupported, "too old"}});
  ASSERT_TRUE(script.until([&] { return client.finished.has_value(); }));
  EXPECT_EQ(client.finished->message(), "the coordinator refuses this client: too old");
  EXPECT_EQ(client.finished->code(), Code::kUnsupported);
}

TEST(ClientSession, AGoodbyeEndsItOrMakesItWait) {
  Script script;
  TestClient& client = script.ready();
  script.say(Goodbye{.finished = false, .reason = "back in a minute"});
  ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 2; }));
  EXPECT_THAT(client.events.texts("connection_lost"), HasSubstr("back in a minute"));
  EXPECT_FALSE(client.finished);
  script.say(Goodbye{.finished = true, .reason = "done"});
  ASSERT_TRUE(script.until([&] { return client.finished.has_value(); }));
  EXPECT_TRUE(client.finished->ok());
  EXPECT_EQ(client.events.count("run_finished"), 1);
  script.pass(hours(1));
  EXPECT_EQ(script.count<Hello>(), 2u);
}

TEST(ClientSession, StopIsSilentAndFinal) {
  Script script;
  TestClient& client = script.ready();
  client.loop.work_takes = seconds(10);
  script.ask(1);
  script.pass(seconds(1));
  client.session->stop();
  client.session->stop();
  script.pass(hours(1));
  EXPECT_FALSE(client.finished);
  EXPECT_EQ(client.transport.dials, 1);
  EXPECT_EQ(script.count<UpdateMessage>(), 0u);
}

TEST(ClientSession, WithoutDataItCannotGoOn) {
  Script script;
  TestClient& client = script.add_client();
  client.load_fails = true;
  script.start();
  ASSERT_TRUE(script.until([&] { return client.finished.has_value(); }));
  EXPECT_THAT(client.finished->describe(), HasSubstr("there are no such data"));
}

TEST(ClientSession, AClockThatIsOffIsNamed) {
  for (const int64_t offset : {-3600, -61, -60, 0, 60, 61, 86'400}) {
    Script script;
    TestClient& client = script.add_client();
    client.loop.clock_offset = offset;
    script.ready();
    if (std::abs(offset) > kNoticedSkewSeconds) {
      EXPECT_THAT(client.events.numbers("clock_skew", "seconds"), ElementsAre(offset));
    } else {
      EXPECT_EQ(client.events.count("clock_skew"), 0);
    }
  }
}

TEST(ClientSession, GarbageFromTheCoordinatorCostsTheConnectionOnly) {
  Script script;
  TestClient& client = script.ready();
  const Bytes garbage[] = {Bytes(1), Bytes(9, std::byte{'x'}), to_packet(Verdict{})};
  size_t readies = 1;
  for (Bytes packet : garbage) {
    packet.front() ^= std::byte{0x40};
    if (packet.size() > 20) packet.push_back({});
    script.send(packet);
    ++readies;
    ASSERT_TRUE(script.until([&] { return script.count<Ready>() == readies; }));
  }
  EXPECT_EQ(client.loads, 1);
  EXPECT_THAT(client.events.texts("connection_lost"), HasSubstr("can't be read"));
}

TEST(ClientSession, WhatIsNotForItIsIgnored) {
  Script script;
  TestClient& client = script.ready();
  const Message words[] = {Hello{},
                           Ready{},
                           UpdateMessage{},
                           TaskFailure{},
                           EvaluationReport{},
                           Credit{.task = 1, .bytes = 1'000'000},
                           Verdict{.task = 1, .counted = true},
                           Verdict{},
                           script.welcome};
  for (const Message& word : words) script.say(word);
  const Bytes frame(100);
  script.send(split_into_parts(TransferKind::kDeltas, 1, std::vector{std::span(frame)})[0]);
  script.send(Bytes{std::byte{'T'}, std::byte{'R'}, std::byte{'N'}, std::byte{'P'}});
  script.pass();
  EXPECT_EQ(client.transport.dials, 1);
  EXPECT_EQ(script.messages.size(), 2u) << "Hello and Ready";
  script.ask(1);
  EXPECT_TRUE(script.until([&] { return script.frames() == 1; }));
}

// ---- Tasks

TEST(ClientSession, DoesItsTaskAndCommitsOnTheVerdict) {
  Script script;
  TestClient& client = script.ready();
  for (uint32_t round = 1; round <= 3; ++round) {
    const TaskId task = script.ask(round);
    ASSERT_TRUE(script.until([&] { return script.frames() == round; }));
    const UpdateMessage update = script.heard<UpdateMessage>().back();
    EXPECT_EQ(update.task, task);
    EXPECT_EQ(update.client, kNumber);
    EXPECT_EQ(update.report.examples, 8u);
    const std::vector<float> before = residual_of(client);
    script.verdict(task, round != 2);
    script.pass();
    EXPECT_EQ(residual_of(client) == before, round == 2) << "rolled back";
    EXPECT_EQ(client.state(kNumber).last_task_round, round);
  }
  EXPECT_EQ(client.state(kNumber).residual_round, 3u);
  EXPECT_EQ(client.state(kNumber).run_id, kRun);
  EXPECT_THAT(client.events.numbers("verdict_received", "counted"), ElementsAre(1, 0, 1));
}

TEST(ClientSession, FollowsTheModelByDeltasAndSnapshots) {
  Script script(2000);
  TestClient& client = script.ready();
  script.codec = "float32";
  // One delta, three at once, and a snapshot once the deltas would be longer.
  uint32_t held = 0, round = 0;
  for (const int published : {1, 3, 1, 4}) {
    for (int i = 0; i < published; ++i) script.publish(published == 4 ? "float32" : "topk:0.01");
    const TaskId task = script.ask(++round, PlanKind::kTrain, held);
    held = script.model.version();
    ASSERT_TRUE(script.until([&] { return script.frames() == round; }))
        << client.events.texts("task_refused");
    const auto parameters = client.work.parameters();
    EXPECT_TRUE(std::ranges::equal(parameters, script.model.parameters()));
    EXPECT_EQ(client.state(kNumber).held_version, held);
    script.verdict(task, true);
  }
}

TEST(ClientSession, DeltasItHasAlreadyArePassedOver) {
  Script script(2000);
  TestClient& client = script.ready();
  script.publish("topk:0.01");
  script.publish("topk:0.01");
  (void)script.ask(1, PlanKind::kTrain, 0);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  script.publish("topk:0.01");
  // The coordinator still believes it at version 0; then it has all of them.
  for (const uint32_t round : {2u, 3u}) {
    ASSERT_EQ(script.message(script.plan(round), 0).task.download, DownloadKind::kDeltas);
    (void)script.ask(round, PlanKind::kTrain, 0);
    ASSERT_TRUE(script.until([&] { return script.frames() == round; }))
        << client.events.texts("task_refused");
    EXPECT_TRUE(std::ranges::equal(client.work.parameters(), script.model.parameters()));
  }
}

TEST(ClientSession, ALargeDownloadIsTakenInUnderCredit) {
  Script script(400'000);
  TestClient& client = script.ready();
  script.codec = "float32";
  script.publish();
  const PlanMessage message = script.message(script.plan(1), 0);
  script.say(message);
  uint64_t sent = 0;
  for (Bytes& part : script.parts_of(message)) {
    sent += part.size();
    script.send(std::move(part));
  }
  script.credits = false;
  ASSERT_TRUE(script.until([&] { return script.count<UpdateMessage>() == 1; }));
  const std::vector<Credit> credits = script.heard<Credit>();
  ASSERT_FALSE(credits.empty());
  for (const Credit& credit : credits) {
    EXPECT_EQ(credit.task, message.task.task);
    EXPECT_GE(credit.bytes + kPartHeaderBytes + kPartBytes, kCreditWindow);
    EXPECT_LE(credit.bytes, sent + kCreditWindow);
  }
  // The other way round: an update longer than a window waits for its turn.
  script.pass(minutes(1));
  EXPECT_EQ(client.transport.part_bytes_out, 0u);
  script.say(Credit{.task = message.task.task, .bytes = kCreditWindow});
  script.pass(minutes(1));
  EXPECT_EQ(client.transport.part_bytes_out, kCreditWindow);
  script.say(Credit{.task = message.task.task, .bytes = sent});
  EXPECT_TRUE(script.until([&] { return script.frames() == 1; }));
}

TEST(ClientSession, AskedAgainWhileItWorksItTrainsOnce) {
  Script script;
  TestClient& client = script.ready();
  client.loop.work_takes = seconds(10);
  for (int i = 0; i < 3; ++i) {
    script.ask(1);
    script.pass(seconds(2));
  }
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  script.pass(minutes(1));
  EXPECT_EQ(client.training.tasks.size(), 1u);
  EXPECT_EQ(script.count<UpdateMessage>(), 1u);
}

TEST(ClientSession, AskedAgainWhileAnAnswerIsDueItSendsTheSameBytesAgain) {
  Script script;
  TestClient& client = script.ready();
  script.ask(1);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  script.ask(1);
  ASSERT_TRUE(script.until([&] { return script.frames() == 2; }));
  client.transport.cut();
  ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 2; }));
  const TaskId task = script.ask(1);
  ASSERT_TRUE(script.until([&] { return script.frames() == 3; }));
  EXPECT_EQ(script.frame(1), script.frame(0));
  EXPECT_EQ(script.frame(2), script.frame(0));
  EXPECT_EQ(client.training.tasks.size(), 1u);
  script.verdict(task, true);
  script.pass();
  EXPECT_FALSE(residual_of(client).empty());
  EXPECT_EQ(client.events.count("verdict_received"), 1);
}

TEST(ClientSession, AskedAgainWhileItEvaluatesItSendsTheSameBytesAgain) {
  Script script;
  TestClient& client = script.ready({.evaluates = true});
  script.ask(1);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  client.loop.work_takes = seconds(10);
  script.ask(1, PlanKind::kEvaluate);
  script.pass(seconds(1));
  const TaskId task = script.ask(1);
  ASSERT_TRUE(script.until([&] { return script.frames() == 2; }));
  EXPECT_EQ(script.frame(1), script.frame(0));
  EXPECT_EQ(client.training.tasks.size(), 1u);
  script.verdict(task, true);
  script.pass();
  EXPECT_FALSE(residual_of(client).empty());
}

TEST(ClientSession, AVerdictThatComesWhileItEvaluatesIsNotForgotten) {
  Script script;
  TestClient& client = script.ready({.evaluates = true});
  const TaskId task = script.ask(1);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  client.loop.work_takes = seconds(10);
  script.ask(1, PlanKind::kEvaluate);
  script.pass(seconds(1));
  script.verdict(task, true);
  ASSERT_TRUE(script.until([&] { return script.count<EvaluationReport>() == 1; }));
  script.pass();
  EXPECT_FALSE(residual_of(client).empty());
  EXPECT_EQ(client.events.count("verdict_received"), 1);
}

TEST(ClientSession, AnUpdateWithoutAVerdictIsRolledBackByTheNextRound) {
  Script script;
  TestClient& client = script.ready();
  script.ask(1);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  const TaskId second = script.ask(2);
  ASSERT_TRUE(script.until([&] { return script.frames() == 2; }));
  EXPECT_TRUE(residual_of(client).empty()) << "of the first nothing is owed";
  EXPECT_EQ(client.events.count("verdict_received"), 0);
  // A verdict on the first comes too late to matter.
  script.verdict(task_id(5, 1, kNumber), true);
  script.pass();
  EXPECT_TRUE(residual_of(client).empty());
  script.verdict(second, true);
  script.pass();
  EXPECT_FALSE(residual_of(client).empty());
}

TEST(ClientSession, OfTwoTasksThatWaitTheNewerOneCounts) {
  Script script;
  TestClient& client = script.ready();
  client.loop.work_takes = seconds(10);
  script.ask(1);
  script.pass(seconds(1));
  script.ask(2);
  script.pass(seconds(1));
  const TaskId third = script.ask(3);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  EXPECT_EQ(script.heard<UpdateMessage>().at(0).task, third);
  EXPECT_EQ(client.training.tasks.size(), 2u);
  script.verdict(third, true);
  script.pass();
  EXPECT_EQ(client.state(kNumber).last_task_round, 3u);
}

TEST(ClientSession, ATaskThatFailsIsReportedAndTheNextOneIsDone) {
  Script script;
  TestClient& client = script.ready();
  client.training.fail = [](const TrainTask& task) -> Status {
    return task.round == 1 ? Status(Code::kOutOfRange, "the loss isn't finite") : Status();
  };
  const TaskId task = script.ask(1);
  ASSERT_TRUE(script.until([&] { return script.count<TaskFailure>() == 1; }));
  const TaskFailure failure = script.heard<TaskFailure>()[0];
  EXPECT_EQ(failure.task, task);
  EXPECT_EQ(failure.reason.code(), Code::kOutOfRange);
  EXPECT_EQ(failure.reason.message(), "the loss isn't finite");
  script.ask(2);
  EXPECT_TRUE(script.until([&] { return script.frames() == 1; }));
}

TEST(ClientSession, EvaluatesTheModelOfThePlan) {
  Script script;
  script.publish();
  TestClient& client = script.ready({.examples = 0, .evaluates = true});
  const TaskId task = script.ask(1, PlanKind::kEvaluate, 0);
  ASSERT_TRUE(script.until([&] { return script.count<EvaluationReport>() == 1; }));
  const EvaluationReport report = script.heard<EvaluationReport>()[0];
  EXPECT_EQ(report.task, task);
  EXPECT_EQ(report.client, kNumber);
  EXPECT_THAT(report.examples, ElementsAre(10, 0));
  EXPECT_THAT(report.predicted, ElementsAre(2, 8));
  EXPECT_THAT(report.correct, ElementsAre(2, 0));
  EXPECT_DOUBLE_EQ(report.loss_sum, 10 * 0.25 * 2);
  EXPECT_EQ(client.state(kNumber).held_version, 1u);
  EXPECT_EQ(client.state(kNumber).last_task_round, 0u) << "it can still be asked to train";
  script.ask(1);
  ASSERT_TRUE(script.until([&] { return script.count<TaskFailure>() == 1; }));
  EXPECT_THAT(script.heard<TaskFailure>()[0].reason.message(),
              HasSubstr("no examples to train on"));
}

// ---- Plans that it doesn't obey

struct Refused {
  const char* what;
  std::function<void(Script&, PlanMessage&)> change;
  const char* reason;
};

/// Signs again what was changed.
void change_plan(Script& script, PlanMessage& message,
                 const std::function<void(RoundPlan&)>& change) {
  RoundPlan plan = *parse_plan(message.plan.payload);
  change(plan);
  message.plan = script.sign(plan);
}
void change_manifest(Script& script, PlanMessage& message,
                     const std::function<void(ModelManifest&)>& change) {
  ModelManifest manifest = *parse_manifest(message.manifest.payload);
  change(manifest);
  message.manifest = script.sign(manifest);
}

const Refused kRefused[] = {
    {"unsigned", [](Script&, PlanMessage& m) { m.plan.signature = {}; },
     "the plan: it isn't signed"},
    {"manifest unsigned", [](Script&, PlanMessage& m) { m.manifest.signature = {}; },
     "the model manifest: it isn't signed"},
    {"signed by another",
     [](Script& s, PlanMessage& m) {
       m.plan = sign_bytes(test_key(9), kPlanPurpose, m.plan.payload, s.machine.unix_seconds(),
                           s.machine.unix_seconds() + 600);
     },
     "the plan: signed by key"},
    {"signed by another in its name",
     [](Script& s, PlanMessage& m) {
       const KeyId key = m.plan.key;
       m.plan = sign_bytes(test_key(9), kPlanPurpose, m.plan.payload, s.machine.unix_seconds(),
                           s.machine.unix_seconds() + 600);
       m.plan.key = key;
     },
     "the plan: the signature doesn't fit"},
    {"manifest signed by another",
     [](Script& s, PlanMessage& m) {
       m.manifest = sign_bytes(test_key(9), kManifestPurpose, m.manifest.payload,
                               s.machine.unix_seconds(), s.machine.unix_seconds() + 600);
     },
     "the model manifest: signed by key"},
    {"changed", [](Script&, PlanMessage& m) { m.plan.payload[5] ^= std::byte{1}; },
     "the plan: the signature doesn't fit"},
    {"manifest changed", [](Script&, PlanMessage& m) { m.manifest.payload[9] ^= std::byte{1}; },
     "the model manifest: the signature doesn't fit"},
    {"kept alive", [](Script&, PlanMessage& m) { m.plan.expires += 1; },
     "the plan: the signature doesn't fit"},
    {"signed for another purpose",
     [](Script& s, PlanMessage& m) {
       m.plan = sign_bytes(s.key, kManifestPurpose, m.plan.payload, s.machine.unix_seconds(),
                           s.machine.unix_seconds() + 600);
     },
     "the plan: the signature doesn't fit"},
    {"a manifest for a plan", [](Script&, PlanMessage& m) { m.plan = m.manifest; },
     "the plan: the signature doesn't fit"},
    {"expired",
     [](Script& s, PlanMessage& m) {
       m.plan = sign_bytes(s.key, kPlanPurpose, m.plan.payload, s.machine.unix_seconds() - 600,
                           s.machine.unix_seconds());
     },
     "the plan: expired"},
    {"manifest expired",
     [](Script& s, PlanMessage& m) {
       m.manifest = sign_bytes(s.key, kManifestPurpose, m.manifest.payload,
                               s.machine.unix_seconds() - 7200, s.machine.unix_seconds() - 3600);
     },
     "the model manifest: expired 60 minutes ago"},
    {"of the future",
     [](Script& s, PlanMessage& m) {
       m.plan = sign_bytes(s.key, kPlanPurpose, m.plan.payload, s.machine.unix_seconds() + 3600,
                           s.machine.unix_seconds() + 7200);
     },
     "in the future by this machine's clock"},
    {"not a plan",
     [](Script& s, PlanMessage& m) {
       m.plan = sign_bytes(s.key, kPlanPurpose, Bytes(50), s.machine.unix_seconds(),
                           s.machine.unix_seconds() + 600);
     },
     "not a plan"},
    {"not a manifest",
     [](Script& s, PlanMessage& m) {
       m.manifest = sign_bytes(s.key, kManifestPurpose, Bytes(50), s.machine.unix_seconds(),
                               s.machine.unix_seconds() + 600);
     },
     "not a model manifest"},
    {"manifest of another model",
     [](Script& s, PlanMessage& m) {
       change_manifest(s, m, [](ModelManifest& manifest) { manifest.sha256[0] ^= std::byte{1}; });
     },
     "the model manifest is of version 1 with SHA-256"},
    {"manifest of another version",
     [](Script& s, PlanMessage& m) {
       change_manifest(s, m, [](ModelManifest& manifest) { ++manifest.version; });
     },
     "the model manifest is of version 2"},
    {"manifest of another run",
     [](Script& s, PlanMessage& m) {
       change_manifest(s, m, [](ModelManifest& manifest) { ++manifest.run_id; });
     },
     "the model manifest"},
    {"manifest of another schema",
     [](Script& s, PlanMessage& m) {
       change_manifest(s, m, [](ModelManifest& manifest) { ++manifest.schema_hash; });
     },
     "the model manifest"},
    {"of another run",
     [](Script& s, PlanMessage& m) {
       change_plan(s, m, [](RoundPlan& plan) { ++plan.run_id; });
       change_manifest(s, m, [](ModelManifest& manifest) { ++manifest.run_id; });
     },
     "a plan of run 000000000000abce, this session is of run 000000000000abcd"},
    {"of another schema",
     [](Script& s, PlanMessage& m) {
       change_plan(s, m, [](RoundPlan& plan) { plan.schema_hash = 99; });
       change_manifest(s, m, [](ModelManifest& manifest) { manifest.schema_hash = 99; });
     },
     "the plan is for schema 0000000000000063"},
    {"for another client", [](Script&, PlanMessage& m) { m.task.client = 3; },
     "a task for client 3 reached client 2"},
    {"back in versions",
     [](Script& s, PlanMessage& m) {
       change_plan(s, m, [](RoundPlan& plan) { plan.version = 0; });
       change_manifest(s, m, [](ModelManifest& manifest) { manifest.version = 0; });
     },
     "goes back to version 0, this client holds 1"},
    {"back in rounds",
     [](Script& s, PlanMessage& m) { change_plan(s, m, [](RoundPlan& plan) { plan.round = 1; }); },
     "a plan of round 1 after one of round 1"},
    {"codec unknown",
     [](Script& s, PlanMessage& m) {
       change_plan(s, m, [](RoundPlan& plan) { plan.codec = "zip"; });
     },
     "unknown stage 'zip'"},
    {"a download of nothing",
     [](Script&, PlanMessage& m) { m.task.download = DownloadKind::kDeltas; },
     "a download of 0 bytes, kind 1"},
    {"nothing of so many bytes", [](Script&, PlanMessage& m) { m.task.download_bytes = 5; },
     "a download of 5 bytes, kind 0"},
    {"a download without end",
     [](Script&, PlanMessage& m) {
       m.task.download = DownloadKind::kSnapshot;
       m.task.download_bytes = UINT64_MAX;
     },
     "a download of 18446744073709551615 bytes, at most"},
    {"a model that isn't there",
     [](Script& s, PlanMessage& m) {
       change_plan(s, m, [](RoundPlan& plan) { plan.model_sha256[3] ^= std::byte{8}; });
       change_manifest(s, m, [](ModelManifest& manifest) { manifest.sha256[3] ^= std::byte{8}; });
     },
     "the plan says"},
    {"a version without a download",
     [](Script& s, PlanMessage& m) {
       change_plan(s, m, [](RoundPlan& plan) { plan.version = 7; });
       change_manifest(s, m, [](ModelManifest& manifest) { manifest.version = 7; });
     },
     "nothing comes with a plan of version 7, this replica is at version 1"},
};

TEST(ClientSession, RefusesPlansWithAReasonAndGoesOn) {
  for (const Refused& refused : kRefused) {
    Script script;
    TestClient& client = script.ready();
    script.publish();
    // A round behind it, so that there is something to go back to.
    const TaskId first = script.ask(1, PlanKind::kTrain, 0);
    ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
    script.verdict(first, true);
    script.pass();
    const std::vector<float> residual = residual_of(client);

    PlanMessage message = script.message(script.plan(2), 1);
    refused.change(script, message);
    script.say(message);
    ASSERT_TRUE(script.until([&] { return script.count<TaskFailure>() == 1; })) << refused.what;
    const TaskFailure failure = script.heard<TaskFailure>()[0];
    EXPECT_EQ(failure.task, message.task.task) << refused.what;
    EXPECT_EQ(failure.held_version, 1u) << refused.what;
    EXPECT_THAT(failure.reason.describe(), HasSubstr(refused.reason)) << refused.what;
    EXPECT_THAT(client.events.texts("task_refused"), HasSubstr(refused.reason)) << refused.what;
    EXPECT_EQ(client.training.tasks.size(), 1u) << refused.what << ": not a step";
    EXPECT_EQ(residual_of(client), residual) << refused.what;

    script.ask(3);
    ASSERT_TRUE(script.until([&] { return script.frames() == 2; })) << refused.what;
    EXPECT_EQ(client.transport.dials, 1);
  }
}

TEST(ClientSession, RefusesToEvaluateInAnothersPlace) {
  Script script;
  TestClient& client = script.ready({.evaluates = true});
  PlanMessage message = script.message(script.plan(1, PlanKind::kEvaluate), 0);
  message.task.client = 3;
  script.say(message);
  ASSERT_TRUE(script.until([&] { return script.count<TaskFailure>() == 1; }));
  EXPECT_THAT(client.events.texts("task_refused"), HasSubstr("a task for client 3"));
  EXPECT_EQ(script.count<EvaluationReport>(), 0u);
}

TEST(ClientSession, APlanThatPassedOnceVouchesForNothingThatComesWithItLater) {
  Script script;
  (void)script.ready();
  const PlanMessage message = script.message(script.plan(1), 0);
  script.say(message);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  PlanMessage plan_changed = message, manifest_changed = message;
  plan_changed.plan.signature[9] ^= std::byte{1};
  manifest_changed.manifest.payload[9] ^= std::byte{1};
  script.say(plan_changed);
  script.say(manifest_changed);
  ASSERT_TRUE(script.until([&] { return script.count<TaskFailure>() == 2; }));
  EXPECT_THAT(script.heard<TaskFailure>()[0].reason.describe(), HasSubstr("the plan: "));
  EXPECT_THAT(script.heard<TaskFailure>()[1].reason.describe(), HasSubstr("the model manifest: "));
}

TEST(ClientSession, APlanThatPassedOnceExpiresAllTheSame) {
  Script script;
  (void)script.ready();
  const int64_t now = script.machine.unix_seconds();
  PlanMessage message = script.message(script.plan(1), 0);
  message.manifest =
      sign_bytes(script.key, kManifestPurpose, message.manifest.payload, now, now + 300);
  script.say(message);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  script.pass(seconds(400));
  script.say(message);
  ASSERT_TRUE(script.until([&] { return script.count<TaskFailure>() == 1; }));
  EXPECT_THAT(script.heard<TaskFailure>()[0].reason.describe(),
              HasSubstr("the model manifest: expired"));
  PlanMessage lasting = message;
  lasting.manifest =
      sign_bytes(script.key, kManifestPurpose, message.manifest.payload, now, now + 3600);
  script.say(lasting);
  ASSERT_TRUE(script.until([&] { return script.frames() == 2; })) << "the plan is still good";
  script.pass(seconds(400));
  script.say(lasting);
  ASSERT_TRUE(script.until([&] { return script.count<TaskFailure>() == 2; }));
  EXPECT_THAT(script.heard<TaskFailure>()[1].reason.describe(), HasSubstr("the plan: expired"));
}

TEST(ClientSession, ADamagedDownloadIsRefusedAndTheReplicaStaysAsItWas) {
  Script script(2000);
  TestClient& client = script.ready();
  script.publish("topk:0.1");
  script.publish("topk:0.1");
  const std::vector<float> before(client.work.parameters().begin(), client.work.parameters().end());
  size_t failures = 0;
  uint32_t round = 0;
  const auto refused = [&](const std::function<std::vector<Bytes>(std::vector<Bytes>)>& change) {
    const PlanMessage message = script.message(script.plan(++round), 0);
    ASSERT_EQ(message.task.download, DownloadKind::kDeltas);
    script.say(message);
    for (const Bytes& part : change(script.parts_of(message))) script.send(part);
    ASSERT_TRUE(script.until([&] { return script.count<TaskFailure>() == failures + 1; }));
    ++failures;
    EXPECT_EQ(script.heard<TaskFailure>().back().held_version, 0u);
    EXPECT_TRUE(std::ranges::equal(client.work.parameters(), before));
  };
  for (const size_t at : {4u, 6u, 8u, 16u, 20u, 24u, 32u, 40u, 60u, 70u, 100u, 300u})
    refused([at](std::vector<Bytes> parts) {
      parts[0][at] ^= std::byte{0x40};
      if (at >= 8 && at < 16) parts[0][at] ^= std::byte{0x40};  // another task's part is nobody's
      if (at >= 8 && at < 16) parts[0][64] ^= std::byte{1};
      return parts;
    });
  refused([](std::vector<Bytes> parts) {
    parts[0].pop_back();
    return parts;
  });
  // In the end it still gets there.
  (void)script.ask(++round, PlanKind::kTrain, 0);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  EXPECT_TRUE(std::ranges::equal(client.work.parameters(), script.model.parameters()));
  EXPECT_TRUE(client.training.tasks.size() == 1);
}

// ---- What gets lost

/// The residual after two counted tasks, without any loss.
std::vector<float> residual_of_two() {
  Script script;
  TestClient& client = script.ready();
  for (uint32_t round = 1; round <= 2; ++round) {
    const TaskId task = script.ask(round);
    EXPECT_TRUE(script.until([&] { return script.frames() == round; }));
    script.verdict(task, true);
    script.pass();
  }
  return residual_of(client);
}

TEST(ClientSession, ALostVerdictInTheWelcomeCommitsExactlyOnce) {
  const std::vector<float> expected = residual_of_two();
  Script script;
  TestClient& client = script.ready();
  for (uint32_t round = 1; round <= 2; ++round) {
    const TaskId task = script.ask(round);
    ASSERT_TRUE(script.until([&] { return script.frames() == round; }));
    script.welcome.last_task = task;
    script.welcome.last_fate = Fate::kCounted;
    // The Welcome says so again and again, and so does a verdict.
    for (int again = 0; again < 3; ++again) {
      const size_t readies = script.count<Ready>();
      client.transport.cut();
      ASSERT_TRUE(script.until([&] { return script.count<Ready>() == readies + 1; }));
    }
    script.verdict(task, true);
    script.pass();
    EXPECT_EQ(client.events.count("verdict_received"), static_cast<int>(round));
  }
  EXPECT_EQ(residual_of(client), expected);
  EXPECT_EQ(client.loads, 1);
}

TEST(ClientSession, ALostRefusalInTheWelcomeRollsBack) {
  Script script;
  TestClient& client = script.ready();
  const TaskId task = script.ask(1);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  script.welcome.last_task = task;
  script.welcome.last_fate = Fate::kRefused;
  client.transport.cut();
  ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 2; }));
  EXPECT_TRUE(residual_of(client).empty());
  EXPECT_EQ(client.state(kNumber).last_task_round, 1u);
  script.ask(2);
  EXPECT_TRUE(script.until([&] { return script.frames() == 2; }));
}

TEST(ClientSession, AWelcomeThatKnowsNothingOrAnotherTaskLeavesTheUpdateOpen) {
  Script script;
  TestClient& client = script.ready();
  const TaskId task = script.ask(1);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  for (const auto& [last, fate] : {std::pair{TaskId{0}, Fate::kOpen},
                                   {task, Fate::kOpen},
                                   {task ^ 1, Fate::kCounted},
                                   {TaskId{0}, Fate::kCounted}}) {
    script.welcome.last_task = last;
    script.welcome.last_fate = fate;
    const size_t readies = script.count<Ready>();
    client.transport.cut();
    ASSERT_TRUE(script.until([&] { return script.count<Ready>() == readies + 1; }));
  }
  EXPECT_EQ(client.events.count("verdict_received"), 0);
  script.verdict(task, true);
  script.pass();
  EXPECT_FALSE(residual_of(client).empty());
}

TEST(ClientSession, AWelcomesVerdictWaitsForAnEvaluation) {
  Script script;
  TestClient& client = script.ready({.evaluates = true});
  const TaskId task = script.ask(1);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  client.loop.work_takes = seconds(30);
  script.ask(1, PlanKind::kEvaluate);
  script.pass(seconds(1));
  script.welcome.last_task = task;
  script.welcome.last_fate = Fate::kCounted;
  client.transport.cut();
  ASSERT_TRUE(script.until([&] { return client.events.count("verdict_received") == 1; }));
  EXPECT_FALSE(residual_of(client).empty());
}

TEST(ClientSession, ConnectionsThatBreakWhileItPreparesDoNotMakeItBeginAgain) {
  Script script;
  TestClient& client = script.add_client();
  client.loop.work_takes = minutes(1);
  client.start();
  for (int i = 0; i < 3; ++i) {
    script.pass(seconds(10));
    client.transport.cut();
  }
  ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 1; }));
  EXPECT_EQ(client.loads, 1);
  EXPECT_EQ(script.count<Hello>(), 4u);
  EXPECT_LT(script.loop.now(), seconds(61));
  script.pass(minutes(5));
  EXPECT_EQ(script.count<Ready>(), 1u);
  script.ask(1);
  EXPECT_TRUE(script.until([&] { return script.frames() == 1; }));
}

TEST(ClientSession, ReadyWhileItWasAwayItSaysSoWhenItIsBack) {
  Script script;
  TestClient& client = script.add_client();
  client.loop.work_takes = minutes(1);
  client.start();
  script.pass(seconds(10));
  script.network.set_server_up(false);
  script.pass(minutes(5));
  EXPECT_EQ(client.loads, 1);
  script.network.set_server_up(true);
  script.network.server().start(script);
  ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 1; }));
  EXPECT_EQ(client.loads, 1);
}

// ---- Another run

TEST(ClientSession, AnotherRunBeginsFromVersionZeroWithNothingOwed) {
  Script script;
  TestClient& client = script.ready();
  script.publish();
  const TaskId task = script.ask(1, PlanKind::kTrain, 0);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  script.verdict(task, true);
  script.pass();
  EXPECT_FALSE(residual_of(client).empty());

  script.welcome.run_id = script.run_id = kRun + 1;
  client.transport.cut();
  ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 2; }));
  EXPECT_EQ(script.heard<Hello>()[1].run_id, kRun);
  EXPECT_EQ(script.heard<Hello>()[1].held_version, 1u);
  EXPECT_EQ(client.loads, 2) << "seed and clients of the new run may deal the data anew";
  EXPECT_EQ(client.state(kNumber).run_id, kRun + 1);
  EXPECT_EQ(client.state(kNumber).held_version, 0u);
  EXPECT_EQ(client.state(kNumber).last_task_round, 0u);
  EXPECT_TRUE(residual_of(client).empty());
  // Its first round is one of the new run.
  (void)script.ask(1, PlanKind::kTrain, 0);
  ASSERT_TRUE(script.until([&] { return script.frames() == 2; }))
      << client.events.texts("task_refused");
}

TEST(ClientSession, AnotherRunWaitsForWhatAWorkerIsAt) {
  for (const bool in_preparation : {true, false}) {
    Script script;
    TestClient& client = script.add_client();
    if (in_preparation) {
      client.loop.work_takes = seconds(30);
      client.start();
    } else {
      script.ready();
      client.loop.work_takes = seconds(30);
      script.ask(1);
      script.pass(seconds(1));
      script.ask(2);  // waits
    }
    script.pass(seconds(5));
    script.welcome.run_id = script.run_id = kRun + 1;
    client.transport.cut();
    script.pass(seconds(5));
    EXPECT_EQ(client.loads, 1) << "not while the worker is at it";
    const size_t readies = script.count<Ready>();
    ASSERT_TRUE(script.until([&] { return script.count<Ready>() == readies + 1; }));
    EXPECT_EQ(client.loads, 2);
    EXPECT_EQ(client.state(kNumber).run_id, kRun + 1);
    script.pass(minutes(10));
    EXPECT_EQ(script.frames(), 0u) << "what was of the other run is forgotten";
    EXPECT_EQ(client.training.tasks.size(), in_preparation ? 0u : 1u);
    script.ask(1);
    ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
    EXPECT_TRUE(residual_of(client).empty());
    script.pass(minutes(10));
    EXPECT_EQ(script.count<UpdateMessage>(), 1u);
    EXPECT_EQ(client.training.tasks.size(), in_preparation ? 1u : 2u);
  }
}

TEST(ClientSession, AnotherRunWhoseConnectionBreaksAgainMeanwhileIsEnteredOnce) {
  Script script;
  TestClient& client = script.ready();
  client.loop.work_takes = seconds(30);
  script.ask(1);
  script.pass(seconds(1));
  for (int i = 0; i < 3; ++i) {
    script.welcome.run_id = script.run_id = kRun + 1 + i;
    client.transport.cut();
    script.pass(seconds(3));
  }
  ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 2; }));
  EXPECT_EQ(client.loads, 2);
  EXPECT_EQ(client.state(kNumber).run_id, kRun + 3);
}

TEST(ClientSession, AnotherNumberInTheSameRunKeepsTheReplica) {
  Script script;
  TestClient& client = script.ready();
  script.publish();
  const TaskId task = script.ask(1, PlanKind::kTrain, 0);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  script.verdict(task, true);
  script.pass();
  script.welcome.client = script.number = 5;
  client.transport.cut();
  ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 2; }));
  ASSERT_FALSE(client.finished) << client.finished->describe();
  EXPECT_EQ(client.loads, 2);
  script.ask(2);
  ASSERT_TRUE(script.until([&] { return script.frames() == 2; }))
      << client.events.texts("task_refused");
  EXPECT_EQ(script.heard<UpdateMessage>()[1].client, 5u);
}

// ---- A restart of the program

TEST(ClientSession, AfterARestartItGoesOnFromWhatIsStored) {
  Script script;
  TestClient& client = script.ready();
  script.publish();
  const TaskId task = script.ask(1, PlanKind::kTrain, 0);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  script.verdict(task, true);
  script.pass();
  const std::vector<float> residual = residual_of(client);
  const HeldModels models = client.work.models();
  client.session->stop();
  script.pass();

  // The same store, as a device has it: whatever number is asked for.
  TestClient again(script.loop, script.network, script.schema, script.key.public_key(),
                   peer_key(7));
  again.work.keep_models(models);
  ClientState state = client.state(kNumber);
  ASSERT_TRUE(again.store.save(0, state).ok());
  ASSERT_TRUE(again.store.save(kNumber, state).ok());
  again.start();
  ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 2; }));
  EXPECT_EQ(script.heard<Hello>()[1].run_id, kRun);
  EXPECT_EQ(script.heard<Hello>()[1].held_version, 1u);
  EXPECT_EQ(residual_of(again), residual);
  script.ask(1);
  ASSERT_TRUE(script.until([&] { return script.count<TaskFailure>() == 1; }));
  EXPECT_THAT(script.heard<TaskFailure>()[0].reason.describe(),
              HasSubstr("a plan of round 1 after one of round 1"));
  script.ask(2);
  EXPECT_TRUE(script.until([&] { return script.frames() == 2; }))
      << again.events.texts("task_refused");
}

// ---- Killed with an update that waits for its verdict

/// Kills the client and starts it anew: what it has stored is all that is left of it.
std::unique_ptr<TestClient> restart(Script& script, TestClient& killed,
                                    TestClientOptions options = {}) {
  const ClientState& state = killed.state(kNumber);
  const HeldModels models = killed.work.models();
  killed.session->stop();  // says and stores nothing
  script.pass();
  auto client = std::make_unique<TestClient>(script.loop, script.network, script.schema,
                                             script.key.public_key(), peer_key(7), options);
  // As a device has it: the state of whatever number is asked for.
  client->work.keep_models(models);
  EXPECT_TRUE(client->store.save(0, state).ok());
  EXPECT_TRUE(client->store.save(kNumber, state).ok());
  client->start();
  return client;
}

/// A client that has one task counted, and an update out for a second one.
class Killed : public testing::Test {
 public:
  void SetUp() override {
    const TaskId first = script.ask(1);
    ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
    script.verdict(first, true);
    script.pass();
    before = residual_of(client);
    script.publish();
    task = script.ask(2, PlanKind::kTrain, 0);
    ASSERT_TRUE(script.until([&] { return script.frames() == 2; }));
    ASSERT_TRUE(client.state(kNumber).pending);
    EXPECT_EQ(residual_of(client), before) << "nothing is committed yet";
    after = client.state(kNumber).pending->next.residual;
    EXPECT_NE(after, before);
  }
  /// Starts it again, and waits until it is ready.
  TestClient& revive() {
    TestClient& last = again.empty() ? client : *again.back();
    const size_t readies = script.count<Ready>();
    again.push_back(restart(script, last, options));
    EXPECT_TRUE(script.until([&] { return script.count<Ready>() == readies + 1; }));
    return *again.back();
  }

  const TestClientOptions options{.evaluates = true};
  Script script;
  TestClient& client = script.ready(options);
  TaskId task = 0;
  std::vector<float> before, after;  // the residual, without the update and with it
  std::vector<std::unique_ptr<TestClient>> again;
};

TEST_F(Killed, ItSendsTheSameBytesWithoutTrainingAgain) {
  const UpdateMessage sent = script.heard<UpdateMessage>().back();
  for (size_t kills = 1; kills <= 3; ++kills) {
    const TestClient& revived = revive();
    EXPECT_EQ(script.ask(2), task);
    ASSERT_TRUE(script.until([&] { return script.frames() == 2 + kills; }))
        << revived.events.texts("task_refused");
    EXPECT_EQ(script.frame(1 + kills), script.frame(1));
    const UpdateMessage update = script.heard<UpdateMessage>().back();
    EXPECT_EQ(update.task, task);
    EXPECT_EQ(update.client, kNumber);
    EXPECT_EQ(update.report.examples, sent.report.examples);
    EXPECT_EQ(update.report.samples_trained, sent.report.samples_trained);
    EXPECT_EQ(update.report.steps, sent.report.steps);
    EXPECT_EQ(update.report.mean_loss, sent.report.mean_loss);
    EXPECT_TRUE(revived.training.tasks.empty());
    EXPECT_EQ(residual_of(revived), before);
  }
  TestClient& last = *again.back();
  script.verdict(task, true);
  script.pass();
  EXPECT_EQ(residual_of(last), after);
  EXPECT_EQ(last.state(kNumber).residual_round, 2u);
  EXPECT_EQ(last.state(kNumber).last_task_round, 2u);
  EXPECT_FALSE(last.state(kNumber).pending);
  EXPECT_EQ(client.training.tasks.size(), 2u);
  script.ask(3);
  EXPECT_TRUE(script.until([&] { return script.frames() == 6; }));
}

TEST_F(Killed, AWelcomeThatSaysCountedCommitsExactlyOnce) {
  script.welcome.last_task = task;
  script.welcome.last_fate = Fate::kCounted;
  for (int kills = 1; kills <= 3; ++kills) {
    TestClient& revived = revive();
    EXPECT_EQ(revived.events.count("verdict_received"), kills == 1 ? 1 : 0);
    script.verdict(task, true);
    script.pass();
    EXPECT_EQ(residual_of(revived), after);
    EXPECT_EQ(revived.state(kNumber).residual_round, 2u);
    EXPECT_FALSE(revived.state(kNumber).pending);
  }
  EXPECT_EQ(script.frames(), 2u) << "nobody asked for it again";
}

TEST_F(Killed, AWelcomeThatSaysRefusedRollsBack) {
  script.welcome.last_task = task;
  script.welcome.last_fate = Fate::kRefused;
  TestClient& revived = revive();
  EXPECT_EQ(residual_of(revived), before);
  EXPECT_EQ(revived.state(kNumber).residual_round, 1u);
  EXPECT_EQ(revived.state(kNumber).last_task_round, 2u);
  EXPECT_FALSE(revived.state(kNumber).pending);
  script.ask(3);
  ASSERT_TRUE(script.until([&] { return script.frames() == 3; }));
  EXPECT_EQ(revived.training.tasks.size(), 1u);
}

TEST_F(Killed, APlanOfALaterRoundRollsBackFirst) {
  TestClient& revived = revive();
  const TaskId third = script.ask(3);
  ASSERT_TRUE(script.until([&] { return script.frames() == 3; }));
  EXPECT_EQ(residual_of(revived), before);
  EXPECT_EQ(revived.state(kNumber).last_task_round, 2u);
  script.verdict(task, true);  // too late to matter
  script.pass();
  EXPECT_EQ(residual_of(revived), before);
  EXPECT_EQ(revived.state(kNumber).pending->message.task, third);
}

TEST_F(Killed, AnotherRunDropsTheUpdate) {
  script.welcome.run_id = script.run_id = kRun + 1;
  // Even if it says so of a task of the same number.
  script.welcome.last_task = task;
  script.welcome.last_fate = Fate::kCounted;
  TestClient& revived = revive();
  EXPECT_FALSE(revived.state(kNumber).pending);
  EXPECT_TRUE(residual_of(revived).empty());
  EXPECT_EQ(revived.events.count("verdict_received"), 0);
  (void)script.ask(2, PlanKind::kTrain, 0);
  ASSERT_TRUE(script.until([&] { return script.frames() == 3; }))
      << revived.events.texts("task_refused");
  EXPECT_EQ(revived.training.tasks.size(), 1u);
}

TEST_F(Killed, AnotherNumberDropsTheUpdateAndKeepsTheRest) {
  constexpr uint32_t kOther = 5;
  const ClientState state = client.state(kNumber);
  TestClient revived(script.loop, script.network, script.schema, script.key.public_key(),
                     peer_key(7), options);
  revived.work.keep_models(client.work.models());
  client.session->stop();
  script.pass();
  ASSERT_TRUE(revived.store.save(0, state).ok());
  ASSERT_TRUE(revived.store.save(kOther, state).ok());
  script.welcome.client = script.number = kOther;
  revived.start();
  ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 2; }));
  EXPECT_FALSE(revived.state(kOther).pending);
  EXPECT_EQ(revived.state(kOther).memory.residual, before);
  EXPECT_EQ(revived.state(kOther).held_version, 1u);
  script.ask(2);
  ASSERT_TRUE(script.until([&] { return script.frames() == 3; }))
      << revived.events.texts("task_refused");
  EXPECT_EQ(script.heard<UpdateMessage>().back().client, kOther);
  revived.session->stop();
}

TEST_F(Killed, AnEvaluationLeavesTheUpdateWaiting) {
  TestClient& evaluated = revive();
  script.ask(2, PlanKind::kEvaluate);
  ASSERT_TRUE(script.until([&] { return script.count<EvaluationReport>() == 1; }));
  ASSERT_TRUE(evaluated.state(kNumber).pending);
  EXPECT_EQ(*evaluated.state(kNumber).pending->frame, script.frame(1));
  TestClient& revived = revive();
  script.ask(2);
  ASSERT_TRUE(script.until([&] { return script.frames() == 3; }));
  EXPECT_EQ(script.frame(2), script.frame(1));
  script.verdict(task, true);
  script.pass();
  EXPECT_EQ(residual_of(revived), after);
  EXPECT_TRUE(evaluated.training.tasks.empty() && revived.training.tasks.empty());
}

TEST_F(Killed, AVerdictThatComesWhileItPreparesWaitsForTheReplica) {
  again.push_back(restart(script, client, options));
  TestClient& revived = *again.back();
  revived.loop.work_takes = minutes(1);
  ASSERT_TRUE(script.until([&] { return revived.loads == 1; }));
  script.welcome.last_task = task;
  script.welcome.last_fate = Fate::kCounted;
  revived.transport.cut();
  ASSERT_TRUE(script.until([&] { return script.count<Hello>() == 3; }));
  script.pass(seconds(10));
  EXPECT_EQ(revived.events.count("verdict_received"), 0);
  EXPECT_EQ(residual_of(revived), before);
  // It isn't forgotten when there is no connection any more.
  script.network.set_server_up(false);
  ASSERT_TRUE(script.until([&] { return revived.events.count("verdict_received") == 1; }));
  EXPECT_EQ(residual_of(revived), after);
  EXPECT_FALSE(revived.state(kNumber).pending);
}

TEST(ClientSession, AnUpdateIsStoredBeforeItsFirstByteLeaves) {
  Script script;
  TestClient& client = script.ready();
  int updates = 0;
  client.transport.on_way_out = [&](std::span<const std::byte> packet) {
    const std::optional<Message> message = read(packet);
    if (const auto* update = as<UpdateMessage>(message)) {
      ++updates;
      const std::optional<StoredUpdate>& pending = client.state(kNumber).pending;
      EXPECT_TRUE(pending && pending->message.task == update->task && pending->frame);
      return Cut::kCut;  // and nobody hears of it
    }
    return Cut::kPass;
  };
  const TaskId task = script.ask(1);
  ASSERT_TRUE(script.until([&] { return updates == 1 && script.count<Ready>() == 2; }));
  const std::unique_ptr<TestClient> revived = restart(script, client);
  ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 3; }));
  EXPECT_EQ(script.ask(1), task);
  ASSERT_TRUE(script.until([&] { return script.frames() == 1; }));
  EXPECT_EQ(script.frame(0), *revived->state(kNumber).pending->frame);
  EXPECT_TRUE(revived->training.tasks.empty());
}

TEST(ClientSession, KilledWithAFileItGoesOnFromTheFile) {
  std::string folder = std::filesystem::temp_directory_path() / "tern-session-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string file = folder + "/client.state";
  Script script;
  script.publish();
  std::vector<std::unique_ptr<TestClient>> clients;
  for (size_t life = 1; life <= 3; ++life) {
    TestClient& client = *clients.emplace_back(std::make_unique<TestClient>(
        script.loop, script.network, script.schema, script.key.public_key(), peer_key(7)));
    Result<FileClientStore> store =
        FileClientStore::open(file, script.schema.hash(), script.schema.elements(),
                              [&]() -> const HeldModels& { return client.work.models(); });
    ASSERT_TRUE(store) << store.error().describe();
    client.work.keep_models(store->take_models());
    const auto session =
        ClientSession::make({.schema_hash = script.schema.hash(),
                             .plans = std::make_shared<PlanCheck>(script.key.public_key())},
                            client.loop, client.transport, client.work, *store, client.events,
                            [](const Status& status) { ADD_FAILURE() << status.describe(); });
    session->start();
    ASSERT_TRUE(script.until([&] { return script.count<Ready>() == life; }));
    if (life < 3) {
      script.ask(1, PlanKind::kTrain, life == 1 ? 0 : 1);
      ASSERT_TRUE(script.until([&] { return script.frames() == life; }))
          << client.events.texts("task_refused");
      EXPECT_EQ(script.frame(life - 1), script.frame(0));
      script.welcome.last_task = script.heard<UpdateMessage>().back().task;
      script.welcome.last_fate = life == 2 ? Fate::kCounted : Fate::kOpen;
    } else {
      EXPECT_EQ(client.events.count("verdict_received"), 1);
      EXPECT_FALSE(store->load(0)->pending);
      EXPECT_FALSE(store->load(0)->memory.residual.empty());
    }
    EXPECT_EQ(client.training.tasks.size(), life == 1 ? 1u : 0u);
    session->stop();
    script.pass();
  }
  std::filesystem::remove_all(folder);
}

// ---- A store that fails

/// Fails from a given call on.
class FailingStore : public ClientStore {
 public:
  int good_calls = 0;
  Result<ClientState> load(uint32_t client) override {
    if (--good_calls < 0) return error(Code::kIo, "the disk is gone");
    return store_.load(client);
  }
  Status save(uint32_t client, ClientState state) override {
    if (--good_calls < 0) return error(Code::kNoSpace, "the disk is full");
    return store_.save(client, std::move(state));
  }

 private:
  MemoryClientStore store_;
};

TEST(ClientSession, AStoreThatFailsNeverMakesItGoOnAsIfNothingHadHappened) {
  // Two at the start, one for the run, two for each task and two for each verdict.
  for (int good = 0; good < 11; ++good) {
    Script script;
    TestClient& client = script.add_client();
    FailingStore store;
    store.good_calls = good;
    std::optional<Status> finished;
    const auto session =
        ClientSession::make({.schema_hash = script.schema.hash(),
                             .plans = std::make_shared<PlanCheck>(script.key.public_key())},
                            client.loop, client.transport, client.work, store, client.events,
                            [&](Status status) { finished = std::move(status); });
    session->start();
    for (uint32_t round = 1; round <= 2 && !finished; ++round) {
      if (!script.until([&] { return finished || script.count<Ready>() == 1; })) break;
      if (finished) break;
      const TaskId task = script.ask(round);
      (void)script.until(
          [&] { return finished || script.frames() == round || script.count<TaskFailure>() > 0; },
          minutes(1));
      if (finished || script.count<TaskFailure>() > 0) break;
      script.verdict(task, true);
      script.pass();
    }
    EXPECT_TRUE(finished || script.count<TaskFailure>() > 0) << good;
    if (finished) {
      EXPECT_THAT(finished->describe(), HasSubstr("the disk is"));
    }
    session->stop();
  }
}

TEST(ClientSession, AStoreThatFailsOnceCostsOneTask) {
  Script script;
  TestClient& client = script.add_client();
  FailingStore store;
  store.good_calls = 1000;
  std::optional<Status> finished;
  const auto session =
      ClientSession::make({.schema_hash = script.schema.hash(),
                           .plans = std::make_shared<PlanCheck>(script.key.public_key())},
                          client.loop, client.transport, client.work, store, client.events,
                          [&](Status status) { finished = std::move(status); });
  session->start();
  ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 1; }));
  store.good_calls = 0;
  script.ask(1);
  ASSERT_TRUE(script.until([&] { return script.count<TaskFailure>() == 1; }));
  EXPECT_THAT(client.events.texts("task_refused"), HasSubstr("the disk is gone"));
  store.good_calls = 1000;
  script.ask(2);
  EXPECT_TRUE(script.until([&] { return script.frames() == 1; }))
      << client.events.texts("task_refused");
  EXPECT_FALSE(finished);
  session->stop();
}

// ---- Evaluations that can't be reported

class OddEvaluator : public Evaluator {
 public:
  OddEvaluator(uint32_t examples, float loss) : examples_(examples), loss_(loss) {}
  size_t part_count() const override { return 1; }
  Result<EvaluationPart> evaluate(std::span<const float>, size_t) override {
    return EvaluationPart{.predicted = std::vector<uint32_t>(examples_),
                          .loss = std::vector<float>(examples_, loss_)};
  }

 private:
  uint32_t examples_;
  float loss_;
};

TEST(ClientSession, AReportThatNoMessageCanHoldIsAFailureAndNotTheEndOfTheClient) {
  for (const auto& [classes, loss] :
       {std::pair<uint32_t, float>{2, std::numeric_limits<float>::infinity()},
        {2, std::numeric_limits<float>::quiet_NaN()},
        {5000, 1.0f},
        {1500, 1.0f}}) {
    Script script;
    TestClient& client = script.add_client();
    DeviceWork work(script.schema, [&](const Welcome&) -> Result<DeviceData> {
      DeviceData data{.test_labels = std::vector<uint32_t>(3), .classes = classes};
      data.evaluator = std::make_unique<OddEvaluator>(3, loss);
      return data;
    });
    std::optional<Status> finished;
    const auto session =
        ClientSession::make({.schema_hash = script.schema.hash(),
                             .plans = std::make_shared<PlanCheck>(script.key.public_key())},
                            client.loop, client.transport, work, client.store, client.events,
                            [&](Status status) { finished = std::move(status); });
    session->start();
    ASSERT_TRUE(script.until([&] { return script.count<Ready>() == 1; }));
    script.ask(1, PlanKind::kEvaluate);
    ASSERT_TRUE(script.until([&] { return script.count<TaskFailure>() == 1; })) << classes;
    EXPECT_EQ(script.heard<TaskFailure>()[0].reason.code(), Code::kOutOfRange);
    EXPECT_EQ(script.count<EvaluationReport>(), 0u);
    EXPECT_FALSE(finished);
    session->stop();
  }
}

}  // namespace
}  // namespace tern
