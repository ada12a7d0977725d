/// The chains beside what users have otherwise (tests/bench/codec_peers.h), in the same run.
#pragma once

#include <atomic>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "simulations/bench_progress.h"
#include "tests/bench/measured_chain.h"

namespace tern {

/// Rows of {peer, spec, n, peer_seconds, seconds, time_ratio, peer_bytes, bytes, size_ratio,
/// peer_nmse, nmse}, one for each chain beside a peer, with the kernels in use: encoding on one
/// core, medians of interleaved repeats. Ratios are the peer's over the chain's. Adds `repeats` to
/// the progress. Errors: those of make_codec_peers and MeasuredChain::make, kInternal, kCancelled.
Result<nlohmann::ordered_json> measure_peers(const BenchmarkUpdate& update, size_t repeats,
                                             BenchProgress& progress,
                                             const std::atomic<bool>& stop);

}  // namespace tern
