#include "simulations/codec_benchmark.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <thread>

#include "compression/updates/kernels/kernels.h"
#include "simulations/bench_progress.h"
#include "simulations/codec_workers.h"
#include "tests/bench/measured_chain.h"
#include "tests/bench/stopwatch.h"
#ifdef TERN_WITH_TORCH
#include "simulations/peer_benchmark.h"
#include "simulations/trained_update.h"
#endif

namespace tern {

using nlohmann::ordered_json;

namespace {

// Up to here an input may lie in a cache: then it must be there before the clock starts.
constexpr size_t kCachedElements = size_t{1} << 22;
// Every worker holds several updates; larger ones than this would need the memory of a server.
constexpr size_t kWorkerElements = size_t{1} << 20;
constexpr size_t kMostElements = size_t{1} << 30;

Status cancelled() { return error(Code::kCancelled, "interrupted"); }

/// The input speed, in GB/s.
double gbps(size_t elements, const std::vector<double>& seconds) {
  return 4e-9 * static_cast<double>(elements) / median(seconds);
}

/// The kernels of a level for as long as this lives.
class KernelsOf {
 public:
  explicit KernelsOf(CpuLevel level) { use_kernels(level); }
  ~KernelsOf() { use_kernels(cpu_level()); }
  KernelsOf(const KernelsOf&) = delete;
  KernelsOf& operator=(const KernelsOf&) = delete;
};

struct Input {
  std::string name;
  size_t work;  ///< elements, or a guess of them
  std::function<Result<BenchmarkUpdate>()> make;
};

std::vector<Input> inputs_of(const CodecBenchmark& benchmark, const std::atomic<bool>& stop) {
  std::vector<Input> inputs;
  if (benchmark.gaussian)
    for (const size_t n : benchmark.sizes)
      inputs.push_back(
          {"gaussian", n, [n]() -> Result<BenchmarkUpdate> { return gaussian_update(n); }});
  constexpr size_t kCnnParameters = 1'663'370;
  if (benchmark.cnn)
    inputs.push_back({"cnn", kCnnParameters, [&stop]() -> Result<BenchmarkUpdate> {
#ifdef TERN_WITH_TORCH
                        return trained_update(stop);
#else
                        (void)stop;
                        return error(Code::kNotFound, "this build has no LibTorch to train with");
#endif
                      }});
  return inputs;
}

/// Seconds of each repeat.
struct Times {
  std::vector<double> encode, inspect, decode;
};

class InputBenchmark {
 public:
  InputBenchmark(const CodecBenchmark& benchmark, std::string input, const BenchmarkUpdate& update)
      : benchmark_(benchmark),
        input_(std::move(input)),
        update_(update),
        n_(update.values.size()),
        copy_(n_) {}

  Result<ordered_json> run(BenchProgress& progress, const std::atomic<bool>& stop) {
    TERN_CHECK_OK(prepare(stop));
    for (size_t repeat = 0; repeat < benchmark_.repeats; ++repeat)
      for (size_t i = 0; i < chains_.size(); ++i) {
        // Back and forth, so that no chain always comes after the same one.
        const size_t chain = repeat % 2 == 0 ? i : chains_.size() - 1 - i;
        TERN_CHECK_OK(measure(chain, stop));
        progress.add(static_cast<double>(n_), fmt::format("{} {}, repeat {}, {}", input_, n_,
                                                          repeat + 1, chains_[chain].spec()));
      }
    return rows();
  }

 private:
  Status prepare(const std::atomic<bool>& stop) {
    TERN_TRY(sums_, make_benchmark_accumulator(update_));
    for (const std::string& spec : benchmark_.specs) {
      if (stop) return cancelled();
      Result<MeasuredChain> chain = MeasuredChain::make(spec, update_);
      if (!chain) return std::move(chain).error().within(spec);
      TERN_TRY(const double nmse, chain->nmse());
      chains_.push_back(*std::move(chain));
      nmse_.push_back(nmse);
    }
    times_.resize(chains_.size(), std::vector<Times>(benchmark_.levels.size()));
    return {};
  }

  template <typename Call>
  Status time(std::vector<double>& seconds, Call&& call) {
    TERN_TRY(const double one, seconds_per_call(n_ <= kCachedElements, call));
    seconds.push_back(one);
    return {};
  }

  /// One chain's turn: memcpy, then every level.
  Status measure(size_t index, const std::atomic<bool>& stop) {
    MeasuredChain& chain = chains_[index];
    TERN_CHECK_OK(time(memcpy_, [&] {
      std::memcpy(copy_.data(), update_.values.data(), 4 * n_);
      return Status();
    }));
    for (size_t level = 0; level < benchmark_.levels.size(); ++level) {
      if (stop) return cancelled();
      const KernelsOf kernels(benchmark_.levels[level]);
      Times& times = times_[index][level];
      TERN_CHECK_OK(time(times.encode, [&] { return chain.encode(); }));
      TERN_CHECK_OK(time(times.inspect, [&] { return chain.inspect(); }));
      sums_.clear();
      // Long sums take back the pages that clear() has given away.
      if (n_ > kCachedElements) TERN_CHECK_OK(chain.decode_accumulate(sums_));
      TERN_CHECK_OK(time(times.decode, [&] { return chain.decode_accumulate(sums_); }));
    }
    return {};
  }

