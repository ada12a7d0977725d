#include "coordinator/warm_up.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "compression/updates/frame.h"
#include "coordinator/run_state.h"

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

// With keyframes the first refinements are longer; a keyframe, which all that follows is coded
// from, keeps the rate that its level has.
TEST(WarmUp, WithKeyframesIsThatOfRefinements) {
  const ParameterSchema schema = *ParameterSchema::make({{"weight", {50, 20}}});
  Scenario scenario;
  scenario.compression = {.up = "int:8",
                          .down = "topk:0.01 | ternary | rice",
                          .keyframe = "ef | topk:0.02 | ternary | rice",
                          .keyframe_every = {3}};
  scenario.compression.error_feedback.warmup_down = {{.rate = 0.25, .rounds = 4}};
  const auto state = *RunState::make({.scenario = scenario, .schema = schema, .clients = 10});
  Rng rng(1, Purpose::kTest);
  std::vector<std::string> chains;
  for (uint32_t round = 1; round <= 6; ++round) {
    std::vector<float> step(schema.elements());
    for (float& value : step) value = static_cast<float>(rng.normal());
    const SharedFrame frame = *state->publish(0, round, std::move(step));
    chains.push_back(inspect(*frame, schema, {}, state->scratch(0))->codec().spec());
  }
  const std::string warm = "ef | topk:0.25 | ternary | rice",
                    refinement = "ef | topk:0.01 | ternary | rice",
                    keyframe = "ef | topk:0.02 | ternary | rice";
  EXPECT_EQ(chains, (std::vector<std::string>{warm, warm, keyframe, warm, refinement, keyframe}));
}

}  // namespace
}  // namespace tern
