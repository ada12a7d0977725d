#include "proto/keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <zmq.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <type_traits>

#include "base/durable_file.h"
#include "base/sha256.h"
#include "proto/parts.h"
#include "tests/proto/hex.h"

namespace tern {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Secret = SecretKey::Secret;

template <size_t N>
std::array<std::byte, N> array_from_hex(std::string_view hex) {
  std::array<std::byte, N> bytes{};
  std::ranges::copy(from_hex(hex), bytes.begin());
  return bytes;
}

// RFC 7748, section 6.1.
struct CurveVector {
  const char* secret;
  const char* public_key;
};
constexpr CurveVector kAlice{"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
                             "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"};
constexpr CurveVector kBob{"5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
                           "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"};

// RFC 8032, section 7.1, tests 1 to 3.
struct SigningVector {
  const char* secret;
  const char* public_key;
  const char* message;
  const char* signature;
};
constexpr SigningVector kSigning[] = {
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
     "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
    {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
     "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
     "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"}};

// Alice's curve key with the signing key of test 1.
constexpr std::string_view kText =
    "tern1-hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmrXWpgBgrEKt9VL_tPJZAc6DuFy89qmIyWvAhpo9wdRGkj3"
    "44A";
constexpr std::string_view kCurveLine = "curve = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCrJzLvx";
constexpr std::string_view kSigningLine =
    "signing = nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2BkTVCr";

SecretKey some_key() {
  return SecretKey::from_secrets(array_from_hex<32>(kAlice.secret),
                                 array_from_hex<32>(kSigning[0].secret));
}

TEST(Keys, CurvePairsAreThoseOfRfc7748) {
  for (const auto& [secret, public_key] : {kAlice, kBob})
    EXPECT_EQ(SecretKey::from_secrets(array_from_hex<32>(secret), {}).public_key().curve,
              array_from_hex<32>(public_key));
}

TEST(Keys, CurvePairsAreThoseOfLibzmq) {
  if (zmq_has("curve") == 0) GTEST_SKIP() << "libzmq without CURVE";
  const auto z85 = [](const std::array<std::byte, 32>& bytes) {
    char text[41];
    return std::string(zmq_z85_encode(text, reinterpret_cast<const uint8_t*>(bytes.data()), 32));
  };
  for (int i = 0; i < 20; ++i) {
    const SecretKey key = SecretKey::generate().value();
    char public_text[41];
    ASSERT_EQ(zmq_curve_public(public_text, z85(key.curve_secret()).c_str()), 0);
    EXPECT_EQ(public_text, z85(key.public_key().curve));
  }
  char public_text[41], secret_text[41];
  ASSERT_EQ(zmq_curve_keypair(public_text, secret_text), 0);
  Secret secret;
  ASSERT_NE(zmq_z85_decode(reinterpret_cast<uint8_t*>(secret.data()), secret_text), nullptr);
  EXPECT_EQ(z85(SecretKey::from_secrets(secret, {}).public_key().curve), public_text);
}

TEST(Keys, SignaturesAreThoseOfRfc8032) {
  for (const SigningVector& vector : kSigning) {
    const SecretKey key = SecretKey::from_secrets({}, array_from_hex<32>(vector.secret));
    EXPECT_EQ(key.public_key().signing, array_from_hex<32>(vector.public_key));
    const Bytes message = from_hex(vector.message);
    const Signature signature = array_from_hex<64>(vector.signature);
    EXPECT_EQ(key.sign(message), signature);
    EXPECT_TRUE(verify(key.public_key(), message, signature));
  }
}

TEST(Keys, EveryFlippedBitOfSignatureMessageOrKeyIsSeen) {
  const SecretKey key = some_key();
  Bytes message = from_hex("000102030405060708090a0b0c0d0e0f");
  Signature signature = key.sign(message);
  PublicKey signer = key.public_key();
  const auto flip_each = [&](std::span<std::byte> bytes) {
    for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      const std::byte mask = std::byte{1} << (bit % 8);
      bytes[bit / 8] ^= mask;
      EXPECT_FALSE(verify(signer, message, signature)) << bit;
      bytes[bit / 8] ^= mask;
    }
  };
  flip_each(signature);
  flip_each(message);
  flip_each(signer.signing);
  EXPECT_TRUE(verify(signer, message, signature));
  for (size_t length = 0; length < message.size(); ++length)
    EXPECT_FALSE(verify(signer, std::span(message).first(length), signature)) << length;
  EXPECT_FALSE(verify(signer, message, Signature{}));
}

