/// One number for the bytes of all chains: the same on every CPU level, compiler and optimization.
#include <gtest/gtest.h>

#include <cstring>

#include "base/cpu_level.h"
#include "base/sha256.h"
#include "compression/updates/chain.h"
#include "tests/compression/updates/chains.h"

namespace tern {
namespace {

// Changes when a frame's bytes change, or the list of chains, sizes and inputs. What frames mean
// never changes without a new format version (tests/compression/updates/golden); what an encoder
// chooses, such as a scale, may.
constexpr const char* kFrames = "3cd444265a246b1b4c20ffa6ce5021cd87eb74e170f852ca3f8ae889106398a7";
constexpr const char* kValues = "045bc072ef323f9224032871111a883ceafa8d45a7a76750e68afcf085611c56";

TEST(BytesDigest, OfAllFramesAndDecodedValuesIsPinned) {
  Digest frames{};
  Digest values{};
  const auto chain = [](Digest& digest, std::span<const std::byte> bytes) {
    const Digest of_bytes = sha256(bytes);
    std::array<std::byte, 64> both;
    std::ranges::copy(digest, both.begin());
    std::ranges::copy(of_bytes, both.begin() + 32);
    digest = sha256(both);
  };
  CodecScratch scratch;
  for (const Budget& budget : kBudgets) {
    const Codec codec = codec_of(budget.spec);
    for (const size_t n : kSizes)
      for (const Input input : kInputs) {
        const auto frame = encode_frame(codec, kMeta, make_input(input, n), scratch);
        // Those of zstd are its version's business; what they decode to is not.
        if (codec.chain().value_code != ValueCode::kZstd) chain(frames, frame);
        chain(values, std::as_bytes(std::span<const float>(decode_frame(frame, n, scratch))));
      }
  }
  EXPECT_EQ(to_hex(frames), kFrames) << "at CPU level " << name(cpu_level());
  EXPECT_EQ(to_hex(values), kValues) << "at CPU level " << name(cpu_level());
}

}  // namespace
}  // namespace tern
