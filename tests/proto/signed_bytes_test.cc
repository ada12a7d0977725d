#include "proto/signed_bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <span>

#include "base/bytes.h"

namespace tern {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kNow = 1'790'000'000;
constexpr std::string_view kPurpose = "tern/plan/1";

class SignedPlan : public testing::Test {
 protected:
  SignedBytes sign(int64_t issued = kNow - 60, int64_t expires = kNow + 600) const {
    return sign_bytes(signer_, kPurpose, payload_, issued, expires);
  }
  Status check(const SignedBytes& bytes, int64_t now = kNow) const {
    return check_signed(bytes, signer_.public_key(), kPurpose, now);
  }
  std::string refusal(const SignedBytes& bytes, int64_t now = kNow) const {
    const Status status = check(bytes, now);
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    return status.message();
  }

  SecretKey signer_ = SecretKey::generate().value();
  Bytes payload_ = Bytes(100, std::byte{7});
};

TEST_F(SignedPlan, IsAcceptedFromItsSigner) {
  const SignedBytes bytes = sign();
  EXPECT_EQ(bytes.payload, payload_);
  EXPECT_EQ(bytes.key, key_id(signer_.public_key()));
  EXPECT_TRUE(check(bytes).ok()) << check(bytes).message();
  payload_.clear();
  EXPECT_TRUE(check(sign()).ok());
}

TEST_F(SignedPlan, TheSignatureIsOverThePinnedBytes) {
  payload_ = {std::byte{0xaa}, std::byte{0xbb}};
  Bytes stated(4 + 1 + 24 + 2);
  store<uint32_t>(stated.data(), 1);
  stated[4] = std::byte{'p'};
  store<uint64_t>(&stated[5], key_id(signer_.public_key()));
  store<uint64_t>(&stated[13], 0x0102030405060708);
  store<uint64_t>(&stated[21], 0x1112131415161718);
  std::ranges::copy(payload_, &stated[29]);
  EXPECT_EQ(sign_bytes(signer_, "p", payload_, 0x0102030405060708, 0x1112131415161718).signature,
            signer_.sign(stated));
}

TEST_F(SignedPlan, IsValidFromTheSkewBeforeItIsIssuedUntilItExpires) {
  const SignedBytes bytes = sign(kNow, kNow + 600);
  EXPECT_FALSE(check(bytes, kNow - kClockSkewSeconds - 1).ok());
  EXPECT_TRUE(check(bytes, kNow - kClockSkewSeconds).ok());
  EXPECT_TRUE(check(bytes, kNow + 599).ok());
  EXPECT_FALSE(check(bytes, kNow + 600).ok());
}

TEST_F(SignedPlan, ARefusalSaysWhy) {
  SignedBytes bytes = sign();
  bytes.signature = {};
  EXPECT_EQ(refusal(bytes), "it isn't signed");

  const SecretKey other = SecretKey::generate().value();
  const SignedBytes theirs = sign_bytes(other, kPurpose, payload_, kNow - 60, kNow + 600);
  EXPECT_EQ(refusal(theirs), fmt::format("signed by key {:016x} where {:016x} is pinned",
                                         key_id(other.public_key()), key_id(signer_.public_key())));

  EXPECT_THAT(refusal(sign(kNow, kNow - 1)), HasSubstr("expires before it is issued"));
  EXPECT_THAT(refusal(sign(kNow, kNow)), HasSubstr("expires before it is issued"));

  EXPECT_EQ(refusal(sign(kNow - 3600, kNow - 1500)),
            "expired 25 minutes ago by this machine's clock; is the clock right?");
  EXPECT_THAT(refusal(sign(kNow - 3600, kNow - 5)), HasSubstr("expired 5 s ago"));
  EXPECT_THAT(refusal(sign(0, kNow - 7200)), HasSubstr("expired 2 hours ago"));
  EXPECT_THAT(refusal(sign(0, kNow - 864'000)), HasSubstr("expired 10 days ago"));

  EXPECT_EQ(refusal(sign(kNow + 1200, kNow + 3600)),
            "issued 20 minutes in the future by this machine's clock; is the clock right?");

  bytes = sign();
  bytes.payload[5] ^= std::byte{1};
  EXPECT_THAT(refusal(bytes), HasSubstr("signature doesn't fit"));
  EXPECT_THAT(check_signed(sign(), signer_.public_key(), "tern/manifest/1", kNow).message(),
              HasSubstr("another purpose"));
}

TEST_F(SignedPlan, AnotherKeyThatTakesTheIdIsRefused) {
  const SecretKey other = SecretKey::generate().value();
  SignedBytes bytes = sign_bytes(other, kPurpose, payload_, kNow - 60, kNow + 600);
  bytes.key = key_id(signer_.public_key());
  EXPECT_THAT(refusal(bytes), HasSubstr("signature doesn't fit"));
}

TEST_F(SignedPlan, EveryFlippedBitIsRefused) {
  SignedBytes bytes = sign();
  const auto flip_each = [&](std::span<std::byte> field) {
    for (size_t bit = 0; bit < 8 * field.size(); ++bit) {
      const std::byte mask = std::byte{1} << (bit % 8);
      field[bit / 8] ^= mask;
      EXPECT_FALSE(check(bytes).ok()) << bit;
      field[bit / 8] ^= mask;
    }
  };
  flip_each(bytes.payload);
  flip_each(std::as_writable_bytes(std::span(&bytes.key, 1)));
  flip_each(std::as_writable_bytes(std::span(&bytes.issued, 1)));
  flip_each(std::as_writable_bytes(std::span(&bytes.expires, 1)));
  flip_each(bytes.signature);
  EXPECT_TRUE(check(bytes).ok());
}

TEST_F(SignedPlan, EveryTruncatedOrLongerPayloadIsRefused) {
  const SignedBytes bytes = sign();
  for (size_t length = 0; length <= payload_.size() + 8; ++length) {
    SignedBytes other = bytes;
    other.payload.resize(length);
    EXPECT_EQ(check(other).ok(), length == payload_.size()) << length;
  }
}

TEST_F(SignedPlan, PurposeAndPayloadDoNotRunIntoEachOther) {
  // The same bytes cut elsewhere.
  const std::string whole = "tern/plan/1 and what follows";
  for (size_t cut = 0; cut <= whole.size(); ++cut) {
    const auto payload_after = [&](size_t at) {
      const auto rest = std::as_bytes(std::span(whole)).subspan(at);
      return Bytes(rest.begin(), rest.end());
    };
    SignedBytes bytes =
        sign_bytes(signer_, kPurpose, payload_after(kPurpose.size()), kNow, kNow + 1);
    bytes.payload = payload_after(cut);
    EXPECT_EQ(check_signed(bytes, signer_.public_key(), whole.substr(0, cut), kNow).ok(),
              cut == kPurpose.size())
        << cut;
  }
}

TEST_F(SignedPlan, HostileTimesAreRefusedWithoutOverflow) {
  constexpr int64_t kLeast = std::numeric_limits<int64_t>::min();
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  for (const int64_t now : {kLeast, int64_t{0}, kNow, kMost}) {
    for (const int64_t issued : {kLeast, int64_t{-1}, int64_t{0}, kNow, kMost}) {
      for (const int64_t expires : {kLeast, int64_t{-1}, int64_t{0}, kNow, kMost}) {
        const bool in_time = issued < expires && issued <= now && now < expires;
        EXPECT_EQ(check(sign(issued, expires), now).ok(), in_time)
            << now << " " << issued << " " << expires;
      }
    }
  }
}

}  // namespace
}  // namespace tern
