#include "coordinator/journal/blob_store.h"

#include <filesystem>
#include <optional>
#include <system_error>

#include "base/durable_file.h"

namespace tern {

namespace {

constexpr size_t kHexDigits = 64;

std::optional<Digest> digest_of(std::string_view name) {
  if (name.size() != kHexDigits) return std::nullopt;
  Digest digest;
  for (size_t i = 0; i < digest.size(); ++i) {
    unsigned byte = 0;
    for (const char c : name.substr(2 * i, 2)) {
      const unsigned digit = c >= '0' && c <= '9'   ? static_cast<unsigned>(c - '0')
                             : c >= 'a' && c <= 'f' ? static_cast<unsigned>(c - 'a') + 10
                                                    : 16;
      if (digit == 16) return std::nullopt;
      byte = byte * 16 + digit;
    }
    digest[i] = static_cast<std::byte>(byte);
  }
  return digest;
}

}  // namespace

Result<BlobStore> BlobStore::open(std::string folder) {
  TERN_CHECK_OK(make_folder_durably(folder));
  return BlobStore(std::move(folder));
}

std::string BlobStore::path_of(const Digest& digest) const {
  return folder_ + "/" + to_hex(digest);
}

Result<Digest> BlobStore::put(std::span<const std::byte> bytes) {
  const Digest digest = sha256(bytes);
  const std::string path = path_of(digest);
  // One that was damaged is written anew.
  if (std::filesystem::exists(path)) {
    const Result<std::vector<std::byte>> there = get(digest);
    if (there) return digest;
  }
  TERN_CHECK_OK(write_durably(path, bytes));
  return digest;
}

Result<std::vector<std::byte>> BlobStore::get(const Digest& digest) const {
  const std::string path = path_of(digest);
  TERN_TRY(std::vector<std::byte> bytes, read_file(path));
  const Digest found = sha256(bytes);
  if (found != digest)
    return error(Code::kCorrupt, "{} is damaged: its {} bytes have the SHA-256 {}", path,
                 bytes.size(), to_hex(found));
  return bytes;
}

Status BlobStore::sweep(const std::function<bool(const Digest&)>& wanted) {
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, failed)) {
    const std::string name = entry.path().filename();
    const std::optional<Digest> digest = digest_of(name);
    if (digest ? wanted(*digest) : name.find(".tmp-") == std::string::npos) continue;
    std::filesystem::remove(entry.path(), failed);
    if (failed) return io_error(failed.value(), "cannot remove", entry.path().native());
  }
  if (failed) return io_error(failed.value(), "cannot list", folder_);
  return {};
}

}  // namespace tern
