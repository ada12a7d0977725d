#include "coordinator/warm_up.h"

#include <gtest/gtest.h>

namespace tern {
namespace {

TEST(WarmUp, ReplacesTheRateForItsRoundsOnly) {
  const Codec codec = *Codec::parse("ef | topk:0.01 | ternary | rice");
  const std::vector<WarmUpStep> steps{{.rate = 0.25, .rounds = 2}, {.rate = 0.06, .rounds = 1}};
  EXPECT_EQ(codec_of_round(codec, steps, 1)->spec(), "ef | topk:0.25 | ternary | rice");
  EXPECT_EQ(codec_of_round(codec, steps, 2)->spec(), "ef | topk:0.25 | ternary | rice");
  EXPECT_EQ(codec_of_round(codec, steps, 3)->spec(), "ef | topk:0.06 | ternary | rice");
  EXPECT_EQ(codec_of_round(codec, steps, 4)->spec(), codec.spec());
  EXPECT_EQ(codec_of_round(codec, {}, 1)->spec(), codec.spec());
}

TEST(WarmUp, NeedsAStageWithARateWhileItLasts) {
  const Codec codec = *Codec::parse("ef | sign");
  EXPECT_FALSE(codec_of_round(codec, {{.rate = 0.25, .rounds = 1}}, 1));
  EXPECT_TRUE(codec_of_round(codec, {{.rate = 0.25, .rounds = 1}}, 2));
}

}  // namespace
}  // namespace tern