  ordered_json rows() const {
    ordered_json rows = ordered_json::array();
    for (size_t i = 0; i < chains_.size(); ++i)
      for (size_t level = 0; level < benchmark_.levels.size(); ++level)
        rows.push_back({{"spec", chains_[i].spec()},
                        {"n", n_},
                        {"input", input_},
                        {"level", name(benchmark_.levels[level])},
                        {"bits_per_element", chains_[i].bits_per_element()},
                        {"nmse", nmse_[i]},
                        {"encode_gbps", gbps(n_, times_[i][level].encode)},
                        {"inspect_gbps", gbps(n_, times_[i][level].inspect)},
                        {"decode_accumulate_gbps", gbps(n_, times_[i][level].decode)},
                        {"memcpy_gbps", gbps(n_, memcpy_)}});
    return rows;
  }

  const CodecBenchmark& benchmark_;
  const std::string input_;
  const BenchmarkUpdate& update_;
  const size_t n_;
  std::vector<float> copy_;  // what memcpy writes
  FixedPointAccumulator sums_;
  std::vector<MeasuredChain> chains_;
  std::vector<double> nmse_;               // by chain
  std::vector<std::vector<Times>> times_;  // by chain and level
  std::vector<double> memcpy_;
};

Status check(const CodecBenchmark& benchmark) {
  if (benchmark.specs.empty() || benchmark.levels.empty() || benchmark.sizes.empty() ||
      benchmark.repeats == 0)
    return error(Code::kInvalidArgument, "no chain, size, level or repeat to measure");
  for (const std::string& spec : benchmark.specs)
    if (const Result<Codec> codec = Codec::parse(spec); !codec) return codec.error();
  for (const size_t n : benchmark.sizes)
    if (n == 0 || n > kMostElements)
      return error(Code::kInvalidArgument, "{} elements; expected 1 to {}", n, kMostElements);
#ifndef TERN_WITH_TORCH
  if (benchmark.peers)
    return error(Code::kUnsupported, "this build has no LibTorch, which the peers need");
#endif
  return {};
}

/// At the largest size.
Result<ordered_json> benchmark_peers(const CodecBenchmark& benchmark,
                                     const std::atomic<bool>& stop) {
#ifdef TERN_WITH_TORCH
  const size_t n = *std::max_element(benchmark.sizes.begin(), benchmark.sizes.end());
  const KernelsOf kernels(benchmark.levels.back());
  BenchProgress progress(stderr, "peers", static_cast<double>(benchmark.repeats));
  return measure_peers(gaussian_update(n), benchmark.repeats, progress, stop);
#else
  (void)benchmark, (void)stop;
  return ordered_json::array();
#endif
}

Result<ordered_json> measure_parallel(const CodecBenchmark& benchmark,
                                      const std::atomic<bool>& stop) {
  const size_t cores = std::thread::hardware_concurrency();
  if (cores < 2) return ordered_json(nullptr);
  const auto [smallest, largest] =
      std::minmax_element(benchmark.sizes.begin(), benchmark.sizes.end());
  const size_t n = std::min(kWorkerElements, *smallest);
  const KernelsOf kernels(benchmark.levels.back());
  const std::vector<std::string>& specs = benchmark.specs;
  BenchProgress progress(stderr, "workers", static_cast<double>(2 * specs.size()));
  TERN_TRY(ordered_json workers,
           measure_workers(specs, gaussian_update(n), cores, benchmark.repeats, progress, stop));
  ordered_json one_update = ordered_json::array();
  if (*largest >= kParallelElements) {
    TERN_TRY(one_update, measure_cores(specs, gaussian_update(*largest), cores, benchmark.repeats,
                                       progress, stop));
  }
  return ordered_json{{"workers", cores},
                      {"n", n},
                      {"level", name(benchmark.levels.back())},
                      {"results", std::move(workers)},
                      {"one_update", {{"n", *largest}, {"results", std::move(one_update)}}}};
}

}  // namespace

std::vector<CpuLevel> levels_here() {
  std::vector<CpuLevel> levels;
  for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kAvx2, CpuLevel::kAvx512})
    if (kernels_for(level) != nullptr) levels.push_back(level);
  return levels;
}

Result<ordered_json> benchmark_codecs(const CodecBenchmark& benchmark,
                                      const std::atomic<bool>& stop) {
  TERN_CHECK_OK(check(benchmark));
  const std::vector<Input> inputs = inputs_of(benchmark, stop);
  double work = 0;
  for (const Input& input : inputs)
    work += static_cast<double>(input.work * benchmark.specs.size() * benchmark.repeats);
  ordered_json results = ordered_json::array();
  {
    BenchProgress progress(stderr, "codecs", work);
    for (const Input& input : inputs) {
      progress.add(0, fmt::format("preparing {} {}", input.name, input.work));
      Result<BenchmarkUpdate> update = input.make();
      if (!update && update.error().code() == Code::kNotFound && inputs.size() > 1) {
        fmt::print(stderr, "left out: {}: {}\n", input.name, update.error().describe());
        progress.add(static_cast<double>(input.work * benchmark.specs.size() * benchmark.repeats),
                     input.name);
        continue;
      }
      if (!update) return std::move(update).error();
      InputBenchmark measured(benchmark, input.name, *update);
      TERN_TRY(ordered_json rows, measured.run(progress, stop));
      for (ordered_json& row : rows) results.push_back(std::move(row));
    }
  }
  ordered_json peers = ordered_json::array();
  if (benchmark.peers) {
    TERN_TRY(peers, benchmark_peers(benchmark, stop));
  }
  TERN_TRY(ordered_json parallel, measure_parallel(benchmark, stop));
  return ordered_json{{"results", std::move(results)},
                      {"peers", std::move(peers)},
                      {"parallel", std::move(parallel)}};
}

}  // namespace tern
