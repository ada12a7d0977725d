// A coordinator that is killed goes on from its journal. What a crash leaves is a prefix of the
// journal's rows (journal_test.cc sees to that), so these tests go on from every prefix: whatever
// the coordinator was doing then, the run must end with the bits of one that was never interrupted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "base/rng.h"
#include "coordinator/run_log.h"
#include "coordinator/run_replay.h"
#include "tests/coordinator/federation.h"
#include "tests/coordinator/journal/flip_bit.h"

namespace tern {
namespace {

using testing::HasSubstr;

/// The scenario and the schema of a run state that a test holds itself.
struct Recovered {
  Recovered(const FederationOptions& options, const std::string& folder, bool from_start = false)
      : schema(test_schema(options.elements)),
        scenario(Federation(options).scenario()),
        journal(Journal::open(folder).value()),
        state(RunState::make({.scenario = scenario,
                              .schema = schema,
                              .clients = options.clients,
                              .workers = options.workers})
                  .value()),
        run(replay(journal, *state, {.from_start = from_start})) {}

  const ParameterSchema schema;
  const Scenario scenario;
  Journal journal;
  std::unique_ptr<RunState> state;
  Result<ReplayedRun> run;
};

class RecoveryTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = std::filesystem::temp_directory_path() /
            fmt::format("tern-recovery-{}-{}", info->name(), ::getpid());
    std::filesystem::remove_all(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  std::string folder(const std::string& name) const { return (root_ / name).string(); }

  /// Runs to the end with the journal in `name`, going on with what is there. Returns the hash of
  /// the model.
  std::string run(const FederationOptions& options, const std::string& name,
                  uint32_t keep_rounds = 0) {
    Recovered recovered(options, folder(name));
    EXPECT_TRUE(recovered.run) << recovered.run.error().describe();
    if (!recovered.run) return "";
    Federation federation(options);
    federation.add_clients();
    for (size_t i = 0; i < federation.clients.size(); ++i)
      federation.clients[i]->loop.work_takes = work_takes_ * (1 << i);
    RunLog log(std::move(recovered.journal), keep_rounds);
    federation.open({}, [&](CoordinatorSetup& setup) {
      setup.log = &log;
      setup.state = std::move(recovered.state);
      setup.replayed = *std::move(recovered.run);
    });
    federation.run();
    commits_ = log.commits();
    const std::string hash = to_hex(federation.coordinator->model().sha256());
    EXPECT_EQ(hash, to_hex(sha256(std::span<const float>(federation.parameters()))));
    rounds_ = federation.coordinator->round();
    learned_ = federation.coordinator->state().experiences;
    federation.coordinator.reset();
    return hash;
  }

  /// Whether the journal is taken, from its last state and from its first row alike.
  bool recovers(const std::string& name, const FederationOptions& options) {
    for (const bool from_start : {false, true}) {
      Result<Journal> journal = Journal::open(folder(name));
      if (!journal) return false;
      const ParameterSchema schema = test_schema(options.elements);
      const Scenario scenario = Federation(options).scenario();
      const auto state =
          RunState::make({.scenario = scenario, .schema = schema, .clients = options.clients})
              .value();
      if (!replay(*journal, *state, {.from_start = from_start})) return false;
    }
    return true;
  }

  struct Row {
    uint32_t kind = 0, round = 0;
    Bytes body;
  };
  std::vector<Row> rows_of(const std::string& name) {
    std::vector<Row> rows;
    Journal journal = Journal::open(folder(name)).value();
    EXPECT_TRUE(journal
                    .read(1,
                          [&](uint64_t, const JournalRecord& record) -> Status {
                            rows.push_back({record.kind,
                                            record.round,
                                            {record.body.begin(), record.body.end()}});
                            return {};
                          })
                    .ok());
    return rows;
  }
  /// A journal of these rows, with the blobs of `from`.
  void write_rows(const std::string& name, const std::string& from, std::span<const Row> rows) {
    std::filesystem::remove_all(folder(name));
    std::filesystem::create_directories(folder(name));
    std::filesystem::copy(folder(from) + "/blobs", folder(name) + "/blobs",
                          std::filesystem::copy_options::recursive);
    Journal journal = Journal::open(folder(name)).value();
    std::vector<JournalRecord> records;
    for (const Row& row : rows) records.push_back({row.kind, row.round, row.body});
    ASSERT_TRUE(journal.append(records));
  }

  /// Goes on from every so many rows of a whole run's.
  void expect_the_same_after_cuts(const FederationOptions& options, size_t step) {
    const std::string expected = run(options, "whole");
    const std::vector<Row> rows = rows_of("whole");
    for (size_t kept = 1; kept < rows.size(); kept += step) {
      write_rows("cut", "whole", std::span(rows).first(kept));
      EXPECT_EQ(run(options, "cut"), expected) << "after row " << kept;
    }
  }

  std::filesystem::path root_;
  Duration work_takes_{};  ///< of the first client; of each other twice that of the one before
  uint64_t commits_ = 0;
  uint32_t rounds_ = 0;
  ClientExperiences learned_;  ///< by the run that was last
};

FederationOptions small_run() {
  return {.clients = 4, .rounds = 4, .up = "float32", .down = "ef | topk:0.25 | ternary | rice"};
}

TEST_F(RecoveryTest, EveryPrefixOfTheJournalLeadsToTheSameModel) {
  Federation undisturbed(small_run());
  undisturbed.add_clients();
  undisturbed.run();
  const std::string expected = to_hex(undisturbed.coordinator->model().sha256());
  EXPECT_EQ(run(small_run(), "whole"), expected) << "a journal changes nothing";

  const std::vector<Row> rows = rows_of("whole");
  ASSERT_GT(rows.size(), 1u + 4 * (1 + 4 + 3));
  int states = 0;
  for (size_t kept = 0; kept <= rows.size(); ++kept) {
    write_rows("cut", "whole", std::span(rows).first(kept));
    if (kept > 0 && rows[kept - 1].kind == kStateKind) {
      EXPECT_EQ(Recovered(small_run(), folder("cut")).state->largest_examples(), 8u)
          << "what an update can weigh isn't settled anew by whoever is there first";
    }
    EXPECT_EQ(run(small_run(), "cut"), expected) << "after row " << kept;
    EXPECT_EQ(rounds_, 4u);
    const Recovered again(small_run(), folder("cut"), true);
    ASSERT_TRUE(again.run) << again.run.error().describe();
    EXPECT_EQ(again.run->versions, 4u) << "every version is computed anew";
    EXPECT_EQ(again.run->updates, 16u) << "none is lost, none is counted twice";
    EXPECT_EQ(to_hex(again.state->model().sha256()), expected);
    if (kept < rows.size()) states += rows[kept].kind == kStateKind;
  }
  EXPECT_GT(states, 0) << "the prefixes go across a saved state, too";
}

TEST_F(RecoveryTest, ErrorFeedbackOfTheServerAndItsMomentumAreThere) {
  FederationOptions options = small_run();
  options.rounds = 6;
  options.up = "rotate:1024 | eden:4";
  expect_the_same_after_cuts(options, 5);
}

TEST_F(RecoveryTest, KeyframesThatLaterVersionsStandOnAreThere) {
  FederationOptions options = small_run();
  options.rounds = 9;
  options.down = "topk:0.1 | ternary | rice";
  options.keyframe = "topk:0.25 | ternary | rice; ef | topk:0.5 | ternary | rice";
  options.keyframe_every = {2, 4};
  expect_the_same_after_cuts(options, 3);
}

/// Who is counted when depends on who is fast, and a restart takes time from everybody; but
/// whatever was counted stays so, once, and the journal leads to the model that was published.
TEST_F(RecoveryTest, AsynchronousRoundsGoOnFromEveryPrefix) {
  for (const char* schedule : {"late-credit", "fedbuff"}) {
    FederationOptions options = small_run();
    options.schedule = schedule;
    options.clients = 6;
    options.cohort = 2;
    options.over_select = 1.5;
    options.rounds = 6;
    options.max_staleness = 2;
    options.largest_examples = 8;
    work_takes_ = std::chrono::seconds(1);
    run(options, "whole");
    const std::vector<Row> rows = rows_of("whole");
    EXPECT_EQ(std::ranges::any_of(rows, [](const Row& row) { return row.kind == 9; }),
              options.schedule == "fedbuff");
    int older = 0;  // counted in a round that didn't ask for them
    for (size_t kept = 0; kept <= rows.size(); ++kept) {
      SCOPED_TRACE(testing::Message() << schedule << ", after row " << kept);
      write_rows("cut", "whole", std::span(rows).first(kept));
      const std::string model = run(options, "cut");
      EXPECT_EQ(rounds_, 6u);
      for (const bool from_start : {true, false}) {
        const Recovered again(options, folder("cut"), from_start);
        ASSERT_TRUE(again.run) << again.run.error().describe();
        EXPECT_EQ(to_hex(again.state->model().sha256()), model);
      }
      const ParameterSchema schema = test_schema(options.elements);
      const Scenario scenario = Federation(options).scenario();
      const auto state =
          RunState::make({.scenario = scenario, .schema = schema, .clients = options.clients})
              .value();
      std::set<TaskId> counted;
      ReplayOptions replayed{.from_start = true};
      replayed.round_ended = [&](const ReplayedRound& round) {
        EXPECT_EQ(round.counted.size(), 2u);
        for (size_t i = 0; i < round.counted.size(); ++i) {
          const TaskId task = task_id(scenario.seed, round.asked_in[i], round.counted[i]);
          EXPECT_TRUE(counted.insert(task).second) << "none is counted twice";
          older += round.asked_in[i] < round.round;
        }
      };
      Journal journal = Journal::open(folder("cut")).value();
      const auto whole = replay(journal, *state, replayed);
      ASSERT_TRUE(whole) << whole.error().describe();
      EXPECT_EQ(whole->versions, 6u) << "every version is computed anew";
      EXPECT_EQ(counted.size(), 12u);
      // What its client was told in the prefix is in the run that goes on.
      for (size_t row = 0; row < kept; ++row) {
        if (rows[row].kind != 3) continue;
        const JournalRecord record{rows[row].kind, rows[row].round, rows[row].body};
        const RunRecord update = parse_record(record, journal.blobs()).value();
        EXPECT_TRUE(counted.contains(std::get<UpdateRecord>(update).message.task));
      }
    }
    EXPECT_GT(older, 0) << "tasks have outlived their rounds";
    std::filesystem::remove_all(folder("whole"));
  }
}

TEST_F(RecoveryTest, WhatSelectionLearnsIsThere) {
  FederationOptions options = small_run();
  options.clients = 8;
  options.cohort = 2;
  options.over_select = 1.5;  // somebody is late in each round
  options.rounds = 8;
  options.selection = "oort";
  options.deadline_quantile = 0.9;
  options.largest_examples = 8;
  work_takes_ = std::chrono::milliseconds(10);
  run(options, "whole");
  EXPECT_TRUE(std::ranges::any_of(learned_, [](const auto& one) { return one.second.misses > 0; }));
  EXPECT_TRUE(
      std::ranges::any_of(learned_, [](const auto& one) { return one.second.examples > 0; }));
  const ClientExperiences live = learned_;
  for (const bool from_start : {true, false}) {
    const Recovered again(options, folder("whole"), from_start);
    ASSERT_TRUE(again.run) << again.run.error().describe();
    EXPECT_EQ(to_json(again.state->selector().state()), to_json(live));
  }
  const std::vector<Row> rows = rows_of("whole");
  for (size_t kept = 1; kept < rows.size(); kept += 4) {
    write_rows("cut", "whole", std::span(rows).first(kept));
    run(options, "cut");
    EXPECT_EQ(rounds_, 8u);
    const Recovered again(options, folder("cut"), true);
    ASSERT_TRUE(again.run) << again.run.error().describe();
    EXPECT_EQ(to_json(again.state->selector().state()), to_json(learned_)) << "after row " << kept;
  }
}

TEST_F(RecoveryTest, ASavedStateKnowsTheTasksThatAreOpen) {
  StateRecord state{.open = {{3, {.task = ~uint64_t{0}, .round = 7, .version = 6}},
                             {5, {.task = 1, .round = 9, .version = 9}}},
                    .notes = {}};
  state.state.model.parameters = state.state.model.residual =
      std::make_shared<const std::vector<float>>();
  Journal journal = Journal::open(folder("state")).value();
  ASSERT_TRUE(append_records(journal, {state, AskedRecord{.round = 10, .client = 4}}));
  std::vector<RunRecord> read;
  ASSERT_TRUE(journal
                  .read(1,
                        [&](uint64_t, const JournalRecord& row) -> Status {
                          read.push_back(parse_record(row, journal.blobs()).value());
                          return {};
                        })
                  .ok());
  const OpenTasks& open = std::get<StateRecord>(read.at(0)).open;
  ASSERT_EQ(open.size(), 2u);
  EXPECT_EQ(open.at(3).task, ~uint64_t{0});
  EXPECT_EQ(open.at(3).round, 7u);
  EXPECT_EQ(open.at(3).version, 6u);
  EXPECT_EQ(std::get<AskedRecord>(read.at(1)).round, 10u);
  EXPECT_EQ(std::get<AskedRecord>(read.at(1)).client, 4u);
}

// Otherwise the first step after a restart would read beyond the vector.
TEST_F(RecoveryTest, ASavedStepOfTheServerHasTheLengthOfTheModel) {
  const Recovered recovered(small_run(), folder("lengths"));
  const CoordinatorState saved = recovered.state->state(0);
  EXPECT_TRUE(recovered.state->restore(saved).ok());
  CoordinatorState state = saved;
  state.optimizer.momentum = {1};
  EXPECT_EQ(recovered.state->restore(state).code(), Code::kCorrupt);
  state = saved;
  state.optimizer.lag = {1};
  EXPECT_EQ(recovered.state->restore(state).code(), Code::kCorrupt);
  state = saved;
  state.optimizer.estimate = {1};
  EXPECT_EQ(recovered.state->restore(state).code(), Code::kCorrupt);
}

TEST_F(RecoveryTest, AVoidRoundStaysVoid) {
  FederationOptions options = small_run();
  options.min_updates = 4;
  options.deadline_seconds = 5;
  options.start_when = 3;
  const std::string journal = "void";
  {
    Recovered recovered(options, folder(journal));
    ASSERT_TRUE(recovered.run);
    Federation federation(options);
    federation.add_clients();
    federation.clients[3]->training.fail = [](const TrainTask& task) -> Status {
      return task.round == 2 ? Status(Code::kInvalidArgument, "no battery") : Status();
    };
    RunLog log(std::move(recovered.journal), 0);
    federation.open({}, [&](CoordinatorSetup& setup) { setup.log = &log; });
    federation.run();
    EXPECT_EQ(federation.events.count("round_void"), 1);
    federation.coordinator.reset();
  }
  const Recovered again(options, folder(journal), true);
  ASSERT_TRUE(again.run) << again.run.error().describe();
  EXPECT_EQ(again.run->versions, 3u);
  EXPECT_EQ(again.run->updates, 15u) << "what a void round had is kept, but in no version";
}

TEST_F(RecoveryTest, LargeFramesLieInBlobs) {
  FederationOptions options = small_run();
  options.elements = 40'000;
  const std::string expected = run(options, "whole");
  size_t blobs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder("whole") + "/blobs"))
    blobs += entry.is_regular_file();
  EXPECT_GE(blobs, 4u) << "the clients' constants are the same in each round: 4 frames, and states";
  const std::vector<Row> rows = rows_of("whole");
  write_rows("cut", "whole", std::span(rows).first(rows.size() / 2));
  EXPECT_EQ(run(options, "cut"), expected);
}

