#include "client/file_client_store.h"

#include <cstring>

#include "base/bytes.h"
#include "base/durable_file.h"
#include "base/sha256.h"

namespace tern {

namespace {

constexpr uint32_t kMagic = 0x534E5254;  // "TRNS"
constexpr uint32_t kVersion = 1;
constexpr size_t kDigestBytes = 32;

template <typename T>
void put(std::vector<std::byte>& to, const T& value) {
  const auto* from = reinterpret_cast<const std::byte*>(&value);
  to.insert(to.end(), from, from + sizeof value);
}

void put_floats(std::vector<std::byte>& to, std::span<const float> values) {
  put(to, static_cast<uint64_t>(values.size()));
  const auto bytes = std::as_bytes(values);
  to.insert(to.end(), bytes.begin(), bytes.end());
}

/// Nothing when the length is neither 0 nor `elements`, or when the bytes end before.
std::optional<std::vector<float>> take_floats(ByteReader& reader, size_t elements) {
  const auto count = reader.take<uint64_t>();
  if (count != 0 && count != elements) return std::nullopt;
  const auto bytes = reader.take_bytes(count * sizeof(float));
  if (!reader.ok()) return std::nullopt;
  std::vector<float> values(count);
  if (count > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

Result<FileClientStore> FileClientStore::open(std::string path, uint64_t schema_hash,
                                              size_t elements, Replica replica) {
  FileClientStore store(std::move(path), schema_hash, std::move(replica));
  const auto unusable = [&](Code code, const char* what) {
    return Status(code,
                  fmt::format("{}; move it away to begin the run anew, without what this client "
                              "still owed of its earlier updates",
                              what),
                  {.file = store.path_});
  };
  const Result<std::vector<std::byte>> file =
      read_file(store.path_, 2 * elements * sizeof(float) + 4096);
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
  auto residual = take_floats(reader, elements);
  auto parameters = residual ? take_floats(reader, elements) : std::nullopt;
  if (!parameters || !reader.ok() || reader.left() > 0)
    return unusable(Code::kCorrupt, "is damaged");
  store.state_.residual = Residual(*std::move(residual));
  store.saved_replica_ = *std::move(parameters);
  // Without a replica the model has to be downloaded again.
  if (store.saved_replica_.empty()) store.state_.held_version = 0;
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
  put_floats(file, state.residual.values());
  put_floats(file, state.held_version > 0 ? replica_() : std::span<const float>());
  const Digest digest = sha256(std::span<const std::byte>(file));
  file.insert(file.end(), digest.begin(), digest.end());
  TERN_CHECK_OK(write_durably(path_, std::span<const std::byte>(file), Access::kOwnerAlone));
  state_ = std::move(state);
  return {};
}

}  // namespace tern
