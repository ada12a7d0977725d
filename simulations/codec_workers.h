/// Whether more cores encode and decode more: several senders or decoders side by side, each with
/// memory of its own, as a simulation and a coordinator have them; and all on one large update, as
/// a device has it.
#pragma once

#include <atomic>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "simulations/bench_progress.h"
#include "tests/bench/measured_chain.h"

namespace tern {

/// {spec, encode_gbps: {"1": on one core, "N": on `cores`}, encode_speedup} for each spec, the same
/// update on each; specs whose selection spreads are left out, since one thread encodes them.
/// Medians of interleaved repeats; adds 1 to the progress for each spec. Errors: those of
/// MeasuredChain::make, kCancelled.
Result<nlohmann::ordered_json> measure_cores(const std::vector<std::string>& specs,
                                             const BenchmarkUpdate& update, size_t cores,
                                             size_t repeats, BenchProgress& progress,
                                             const std::atomic<bool>& stop);

/// {spec, encode_gbps: {"1": one worker, "N": all together}, encode_speedup,
/// decode_accumulate_gbps, decode_accumulate_speedup} for each spec; medians of interleaved
/// repeats. Adds 1 to the progress for each. Memory: for each worker what a MeasuredChain has, and
/// an accumulator. Errors: those of MeasuredChain::make, kCancelled.
Result<nlohmann::ordered_json> measure_workers(const std::vector<std::string>& specs,
                                               const BenchmarkUpdate& update, size_t workers,
                                               size_t repeats, BenchProgress& progress,
                                               const std::atomic<bool>& stop);

}  // namespace tern
