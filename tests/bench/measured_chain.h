/// One chain on one update, used as a sender and a receiver use it: what every benchmark of codecs
/// times, counts and compares, so that they all speak of the same work.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/parameter_schema.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "compression/updates/error_feedback.h"
#include "compression/updates/frame.h"

namespace tern {

/// The chains that matter for speed: what runs use, and what their parts cost alone.
inline constexpr std::array kHotChains{"ef | topk:0.01 | ternary | rice",
                                       "rotate:1024 | eden:4",
                                       "rotate:1024 | eden:1",
                                       "int:8",
                                       "topk:0.001",
                                       "rotate:1024 | randk:0.25 | eden:1",
                                       "qsgd:4",
                                       "bfloat16",
                                       "float32",
                                       "ef | sign"};

/// What is encoded, and what the same sender encoded before.
struct BenchmarkUpdate {
  ParameterSchema schema;
  std::vector<float> values;
  /// Updates of earlier rounds, oldest first: they leave a residual as it is in a run.
  std::vector<std::vector<float>> earlier;
};

/// n standard normal values as one vector, the same ones everywhere; n > 0. The earlier updates are
/// the same values at other places: as good as fresh ones and much sooner there.
BenchmarkUpdate gaussian_update(size_t n);

/// An accumulator that takes any chain's frame of this update kMostDecodes times before it needs a
/// clear().
inline constexpr uint64_t kMostDecodes = 1 << 16;
Result<FixedPointAccumulator> make_benchmark_accumulator(const BenchmarkUpdate& update);

/// Keeps views: the update must outlive it. Memory: two frames, and for chains with memory twice
/// the update. Threads: one.
class MeasuredChain {
 public:
  /// Encodes the earlier updates if the chain remembers anything, each committed, and then the
  /// update, whose frame is the one that is inspected and decoded. Errors: those of Codec::parse
  /// and encode_update.
  static Result<MeasuredChain> make(std::string_view spec, const BenchmarkUpdate& update);
  /// Encodes with the threads of a pool beside the caller's, which the chain doesn't outlive.
  void use(ThreadPool& pool) { scratch_.use(pool); }

  /// The canonical one.
  const std::string& spec() const { return spec_; }
  size_t frame_bytes() const { return frame_.size(); }
  double bits_per_element() const;
  /// Squared error over squared norm of what the chain was given: the update and, with error
  /// feedback, the residual. Cost: O(n), with two more updates in memory.
  Result<double> nmse();

  /// All that a sender does: feedback, the frame with its checksums, the residual that is pending.
  /// Always of the same update with the same memory.
  Status encode();
  /// The dry decode, with the limits that a coordinator sets.
  Status inspect();
  Status decode_accumulate(FixedPointAccumulator& accumulator);

 private:
  MeasuredChain(Codec codec, const BenchmarkUpdate& update)
      : codec_(std::move(codec)), spec_(codec_.spec()), update_(&update) {}
  Result<CheckedFrame> check();

  Codec codec_;
  std::string spec_;
  const BenchmarkUpdate* update_;
  CodecScratch scratch_;
  SenderMemory memory_;
  PendingUpdate pending_;         // of the last encode()
  std::vector<std::byte> frame_;  // a copy, since encode() may move the other one
  std::optional<CheckedFrame> checked_;
};

}  // namespace tern
