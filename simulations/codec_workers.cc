#include "simulations/codec_workers.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <mutex>

#include "base/thread_pool.h"
#include "compression/updates/chain.h"
#include "tests/bench/stopwatch.h"

namespace tern {

using nlohmann::ordered_json;

namespace {

struct Worker {
  MeasuredChain chain;
  FixedPointAccumulator sums;
};

using Call = std::function<Status(Worker&)>;

/// Seconds of `calls` calls by each of the first `count` workers at the same time.
Result<double> seconds_together(ThreadPool& pool, std::vector<Worker>& workers, size_t count,
                                size_t calls, const Call& call) {
  std::mutex mutex;
  Status failed;
  const auto start = std::chrono::steady_clock::now();
  for (size_t i = 0; i < count; ++i)
    pool.submit([&, i](size_t) {
      for (size_t c = 0; c < calls; ++c)
        if (Status status = call(workers[i]); !status.ok()) {
          const std::lock_guard lock(mutex);
          failed = std::move(status);
          return;
        }
    });
  pool.wait_until_idle();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  TERN_CHECK_OK(std::move(failed));
  return seconds;
}

/// Bytes of the update a second, in GB/s: of one worker, and of all.
struct Speeds {
  double one = 0;
  double all = 0;
};

Result<Speeds> measure(ThreadPool& pool, std::vector<Worker>& workers, size_t elements,
                       size_t repeats, const std::atomic<bool>& stop, const Call& call) {
  // Long enough that starting the threads doesn't show.
  constexpr double kSeconds = 0.02;
  TERN_TRY(const double once, seconds_per_call(true, [&] { return call(workers.front()); }));
  const auto calls = static_cast<size_t>(std::ceil(kSeconds / once));
  std::vector<double> one, all;
  for (size_t repeat = 0; repeat < repeats; ++repeat) {
    if (stop) return error(Code::kCancelled, "interrupted");
    TERN_TRY(const double alone, seconds_together(pool, workers, 1, calls, call));
    TERN_TRY(const double together, seconds_together(pool, workers, workers.size(), calls, call));
    one.push_back(alone);
    all.push_back(together);
  }
  const double gigabytes = 4e-9 * static_cast<double>(elements) * static_cast<double>(calls);
  return Speeds{gigabytes / median(one),
                gigabytes * static_cast<double>(workers.size()) / median(all)};
}

}  // namespace

Result<ordered_json> measure_workers(const std::vector<std::string>& specs,
                                     const BenchmarkUpdate& update, size_t workers, size_t repeats,
                                     BenchProgress& progress, const std::atomic<bool>& stop) {
  ordered_json results = ordered_json::array();
  ThreadPool pool(workers);
  const auto speeds_json = [&](const Speeds& speeds) {
    return ordered_json{{"1", speeds.one}, {fmt::to_string(workers), speeds.all}};
  };
  for (const std::string& spec : specs) {
    progress.add(0, spec);
    std::vector<Worker> states;
    for (size_t i = 0; i < workers; ++i) {
      TERN_TRY(MeasuredChain chain, MeasuredChain::make(spec, update));
      TERN_TRY(FixedPointAccumulator sums, make_benchmark_accumulator(update));
      states.push_back({std::move(chain), std::move(sums)});
    }
    TERN_TRY(const Speeds encode, measure(pool, states, update.values.size(), repeats, stop,
                                          [](Worker& worker) { return worker.chain.encode(); }));
    TERN_TRY(const Speeds decode,
             measure(pool, states, update.values.size(), repeats, stop, [](Worker& worker) {
               // Weights don't add up to what the accumulator was made for.
               if (worker.sums.total_weight() >= kMostDecodes) worker.sums.clear();
               return worker.chain.decode_accumulate(worker.sums);
             }));
    results.push_back({{"spec", states.front().chain.spec()},
                       {"encode_gbps", speeds_json(encode)},
                       {"encode_speedup", encode.all / encode.one},
                       {"decode_accumulate_gbps", speeds_json(decode)},
                       {"decode_accumulate_speedup", decode.all / decode.one}});
    progress.add(1, spec);
  }
  return results;
}

Result<ordered_json> measure_cores(const std::vector<std::string>& specs,
                                   const BenchmarkUpdate& update, size_t cores, size_t repeats,
                                   BenchProgress& progress, const std::atomic<bool>& stop) {
  ordered_json results = ordered_json::array();
  const double gigabytes = 4e-9 * static_cast<double>(update.values.size());
  for (const std::string& spec : specs) {
    progress.add(0, spec);
    TERN_TRY(const Codec codec, Codec::parse(spec));
    if (codec.chain().spreads()) {
      progress.add(1, spec);
      continue;
    }
    TERN_TRY(MeasuredChain chain, MeasuredChain::make(spec, update));
    TERN_TRY(MeasuredChain together, MeasuredChain::make(spec, update));
    ThreadPool pool(cores - 1);
    together.use(pool);
    TERN_CHECK_OK(together.encode());
    std::vector<double> one, all;
    for (size_t repeat = 0; repeat < repeats; ++repeat) {
      if (stop) return error(Code::kCancelled, "interrupted");
      TERN_TRY(one.emplace_back(), seconds_per_call(false, [&] { return chain.encode(); }));
      TERN_TRY(all.emplace_back(), seconds_per_call(false, [&] { return together.encode(); }));
    }
    results.push_back(
        {{"spec", chain.spec()},
         {"encode_gbps",
          {{"1", gigabytes / median(one)}, {fmt::to_string(cores), gigabytes / median(all)}}},
         {"encode_speedup", median(one) / median(all)}});
    progress.add(1, spec);
  }
  return results;
}

}  // namespace tern
