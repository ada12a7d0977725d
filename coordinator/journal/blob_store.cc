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

std::string path_in(const std::string& folder, const Digest& digest) {
  return folder + "/" + to_hex(digest);
}

/// Removes the files of a folder whose names `unwanted` says yes to.
Status remove_files(const std::string& folder,
                    const std::function<bool(const std::string&)>& unwanted) {
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failed)) {
    if (!unwanted(entry.path().filename())) continue;
    std::filesystem::remove(entry.path(), failed);
    if (failed) return io_error(failed.value(), "cannot remove", entry.path().native());
  }
  if (failed) return io_error(failed.value(), "cannot list", folder);
  return {};
}

}  // namespace

Status BlobWriter::append(std::span<const std::byte> bytes) {
  TERN_CHECK_OK(file_.append(bytes));
  hash_.add(bytes);
  return file_.park();
}

Result<Digest> BlobWriter::keep() {
  const Digest digest = hash_.digest();
  TERN_CHECK_OK(file_.finish(path_in(folder_, digest)));
  return digest;
}

Result<BlobStore> BlobStore::open(std::string folder) {
  TERN_CHECK_OK(make_folder_durably(folder));
  TERN_CHECK_OK(remove_files(
      folder, [](const std::string& name) { return name.find(".tmp-") != std::string::npos; }));
  return BlobStore(std::move(folder));
}

std::string BlobStore::path_of(const Digest& digest) const { return path_in(folder_, digest); }

Result<BlobWriter> BlobStore::begin() const {
  TERN_TRY(FileWriter file, FileWriter::open(folder_ + "/blob"));
  return BlobWriter(folder_, std::move(file));
}

Result<Digest> BlobStore::put(std::span<const std::byte> bytes) const {
  const Digest digest = sha256(bytes);
  const std::string path = path_of(digest);
  // One that was damaged is written anew.
  if (std::filesystem::exists(path) && get(digest)) return digest;
  TERN_CHECK_OK(write_durably(path, bytes));
  return digest;
}

Result<MappedFile> BlobStore::get(const Digest& digest) const {
  const std::string path = path_of(digest);
  TERN_TRY(MappedFile file, MappedFile::open(path));
  const Digest found = sha256(file.bytes());
  if (found != digest)
    return error(Code::kCorrupt, "{} is damaged: its {} bytes have the SHA-256 {}", path,
                 file.bytes().size(), to_hex(found));
  file.release();
  return file;
}

Status BlobStore::sweep(const std::function<bool(const Digest&)>& wanted) const {
  return remove_files(folder_, [&](const std::string& name) {
    const std::optional<Digest> digest = digest_of(name);
    return digest && !wanted(*digest);
  });
}

}  // namespace tern
