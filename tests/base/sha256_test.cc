#include "base/sha256.h"

#include <gtest/gtest.h>

#include <vector>

namespace tern {
namespace {

// FIPS 180-4 examples.
TEST(Sha256, GivesTheKnownAnswers) {
  EXPECT_EQ(to_hex(sha256(std::string_view())),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(to_hex(sha256(std::string_view("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(to_hex(sha256(std::string(1'000'000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, HashesParametersAsLittleEndianFloat32) {
  const std::vector<float> parameters = {1.0f, -2.0f};
  const std::string bytes("\x00\x00\x80\x3f\x00\x00\x00\xc0", 8);
  EXPECT_EQ(sha256(std::span<const float>(parameters)), sha256(bytes));
  EXPECT_EQ(sha256(std::span<const float>()), sha256(std::string_view()));
}

}  // namespace
}  // namespace tern
