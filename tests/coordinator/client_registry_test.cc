#include "coordinator/client_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "base/rng.h"

namespace tern {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using Role = RegisteredPeer::Role;

/// A key that nobody holds the secrets of.
PublicKey key_of(uint32_t i) {
  PublicKey key;
  Rng rng(1, Purpose::kTest, i);
  for (std::byte& b : key.curve) b = static_cast<std::byte>(rng.next());
  for (std::byte& b : key.signing) b = static_cast<std::byte>(rng.next());
  return key;
}
std::string text_of(uint32_t i) { return to_text(key_of(i)); }

ClientRegistry parsed(const std::string& text) {
  return ClientRegistry::parse(text, "site.clients").value();
}

TEST(ClientRegistry, AClientsNumberIsItsPositionAmongTheClients) {
  const ClientRegistry registry =
      parsed("# a comment\n\n" + text_of(0) + " phone\n" + text_of(1) +
             " judge evaluator\n  \t\r\n" + text_of(2) + " tablet revoked # lost in May\r\n\t" +
             text_of(3) + "\n" + text_of(4) + " evaluator revoked\n" + text_of(5));
  ASSERT_EQ(registry.clients(), 4u);
  ASSERT_EQ(registry.peers().size(), 6u);
  const auto expect = [&](uint32_t key, const std::string& name, Role role, uint32_t number,
                          bool revoked, int line) {
    const RegisteredPeer* peer = registry.find(key_of(key).curve);
    ASSERT_NE(peer, nullptr) << key;
    EXPECT_EQ(peer->key, key_of(key));
    EXPECT_EQ(peer->name, name);
    EXPECT_EQ(peer->role, role);
    EXPECT_EQ(peer->number, number);
    EXPECT_EQ(peer->revoked, revoked);
    EXPECT_EQ(peer->line, line);
    EXPECT_EQ(registry.client(number), role == Role::kClient ? peer : nullptr);
  };
  expect(0, "phone", Role::kClient, 0, false, 3);
  expect(1, "judge", Role::kEvaluator, RegisteredPeer::kNoNumber, false, 4);
  expect(2, "tablet", Role::kClient, 1, true, 6);
  expect(3, "", Role::kClient, 2, false, 7);
  expect(4, "", Role::kEvaluator, RegisteredPeer::kNoNumber, true, 8);
  expect(5, "", Role::kClient, 3, false, 9);
  EXPECT_EQ(registry.client(4), nullptr);
  EXPECT_EQ(registry.client(RegisteredPeer::kNoNumber), nullptr);
  EXPECT_EQ(registry.find(key_of(6).curve), nullptr);
  EXPECT_EQ(registry.find(key_of(0).signing), nullptr);
}

TEST(ClientRegistry, ALineMaySayWhatTheLinkCarries) {
  const ClientRegistry registry = parsed(text_of(0) + " phone uplink=125000\n" + text_of(1) +
                                         " uplink=1e6 revoked\n" + text_of(2) + "\n");
  EXPECT_EQ(registry.client(0)->uplink, 125000);
  EXPECT_EQ(registry.client(0)->name, "phone");
  EXPECT_EQ(registry.client(1)->uplink, 1e6);
  EXPECT_TRUE(registry.client(1)->revoked);
  EXPECT_EQ(registry.client(2)->uplink, 0);
  for (const char* wrong : {"uplink=", "uplink=fast", "uplink=0", "uplink=-3", "uplink=1e16",
                            "uplink=nan", "evaluator uplink=5", "revoked uplink=5"})
    EXPECT_FALSE(ClientRegistry::parse(text_of(0) + " " + wrong + "\n", "x")) << wrong;
}

TEST(ClientRegistry, FindsEachOfMany) {
  constexpr uint32_t kMany = 3000;
  std::string text;
  for (uint32_t i = 0; i < kMany; ++i) text += text_of(i) + "\n";
  const ClientRegistry registry = parsed(text);
  for (uint32_t i = 0; i < kMany; ++i) ASSERT_EQ(registry.find(key_of(i).curve)->number, i);
  for (uint32_t i = kMany; i < 2 * kMany; ++i) ASSERT_EQ(registry.find(key_of(i).curve), nullptr);
}

TEST(ClientRegistry, ErrorsNameFileAndLine) {
  const auto expect = [](const std::string& text, int line, const std::string& what) {
    const auto registry = ClientRegistry::parse(text, "site.clients");
    ASSERT_FALSE(registry) << text;
    const Status& status = registry.error();
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_EQ(status.where().file, "site.clients");
    EXPECT_EQ(status.where().line, line) << status.describe();
    EXPECT_THAT(status.message(), HasSubstr(what));
  };
  const std::string first = text_of(0) + " phone\n", second = text_of(1);
  expect("", 0, "no line");
  expect("# nobody yet\n\n", 0, "no line");
  expect(first + "phone-2 " + second, 2, "a public key starts with tern1-");
  expect(first + second.substr(0, 50), 2, "was it cut off?");
  expect(first + second + " a/b", 2, "a name has 1 to 64");
  expect(first + second + " " + std::string(65, 'a'), 2, "a name has 1 to 64");
  expect(first + second + " caf\xc3\xa9", 2, "a name has 1 to 64");
  expect(first + second + " " + text_of(2), 2, "a name has 1 to 64");
  expect(first + second + " tern1-x", 2, "doesn't start with tern1-");
  expect(first + second + " Revoked", 2, "'Revoked' can't be a name");
  expect(first + second + " EVALUATOR", 2, "can't be a name");
  expect(first + second + " tablet admin", 2, "'admin'");
  expect(first + second + " tablet Revoked", 2, "'Revoked'");
  expect(first + second + " revoked evaluator", 2, "in this order; one word too many or unknown");
  expect(first + second + " evaluator evaluator", 2, "'evaluator'");
  expect(first + second + " evaluator tablet", 2, "'tablet'");
  expect(first + second + "\n\n" + second + " again\n", 4, "line 2 has the same");
  expect(first + second + " phone\n", 2, "line 1 has the same name");
  expect(second + " revoked\n" + second, 2, "never allowed again");
}

TEST(ClientRegistry, HalfOfAKeyIsEnoughToBeADuplicate) {
  PublicKey same_curve = key_of(1), same_signing = key_of(2);
  same_curve.curve = key_of(0).curve;
  same_signing.signing = key_of(0).signing;
  for (const PublicKey& key : {same_curve, same_signing}) {
    const auto registry = ClientRegistry::parse(text_of(0) + "\n" + to_text(key), "f");
    ASSERT_FALSE(registry);
    EXPECT_EQ(registry.error().where().line, 2);
    EXPECT_EQ(registry.error().message(),
              key == same_curve ? "line 1 has the same key" : "line 1 has the same signing key");
  }
}

TEST(ClientRegistry, TheNameOfARevokedPeerIsFree) {
  const ClientRegistry registry = parsed(text_of(0) + " phone revoked\n" + text_of(1) + " phone\n" +
                                         text_of(2) + " phone revoked\n");
  EXPECT_EQ(registry.clients(), 3u);
}

class ClientList : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = fs::temp_directory_path() / "tern-clients-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    list_ = folder_ / "site.clients";
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& text) const { std::ofstream(list_, std::ios::binary) << text; }
  std::string text() const {
    std::ifstream in(list_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  Result<RegisteredPeer> allow(uint32_t key, std::string_view name = "",
                               Role role = Role::kClient) const {
    return allow_peer(list_, key_of(key), name, role);
  }

  fs::path folder_;
  std::string list_;
};

TEST_F(ClientList, GrowsByTheClientsThatAreAllowed) {
  EXPECT_EQ(allow(0, "phone")->number, 0u);
  EXPECT_EQ(allow(1, "judge", Role::kEvaluator)->number, RegisteredPeer::kNoNumber);
  EXPECT_EQ(allow(2)->number, 1u);
  const ClientRegistry registry = ClientRegistry::load(list_).value();
  EXPECT_EQ(registry.clients(), 2u);
  EXPECT_EQ(registry.find(key_of(0).curve)->name, "phone");
  EXPECT_EQ(registry.find(key_of(1).curve)->role, Role::kEvaluator);
  EXPECT_EQ(registry.client(1)->key, key_of(2));
  EXPECT_TRUE(text().starts_with("# Who may take part"));
  EXPECT_TRUE(text().ends_with(allow_line(key_of(2), "", Role::kClient) + "\n"));
}

TEST_F(ClientList, KeepsWhatWasThere) {
  const std::string before = "# ours\n" + text_of(0) + "  phone   # Ann's";  // no last newline
  write(before);
  ASSERT_EQ(allow(1, "tablet")->number, 1u);
  EXPECT_EQ(text(), before + "\n" + text_of(1) + " tablet\n");
  write("");
  EXPECT_EQ(allow(1, "tablet")->number, 0u);
}

TEST_F(ClientList, ARefusedPeerChangesNothing) {
  write(text_of(0) + " phone\n" + text_of(1) + " old revoked\n");
  const std::string before = text();
  const auto expect = [&](const Result<RegisteredPeer>& peer, const std::string& what) {
    ASSERT_FALSE(peer);
    EXPECT_EQ(peer.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(peer.error().message(), HasSubstr(what));
    EXPECT_EQ(peer.error().where().line, 0) << "names a line that isn't in the file";
    EXPECT_EQ(text(), before);
  };
  expect(allow(0, "other"), "line 1 has the same");
  expect(allow(2, "phone"), "line 1 has the same name");
  expect(allow(1), "line 2 has the same key, revoked: such a key is never allowed again");
  expect(allow(2, "a b"), "a name has 1 to 64");
  expect(allow(2, "revoked"), "can't be a name");
  expect(allow(2, "evaluator", Role::kEvaluator), "can't be a name");
  EXPECT_EQ(allow(2, "old")->number, 2u);
}

TEST_F(ClientList, ADamagedListIsNotAddedTo) {
  write(text_of(0) + "\nnonsense\n");
  const auto peer = allow(1);
  ASSERT_FALSE(peer);
  EXPECT_EQ(peer.error().where().line, 2);
  EXPECT_EQ(revoke_peer(list_, text_of(0)).error().where().line, 2);
  EXPECT_EQ(text(), text_of(0) + "\nnonsense\n");
}

TEST_F(ClientList, RevokingByNameOrKeyChangesOneLineOnly) {
  const std::string lines[] = {"# ours\r\n", text_of(0) + "  phone \t # Ann's\r\n", "\n",
                               text_of(1) + " judge evaluator\n", text_of(2)};
  write(lines[0] + lines[1] + lines[2] + lines[3] + lines[4]);
  EXPECT_EQ(revoke_peer(list_, "phone")->number, 0u);
  EXPECT_EQ(text(), lines[0] + text_of(0) + "  phone revoked \t # Ann's\r\n" + lines[2] + lines[3] +
                        lines[4]);
  EXPECT_EQ(revoke_peer(list_, text_of(2))->number, 1u);
  EXPECT_TRUE(revoke_peer(list_, "judge")->revoked);
  const ClientRegistry registry = ClientRegistry::load(list_).value();
  for (uint32_t i = 0; i < 3; ++i) EXPECT_TRUE(registry.find(key_of(i).curve)->revoked) << i;
  EXPECT_EQ(registry.client(0)->key, key_of(0));
  EXPECT_EQ(registry.client(1)->key, key_of(2));
}

TEST_F(ClientList, RevokingTwiceIsNoError) {
  write(text_of(0) + " phone\n");
  ASSERT_TRUE(revoke_peer(list_, "phone"));
  const std::string once = text();
  EXPECT_TRUE(revoke_peer(list_, "phone")->revoked);
  EXPECT_TRUE(revoke_peer(list_, text_of(0))->revoked);
  EXPECT_EQ(text(), once);
}

TEST_F(ClientList, OfSeveralPeersOfANameTheOneThatIsLeftIsRevoked) {
  write(text_of(0) + " phone revoked\n" + text_of(1) + " phone\n" + text_of(2) +
        " phone revoked\n");
  EXPECT_EQ(revoke_peer(list_, "phone")->number, 1u);
  EXPECT_TRUE(ClientRegistry::load(list_)->client(1)->revoked);
}

TEST_F(ClientList, RevokingAStrangerIsNotFound) {
  EXPECT_EQ(revoke_peer(list_, "phone").error().code(), Code::kNotFound);  // no list
  write(text_of(0) + "\n");
  for (const std::string& stranger : {std::string("phone"), text_of(1), std::string()}) {
    const auto peer = revoke_peer(list_, stranger);
    ASSERT_FALSE(peer) << stranger;
    EXPECT_EQ(peer.error().code(), Code::kNotFound);
    EXPECT_THAT(peer.error().message(), HasSubstr("nobody in the list has"));
  }
  EXPECT_EQ(revoke_peer(list_, text_of(0).substr(0, 90)).error().code(), Code::kInvalidArgument);
}

TEST_F(ClientList, WhatIsAllowedReadsBack) {
  for (const Role role : {Role::kClient, Role::kEvaluator}) {
    for (const std::string& name : {std::string(), std::string("A-z_0.9"), std::string(64, 'n')}) {
      const ClientRegistry registry = parsed(allow_line(key_of(0), name, role));
      EXPECT_EQ(registry.peers()[0].key, key_of(0));
      EXPECT_EQ(registry.peers()[0].name, name);
      EXPECT_EQ(registry.peers()[0].role, role);
      EXPECT_FALSE(registry.peers()[0].revoked);
    }
  }
}

}  // namespace
}  // namespace tern
