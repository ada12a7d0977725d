/// Bytes that somebody answers for: signed for one purpose and for a limited time.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "proto/keys.h"
#include "proto/parts.h"

namespace tern {

/// How far in the future a signature may seem to be made, for clocks that don't agree.
inline constexpr int64_t kClockSkewSeconds = 300;

/// Times are unix seconds. The signature covers, little-endian: length of the purpose (4), purpose,
/// key (8), issued (8), expires (8), payload. So a signature for one purpose fits no other.
struct SignedBytes {
  Bytes payload;
  KeyId key = 0;  ///< of the signer
  int64_t issued = 0;
  int64_t expires = 0;  ///< the first second at which it isn't valid any more
  Signature signature{};
};

/// `purpose` says what the payload is, with its version: "tern/plan/1".
/// Cost: SecretKey::sign and a copy of the payload. Threads: share freely.
SignedBytes sign_bytes(const SecretKey& signer, std::string_view purpose, Bytes payload,
                       int64_t issued, int64_t expires);

/// Ok when `signer` signed these bytes for `purpose` and they are valid at `now`. Only then may the
/// payload be looked at. Errors: kInvalidArgument, which says why: not signed, signed by another
/// key, never valid, expired or of the future by this machine's clock, or a signature that doesn't
/// fit. Cost: verify and a copy of the payload, at most. Threads: share freely.
Status check_signed(const SignedBytes& bytes, const PublicKey& signer, std::string_view purpose,
                    int64_t now);

}  // namespace tern
