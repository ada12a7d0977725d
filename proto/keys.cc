#include "proto/keys.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <memory>
#include <new>
#include <utility>

#include "base/bytes.h"
#include "base/durable_file.h"
#include "base/sha256.h"

namespace tern {
namespace {

constexpr std::string_view kAlphabet =  // base64url, RFC 4648
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr size_t kCheckBytes = 4;
constexpr size_t kMostBytes = 64 + kCheckBytes;
constexpr size_t characters(size_t bytes) { return (8 * bytes + 5) / 6; }

/// Wipes what held a secret at the end of a scope.
class Wipe {
 public:
  explicit Wipe(std::span<std::byte> bytes) : bytes_(bytes) {}
  Wipe(const Wipe&) = delete;
  Wipe& operator=(const Wipe&) = delete;
  ~Wipe() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

 private:
  std::span<std::byte> bytes_;
};

/// Appends `bytes` and their check bytes.
void append_checked(std::string& text, std::span<const std::byte> bytes) {
  std::array<std::byte, kMostBytes> checked;
  const Wipe wipe(checked);
  const Digest digest = sha256(bytes);
  std::copy_n(digest.begin(), kCheckBytes, std::copy(bytes.begin(), bytes.end(), checked.begin()));

  uint32_t bits = 0;  // the last `count` of them are still to be written
  int count = 0;
  for (const std::byte byte : std::span(checked).first(bytes.size() + kCheckBytes)) {
    bits = bits << 8 | std::to_integer<uint32_t>(byte);
    for (count += 8; count >= 6;) {
      count -= 6;
      text += kAlphabet[bits >> count & 63];
    }
  }
  if (count > 0) text += kAlphabet[bits << (6 - count) & 63];
}

/// The inverse; `what` names it in errors, which never show the text.
Status parse_checked(std::string_view text, std::span<std::byte> bytes, std::string_view what) {
  const size_t checked_bytes = bytes.size() + kCheckBytes;
  if (text.size() != characters(checked_bytes))
    return error(Code::kInvalidArgument, "{} has {} characters, this one {}{}", what,
                 characters(checked_bytes), text.size(),
                 text.size() < characters(checked_bytes) ? ": was it cut off?" : "");
  std::array<std::byte, kMostBytes> checked;
  const Wipe wipe(checked);
  uint32_t bits = 0;
  int count = 0;
  size_t done = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const size_t value = kAlphabet.find(text[i]);
    if (value == std::string_view::npos)
      return error(Code::kInvalidArgument,
                   "{} has letters, digits, - and _ only; character {} is {}", what, i + 1,
                   text[i] > ' ' && text[i] <= '~'
                       ? fmt::format("'{}'", text[i])
                       : fmt::format("0x{:02x}", static_cast<unsigned char>(text[i])));
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      checked[done++] = static_cast<std::byte>(bits >> count);
    }
  }
  const Digest digest = sha256(std::span(checked).first(bytes.size()));
  // The bits that the last character has too many are zero: a key has one text.
  if ((bits & ((1u << count) - 1)) != 0 ||
      !std::equal(digest.begin(), digest.begin() + kCheckBytes, checked.begin() + bytes.size()))
    return error(Code::kInvalidArgument,
                 "the check bytes of {} don't fit: was it cut off or mistyped?", what);
  std::copy_n(checked.begin(), bytes.size(), bytes.begin());
  return {};
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

struct Free {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using KeyHandle = std::unique_ptr<EVP_PKEY, Free>;
using ContextHandle = std::unique_ptr<EVP_MD_CTX, Free>;

unsigned char* raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }
const unsigned char* raw(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}

/// With raw keys these calls can fail for want of memory only.
void require(bool done) {
  if (!done) throw std::bad_alloc();
}

KeyHandle secret_handle(int type, const SecretKey::Secret& secret) {
  KeyHandle key(EVP_PKEY_new_raw_private_key(type, nullptr, raw(secret.data()), secret.size()));
  require(key != nullptr);
  return key;
}

std::array<std::byte, 32> public_half(const EVP_PKEY& secret) {
  std::array<std::byte, 32> half;
  size_t size = half.size();
  require(EVP_PKEY_get_raw_public_key(&secret, raw(half.data()), &size) == 1);
  return half;
}

}  // namespace

std::string to_text(const PublicKey& key) {
  std::array<std::byte, 64> bytes;
  std::copy(key.signing.begin(), key.signing.end(),
            std::copy(key.curve.begin(), key.curve.end(), bytes.begin()));
  std::string text(kPublicKeyPrefix);
  append_checked(text, bytes);
  return text;
}

Result<PublicKey> parse_public_key(std::string_view text) {
  if (!text.starts_with(kPublicKeyPrefix))
    return error(Code::kInvalidArgument, "a public key starts with {}", kPublicKeyPrefix);
  std::array<std::byte, 64> bytes;
  TERN_CHECK_OK(parse_checked(text.substr(kPublicKeyPrefix.size()), bytes,
                              fmt::format("a public key after {}", kPublicKeyPrefix)));
  PublicKey key;
  std::copy_n(bytes.begin(), 32, key.curve.begin());
  std::copy_n(bytes.begin() + 32, 32, key.signing.begin());
  return key;
}

