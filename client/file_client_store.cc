#include "client/file_client_store.h"

#include <cstring>

#include "base/append_bytes.h"
#include "base/durable_file.h"
#include "base/sha256.h"
#include "client/client_state_bytes.h"

namespace tern {

namespace {

constexpr uint32_t kMagic = 0x534E5254;  // "TRNS"
constexpr uint32_t kVersion = 4;
/// Of a replica: the version that it is at and a keyframe of each level, or the root.
constexpr size_t kMostModels = 2 + VersionTree::kMostLevels;
constexpr size_t kDigestBytes = 32;

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
  const size_t most =
      most_client_state_bytes(elements) + kMostModels * elements * sizeof(float) + 2048;
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
  const auto damaged = [&] { return unusable(Code::kCorrupt, "is damaged"); };
  if (!take_client_state(reader, elements, store.state_)) return damaged();
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
  append(file, kMagic);
  append(file, kVersion);
  append(file, schema_hash_);
  append_client_state(file, state);
  const HeldModels models = state.held_version > 0 ? models_() : HeldModels();
  append(file, static_cast<uint8_t>(models.size()));
  for (const auto& [version, model] : models) {
    append(file, version);
    append_array<float>(file, model->parameters);
  }
  const Digest digest = sha256(std::span<const std::byte>(file));
  file.insert(file.end(), digest.begin(), digest.end());
  TERN_CHECK_OK(write_durably(path_, std::span<const std::byte>(file), Access::kOwnerAlone));
  state_ = std::move(state);
  return {};
}

}  // namespace tern