TEST_F(RecoveryTest, AfterABlobThatCouldNotBeWrittenNothingFollows) {
  const std::string name = folder("log"), blobs = name + "/blobs";
  ThreadPool pool(1);
  VirtualLoop loop(pool);
  std::vector<Status> told;
  const auto note = [&](const Status& status) { told.push_back(status); };
  {
    RunLog log(Journal::open(name).value(), 0);
    log.write(loop, RunOrigin{.config_sha256 = "of a run"}, note);
    ASSERT_TRUE(loop.run_until([&] { return told.size() == 1; }).ok());
    ASSERT_TRUE(told[0].ok());
    std::filesystem::rename(blobs, blobs + "-away");
    UpdateRecord update{.round = 1, .transfer = std::make_shared<const Bytes>(kInlineBytes + 1)};
    log.write(loop, update, note);
    // Waits while the update is written, and rests on it.
    log.write(loop, ClosedRecord{.round = 1, .counted = 1}, note);
    ASSERT_TRUE(loop.run_until([&] { return told.size() == 2; }).ok());
    std::filesystem::rename(blobs + "-away", blobs);
    log.write(loop, ClosedRecord{.round = 1, .counted = 1}, note);
    ASSERT_TRUE(loop.run_until([&] { return told.size() == 4; }).ok());
    for (size_t i = 1; i < told.size(); ++i) EXPECT_EQ(told[i].code(), told[1].code()) << i;
    EXPECT_FALSE(told[1].ok());
  }
  EXPECT_EQ(rows_of("log").size(), 1u);
}

