#include "simulations/codec_benchmark.h"

#include <gmock/gmock.h>

#include "compression/updates/kernels/kernels.h"

namespace tern {
namespace {

using nlohmann::ordered_json;

const std::atomic<bool> kUnstopped{false};
const std::atomic<bool> kStopAtOnce{true};

std::vector<std::string> keys_of(const ordered_json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

CodecBenchmark small() {
  return {.specs = {"int:8", "ef|topk:0.1|rice"},
          .sizes = {4096, 1024},
          .levels = levels_here(),
          .repeats = 2};
}

TEST(CodecBenchmark, HasARowForEachInputChainAndLevel) {
  const CodecBenchmark benchmark = small();
  const auto run = benchmark_codecs(benchmark, kUnstopped);
  ASSERT_TRUE(run) << run.error().describe();
  EXPECT_THAT(keys_of(*run), testing::ElementsAre("results", "peers", "parallel"));
  const ordered_json& results = (*run)["results"];
  size_t row = 0;
  for (const size_t n : benchmark.sizes)
    for (const char* spec : {"int:8", "ef | topk:0.1 | rice"})
      for (const CpuLevel level : benchmark.levels) {
        ASSERT_LT(row, results.size());
        const ordered_json& result = results[row++];
        EXPECT_EQ(result["n"], n);
        EXPECT_EQ(result["spec"], spec) << "the canonical one";
        EXPECT_EQ(result["level"], name(level));
        EXPECT_EQ(result["input"], "gaussian");
        for (const char* speed :
             {"encode_gbps", "inspect_gbps", "decode_accumulate_gbps", "memcpy_gbps"})
          EXPECT_GT(result[speed].get<double>(), 0) << speed;
      }
  EXPECT_EQ(row, results.size());
  EXPECT_THAT(
      keys_of(results[0]),
      testing::ElementsAre("spec", "n", "input", "level", "bits_per_element", "nmse", "encode_gbps",
                           "inspect_gbps", "decode_accumulate_gbps", "memcpy_gbps"));
  EXPECT_TRUE((*run)["peers"].empty());
}

TEST(CodecBenchmark, SizesAndErrorsAreThoseOfTheFrames) {
  const auto run = benchmark_codecs(small(), kUnstopped);
  ASSERT_TRUE(run) << run.error().describe();
  const size_t levels = levels_here().size();
  const ordered_json& eight_bits = (*run)["results"][0];
  EXPECT_NEAR(eight_bits["bits_per_element"], 8.13, 0.02);
  EXPECT_NEAR(eight_bits["nmse"], 1.3e-4, 0.3e-4);
  for (size_t level = 1; level < levels; ++level)
    for (const char* key : {"bits_per_element", "nmse"})
      EXPECT_EQ((*run)["results"][level][key], eight_bits[key]) << "the same bytes at each level";
}

TEST(CodecBenchmark, LeavesTheKernelsAsTheyWere) {
  const Kernels* before = &kernels();
  CodecBenchmark benchmark = small();
  benchmark.levels = {CpuLevel::kBaseline};
  ASSERT_TRUE(benchmark_codecs(benchmark, kUnstopped));
  EXPECT_EQ(&kernels(), before);
}

TEST(CodecBenchmark, ComparesOneWorkerWithAll) {
  const auto run = benchmark_codecs(small(), kUnstopped);
  ASSERT_TRUE(run) << run.error().describe();
  const ordered_json& parallel = (*run)["parallel"];
  if (parallel.is_null()) GTEST_SKIP() << "one core";
  EXPECT_EQ(parallel["n"], 1024u) << "the smallest size";
  ASSERT_EQ(parallel["results"].size(), 2u);
  const ordered_json& row = parallel["results"][0];
  const std::string all = std::to_string(parallel["workers"].get<size_t>());
  EXPECT_DOUBLE_EQ(row["encode_speedup"],
                   row["encode_gbps"][all].get<double>() / row["encode_gbps"]["1"].get<double>());
}

TEST(CodecBenchmark, RefusesWhatItCantMeasure) {
  const auto refused = [](auto change) {
    CodecBenchmark benchmark = small();
    change(benchmark);
    const auto run = benchmark_codecs(benchmark, kUnstopped);
    return !run && run.error().code() == Code::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](CodecBenchmark& b) { b.specs = {"int:8", "nothing"}; }));
  EXPECT_TRUE(refused([](CodecBenchmark& b) { b.specs.clear(); }));
  EXPECT_TRUE(refused([](CodecBenchmark& b) { b.sizes = {4096, 0}; }));
  EXPECT_TRUE(refused([](CodecBenchmark& b) { b.sizes = {size_t{1} << 50}; }));
  EXPECT_TRUE(refused([](CodecBenchmark& b) { b.levels.clear(); }));
  EXPECT_TRUE(refused([](CodecBenchmark& b) { b.repeats = 0; }));
}

TEST(CodecBenchmark, StopsWhenAsked) {
  const auto run = benchmark_codecs(small(), kStopAtOnce);
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().code(), Code::kCancelled);
}

}  // namespace
}  // namespace tern
