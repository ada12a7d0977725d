/// The bytes of every chain's frame of 140,000 elements are those of bytes_per_codec.csv, a file
/// that is reviewed: a chain that gets longer, or shorter, shows in a diff.
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "compression/updates/chain.h"
#include "tests/compression/updates/chains.h"

namespace tern {
namespace {

constexpr const char* kFile = TERN_SOURCE_DIR "/tests/compression/updates/bytes_per_codec.csv";
constexpr size_t kElements = 140'000;

TEST(BytesPerCodec, AreThoseOfTheReviewedFile) {
  std::map<std::string, std::string> lines;  // of each chain
  std::ifstream file(kFile);
  std::string line;
  ASSERT_TRUE(std::getline(file, line)) << kFile;
  EXPECT_EQ(line, "codec,gaussian,heavy_tail");
  while (std::getline(file, line)) {
    const std::string spec = line.substr(0, line.find(','));
    EXPECT_TRUE(lines.emplace(spec, line).second) << spec << " is there twice";
  }
  const auto gaussian = make_input(Input::kGaussian, kElements);
  const auto heavy_tail = make_input(Input::kHeavyTail, kElements);
  CodecScratch scratch;
  for (const Budget& budget : kBudgets) {
    const Codec codec = codec_of(budget.spec);
    const size_t bytes[] = {encode_frame(codec, kMeta, gaussian, scratch).size(),
                            encode_frame(codec, kMeta, heavy_tail, scratch).size()};
    const std::string now = fmt::format("{},{},{}", budget.spec, bytes[0], bytes[1]);
    const std::string before = std::exchange(lines[budget.spec], "");
    bool same = now == before;
    // What zstd makes of values is its version's business, within limits.
    if (codec.chain().value_code == ValueCode::kZstd && !before.empty()) {
      double pinned[2] = {};
      same =
          std::sscanf(before.c_str() + before.find(','), ",%lf,%lf", &pinned[0], &pinned[1]) == 2;
      for (int i = 0; i < 2; ++i)
        same = same && std::abs(static_cast<double>(bytes[i]) - pinned[i]) <= 0.03 * pinned[i];
    }
    EXPECT_TRUE(same) << (before.empty() ? "there is no line for this chain" : before) << "; now:\n"
                      << now;
  }
  for (const auto& [spec, rest] : lines)
    EXPECT_EQ(rest, "") << spec << " is not in kBudgets any more";
}

}  // namespace
}  // namespace tern