TEST_F(RecoveryTest, LongUpdatesGoToTheDiskAsTheyCome) {
  FederationOptions options = small_run();
  options.elements = 400'000;  // an update is longer than what may be on the way of it
  options.workers = 2;
  Federation undisturbed(options);
  undisturbed.add_clients();
  undisturbed.run();
  const std::string expected = to_hex(undisturbed.coordinator->model().sha256());
  EXPECT_EQ(run(options, "whole"), expected);
  for (const auto& entry : std::filesystem::directory_iterator(folder("whole") + "/blobs"))
    EXPECT_EQ(entry.path().filename().native().size(), 64u) << entry.path();
  const std::vector<Row> rows = rows_of("whole");
  for (const size_t kept : {size_t{4}, rows.size() / 2, rows.size() - 3}) {
    write_rows("cut", "whole", std::span(rows).first(kept));
    EXPECT_EQ(run(options, "cut"), expected) << "after row " << kept;
  }
  const Recovered again(options, folder("whole"), true);
  ASSERT_TRUE(again.run) << again.run.error().describe();
  EXPECT_EQ(to_hex(again.state->model().sha256()), expected);
}

/// Reads a run's journal as a coordinator that starts does. TERN_JOURNAL_FLIPS: how many bits.
TEST_F(RecoveryTest, OneChangedBitNeverLeadsToAnotherModel) {
  FederationOptions options = small_run();
  options.elements = 20'000;  // frames and states lie in blobs
  std::string expected;
  {
    Recovered recovered(options, folder("run"));
    Federation federation(options);
    federation.add_clients();
    RunLog log(std::move(recovered.journal), 0);
    federation.open({}, [&](CoordinatorSetup& setup) { setup.log = &log; });
    federation.run();
    expected = to_hex(federation.coordinator->model().sha256());
    federation.coordinator.reset();
    // As a kill leaves it, with its log.
    std::filesystem::copy(folder("run"), folder("whole"), std::filesystem::copy_options::recursive);
  }
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder("whole")))
    if (entry.is_regular_file() && entry.file_size() > 0)
      files.push_back(std::filesystem::relative(entry.path(), folder("whole")).string());
  std::ranges::sort(files);
  ASSERT_GE(files.size(), 2u + 4u + 1u) << "database, its log, a frame of each client, a state";
  const char* const wanted = std::getenv("TERN_JOURNAL_FLIPS");
  const size_t flips = wanted != nullptr ? std::strtoul(wanted, nullptr, 10) : 60;
  Rng rng(4, Purpose::kTest);
  size_t refused = 0, same = 0;
  for (size_t i = 0; i < flips; ++i) {
    const std::string& file = files[i % files.size()];
    std::filesystem::remove_all(folder("flipped"));
    std::filesystem::copy(folder("whole"), folder("flipped"),
                          std::filesystem::copy_options::recursive);
    const std::string at = folder("flipped") + "/" + file;
    const uint32_t bit = rng.below(static_cast<uint32_t>(8 * std::filesystem::file_size(at)));
    SCOPED_TRACE(testing::Message() << "bit " << bit << " of " << file);
    flip_bit(at, bit);
    if (!recovers("flipped", options)) {
      ++refused;
      continue;
    }
    // An unfinished end is made anew.
    ASSERT_EQ(run(options, "flipped"), expected);
    ++same;
  }
  fmt::print("{} flips: {} refused, {} led to the same model\n", flips, refused, same);
  EXPECT_GT(refused, flips / 2);
}

