#include "config/chain_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tern {
namespace {

// A chain is found wherever it is said, and the error says where that is.
TEST(ChainFit, NamesTheKeyOfAChainThatChangesNothing) {
  const ParameterSchema schema = *ParameterSchema::make({{"weight", {10, 49}}, {"bias", {10}}});
  const CompressionConfig fits{.up = "dct:7 | int:8",
                               .down = "dct:7 | topk:0.01 | rice",
                               .keyframe = "int:8; ef | dct:7 | topk:0.1 | rice"};
  EXPECT_TRUE(check_chains(fits, schema).ok());
  const auto refused = [&](const CompressionConfig& compression, const char* key) {
    const Status status = check_chains(compression, schema);
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_EQ(status.where().key, key);
    EXPECT_THAT(status.message(), testing::HasSubstr("28 x 28"));
  };
  CompressionConfig misfit = fits;
  misfit.up = "dct:28 | int:8";
  refused(misfit, "compression.up");
  misfit = fits;
  misfit.down = "ef | dct:28 | topk:0.01 | rice";
  refused(misfit, "compression.down");
  misfit = fits;
  misfit.keyframe = "int:8; ef | dct:28 | topk:0.1 | rice";
  refused(misfit, "compression.keyframe");
  misfit = fits;
  misfit.rate_control.ladder = "dct:7 | int:2; dct:28 | int:8";
  refused(misfit, "compression.rate_control.ladder");
}

}  // namespace
}  // namespace tern
