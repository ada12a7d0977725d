// What a device finds of its run after it was stopped in any way, and what it refuses to go on
// from.
#include "client/file_client_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "base/bytes.h"
#include "base/durable_file.h"
#include "base/sha256.h"

namespace tern {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

constexpr uint64_t kStoredSchema = 0x5C;
constexpr size_t kStoredElements = 6, kVersionAt = 4, kPendingAt = 92;

class FileStore : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = fs::temp_directory_path() / "tern-store-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    path_ = folder_ / "client.state";
  }
  void TearDown() override { fs::remove_all(folder_); }

  Result<FileClientStore> open(size_t elements = kStoredElements) const {
    return FileClientStore::open(path_, kStoredSchema, elements,
                                 [this]() -> const HeldModels& { return models_; });
  }
  void save(const ClientState& state) const {
    Result<FileClientStore> store = open();
    ASSERT_TRUE(store) << store.error().describe();
    ASSERT_TRUE(store->save(0, state).ok());
  }
  Bytes content() const { return read_file(path_).value(); }
  void put(const Bytes& content) const {
    ASSERT_TRUE(write_durably(path_, std::span<const std::byte>(content)).ok());
  }
  /// With a checksum that fits: what another program could have written.
  void put_signed(Bytes content) const {
    ASSERT_GE(content.size(), sizeof(Digest));
    const auto body = std::span(content).first(content.size() - sizeof(Digest));
    const Digest digest = sha256(std::span<const std::byte>(body));
    std::ranges::copy(digest, content.end() - sizeof(Digest));
    put(content);
  }
  std::string refusal() const {
    const Result<FileClientStore> store = open();
    return store ? "taken" : store.error().describe();
  }

  static SharedModel model(uint32_t version, std::vector<float> parameters) {
    return std::make_shared<const PublishedModel>(
        PublishedModel{.version = version, .parameters = std::move(parameters)});
  }
  /// A keyframe, and what the replica is at.
  HeldModels models_{{2, model(2, {1, 2, 3, 4, 5, 6})}, {3, model(3, {2, 2, 3, 4, 5, 7})}};

 private:
  fs::path folder_;
  std::string path_;
};

/// With every field set; what belongs to the update begins at kPendingAt.
ClientState full_state() {
  ClientState state{
      .run_id = 7, .held_version = 3, .last_task_round = 4, .residual_round = 2, .memory = {}};
  state.memory.residual = {6, 5, 4, 3, 2, 1};
  state.pending = StoredUpdate{
      .message = {.task = 0xABCDEF,
                  .client = 2,
                  .report = {.examples = 8, .samples_trained = 40, .steps = 5, .mean_loss = 0.25}},
      .round = 5,
      .frame = std::make_shared<const Bytes>(Bytes(100, std::byte{9})),
      .next = {}};
  state.pending->next.residual16 = {1, 2, 3, 4, 5, 6};
  state.pending->next.momentum = {1, 1, 2, 2, 3, 3};
  state.pending->next.factors = {8, 9};
  return state;
}

void expect_same(const SenderMemory& a, const SenderMemory& b) {
  EXPECT_EQ(a.residual, b.residual);
  EXPECT_EQ(a.residual16, b.residual16);
  EXPECT_EQ(a.momentum, b.momentum);
  EXPECT_EQ(a.factors, b.factors);
}

TEST_F(FileStore, BringsBackAnUpdateThatWaitsForItsVerdict) {
  const ClientState saved = full_state();
  save(saved);
  Result<FileClientStore> store = open();
  ASSERT_TRUE(store) << store.error().describe();
  const HeldModels models = store->take_models();
  ASSERT_EQ(models.size(), 2u);
  for (const auto& [version, model] : models)
    EXPECT_EQ(model->parameters, models_.at(version)->parameters);
  const Result<ClientState> state = store->load(0);
  ASSERT_TRUE(state);
  EXPECT_EQ(state->run_id, 7u);
  EXPECT_EQ(state->held_version, 3u);
  EXPECT_EQ(state->last_task_round, 4u);
  EXPECT_EQ(state->residual_round, 2u);
  expect_same(state->memory, saved.memory);
  ASSERT_TRUE(state->pending);
  EXPECT_EQ(state->pending->message.task, 0xABCDEFu);
  EXPECT_EQ(state->pending->message.client, 2u);
  EXPECT_EQ(state->pending->message.report.examples, 8u);
  EXPECT_EQ(state->pending->message.report.samples_trained, 40u);
  EXPECT_EQ(state->pending->message.report.steps, 5u);
  EXPECT_EQ(state->pending->message.report.mean_loss, 0.25);
  EXPECT_EQ(state->pending->round, 5u);
  EXPECT_EQ(*state->pending->frame, *saved.pending->frame);
  expect_same(state->pending->next, saved.pending->next);
}

