/// A chain of stages that turns an update (one flat float32 stream) into a frame and back.
/// Immutable: share one Codec between threads; each thread brings its own CodecScratch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/parameter_schema.h"
#include "base/status.h"
#include "compression/updates/spec.h"

namespace tern {

/// Elements of a frame's chunk: each chunk is seekable and decodable alone.
inline constexpr size_t kChunkElements = 65536;
/// Shorter updates aren't worth waking threads for.
inline constexpr size_t kParallelElements = 16 * kChunkElements;
/// Values that share a scale under int, sign, eden and dense ternary.
inline constexpr size_t kGroupElements = 1024;

class CodecScratch;
struct Chain;

/// What the sender remembers between rounds; see error_feedback.h.
enum class Feedback : uint8_t { kNone, kEf14, kEf21, kDgc };

/// What the chain is to be used for.
struct ChainUse {
  bool allow_biased = false;  ///< accept a biased chain without `ef`
};

/// What a frame says about itself besides its values.
struct FrameMeta {
  uint32_t base_version = 0;  ///< the model version that the values are relative to
  uint32_t round = 0;
  uint64_t seed =
      0;  ///< of everything random in the frame; frames of one round need different seeds
};

class Codec {
 public:
  /// Errors: kInvalidArgument; the message says which stages don't go together and why.
  static Result<Codec> parse(std::string_view spec);
  static Result<Codec> make(std::vector<Stage> stages);

  /// Canonical text; parse(spec()) gives the same codec.
  std::string spec() const { return print_spec(stages()); }
  const std::vector<Stage>& stages() const;

  Feedback feedback() const;
  bool error_feedback() const { return feedback() != Feedback::kNone; }
  bool lossy() const;
  Bias bias() const;
  /// Positions are chosen by the data and travel (topk), or by the seed (randk), or all are kept.
  Positions positions() const;
  bool indexed() const { return positions() == Positions::kTravel; }
  bool seeded() const { return positions() == Positions::kSeeded; }
  bool selects() const { return positions() != Positions::kAll; }
  /// The same chain with another rate of its select stage (warm-up). Errors: kInvalidArgument
  /// without one.
  Result<Codec> with_rate(double rate) const;

  /// Refuses a chain that isn't sound for its use: biased without error feedback.
  Status check_composition(const ChainUse& use) const;

  /// Refuses a schema of which a stage would change nothing: `dct` without images of its side,
  /// `lowrank` and `principal` without matrices that are larger than their factors. Errors:
  /// kInvalidArgument. Cost: O(tensors).
  Status check_schema(const ParameterSchema& schema) const;

  /// A frame of an update of this schema is never longer; callers allocate this much and need not
  /// handle "too small".
  size_t max_encoded_bytes(const ParameterSchema& schema) const;

  /// Writes the frame of x into `out` (at least max_encoded_bytes(schema) long); returns its
  /// length. Error feedback isn't applied here: see error_feedback.h. `factors`: what
  /// scratch.factors held after this sender's last committed frame; only lowrank looks at it. The
  /// bytes depend on nothing but stages, meta, x and factors. Errors: kInvalidArgument when x has
  /// another length than the schema, or holds NaN, infinity or a magnitude above 2^100, or `out` is
  /// too short. Cost: O(n), times the
  /// rank, rows or side of lowrank, principal, sketch, dct. Allocates nothing in the steady state.
  Result<size_t> encode(const FrameMeta& meta, const ParameterSchema& schema,
                        std::span<const float> x, CodecScratch& scratch, std::span<std::byte> out,
                        std::span<const float> factors = {}) const;

  /// For the frame decoder.
  const Chain& chain() const { return *chain_; }

 private:
  explicit Codec(std::shared_ptr<const Chain> chain) : chain_(std::move(chain)) {}

  std::shared_ptr<const Chain> chain_;  // immutable: a Codec is copied into plans and frames
};

/// Chains with ";" between them; at least one. Errors: kInvalidArgument; it names the chain.
Result<std::vector<Codec>> parse_chains(std::string_view text);
/// Canonical text; parse_chains of it gives the same chains.
std::string print_chains(std::span<const Codec> chains);

}  // namespace tern
