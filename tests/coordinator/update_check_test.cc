// What may be counted: the answer to this round's plan, in its codec, from a client that the fleet
// has.
#include "coordinator/update_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tern {
namespace {

class UpdateCheck : public testing::Test {
 protected:
  const ParameterSchema schema_ = ParameterSchema::flat(100);
  CodecScratch scratch_;
  UpdateRules rules_{.codec = *Codec::parse("int:8"),
                     .schema = &schema_,
                     .round = 7,
                     .base_version = 6,
                     .newest_version = 6,
                     .norm_bound = 50,
                     .largest_examples = 600,
                     .weight_shift = 0};

  Bytes frame(const char* spec = "int:8", uint32_t round = 7, uint32_t base = 6, float value = 1) {
    const Codec codec = *Codec::parse(spec);
    const std::vector<float> x(100, value);
    Bytes bytes(codec.max_encoded_bytes(schema_));
    const FrameMeta meta{.base_version = base, .round = round};
    bytes.resize(*codec.encode(meta, schema_, x, scratch_, bytes));
    return bytes;
  }
  std::string refusal(const Bytes& bytes, uint32_t examples = 60) {
    const auto checked = check_update(rules_, {.report = {.examples = examples}}, bytes, scratch_);
    EXPECT_FALSE(checked);
    return checked ? "" : checked.error().message();
  }
};

TEST_F(UpdateCheck, GivesFrameAndWeightOfTheRightAnswer) {
  const Bytes bytes = frame();
  const auto checked = check_update(rules_, {.report = {.examples = 60}}, bytes, scratch_);
  ASSERT_TRUE(checked) << checked.error().describe();
  EXPECT_EQ(checked->weight, 60u);
  EXPECT_NEAR(checked->frame.norm(), 10, 0.1);
  EXPECT_LE(bytes.size(), max_update_bytes(rules_));
}

TEST_F(UpdateCheck, RefusesEverythingElse) {
  EXPECT_THAT(refusal(frame("int:4")),
              testing::HasSubstr("coded as 'int:4', the plan says 'int:8'"));
  EXPECT_THAT(refusal(frame("int:8", 8)), testing::HasSubstr("of round 8"));
  EXPECT_THAT(refusal(frame("int:8", 7, 5)), testing::HasSubstr("from version 5"));
  EXPECT_THAT(refusal(frame("int:8", 7, 6, 9)), testing::HasSubstr("above the bound"));
  EXPECT_THAT(refusal(frame("float32")), testing::HasSubstr("at most"));
  EXPECT_THAT(refusal(frame(), 0), testing::HasSubstr("holds 0 examples"));
  EXPECT_THAT(refusal(frame(), 601), testing::HasSubstr("clients hold 1 to 600"));
  EXPECT_THAT(refusal({}), testing::HasSubstr("not a frame"));
}

}  // namespace
}  // namespace tern