TEST_F(FileStore, WithoutAnUpdateThereIsNone) {
  ClientState state = full_state();
  save(state);
  state.pending.reset();
  save(state);
  Result<FileClientStore> store = open();
  ASSERT_TRUE(store) << store.error().describe();
  EXPECT_FALSE(store->load(0)->pending);
}

TEST_F(FileStore, TheLargestStateCanBeReadAgain) {
  ClientState state = full_state();
  state.memory.momentum = state.memory.factors = state.memory.residual;
  state.pending->next = state.memory;
  state.pending->frame = std::make_shared<const Bytes>(Bytes(16 * kStoredElements + 4096));
  for (uint32_t version = 4; version < 8; ++version)
    models_[version] = model(version, {1, 2, 3, 4, 5, 6});
  state.held_version = 7;
  save(state);
  EXPECT_EQ(refusal(), "taken");
}

TEST_F(FileStore, AVersionWithoutItsModelIsDownloadedAgain) {
  models_.erase(3);
  save(full_state());
  Result<FileClientStore> store = open();
  ASSERT_TRUE(store) << store.error().describe();
  EXPECT_EQ(store->load(0)->held_version, 0u);
  EXPECT_TRUE(store->take_models().empty());
}

TEST_F(FileStore, MoreModelsThanThereAreLevelsAreRefused) {
  for (uint32_t version = 4; version < 9; ++version)
    models_[version] = model(version, {1, 2, 3, 4, 5, 6});
  save(full_state());
  EXPECT_THAT(refusal(), HasSubstr("is damaged; move it away"));
}

TEST_F(FileStore, AFlippedByteAnywhereIsRefused) {
  save(full_state());
  const Bytes whole = content();
  for (size_t at = 0; at < whole.size(); ++at) {
    Bytes damaged = whole;
    damaged[at] ^= std::byte{0x10};
    put(damaged);
    EXPECT_THAT(refusal(),
                AllOf(HasSubstr("is damaged: its checksum doesn't fit"), HasSubstr("move it away")))
        << at;
  }
}

TEST_F(FileStore, AFileThatIsCutOffIsRefused) {
  save(full_state());
  const Bytes whole = content();
  for (size_t size = 0; size < whole.size(); ++size) {
    put(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)));
    EXPECT_THAT(refusal(), HasSubstr(size < 32 ? "is cut off" : "is damaged")) << size;
  }
  // And so is one whose checksum fits what is left.
  for (size_t size = 32; size < whole.size(); ++size) {
    put_signed(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)));
    EXPECT_NE(refusal(), "taken") << size;
  }
}

TEST_F(FileStore, LengthsThatNoModelOfThisSizeHasAreRefused) {
  const ClientState good = full_state();
  const std::function<void(ClientState&)> bad[] = {
      [](ClientState& state) { state.memory.residual.pop_back(); },
      [](ClientState& state) { state.pending->next.residual16.pop_back(); },
      [](ClientState& state) { state.pending->next.momentum.push_back(1); },
      [](ClientState& state) { state.pending->next.factors.resize(kStoredElements + 1); },
      [](ClientState& state) { state.pending->next.residual = state.memory.residual; },
      [](ClientState& state) { state.pending->frame = std::make_shared<const Bytes>(); },
      [](ClientState& state) {
        state.pending->frame = std::make_shared<const Bytes>(Bytes(16 * kStoredElements + 4097));
      }};
  Result<FileClientStore> store = open();
  for (const auto& change : bad) {
    ClientState state = good;
    change(state);
    ASSERT_TRUE(store->save(0, state).ok());
    EXPECT_THAT(refusal(), HasSubstr("is damaged; move it away")) << &change - bad;
  }
  ASSERT_TRUE(store->save(0, good).ok());
  EXPECT_EQ(refusal(), "taken");
  Bytes neither = content();
  ASSERT_EQ(neither.at(kPendingAt), std::byte{1});
  neither[kPendingAt] = std::byte{2};
  put_signed(neither);
  EXPECT_THAT(refusal(), HasSubstr("is damaged; move it away"));
}

TEST_F(FileStore, AFileOfAnotherVersionOrModelIsRefused) {
  save(full_state());
  Bytes older = content();
  store<uint32_t>(older.data() + kVersionAt, 3);
  put_signed(older);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("is not a client's state of this program's version"),
                               HasSubstr("move it away to begin the run anew")));
  store<uint32_t>(older.data() + kVersionAt, 4);
  older[8] ^= std::byte{1};
  put_signed(older);
  EXPECT_THAT(refusal(), HasSubstr("is of another model"));
}

}  // namespace
}  // namespace tern
