#include "tests/bench/codec_peers.h"

#include <gmock/gmock.h>

#include "tests/bench/measured_chain.h"

namespace tern {
namespace {

double nmse(std::span<const float> x, std::span<const float> decoded) {
  double squares = 0, errors = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    squares += double{x[i]} * x[i];
    errors += (double{x[i]} - decoded[i]) * (double{x[i]} - decoded[i]);
  }
  return errors / squares;
}

// A peer that does something else than the chain beside it would prove nothing.
TEST(CodecPeers, LoseWhatTheChainsBesideThemLose) {
  const BenchmarkUpdate update = gaussian_update(size_t{1} << 16);
  const auto peers = make_codec_peers(update.values);
  ASSERT_TRUE(peers) << peers.error().describe();
  ASSERT_EQ(peers->size(), 3u);
  const auto lost = [&](size_t peer) { return nmse(update.values, *(*peers)[peer].decode()); };
  const auto chain_lost = [&](const char* spec) {
    return *MeasuredChain::make(spec, update)->nmse();
  };
  EXPECT_EQ((*peers)[0].encode().value(), 655u * 8) << "an index and a value each";
  EXPECT_NEAR(lost(0), chain_lost("topk:0.01"), 1e-6) << "the same values, exactly";
  EXPECT_EQ((*peers)[1].encode().value(), 65536u + 64 * 4) << "a byte each, a norm each 1024";
  EXPECT_NEAR(lost(1) / chain_lost("qsgd:4"), 1, 0.05);
  EXPECT_LT((*peers)[2].encode().value(), 65536u * 4);
  EXPECT_EQ(lost(2), 0);
}

TEST(CodecPeers, RefuseLengthsThatDontGo) {
  for (const size_t n : {0, 1000}) {
    const auto peers = make_codec_peers(std::vector<float>(n));
    ASSERT_FALSE(peers);
    EXPECT_EQ(peers.error().code(), Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace tern
