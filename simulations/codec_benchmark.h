/// `tern bench codecs`: how fast chains encode and decode on one core, beside memcpy, at each CPU
/// level, in one run. The machine's noise hits all alike: in each repeat every chain has its turn.
#pragma once

#include <atomic>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/cpu_level.h"
#include "base/status.h"

namespace tern {

struct CodecBenchmark {
  std::vector<std::string> specs;
  std::vector<size_t> sizes;     ///< of the Gaussian input, each at least 1
  bool gaussian = true;          ///< standard normal values
  bool cnn = false;              ///< a real update; needs LibTorch and Fashion-MNIST
  std::vector<CpuLevel> levels;  ///< of this CPU
  size_t repeats = 15;           ///< the median counts
  bool peers = false;            ///< what users have otherwise, at the largest size
};

/// The levels that this CPU and this build have, the best one last.
std::vector<CpuLevel> levels_here();

/// A JSON object. Speeds are those of the input: 4 bytes an element over the time, in GB/s (10^9).
///
/// - results: an array with spec, n, input (gaussian, cnn), level, bits_per_element, nmse,
///   encode_gbps (all that a sender does, see MeasuredChain), inspect_gbps (the dry decode),
///   decode_accumulate_gbps (into 64-bit sums) and memcpy_gbps, measured beside the same input;
/// - peers: an array, empty unless asked for: see measure_peers; at the largest size and best
/// level;
/// - parallel: whether more cores give more: workers, n, level, and results with spec and for
///   encoding and decoding the speed of one worker, of all together, and the speedup; one_update:
///   n, the largest size, and results with spec and the speed of encoding it on one core and on
///   all.
///
/// An input whose data aren't there is left out with a note on stderr. Errors: kInvalidArgument for
/// a spec or size that doesn't go, kNotFound when no input is left, kUnsupported for peers without
/// LibTorch, kCancelled.
Result<nlohmann::ordered_json> benchmark_codecs(const CodecBenchmark& benchmark,
                                                const std::atomic<bool>& stop);

}  // namespace tern
