#include "proto/signed_bytes.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/bytes.h"

namespace tern {
namespace {

/// What the signature is over.
Bytes statement(const SignedBytes& bytes, std::string_view purpose) {
  Bytes all(sizeof(uint32_t) + purpose.size() + 3 * sizeof(uint64_t) + bytes.payload.size());
  std::byte* to = all.data();
  const auto put = [&to](auto number) {
    store(to, number);
    to += sizeof number;
  };
  put(static_cast<uint32_t>(purpose.size()));
  to = std::ranges::copy(std::as_bytes(std::span(purpose)), to).out;
  put(bytes.key);
  put(bytes.issued);
  put(bytes.expires);
  std::ranges::copy(bytes.payload, to);
  return all;
}

/// The time from `earlier` to `later`, for people; any two numbers will do.
std::string time_between(int64_t earlier, int64_t later) {
  const uint64_t seconds = static_cast<uint64_t>(later) - static_cast<uint64_t>(earlier);
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} minutes", seconds / 60);
  if (seconds < 172'800) return fmt::format("{} hours", seconds / 3600);
  return fmt::format("{} days", seconds / 86'400);
}

}  // namespace

SignedBytes sign_bytes(const SecretKey& signer, std::string_view purpose, Bytes payload,
                       int64_t issued, int64_t expires) {
  SignedBytes bytes{.payload = std::move(payload),
                    .key = key_id(signer.public_key()),
                    .issued = issued,
                    .expires = expires};
  bytes.signature = signer.sign(statement(bytes, purpose));
  return bytes;
}

Status check_signed(const SignedBytes& bytes, const PublicKey& signer, std::string_view purpose,
                    int64_t now) {
  // The dear check comes last, and nothing is accepted without it.
  if (bytes.signature == Signature{}) return error(Code::kInvalidArgument, "it isn't signed");
  if (const KeyId pinned = key_id(signer); bytes.key != pinned)
    return error(Code::kInvalidArgument, "signed by key {:016x} where {:016x} is pinned", bytes.key,
                 pinned);
  if (bytes.expires <= bytes.issued)
    return error(Code::kInvalidArgument, "it is never valid: it expires before it is issued");
  if (bytes.expires <= now)
    return error(Code::kInvalidArgument,
                 "expired {} ago by this machine's clock; is the clock right?",
                 time_between(bytes.expires, now));
  if (bytes.issued > now &&
      static_cast<uint64_t>(bytes.issued) - static_cast<uint64_t>(now) > kClockSkewSeconds)
    return error(Code::kInvalidArgument,
                 "issued {} in the future by this machine's clock; is the clock right?",
                 time_between(now, bytes.issued));
  if (!verify(signer, statement(bytes, purpose), bytes.signature))
    return error(
        Code::kInvalidArgument,
        "the signature doesn't fit: the bytes were changed, or signed for another purpose");
  return {};
}

}  // namespace tern
