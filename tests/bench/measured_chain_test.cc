#include "tests/bench/measured_chain.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "tests/bench/stopwatch.h"

namespace tern {
namespace {

using testing::AllOf;
using testing::Gt;
using testing::Lt;

MeasuredChain measured(const char* spec, const BenchmarkUpdate& update) {
  Result<MeasuredChain> chain = MeasuredChain::make(spec, update);
  EXPECT_TRUE(chain) << chain.error().describe();
  return *std::move(chain);
}

TEST(MeasuredChain, SaysWhatAFrameCosts) {
  const BenchmarkUpdate update = gaussian_update(4096);
  MeasuredChain whole = measured("float32", update);
  EXPECT_EQ(*whole.nmse(), 0);
  EXPECT_THAT(whole.bits_per_element(), AllOf(Gt(32), Lt(33)));
  MeasuredChain top = measured("topk:0.01", update);
  EXPECT_THAT(*top.nmse(), AllOf(Gt(0.8), Lt(1)));
}

TEST(MeasuredChain, CountsTheResidualAmongWhatWasGiven) {
  // Against the update alone the error of any of these would be larger than the update.
  const BenchmarkUpdate update = gaussian_update(8192);
  for (const char* spec :
       {"ef | topk:0.01 | ternary | rice", "ef21 | topk:0.01 | rice", "dgc:0.5 | topk:0.01"})
    EXPECT_THAT(*measured(spec, update).nmse(), AllOf(Gt(0.5), Lt(1))) << spec;
}

TEST(MeasuredChain, RepeatsTheSameWork) {
  const BenchmarkUpdate update = gaussian_update(5000);
  Result<FixedPointAccumulator> once = make_benchmark_accumulator(update);
  Result<FixedPointAccumulator> often = make_benchmark_accumulator(update);
  for (const char* spec : kHotChains) {
    SCOPED_TRACE(spec);
    MeasuredChain chain = measured(spec, update);
    const double nmse = *chain.nmse();
    once->clear();
    often->clear();
    ASSERT_TRUE(chain.decode_accumulate(*once).ok());
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(chain.encode().ok());
      ASSERT_TRUE(chain.inspect().ok());
      ASSERT_TRUE(chain.decode_accumulate(*often).ok());
    }
    EXPECT_EQ(*chain.nmse(), nmse) << "the same residual is pending";
    for (size_t i = 0; i < once->sums().size(); ++i)
      ASSERT_EQ(often->sums()[i], 3 * once->sums()[i]);
  }
}

TEST(MeasuredChain, SurvivesAMove) {
  const BenchmarkUpdate update = gaussian_update(2048);
  std::vector<MeasuredChain> chains;
  chains.reserve(kHotChains.size());
  for (const char* spec : kHotChains) chains.push_back(measured(spec, update));
  std::reverse(chains.begin(), chains.end());
  Result<FixedPointAccumulator> sums = make_benchmark_accumulator(update);
  for (MeasuredChain& chain : chains) {
    EXPECT_TRUE(chain.inspect().ok());
    EXPECT_TRUE(chain.decode_accumulate(*sums).ok());
  }
}

TEST(MeasuredChain, RefusesWhatIsNoChain) {
  const auto chain = MeasuredChain::make("topk", gaussian_update(16));
  ASSERT_FALSE(chain);
  EXPECT_EQ(chain.error().code(), Code::kInvalidArgument);
}

TEST(GaussianUpdate, HasEarlierOnesWithTheSameValuesElsewhere) {
  const BenchmarkUpdate update = gaussian_update(999);
  ASSERT_EQ(update.earlier.size(), 3u);
  for (const std::vector<float>& values : update.earlier) {
    EXPECT_NE(values, update.values);
    EXPECT_THAT(values, testing::UnorderedElementsAreArray(update.values));
  }
}

TEST(Stopwatch, TakesTheMiddleOne) {
  EXPECT_EQ(median({}), 0);
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({9, 1, 4}), 4);
  EXPECT_EQ(median({4, 1, 2, 100}), 3);
}

TEST(Stopwatch, StopsAtTheFirstError) {
  int calls = 0;
  const auto seconds = seconds_per_call(
      true, [&] { return ++calls < 3 ? Status() : error(Code::kInternal, "the third one"); });
  ASSERT_FALSE(seconds);
  EXPECT_EQ(seconds.error().message(), "the third one");
  EXPECT_EQ(calls, 3);
}

TEST(Stopwatch, DividesByTheCalls) {
  int calls = 0;
  const auto seconds = seconds_per_call(false, [&] {
    ++calls;
    return Status();
  });
  EXPECT_GT(calls, 1) << "an empty call doesn't fill a millisecond";
  EXPECT_GE(*seconds * calls, 1e-3);
}

}  // namespace
}  // namespace tern