TEST(Keys, ASignatureHasOneForm) {
  // The order of the group, little-endian: s + order verifies with a careless implementation.
  const auto order =
      array_from_hex<32>("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
  const SecretKey key = some_key();
  Signature signature = key.sign({});
  unsigned carry = 0;
  for (size_t i = 0; i < 32; ++i) {
    carry += std::to_integer<unsigned>(signature[32 + i]) + std::to_integer<unsigned>(order[i]);
    signature[32 + i] = static_cast<std::byte>(carry & 255);
    carry >>= 8;
  }
  EXPECT_FALSE(verify(key.public_key(), {}, signature));
}

TEST(Keys, NoTwoAreTheSame) {
  std::set<Secret> secrets;
  std::set<PublicKey> public_keys;
  std::set<KeyId> ids;
  for (int i = 0; i < 100; ++i) {
    const SecretKey key = SecretKey::generate().value();
    secrets.insert(key.curve_secret());
    public_keys.insert(key.public_key());
    ids.insert(key_id(key.public_key()));
  }
  EXPECT_EQ(secrets.size(), 100u);
  EXPECT_EQ(public_keys.size(), 100u);
  EXPECT_EQ(ids.size(), 100u);
}

TEST(Keys, AnIdIsTheStartOfTheHashOfTheSigningKey) {
  PublicKey key = some_key().public_key();
  EXPECT_EQ(key_id(key), 0x61a254a1df31fe21u);
  key.curve = {};
  EXPECT_EQ(key_id(key), 0x61a254a1df31fe21u);
}

static_assert(!std::is_copy_constructible_v<SecretKey> && !std::is_copy_assignable_v<SecretKey>);
static_assert(std::is_nothrow_move_constructible_v<SecretKey> &&
              std::is_nothrow_move_assignable_v<SecretKey>);

TEST(Keys, AMovedSecretIsWipedWhereItWas) {
  SecretKey first = some_key();
  const Secret secret = first.curve_secret();
  SecretKey second = std::move(first);
  EXPECT_EQ(second.curve_secret(), secret);
  EXPECT_EQ(first.curve_secret(), Secret{});  // NOLINT(bugprone-use-after-move)
  first = std::move(second);
  EXPECT_EQ(first.curve_secret(), secret);
  EXPECT_EQ(first.sign({}), some_key().sign({}));
  EXPECT_EQ(second.curve_secret(), Secret{});  // NOLINT(bugprone-use-after-move)
}

TEST(Keys, ADestroyedSecretIsWiped) {
  alignas(SecretKey) std::byte place[sizeof(SecretKey)];
  const auto holds = [&](std::string_view hex) {
    const Bytes secret = from_hex(hex);
    return !std::ranges::search(place, secret).empty();
  };
  auto* key = new (place) SecretKey(some_key());
  EXPECT_TRUE(holds(kAlice.secret));
  EXPECT_TRUE(holds(kSigning[0].secret));
  key->~SecretKey();
  EXPECT_FALSE(holds(kAlice.secret));
  EXPECT_FALSE(holds(kSigning[0].secret));
}

TEST(Keys, TextIsPinnedAndReadsBack) {
  EXPECT_EQ(to_text(some_key().public_key()), kText);
  EXPECT_EQ(parse_public_key(kText).value(), some_key().public_key());
  for (int i = 0; i < 100; ++i) {
    const PublicKey key = SecretKey::generate().value().public_key();
    EXPECT_EQ(to_text(key).size(), 97u);
    EXPECT_EQ(parse_public_key(to_text(key)).value(), key);
  }
}

TEST(Keys, EveryTruncationOfATextIsRefused) {
  for (size_t length = 0; length < kText.size(); ++length) {
    const auto key = parse_public_key(kText.substr(0, length));
    ASSERT_FALSE(key) << length;
    EXPECT_EQ(key.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(key.error().message(),
                HasSubstr(length < 6 ? "starts with tern1-" : "was it cut off?"));
  }
  for (size_t start = 1; start < kText.size(); ++start)
    EXPECT_FALSE(parse_public_key(kText.substr(start))) << start;
}

TEST(Keys, EveryFlippedBitOfATextIsRefused) {
  for (size_t bit = 0; bit < 8 * kText.size(); ++bit) {
    std::string text(kText);
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(parse_public_key(text)) << bit;
  }
}

TEST(Keys, EveryOtherCharacterAndEverySwapInATextIsRefused) {
  for (size_t i = 0; i < kText.size(); ++i) {
    for (int c = 0; c < 256; ++c) {
      std::string text(kText);
      text[i] = static_cast<char>(c);
      EXPECT_EQ(parse_public_key(text).has_value(), text == kText) << i << " " << c;
    }
    std::string swapped(kText);
    if (i > 0) std::swap(swapped[i - 1], swapped[i]);
    EXPECT_EQ(parse_public_key(swapped).has_value(), swapped == kText) << i;
  }
}

TEST(Keys, ErrorsSayWhatIsWrongWithAText) {
  const auto message = [](const std::string& text) {
    return parse_public_key(text).error().message();
  };
  const std::string text(kText);
  EXPECT_THAT(message("ssh-ed25519 AAAA"), HasSubstr("starts with tern1-"));
  EXPECT_THAT(message(text.substr(0, 90)),
              AllOf(HasSubstr("91 characters"), HasSubstr("84"), HasSubstr("cut off?")));
  EXPECT_THAT(message(text + "x"), AllOf(HasSubstr("this one 92"), Not(HasSubstr("cut off"))));
  std::string odd = text;
  odd[10] = '+';
  EXPECT_THAT(message(odd), HasSubstr("character 5 is '+'"));
  odd[10] = '\n';
  EXPECT_THAT(message(odd), HasSubstr("character 5 is 0x0a"));
  odd[10] = odd[11];
  EXPECT_THAT(message(odd), AllOf(HasSubstr("check bytes"), HasSubstr("cut off or mistyped")));
}

class KeyFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = fs::temp_directory_path() / "tern-keys-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path() const { return folder_ / "secret.key"; }
  std::string write(const std::string& content) const {
    std::ofstream(path(), std::ios::binary) << content;
    fs::permissions(path(), fs::perms::owner_read | fs::perms::owner_write);
    return path();
  }
  Status refused(const std::string& content) const {
    const auto key = SecretKey::load(write(content));
    EXPECT_FALSE(key) << content;
    return key ? Status() : key.error();
  }

  fs::path folder_;
};

TEST_F(KeyFile, ReadsBackWhatWasWritten) {
  const SecretKey key = SecretKey::generate().value();
  ASSERT_TRUE(key.save_new(path()).ok());
  EXPECT_EQ(fs::status(path()).permissions(), static_cast<fs::perms>(0600));
  const SecretKey back = SecretKey::load(path()).value();
  EXPECT_EQ(back.public_key(), key.public_key());
  EXPECT_EQ(back.curve_secret(), key.curve_secret());
  EXPECT_EQ(back.sign({}), key.sign({}));
}

TEST_F(KeyFile, IsPinned) {
  ASSERT_TRUE(some_key().save_new(path()).ok());
  const Bytes content = read_file(path()).value();
  const std::string_view text(reinterpret_cast<const char*>(content.data()), content.size());
  EXPECT_TRUE(text.starts_with("# Secret key of Tern."));
  EXPECT_THAT(text, HasSubstr("\n" + std::string(kCurveLine) + "\n"));
  EXPECT_THAT(text, HasSubstr("\n" + std::string(kSigningLine) + "\n"));
  EXPECT_LT(text.size(), 512u);  // what save_new reserves
  EXPECT_EQ(to_text(SecretKey::load(path())->public_key()), kText);
}

TEST_F(KeyFile, IsNeverOverwritten) {
  ASSERT_TRUE(some_key().save_new(path()).ok());
  EXPECT_EQ(SecretKey::generate()->save_new(path()).code(), Code::kInUse);
  EXPECT_EQ(to_text(SecretKey::load(path())->public_key()), kText);
}

TEST_F(KeyFile, AWorldReadableFileIsRefused) {
  ASSERT_TRUE(some_key().save_new(path()).ok());
  fs::permissions(path(), static_cast<fs::perms>(0644));
  const auto key = SecretKey::load(path());
  ASSERT_FALSE(key);
  EXPECT_EQ(key.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(key.error().message(), HasSubstr("(mode 0644); chmod 600 it"));
}

TEST_F(KeyFile, AMissingFileIsNotFound) {
  EXPECT_EQ(SecretKey::load(path()).error().code(), Code::kNotFound);
}

TEST_F(KeyFile, MayHaveCommentsBlanksAndLinesInAnyOrder) {
  const std::string content =
      fmt::format("\n# mine\r\n\t{}\r\n\n  {}  ", kSigningLine, kCurveLine);  // no last newline
  EXPECT_EQ(to_text(SecretKey::load(write(content))->public_key()), kText);
}

TEST_F(KeyFile, ErrorsNameFileAndLineAndNeverTheSecret) {
  const std::string curve(kCurveLine), signing(kSigningLine);
  const std::string secret = curve.substr(8);
  const auto expect = [&](const std::string& content, int line, const std::string& what) {
    const Status status = refused(content);
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_EQ(status.where().file, path());
    EXPECT_EQ(status.where().line, line) << status.describe();
    EXPECT_THAT(status.describe(), AllOf(HasSubstr(what), Not(HasSubstr(secret.substr(0, 20)))));
  };
  expect("", 0, "'curve = ...' is missing");
  expect("# only a comment\n", 1, "'curve = ...' is missing");
  expect(curve + "\n", 1, "'signing = ...' is missing");
  expect(signing + "\n" + signing + "\n" + curve, 2, "signing: stands there twice");
  expect(curve + "\n" + signing + "\ncolour = blue\n", 3, "'curve = ...' and 'signing = ...'");
  expect(secret + "\n" + signing + "\n", 1, "'curve = ...' and 'signing = ...'");
  expect("curves" + curve.substr(5) + "\n" + signing, 1, "'curve = ...' and 'signing = ...'");
  expect(curve.substr(0, curve.size() - 1) + "\n" + signing, 1, "curve: a secret has 48");
  expect(signing + "\ncurve = \n", 2, "this one 0: was it cut off?");
  expect(signing + "\ncurve = " + secret.substr(0, 47) + "=", 2, "character 48 is '='");
  expect(signing + "\ncurve = " + "A" + secret.substr(1), 2, "check bytes");
  expect(to_text(some_key().public_key()), 1, "'curve = ...' and 'signing = ...'");
}

TEST_F(KeyFile, EveryTruncationAndFlippedBitIsRefused) {
  const std::string content = fmt::format("{}\n{}", kCurveLine, kSigningLine);
  for (size_t length = 0; length < content.size(); ++length)
    EXPECT_FALSE(SecretKey::load(write(content.substr(0, length)))) << length;
  for (size_t bit = 0; bit < 8 * content.size(); ++bit) {
    std::string damaged = content;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    const auto key = SecretKey::load(write(damaged));
    // A blank for a blank changes nothing.
    EXPECT_TRUE(!key || to_text(key->public_key()) == kText) << damaged;
  }
}

TEST_F(KeyFile, ALongFileIsNotRead) {
  EXPECT_EQ(refused(std::string(5000, '\n')).code(), Code::kOutOfRange);
}

}  // namespace
}  // namespace tern
