#include "compression/updates/error_feedback.h"

#include <gtest/gtest.h>

#include "tests/compression/updates/chains.h"

namespace tern {
namespace {

class ErrorFeedback : public testing::Test {
 protected:
  PendingUpdate encode(const std::vector<float>& update, uint64_t seed = 1) {
    return encode_update(codec_, meta_with_seed(seed), schema_of(update.size()), update, memory_,
                         scratch_)
        .value();
  }
  const Codec codec_ = codec_of("ef | topk:0.25 | rice");
  CodecScratch scratch_;
  SenderMemory memory_;
};

TEST_F(ErrorFeedback, WhatIsNotSentIsThePendingResidual) {
  const PendingUpdate pending = encode({4, 1, -2, 3});
  EXPECT_EQ(decode_frame(pending.frame, 4, scratch_), (std::vector<float>{4, 0, 0, 0}));
  EXPECT_EQ(pending.next.residual, (std::vector<float>{0, 1, -2, 3}));
  EXPECT_TRUE(memory_.empty());
}

TEST_F(ErrorFeedback, ACommittedResidualIsAddedToTheNextUpdate) {
  memory_ = encode({4, 1, -2, 3}).next;
  const PendingUpdate pending = encode({0, 1, -2, 0});
  EXPECT_EQ(decode_frame(pending.frame, 4, scratch_), (std::vector<float>{0, 0, -4, 0}));
  EXPECT_EQ(pending.next.residual, (std::vector<float>{0, 2, 0, 3}));
}

TEST_F(ErrorFeedback, ADroppedUpdateLeavesTheResidualAsItWas) {
  memory_ = encode({4, 1, -2, 3}).next;
  const std::vector<float> before = memory_.residual;
  { const PendingUpdate dropped = encode({100, 100, 100, 100}); }
  EXPECT_TRUE(same_bits(memory_.residual, before));
  // The same update again gives the same bytes as if the dropped one had never been.
  EXPECT_EQ(encode({1, 2, 3, 4}).frame, encode({1, 2, 3, 4}).frame);
}

TEST_F(ErrorFeedback, BytesDependOnCodecMetaUpdateAndResidualAlone) {
  memory_ = encode(make_input(Input::kGaussian, 5000)).next;
  const std::vector<float> update = make_input(Input::kHeavyTail, 5000);
  const PendingUpdate once = encode(update);
  fill_with_garbage(scratch_);
  const PendingUpdate again = encode(update);
  EXPECT_EQ(once.frame, again.frame);
  EXPECT_EQ(once.next.residual, again.next.residual);
}

TEST_F(ErrorFeedback, AChainWithoutItLeavesTheMemoryAsItWas) {
  const std::vector<float> update = make_input(Input::kGaussian, 100);
  const SenderMemory old{.residual = std::vector<float>(100, 5.0f)};
  const PendingUpdate pending =
      encode_update(codec_of("int:4"), kMeta, schema_of(100), update, old, scratch_).value();
  EXPECT_EQ(pending.next.residual, old.residual);
  EXPECT_EQ(pending.frame, encode_frame(codec_of("int:4"), kMeta, update, scratch_));
}

TEST_F(ErrorFeedback, RefusesAResidualOfAnotherLength) {
  memory_.residual = {1, 2, 3};
  const Result<PendingUpdate> pending =
      encode_update(codec_, kMeta, schema_of(4), std::vector<float>{1, 2, 3, 4}, memory_, scratch_);
  ASSERT_FALSE(pending);
  EXPECT_EQ(pending.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(pending.error().message(), "a residual of 3 elements for an update of 4");
}

TEST_F(ErrorFeedback, RefusesAnUpdateThatIsNotFinite) {
  const Result<PendingUpdate> pending =
      encode_update(codec_, kMeta, schema_of(2), std::vector<float>{1, NAN}, memory_, scratch_);
  ASSERT_FALSE(pending);
  EXPECT_EQ(pending.error().code(), Code::kInvalidArgument);
}

TEST_F(ErrorFeedback, TakesAnEmptyUpdate) {
  const PendingUpdate pending = encode({});
  EXPECT_TRUE(pending.next.residual.empty());
  EXPECT_TRUE(inspect_frame(pending.frame, 0, scratch_));
}

TEST_F(ErrorFeedback, AgeHalvesOnceForEachFurtherStretchWithoutATask) {
  struct Row {
    uint32_t rounds, stale_after;
    float expected;
  };
  for (const Row& row : {Row{0, 50, 8}, Row{50, 50, 8}, Row{99, 50, 8}, Row{100, 50, 4},
                         Row{149, 50, 4}, Row{150, 50, 2}, Row{250, 50, 0.5f}, Row{3, 1, 2},
                         Row{1000, 0, 8}, Row{4'000'000'000, 1, 0}}) {
    SenderMemory memory{.residual = {8, -8}, .residual16 = {}, .momentum = {8}, .factors = {8}};
    memory.age(Feedback::kEf14, row.rounds, row.stale_after);
    EXPECT_EQ(memory.residual[0], row.expected) << row.rounds << ' ' << row.stale_after;
    EXPECT_EQ(memory.residual[1], -row.expected);
    EXPECT_EQ(memory.momentum[0], row.expected);
    EXPECT_EQ(memory.factors[0], 8) << "directions don't age";
    SenderMemory halves{.residual16 = {0x4100, 0xC100}};  // 8, -8
    halves.age(Feedback::kDgc, row.rounds, row.stale_after);
    std::vector<float> values(2, 0.0f);
    halves.add_residual(values);
    EXPECT_EQ(values, (std::vector<float>{row.expected, -row.expected}));
    SenderMemory estimate{.residual = {8}};
    estimate.age(Feedback::kEf21, row.rounds, row.stale_after);
    EXPECT_EQ(estimate.residual[0], 8) << "the receiver's copy doesn't age either";
  }
  SenderMemory empty;
  empty.age(Feedback::kEf14, 1000, 1);
  EXPECT_TRUE(empty.empty());
}

double residual_norm(const SenderMemory& memory) {
  return std::sqrt(squared_norm(memory.residual));
}

TEST_F(ErrorFeedback, KeepsTheResidualBoundedUnderEveryChain) {
  // A chain that lost more than it keeps would grow it by a factor each round.
  for (const Budget& budget : kBudgets) {
    const Codec codec = codec_of(budget.spec);
    if (codec.feedback() != Feedback::kEf14) continue;
    constexpr size_t kElements = 3000;
    constexpr uint32_t kRounds = 200;
    const double of_update = std::sqrt(squared_norm(make_input(Input::kGaussian, kElements)));
    SenderMemory memory;
    for (uint32_t round = 0; round < kRounds; ++round)
      memory = encode_update(codec, meta_with_seed(round), schema_of(kElements),
                             make_input(Input::kGaussian, kElements, round), memory, scratch_)
                   .value()
                   .next;
    EXPECT_LT(residual_norm(memory), 6 * of_update) << budget.spec;
  }
}

TEST_F(ErrorFeedback, ConvergesToTheMeanUpdate) {
  // A constant update through 5 % sparse ternary: what has arrived after T rounds is T times the
  // update less a residual that stays bounded.
  const Codec codec = codec_of("ef | topk:0.05 | ternary | rice");
  const std::vector<float> update = make_input(Input::kGaussian, 2000);
  double norm_half_way = 0;
  for (uint64_t round = 0; round < 400; ++round) {
    memory_ =
        encode_update(codec, meta_with_seed(round), schema_of(2000), update, memory_, scratch_)
            .value()
            .next;
    if (round == 199) norm_half_way = residual_norm(memory_);
  }
  EXPECT_LT(residual_norm(memory_), 1.3 * norm_half_way);
  EXPECT_LT(residual_norm(memory_), 40 * std::sqrt(squared_norm(update)));
}

TEST_F(ErrorFeedback, ABfloat16ResidualTakesHalfTheMemoryAndKeepsTheLawUpToItsRounding) {
  const Codec codec = codec_of("ef | topk:0.05 | ternary | rice");
  constexpr size_t kElements = 3000;
  constexpr int kRounds = 50;
  std::vector<double> updates(kElements, 0.0), arrived(kElements, 0.0);
  double largest = 0;
  for (uint32_t round = 0; round < kRounds; ++round) {
    const std::vector<float> update = make_input(Input::kGaussian, kElements, round);
    PendingUpdate pending = encode_update(codec, meta_with_seed(round), schema_of(kElements),
                                          update, memory_, scratch_, ResidualStore::kBfloat16)
                                .value();
    const auto decoded = decode_frame(pending.frame, kElements, scratch_);
    memory_ = std::move(pending.next);
    ASSERT_EQ(memory_.residual16.size(), kElements);
    ASSERT_TRUE(memory_.residual.empty());
    std::vector<float> residual(kElements, 0.0f);
    memory_.add_residual(residual);
    for (size_t i = 0; i < kElements; ++i) {
      updates[i] += static_cast<double>(update[i]);
      arrived[i] += static_cast<double>(decoded[i]);
      largest = std::max(largest, std::abs(static_cast<double>(residual[i])));
    }
  }
  std::vector<float> residual(kElements, 0.0f);
  memory_.add_residual(residual);
  for (size_t i = 0; i < kElements; ++i)
    ASSERT_NEAR(arrived[i] + static_cast<double>(residual[i]), updates[i],
                kRounds * largest * 0x1p-8);
}

// ef21.

TEST_F(ErrorFeedback, TheEstimateOfEf21IsTheSumOfCommittedFramesBitForBit) {
  for (const char* spec : {"ef21 | topk:0.1 | rice", "ef21 | topk:0.05 | ternary | rice",
                           "ef21 | rotate:1024 | eden:2", "ef21 | lowrank:2"}) {
    const Codec codec = codec_of(spec);
    constexpr size_t kElements = 3000;
    SenderMemory memory;
    std::vector<float> receiver(kElements, 0.0f);
    for (uint32_t round = 0; round < 40; ++round) {
      PendingUpdate pending =
          encode_update(codec, meta_with_seed(round), schema_of(kElements),
                        make_input(Input::kGaussian, kElements, round), memory, scratch_)
              .value();
      if (round % 5 == 2) continue;  // refused or lost: both stay where they were
      const CheckedFrame frame = inspect_frame(pending.frame, kElements, scratch_).value();
      ASSERT_TRUE(add_decoded(frame, scratch_, receiver).ok());
      memory = std::move(pending.next);
      ASSERT_TRUE(same_bits(memory.residual, receiver)) << spec;
    }
  }
}

TEST_F(ErrorFeedback, TheMeanOfTheReceiverIsThatOfTheEstimates) {
  // EF21's invariant: with every client's frames added in the same order, the receiver's sum is the
  // sum of the clients' estimates, whoever took part in a round.
  const Codec codec = codec_of("ef21 | topk:0.1 | bfloat16 | rice");
  constexpr size_t kElements = 2000;
  constexpr uint32_t kClients = 7;
  std::vector<SenderMemory> clients(kClients);
  std::vector<std::vector<float>> receiver(kClients, std::vector<float>(kElements, 0.0f));
  for (uint32_t round = 0; round < 25; ++round)
    for (uint32_t c = 0; c < kClients; ++c) {
      if ((round + c) % 3 == 0) continue;  // not in this cohort
      PendingUpdate pending =
          encode_update(codec, meta_with_seed(mix(round, c)), schema_of(kElements),
                        make_input(Input::kGaussian, kElements, round * 100 + c), clients[c],
                        scratch_)
              .value();
      if (round % 4 == 1 && c == 2) continue;  // dropped
      const CheckedFrame frame = inspect_frame(pending.frame, kElements, scratch_).value();
      ASSERT_TRUE(add_decoded(frame, scratch_, receiver[c]).ok());
      clients[c] = std::move(pending.next);
    }
  std::vector<float> of_receiver(kElements, 0.0f), of_clients(kElements, 0.0f);
  for (uint32_t c = 0; c < kClients; ++c)
    for (size_t i = 0; i < kElements; ++i) {
      of_receiver[i] += receiver[c][i];
      of_clients[i] += clients[c].residual[i];
    }
  EXPECT_TRUE(same_bits(of_receiver, of_clients));
}

TEST_F(ErrorFeedback, Ef21ApproachesAConstantUpdate) {
  const Codec codec = codec_of("ef21 | topk:0.1 | rice");
  const std::vector<float> update = make_input(Input::kHeavyTail, 2000);
  for (uint64_t round = 0; round < 30; ++round)
    memory_ =
        encode_update(codec, meta_with_seed(round), schema_of(2000), update, memory_, scratch_)
            .value()
            .next;
  EXPECT_LT(nmse(update, memory_.residual), 1e-12);
}

// dgc.

TEST_F(ErrorFeedback, DgcIsZeroWhereAValueWasSentAndOwesTheRest) {
  const Codec codec = codec_of("dgc:0.5 | topk:0.25 | rice");
  const auto encode_with = [&](const std::vector<float>& update) {
    return encode_update(codec, kMeta, schema_of(4), update, memory_, scratch_).value();
  };
  PendingUpdate pending = encode_with({4, 1, -2, 3});
  EXPECT_EQ(decode_frame(pending.frame, 4, scratch_), (std::vector<float>{4, 0, 0, 0}));
  EXPECT_EQ(pending.next.momentum, (std::vector<float>{0, 1, -2, 3}));
  EXPECT_EQ(pending.next.residual, (std::vector<float>{0, 1, -2, 3}));
  memory_ = std::move(pending.next);
  // u = u/2 + update = {1, 1.5, -1, 1.5}; v = v + u = {1, 2.5, -3, 4.5}.
  pending = encode_with({1, 1, 0, 0});
  EXPECT_EQ(decode_frame(pending.frame, 4, scratch_), (std::vector<float>{0, 0, 0, 4.5f}));
  EXPECT_EQ(pending.next.momentum, (std::vector<float>{1, 1.5f, -1, 0}));
  EXPECT_EQ(pending.next.residual, (std::vector<float>{1, 2.5f, -3, 0}));
}

TEST_F(ErrorFeedback, DgcThatSendsEverythingIsMomentumSgdBitForBit) {
  const Codec codec = codec_of("dgc:0.9 | topk:1");
  constexpr size_t kElements = 5000;
  std::vector<float> momentum(kElements, 0.0f);
  for (uint32_t round = 0; round < 20; ++round) {
    const std::vector<float> update = make_input(Input::kGaussian, kElements, round);
    PendingUpdate pending =
        encode_update(codec, meta_with_seed(round), schema_of(kElements), update, memory_, scratch_)
            .value();
    for (size_t i = 0; i < kElements; ++i) momentum[i] = update[i] + 0.9f * momentum[i];
    ASSERT_TRUE(same_bits(decode_frame(pending.frame, kElements, scratch_), momentum));
    if (round % 6 == 3) {  // dropped: the receiver hasn't seen this step, nor has the momentum
      for (size_t i = 0; i < kElements; ++i)
        momentum[i] = memory_.momentum.empty() ? 0.0f : memory_.momentum[i];
      continue;
    }
    memory_ = std::move(pending.next);
  }
}

TEST_F(ErrorFeedback, DgcNeedsASelectionOfCoordinates) {
  for (const char* spec : {"dgc | int:8", "dgc | sign", "dgc | lowrank:2",
                           "dgc | rotate | randk:0.1", "dgc | small16:1024 | topk:0.1"})
    EXPECT_FALSE(Codec::parse(spec)) << spec;
}

// Warm starts of lowrank.

TEST_F(ErrorFeedback, LowrankStartsFromTheFactorsOfTheCommittedFrame) {
  const Codec codec = codec_of("ef | lowrank:2");
  const std::vector<float> update = make_input(Input::kGaussian, 5000);
  PendingUpdate first =
      encode_update(codec, kMeta, schema_of(5000), update, memory_, scratch_).value();
  EXPECT_FALSE(first.next.factors.empty());
  SenderMemory cold = first.next;
  cold.factors.clear();
  const auto again = [&](const SenderMemory& memory) {
    return encode_update(codec, kMeta, schema_of(5000), update, memory, scratch_).value().frame;
  };
  EXPECT_EQ(again(first.next), again(first.next));
  EXPECT_NE(again(first.next), again(cold));
}

}  // namespace
}  // namespace tern
