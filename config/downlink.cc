#include "config/downlink.h"

#include <algorithm>
#include <cmath>

namespace tern {

namespace {

Result<Codec> error_fed(const Codec& codec) {
  if (codec.error_feedback() || !codec.lossy()) return codec;
  return Codec::parse("ef | " + codec.spec());
}

}  // namespace

void choose_downlink(double gap, CompressionConfig& compression) {
  // Whoever comes this often has missed few versions: keyframes would only delay what is owed.
  constexpr double kPlainChain = 4;
  // Up to here a refinement reaches from one visit to the next; beyond, keyframes need keyframes.
  constexpr double kOneLevel = 20;
  constexpr uint32_t kShort = 10, kLong = 100;
  compression.keyframe.clear();
  compression.keyframe_every.clear();
  if (gap < kPlainChain) {
    compression.down = "ef | topk:0.01 | ternary | rice";
  } else if (gap <= kOneLevel) {
    compression.down = "topk:0.005 | ternary | rice";
    compression.keyframe = "ef | topk:0.02 | ternary | rice";
    compression.keyframe_every = {static_cast<uint32_t>(std::lround(gap))};
  } else {
    compression.down = "topk:0.01 | ternary | rice";
    compression.keyframe = "topk:0.02 | ternary | rice; ef | topk:0.05 | ternary | rice";
    const auto visits = static_cast<uint32_t>(std::lround(std::fmin(gap, kLong) / kShort));
    compression.keyframe_every = {kShort, kShort * visits};
  }
}

VersionTree version_tree(const CompressionConfig& compression) {
  VersionTree tree{.periods = compression.keyframe_every};
  const Result<std::vector<Codec>> keyframes = parse_chains(compression.keyframe);
  if (keyframes) tree.chain = keyframes->back().error_feedback();
  return tree;
}

Result<std::vector<Codec>> downlink_codecs(const CompressionConfig& compression) {
  TERN_TRY(Codec down, Codec::parse(compression.down));
  if (compression.keyframe.empty()) return std::vector<Codec>{std::move(down)};
  TERN_TRY(std::vector<Codec> keyframes, parse_chains(compression.keyframe));
  const auto refuse = [](const char* key, const Status& reason) {
    return Status(reason).at({"", 0, key});
  };
  std::vector<Codec> codecs;
  const auto add = [&](const Codec& codec, const char* key, bool chain) -> Status {
    if (codec.error_feedback() && (!chain || codec.feedback() != Feedback::kEf14))
      return refuse(key,
                    error(Code::kInvalidArgument,
                          "'{}' is coded fresh from its keyframe, which remembers what it lost; "
                          "write it without '{}'",
                          codec.spec(), codec.stages()[0].info->name));
    Result<Codec> fed = error_fed(codec);
    if (!fed) return refuse(key, fed.error());
    codecs.push_back(*std::move(fed));
    return {};
  };
  TERN_CHECK_OK(add(down, "compression.down", false));
  for (size_t i = 0; i < keyframes.size(); ++i)
    TERN_CHECK_OK(add(keyframes[i], "compression.keyframe", i + 1 == keyframes.size()));
  return codecs;
}

double expected_frames(const VersionTree& tree, size_t level, double gap) {
  const double missed = level == 0 ? gap : gap / tree.periods[level - 1];
  // Only those that follow each other are all needed.
  return level == tree.periods.size() && tree.chain ? missed : std::min(missed, 1.0);
}

}  // namespace tern
