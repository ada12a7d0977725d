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

#include "base/status.h"
#include "compression/updates/spec.h"

namespace tern {

/// Elements of a frame's chunk: each chunk is seekable and decodable alone.
inline constexpr size_t kChunkElements = 65536;
/// Values that share a scale under int, sign, eden and dense ternary.
inline constexpr size_t kGroupElements = 1024;

class CodecScratch;
class Transform;
class Selector;
class Quantizer;
class IndexCode;

/// What the chain is to be used for.
struct ChainUse {
  bool allow_biased = false;  ///< accept a biased chain without `ef`
};

/// What a frame says about itself besides its values.
struct FrameMeta {
  uint64_t schema_hash = 0;   ///< ParameterSchema::hash()
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
  std::string spec() const { return print_spec(stages_); }
  const std::vector<Stage>& stages() const { return stages_; }

  bool error_feedback() const { return error_feedback_; }
  bool lossy() const;
  Bias bias() const;
  /// Positions are chosen by the data and travel (topk), or by the seed (randk), or all are kept.
  bool indexed() const;
  bool seeded() const;
  bool selects() const { return selector_ != nullptr; }
  /// The same chain with another rate of its select stage (warm-up). Errors: kInvalidArgument
  /// without one.
  Result<Codec> with_rate(double rate) const;

  /// Refuses a chain that isn't sound for its use: biased without error feedback.
  Status check_composition(const ChainUse& use) const;

  /// A frame of n elements is never longer; callers allocate this much and need not handle "too
  /// small".
  size_t max_encoded_bytes(size_t n) const;

  /// Writes the frame of x into `out` (at least max_encoded_bytes(x.size()) long); returns its
  /// length. Error feedback isn't applied here: see error_feedback.h. The bytes depend on nothing
  /// but stages, meta and x. Errors: kInvalidArgument when x holds NaN or infinity, or `out` is too
  /// short. Cost: O(n). Allocates nothing.
  Result<size_t> encode(const FrameMeta& meta, std::span<const float> x, CodecScratch& scratch,
                        std::span<std::byte> out) const;

  // For the frame decoder; null where the chain has no such stage.
  const Transform* transform() const { return transform_.get(); }
  const Selector* selector() const { return selector_.get(); }
  const Quantizer& quantizer() const { return *quantizer_; }
  const IndexCode* index_code() const { return index_code_.get(); }

 private:
  Codec() = default;

  std::vector<Stage> stages_;
  bool error_feedback_ = false;
  // Shared because a Codec is copied into plans, tasks and checked frames; stages themselves are
  // immutable.
  std::shared_ptr<const Transform> transform_;
  std::shared_ptr<const Selector> selector_;
  std::shared_ptr<const Quantizer> quantizer_;
  std::shared_ptr<const IndexCode> index_code_;
};

}  // namespace tern