TEST_F(RecoveryTest, OldRoundsAreForgottenWithTheirBlobsAndTheRunGoesOn) {
  FederationOptions options = small_run();
  options.rounds = 12;
  options.elements = 40'000;
  const std::string expected = run(options, "all");
  EXPECT_EQ(run(options, "some", 2), expected);
  const std::vector<Row> some = rows_of("some");
  EXPECT_LT(some.size(), rows_of("all").size() / 2);
  EXPECT_EQ(some.front().kind, kStateKind);
  const Recovered again(options, folder("some"), true);
  ASSERT_TRUE(again.run) << again.run.error().describe();
  EXPECT_EQ(to_hex(again.state->model().sha256()), expected);
  EXPECT_GE(again.run->versions, 2u);
}

TEST_F(RecoveryTest, AnotherModelIsRefused) {
  run(small_run(), "whole");
  FederationOptions other = small_run();
  other.elements = 32;
  const Recovered recovered(other, folder("whole"));
  ASSERT_FALSE(recovered.run);
  EXPECT_THAT(recovered.run.error().describe(), HasSubstr("another model"));
}

TEST_F(RecoveryTest, ARecordThatContradictsTheOthersIsRefusedWithItsRow) {
  run(small_run(), "whole");
  std::vector<Row> rows = rows_of("whole");
  // One update goes in twice: each row's hash is right, the story isn't.
  for (size_t i = 0; i < rows.size(); ++i)
    if (rows[i].kind == 3) {
      rows.insert(rows.begin() + static_cast<ptrdiff_t>(i), rows[i]);
      break;
    }
  write_rows("doubled", "whole", rows);
  const Recovered recovered(small_run(), folder("doubled"), true);
  ASSERT_FALSE(recovered.run);
  EXPECT_EQ(recovered.run.error().code(), Code::kCorrupt);
  EXPECT_THAT(recovered.run.error().describe(), HasSubstr("row 4"));
  EXPECT_THAT(recovered.run.error().describe(), HasSubstr("no open task"));
}

TEST_F(RecoveryTest, AVersionThatCameOutOtherwiseIsRefused) {
  run(small_run(), "whole");
  std::vector<Row> rows = rows_of("whole");
  for (Row& row : rows)
    if (row.kind == 6) {
      row.body.back() = std::byte{'}'};
      auto* text = reinterpret_cast<char*>(row.body.data());
      const std::string_view body(text, row.body.size());
      const size_t at = body.find("sha256\":\"") + 9;
      text[at] = text[at] == '0' ? '1' : '0';
      break;
    }
  write_rows("other", "whole", rows);
  const Recovered recovered(small_run(), folder("other"), true);
  ASSERT_FALSE(recovered.run);
  EXPECT_THAT(recovered.run.error().describe(), HasSubstr("its updates lead to"));
}

}  // namespace
}  // namespace tern
