/// Who somebody is: an X25519 key pair, with which CURVE encrypts and proves a connection, and an
/// Ed25519 pair, with which plans and manifests are signed. Keys are bytes; what people see of them
/// is text with check bytes. Functions throw std::bad_alloc when OpenSSL is out of memory.
/// Threads: share freely; moving a SecretKey is for one thread.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "proto/transport.h"

struct evp_pkey_st;  // OpenSSL's EVP_PKEY

namespace tern {

struct PublicKey {
  PeerKey curve{};                      ///< X25519, RFC 7748
  std::array<std::byte, 32> signing{};  ///< Ed25519, RFC 8032
  auto operator<=>(const PublicKey&) const = default;
};

/// What the text of every public key starts with.
inline constexpr std::string_view kPublicKeyPrefix = "tern1-";

/// One line to paste, 97 characters: the prefix, then base64url without padding of curve, signing
/// and the first 4 bytes of the SHA-256 of both.
std::string to_text(const PublicKey& key);
/// Reads exactly what to_text writes; one key has one text. Errors: kInvalidArgument, which says
/// what is wrong: the prefix, the length, a character, or the check bytes.
Result<PublicKey> parse_public_key(std::string_view text);

/// Names a signing key: the first 8 bytes, little-endian, of the SHA-256 of its public half. People
/// see it as 16 hexadecimal digits.
using KeyId = uint64_t;
KeyId key_id(const PublicKey& key);

using Signature = std::array<std::byte, 64>;  ///< Ed25519

/// Whether `signature` over `message` was made by the owner of `signer`. Cost: 65 us + 1 ns a
/// byte.
bool verify(const PublicKey& signer, std::span<const std::byte> message,
            const Signature& signature);

/// The secret halves of a PublicKey. They are wiped when the key is destroyed or moved from; what
/// is left of a key that was moved from only can be destroyed or assigned to.
class SecretKey {
 public:
  using Secret = std::array<std::byte, 32>;

  /// From the system's randomness. Errors: kInternal when there is none.
  static Result<SecretKey> generate();
  /// Any 32 bytes are a secret of either kind; these have to come from somewhere as good as
  /// generate(). The caller wipes them.
  static SecretKey from_secrets(const Secret& curve, const Secret& signing);
  /// Reads what save_new wrote. Errors: those of read_secret (a file that others can read, ...),
  /// and kInvalidArgument with file and line for a line that is unknown, damaged, twice there or
  /// missing.
  static Result<SecretKey> load(const std::string& path);

  SecretKey(SecretKey&& other) noexcept;
  SecretKey& operator=(SecretKey&& other) noexcept;
  ~SecretKey();

  /// Writes a text file of mode 0600 that was not there before. Errors: those of write_new_secret
  /// (kInUse when the file exists, ...).
  Status save_new(const std::string& path) const;

  const PublicKey& public_key() const { return public_; }
  const Secret& curve_secret() const { return curve_; }
  /// The same bytes for the same message. Cost: 50 us + 2 ns a byte.
  Signature sign(std::span<const std::byte> message) const;

 private:
  SecretKey() = default;
  void wipe();

  PublicKey public_;
  Secret curve_{};
  Secret signing_{};
  std::shared_ptr<evp_pkey_st> signer_;  // of signing_: making it takes as long as to sign
};

}  // namespace tern
