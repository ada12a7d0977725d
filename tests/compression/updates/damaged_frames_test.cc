/// Frames of every chain, cut anywhere and with any bit flipped, are refused.
#include <gtest/gtest.h>

#include "tests/compression/updates/random_cases.h"

namespace tern {
namespace {

struct Recorded {
  std::string what;
  ParameterSchema schema;
  std::vector<std::byte> frame;
};

std::vector<Recorded> record_frames() {
  std::vector<Recorded> frames;
  CodecScratch scratch;
  const auto record = [&](const Codec& codec, const FrameMeta& meta, const ParameterSchema& schema,
                          std::span<const float> x) {
    std::vector<std::byte> frame(codec.max_encoded_bytes(schema));
    const Result<size_t> bytes = codec.encode(meta, schema, x, scratch, frame);
    if (!bytes) return;
    frame.resize(*bytes);
    frames.push_back({fmt::format("{} of {} elements", codec.spec(), x.size()), schema, frame});
  };
  for (const Budget& budget : kBudgets)
    for (const auto& [n, input] :
         {std::pair{size_t{300}, Input::kGaussian}, std::pair{size_t{217}, Input::kHeavyTail}})
      record(codec_of(budget.spec), kMeta, schema_of(n), make_input(input, n));
  for (uint64_t i = 0; frames.size() < 200 || i < 20; ++i) {
    Rng rng(i, Purpose::kTest, 2);
    const RandomCase random = random_case(rng);
    if (random.x.size() <= 300) record(random.codec, random.meta, random.schema, random.x);
  }
  return frames;
}

TEST(DamagedFrames, AreRefusedWhereverTheyAreCutOrABitIsFlipped) {
  CodecScratch scratch;
  const std::vector<Recorded> frames = record_frames();
  size_t cuts = 0, flips = 0;
  for (const Recorded& recorded : frames) {
    std::vector<std::byte> frame = recorded.frame;
    ASSERT_TRUE(inspect(frame, recorded.schema, {}, scratch)) << recorded.what;
    for (size_t length = 0; length < frame.size(); ++length, ++cuts) {
      // A buffer of its own, so that a sanitizer sees a read past its end.
      const std::vector<std::byte> cut(frame.begin(),
                                       frame.begin() + static_cast<ptrdiff_t>(length));
      ASSERT_FALSE(inspect(cut, recorded.schema, {}, scratch))
          << recorded.what << ": " << length << " of " << frame.size() << " bytes";
    }
    for (size_t bit = 0; bit < 8 * frame.size(); ++bit, ++flips) {
      const auto flip = static_cast<std::byte>(1u << (bit % 8));
      frame[bit / 8] ^= flip;
      ASSERT_FALSE(inspect(frame, recorded.schema, {}, scratch))
          << recorded.what << ": bit " << bit % 8 << " of byte " << bit / 8;
      frame[bit / 8] ^= flip;
    }
    ASSERT_TRUE(inspect(frame, recorded.schema, {}, scratch)) << recorded.what;
  }
  EXPECT_GE(frames.size(), 200u);
  printf("%zu frames, %zu cuts, %zu flips\n", frames.size(), cuts, flips);
}

}  // namespace
}  // namespace tern
