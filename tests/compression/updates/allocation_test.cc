/// Coding allocates nothing in the steady state. This file replaces operator new of its program.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "base/bytes.h"
#include "tests/compression/updates/chains.h"

namespace {

std::atomic<size_t> allocations = 0;
std::atomic<size_t> allocated_bytes = 0;

}  // namespace

// Where the compiler inlined one of these and not the other, it would take std::free for a mistake.
[[gnu::noinline]] void* operator new(size_t bytes) {
  ++allocations;
  allocated_bytes += bytes;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace tern {
namespace {

struct Spent {
  size_t allocations = 0;
  size_t bytes = 0;
};

template <typename F>
Spent spent_by(F f) {
  const size_t count = allocations;
  const size_t bytes = allocated_bytes;
  f();
  return {allocations - count, allocated_bytes - bytes};
}

TEST(Allocation, TheCounterCounts) {
  const Spent spent = spent_by([] {
    const std::vector<char> memory(1000);
    asm volatile("" ::"r"(memory.data()) : "memory");  // or a compiler does without
  });
  EXPECT_EQ(spent.allocations, 1u);
  EXPECT_EQ(spent.bytes, 1000u);
}

TEST(Allocation, CodingAllocatesNothingInTheSteadyState) {
  constexpr size_t kElements = 140000;
  const std::vector<float> x = make_input(Input::kHeavyTail, kElements);
  std::vector<float> decoded(kElements);
  CodecScratch scratch;
  for (const Budget& budget : kBudgets) {
    const Codec codec = codec_of(budget.spec);
    const ParameterSchema& schema = schema_of(kElements);
    std::vector<std::byte> buffer(codec.max_encoded_bytes(schema));
    auto accumulator =
        FixedPointAccumulator::make(kElements, {.norm_bound = 0x1p20, .largest_weights = 1000});
    ASSERT_TRUE(accumulator);
    // The first frame of a chain may make room in the scratch; the second finds it.
    size_t bytes = codec.encode(kMeta, schema, x, scratch, buffer).value();
    EXPECT_EQ(spent_by([&] {
                bytes = codec.encode(kMeta, schema, x, scratch, buffer).value();
              }).allocations,
              0u)
        << budget.spec;
    const std::span<const std::byte> frame = std::span(buffer).first(bytes);
    ASSERT_TRUE(inspect(frame, schema, {}, scratch));
    EXPECT_EQ(spent_by([&] { EXPECT_TRUE(inspect(frame, schema, {}, scratch)); }).allocations, 0u)
        << budget.spec;
    const CheckedFrame checked = inspect(frame, schema, {}, scratch).value();
    const Spent decoding = spent_by([&] {
      EXPECT_TRUE(decode(checked, scratch, decoded).ok());
      EXPECT_TRUE(decode_accumulate(checked, 1, 1, scratch, *accumulator).ok());
      EXPECT_TRUE(subtract_decoded(checked, scratch, decoded).ok());
      EXPECT_TRUE(apply_delta(checked, 12, scratch, decoded).ok());
    });
    EXPECT_EQ(decoding.allocations, 0u) << budget.spec;
  }
}

TEST(Allocation, AHostileHeaderMakesInspectAllocateNoMore) {
  // The header claims the most elements there can be, and 255 stages.
  CodecScratch scratch;
  auto frame = encode_frame(codec_of("float32"), kMeta, make_input(Input::kGaussian, 10), scratch);
  store_low(frame.data() + 14, kMaxFrameElements, 6);
  frame[48] = std::byte{255};
  const ParameterSchema schema = ParameterSchema::flat(kMaxFrameElements);
  store(frame.data() + 20, schema.hash());
  const Spent spent = spent_by([&] { EXPECT_FALSE(inspect(frame, schema, {}, scratch)); });
  EXPECT_LE(spent.bytes, 4096u);  // the message
}

TEST(Allocation, FramesOfManyChainsTakeTwiceTheirElements) {
  // Each asks for a little more than the one before.
  constexpr size_t kElements = 140000;
  CodecScratch sender, receiver;
  for (const char* spec : {"small16:2 | sketch:1x40000", "small16:2 | sketch:1x60000",
                           "sketch:1x60001", "sketch:1x90000", "sketch:1x139999"}) {
    const auto frame =
        encode_frame(codec_of(spec), kMeta, make_input(Input::kGaussian, kElements), sender);
    ASSERT_TRUE(inspect_frame(frame, kElements, receiver)) << spec;
    EXPECT_LE(receiver.stream.capacity(), kElements) << spec;
    EXPECT_LE(receiver.estimates.capacity(), kElements) << spec;
  }
}

}  // namespace
}  // namespace tern
