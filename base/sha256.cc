#include "base/sha256.h"

#include <openssl/evp.h>

#include <bit>
#include <new>

namespace tern {

static_assert(std::endian::native == std::endian::little,
              "parameters are hashed as they lie in memory, which has to be little-endian");

namespace {

/// Looked up once: with EVP_sha256() OpenSSL 3 looks its provider up for each digest, which takes
/// longer than to hash a short row. Never freed, as other threads may hash until the process ends.
const EVP_MD* algorithm() {
  static const EVP_MD* const fetched = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return fetched;
}

}  // namespace

Digest sha256(std::span<const std::byte> bytes) {
  Digest digest;
  if (EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()),
                 nullptr, algorithm(), nullptr) != 1)
    throw std::bad_alloc();
  return digest;
}

Digest sha256(std::string_view text) {
  return sha256(std::as_bytes(std::span(text.data(), text.size())));
}

Digest sha256(std::span<const float> parameters) { return sha256(std::as_bytes(parameters)); }

struct Sha256::Context {
  Context() : evp(EVP_MD_CTX_new()) {
    if (evp == nullptr || EVP_DigestInit_ex(evp, algorithm(), nullptr) != 1) throw std::bad_alloc();
  }
  Context(const Context&) = delete;
  ~Context() { EVP_MD_CTX_free(evp); }
  EVP_MD_CTX* evp;
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

Sha256& Sha256::add(std::span<const std::byte> bytes) {
  if (EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size()) != 1) throw std::bad_alloc();
  return *this;
}

Digest Sha256::digest() {
  Digest digest;
  if (EVP_DigestFinal_ex(context_->evp, reinterpret_cast<unsigned char*>(digest.data()), nullptr) !=
      1)
    throw std::bad_alloc();
  return digest;
}

std::string to_hex(const Digest& digest) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(2 * digest.size());
  for (std::byte byte : digest) {
    text += kDigits[std::to_integer<unsigned>(byte >> 4)];
    text += kDigits[std::to_integer<unsigned>(byte & std::byte{15})];
  }
  return text;
}

}  // namespace tern
