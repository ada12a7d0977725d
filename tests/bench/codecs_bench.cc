// Google Benchmark over the hot chains, for work on one kernel: encode/SPEC/N and
// decode_accumulate/SPEC/N, with the bytes of float32 input a second, bits an element and NMSE.
//   codecs_bench --benchmark_filter='encode/int:8/'
//   TERN_CPU_LEVEL=avx2 codecs_bench --benchmark_repetitions=5
// What is reported is measured by `tern bench codecs`, where chains and levels take turns.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cmath>
#include <map>

#include "tests/bench/measured_chain.h"

namespace tern {
namespace {

constexpr size_t kSizes[] = {size_t{1} << 16, size_t{1} << 20, size_t{1} << 25};

/// Made once for each size: Google Benchmark calls a benchmark several times.
const BenchmarkUpdate& update_of(size_t n) {
  static std::map<size_t, BenchmarkUpdate> updates;
  auto [found, fresh] = updates.try_emplace(n);
  if (fresh) found->second = gaussian_update(n);
  return found->second;
}

/// One call of `call` an iteration; false, and the benchmark is marked, when one fails.
template <typename Call>
void repeat(benchmark::State& state, const Call& call) {
  for (auto _ : state)
    if (const Status status = call(); !status.ok())
      return state.SkipWithError(status.describe().c_str());
}

void report(benchmark::State& state, MeasuredChain& chain, size_t n) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * 4 * n));
  state.counters["bits_per_coord"] = chain.bits_per_element();
  const Result<double> nmse = chain.nmse();
  state.counters["nmse"] = nmse ? *nmse : NAN;
}

void encode(benchmark::State& state, const char* spec, size_t n) {
  Result<MeasuredChain> chain = MeasuredChain::make(spec, update_of(n));
  if (!chain) return state.SkipWithError(chain.error().describe().c_str());
  repeat(state, [&] { return chain->encode(); });
  report(state, *chain, n);
}

void decode_accumulate(benchmark::State& state, const char* spec, size_t n) {
  Result<MeasuredChain> chain = MeasuredChain::make(spec, update_of(n));
  if (!chain) return state.SkipWithError(chain.error().describe().c_str());
  Result<FixedPointAccumulator> sums = make_benchmark_accumulator(update_of(n));
  if (!sums) return state.SkipWithError(sums.error().describe().c_str());
  repeat(state, [&] {
    if (sums->total_weight() >= kMostDecodes) sums->clear();
    return chain->decode_accumulate(*sums);
  });
  report(state, *chain, n);
}

void add_benchmarks() {
  for (const char* spec : kHotChains)
    for (const size_t n : kSizes) {
      benchmark::RegisterBenchmark(fmt::format("encode/{}/{}", spec, n).c_str(), encode, spec, n);
      benchmark::RegisterBenchmark(fmt::format("decode_accumulate/{}/{}", spec, n).c_str(),
                                   decode_accumulate, spec, n);
    }
}

}  // namespace
}  // namespace tern

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  tern::add_benchmarks();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
