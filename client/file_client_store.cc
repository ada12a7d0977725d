#include "client/file_client_store.h"

#include <cstring>

#include "base/bytes.h"
#include "base/durable_file.h"
#include "base/sha256.h"

namespace tern {

namespace {

constexpr uint32_t kMagic = 0x534E5254;  // "TRNS"
constexpr uint32_t kVersion = 4;
/// Of a replica: the version that it is at and a keyframe of each level, or the root.
constexpr size_t kMostModels = 2 + VersionTree::kMostLevels;
constexpr size_t kDigestBytes = 32;

template <typename T>
void put(std::vector<std::byte>& to, const T& value) {
  const auto* from = reinterpret_cast<const std::byte*>(&value);
  to.insert(to.end(), from, from + sizeof value);
}

template <typename T>
void put_array(std::vector<std::byte>& to, std::span<const T> values) {
  put(to, static_cast<uint64_t>(values.size()));
  const auto bytes = std::as_bytes(values);
  to.insert(to.end(), bytes.begin(), bytes.end());
}

/// False when the bytes end before the values do, or there are more than `most`.
template <typename T>
bool take_array(ByteReader& reader, size_t most, std::vector<T>& values) {
  const auto count = reader.take<uint64_t>();
  if (count > most) return false;
  const auto bytes = reader.take_bytes(count * sizeof(T));
  if (!reader.ok()) return false;
  values.resize(count);
  if (count > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
  return true;
}

void put_memory(std::vector<std::byte>& to, const SenderMemory& memory) {
  put_array<float>(to, memory.residual);
  put_array<uint16_t>(to, memory.residual16);
  put_array<float>(to, memory.momentum);
  put_array<float>(to, memory.factors);
}

/// The arrays of a sender's memory, which are as long as the model or empty; factors are shorter.
bool take_memory(ByteReader& reader, size_t elements, SenderMemory& memory) {
  const auto fits = [&](size_t size) { return size == 0 || size == elements; };
  return take_array(reader, elements, memory.residual) &&
         take_array(reader, elements, memory.residual16) &&
         take_array(reader, elements, memory.momentum) &&
         take_array(reader, elements, memory.factors) && fits(memory.residual.size()) &&
         fits(memory.residual16.size()) && fits(memory.momentum.size()) &&
         (memory.residual.empty() || memory.residual16.empty());
}

/// Of an update's frame: more than twice what any chain makes of a model.
size_t most_frame_bytes(size_t elements) { return 16 * elements + 4096; }

void put_update(std::vector<std::byte>& to, const StoredUpdate& update) {
  put(to, update.message.task);
  put(to, update.message.client);
  put(to, update.message.report.examples);
  put(to, update.message.report.samples_trained);
  put(to, update.message.report.steps);
  put(to, update.message.report.mean_loss);
  put(to, update.round);
  put_array<std::byte>(to, *update.frame);
  put_memory(to, update.next);
}

bool take_update(ByteReader& reader, size_t elements, StoredUpdate& update) {
  update.message.task = reader.take<TaskId>();
  update.message.client = reader.take<uint32_t>();
  update.message.report.examples = reader.take<uint32_t>();
  update.message.report.samples_trained = reader.take<uint64_t>();
  update.message.report.steps = reader.take<uint32_t>();
  update.message.report.mean_loss = reader.take<double>();
  update.round = reader.take<uint32_t>();
  Bytes frame;
  if (!take_array(reader, most_frame_bytes(elements), frame) || frame.empty()) return false;
  update.frame = std::make_shared<const Bytes>(std::move(frame));
  return take_memory(reader, elements, update.next);
}

}  // namespace

Result<FileClientStore> FileClientStore::open(std::string path, uint64_t schema_hash,
                                              size_t elements, Models models) {
  FileClientStore store(std::move(path), schema_hash, std::move(models));
  const auto unusable = [&](Code code, const char* what) {
    return Status(code,
                  fmt::format("{}; move it away to begin the run anew, without what this client "
                              "still owed of its earlier updates",
                              what),
                  {.file = store.path_});
  };
  // Two memories of three arrays, the models and the frame.
  const size_t most =
      (6 + kMostModels) * elements * sizeof(float) + most_frame_bytes(elements) + 4096;
  const Result<std::vector<std::byte>> file = read_file(store.path_, most);
  if (!file) {
    if (file.error().code() == Code::kNotFound) return store;
    if (file.error().code() == Code::kOutOfRange)
      return unusable(Code::kInvalidArgument, "is of another model");
    return file.error();
  }
  if (file->size() < kDigestBytes) return unusable(Code::kCorrupt, "is cut off");
  const auto content = std::span(*file).first(file->size() - kDigestBytes);
  const Digest digest = sha256(content);
  if (std::memcmp(digest.data(), file->data() + content.size(), kDigestBytes) != 0)
    return unusable(Code::kCorrupt, "is damaged: its checksum doesn't fit");
  ByteReader reader(content);
  if (reader.take<uint32_t>() != kMagic || reader.take<uint32_t>() != kVersion)
    return unusable(Code::kInvalidArgument, "is not a client's state of this program's version");
  if (reader.take<uint64_t>() != schema_hash)
    return unusable(Code::kInvalidArgument, "is of another model");
  store.state_.run_id = reader.take<uint64_t>();
  store.state_.held_version = reader.take<uint32_t>();
  store.state_.last_task_round = reader.take<uint32_t>();
  store.state_.residual_round = reader.take<uint32_t>();
  const auto damaged = [&] { return unusable(Code::kCorrupt, "is damaged"); };
  if (!take_memory(reader, elements, store.state_.memory)) return damaged();
  const auto pending = reader.take<uint8_t>();
  if (pending > 1 ||
      (pending == 1 && !take_update(reader, elements, store.state_.pending.emplace())))
    return damaged();
  const auto count = reader.take<uint8_t>();
  if (count > kMostModels) return damaged();
  for (size_t i = 0; i < count; ++i) {
    PublishedModel model{.version = reader.take<uint32_t>()};
    if (!take_array(reader, elements, model.parameters) || model.parameters.size() != elements)
      return damaged();
    const uint32_t version = model.version;
    store.saved_models_[version] = std::make_shared<const PublishedModel>(std::move(model));
  }
  if (!reader.ok() || reader.left() > 0) return damaged();
  // Without a replica the model has to be downloaded again.
  if (store.saved_models_.empty() ||
      store.saved_models_.rbegin()->first != store.state_.held_version) {
    store.saved_models_.clear();
    store.state_.held_version = 0;
  }
  return store;
}

Result<ClientState> FileClientStore::load(uint32_t) { return state_; }

Status FileClientStore::save(uint32_t, ClientState state) {
  std::vector<std::byte> file;
  put(file, kMagic);
  put(file, kVersion);
  put(file, schema_hash_);
  put(file, state.run_id);
  put(file, state.held_version);
  put(file, state.last_task_round);
  put(file, state.residual_round);
  put_memory(file, state.memory);
  put(file, static_cast<uint8_t>(state.pending.has_value()));
  if (state.pending) put_update(file, *state.pending);
  const HeldModels models = state.held_version > 0 ? models_() : HeldModels();
  put(file, static_cast<uint8_t>(models.size()));
  for (const auto& [version, model] : models) {
    put(file, version);
    put_array<float>(file, model->parameters);
  }
  const Digest digest = sha256(std::span<const std::byte>(file));
  file.insert(file.end(), digest.begin(), digest.end());
  TERN_CHECK_OK(write_durably(path_, std::span<const std::byte>(file), Access::kOwnerAlone));
  state_ = std::move(state);
  return {};
}

}  // namespace tern