KeyId key_id(const PublicKey& key) { return tern::load<KeyId>(sha256(key.signing).data()); }

bool verify(const PublicKey& signer, std::span<const std::byte> message,
            const Signature& signature) {
  const KeyHandle key(EVP_PKEY_new_raw_public_key(
      EVP_PKEY_ED25519, nullptr, raw(signer.signing.data()), signer.signing.size()));
  const ContextHandle context(EVP_MD_CTX_new());
  require(key != nullptr && context != nullptr &&
          EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1);
  return EVP_DigestVerify(context.get(), raw(signature.data()), signature.size(),
                          raw(message.data()), message.size()) == 1;
}

Result<SecretKey> SecretKey::generate() {
  Secret curve, signing;
  const Wipe wipe_curve(curve), wipe_signing(signing);
  for (Secret* secret : {&curve, &signing})
    if (RAND_priv_bytes(raw(secret->data()), static_cast<int>(secret->size())) != 1)
      return error(Code::kInternal, "the system gives no random numbers for a key");
  return from_secrets(curve, signing);
}

SecretKey SecretKey::from_secrets(const Secret& curve, const Secret& signing) {
  SecretKey key;
  key.signer_ = secret_handle(EVP_PKEY_ED25519, signing);
  key.public_ = {.curve = public_half(*secret_handle(EVP_PKEY_X25519, curve)),
                 .signing = public_half(*key.signer_)};
  key.curve_ = curve;
  key.signing_ = signing;
  return key;
}

Result<SecretKey> SecretKey::load(const std::string& path) {
  constexpr size_t kMaxBytes = 4096;
  TERN_TRY(std::vector<std::byte> content, read_secret(path, kMaxBytes));
  const Wipe wipe_content(content);
  struct Line {
    std::string_view name;
    Secret secret{};
    bool found = false;
  };
  std::array lines{Line{"curve"}, Line{"signing"}};
  const Wipe wipe_curve(lines[0].secret), wipe_signing(lines[1].secret);

  std::string_view rest(reinterpret_cast<const char*>(content.data()), content.size());
  Where where{.file = path};
  while (!rest.empty()) {
    ++where.line;
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view text = trimmed(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (text.empty() || text.front() == '#') continue;
    const size_t equals = std::min(text.find('='), text.size());
    const auto line = std::find_if(lines.begin(), lines.end(), [&](const Line& known) {
      return trimmed(text.substr(0, equals)) == known.name;
    });
    // What stands there may be a secret: it isn't repeated.
    if (equals == text.size() || line == lines.end())
      return error(Code::kInvalidArgument,
                   "the lines of a secret key are 'curve = ...' and 'signing = ...'")
          .at(where);
    where.key = line->name;
    if (line->found) return error(Code::kInvalidArgument, "stands there twice").at(where);
    Status status = parse_checked(trimmed(text.substr(equals + 1)), line->secret, "a secret");
    if (!status.ok()) return std::move(status).at(where);
    line->found = true;
    where.key.clear();
  }
  for (const Line& line : lines)
    if (!line.found)
      return error(Code::kInvalidArgument, "the line '{} = ...' is missing", line.name).at(where);
  return from_secrets(lines[0].secret, lines[1].secret);
}

Status SecretKey::save_new(const std::string& path) const {
  std::string text;
  text.reserve(512);  // growing would leave a copy behind
  text +=
      "# Secret key of Tern. Whoever can read this file can pass for its owner; `tern keys show`\n"
      "# prints the public key, which is for everybody.\n"
      "curve = ";
  append_checked(text, curve_);
  text += "\nsigning = ";
  append_checked(text, signing_);
  text += "\n";
  const Wipe wipe(std::as_writable_bytes(std::span(text.data(), text.size())));
  return write_new_secret(path, text);
}

Signature SecretKey::sign(std::span<const std::byte> message) const {
  const ContextHandle context(EVP_MD_CTX_new());
  Signature signature;
  size_t size = signature.size();
  require(context != nullptr &&
          EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, signer_.get()) == 1 &&
          EVP_DigestSign(context.get(), raw(signature.data()), &size, raw(message.data()),
                         message.size()) == 1);
  return signature;
}

SecretKey::SecretKey(SecretKey&& other) noexcept
    : public_(other.public_),
      curve_(other.curve_),
      signing_(other.signing_),
      signer_(std::move(other.signer_)) {
  other.wipe();
}

SecretKey& SecretKey::operator=(SecretKey&& other) noexcept {
  if (this == &other) return *this;
  public_ = other.public_;
  curve_ = other.curve_;
  signing_ = other.signing_;
  signer_ = std::move(other.signer_);
  other.wipe();
  return *this;
}

SecretKey::~SecretKey() { wipe(); }

void SecretKey::wipe() {
  OPENSSL_cleanse(curve_.data(), curve_.size());
  OPENSSL_cleanse(signing_.data(), signing_.size());
  signer_.reset();  // which wipes its copy
}

}  // namespace tern
