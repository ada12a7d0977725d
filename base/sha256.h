/// SHA-256 by OpenSSL. Throws std::bad_alloc when OpenSSL is out of memory: a wrong digest would be
/// worse. Threads: safe.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tern {

using Digest = std::array<std::byte, 32>;

Digest sha256(std::span<const std::byte> bytes);
Digest sha256(std::string_view text);
/// Of parameters as little-endian float32: the `model.sha256` of summaries and manifests.
Digest sha256(std::span<const float> parameters);

/// Of what comes piece by piece.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();
  Sha256& add(std::span<const std::byte> bytes);
  /// Of all that was added; nothing is added afterwards.
  Digest digest();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

/// 64 lower-case hexadecimal digits.
std::string to_hex(const Digest& digest);

}  // namespace tern
