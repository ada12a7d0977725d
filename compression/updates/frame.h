/// One encoded update or delta. docs/wire_format.md is normative; this header is its reader and
/// writer. Everything here treats frame bytes as hostile: sizes come from the receiver's limits,
/// never from the frame.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/status.h"
#include "compression/updates/accumulator.h"
#include "compression/updates/codec.h"
#include "compression/updates/scratch.h"

namespace tern {

inline constexpr uint8_t kFrameMajor = 1;
inline constexpr uint8_t kFrameMinor = 0;
inline constexpr size_t kMaxFrameHeader = 69;  ///< that a writer makes
inline constexpr size_t kChunkEntryBytes = 8;  ///< in the chunk table: length, mode, CRC-32C
inline constexpr size_t kMaxFrameElements = size_t{1} << 40;

/// What a receiver expects.
struct DecodeLimits {
  const Codec* codec = nullptr;  ///< the only one to take; null: any
  size_t max_bytes = std::numeric_limits<size_t>::max();
  double norm_bound =
      std::numeric_limits<double>::infinity();  ///< on the Euclidean norm of the decoded values
};

/// Receives decoded values, piece by piece. An element comes once, by one of the two calls, or not
/// at all when it is zero.
class ValueSink {
 public:
  virtual ~ValueSink() = default;
  virtual void dense(size_t offset, std::span<const float> values) = 0;
  /// values[i] belongs to element offset + index[i]; those between are zero.
  virtual void sparse(size_t offset, std::span<const uint16_t> index,
                      std::span<const float> values) = 0;
  /// The sums that dense() of these elements will change, so that they can be on their way to the
  /// caches while the elements are decoded; empty where there are none.
  virtual std::span<const int64_t> target(size_t /*offset*/, size_t /*elements*/) const {
    return {};
  }
};

/// A frame that passed the dry decode: structure, checksums, limits, finite values and norm.
/// Decoding it fails only with kInternal, when its bytes were changed after the check. Holds views:
/// the bytes and the schema must outlive it.
class CheckedFrame {
 public:
  const FrameMeta& meta() const { return meta_; }
  const Codec& codec() const { return codec_; }
  const ParameterSchema& schema() const { return *schema_; }
  size_t elements() const { return schema_->elements(); }
  std::span<const std::byte> bytes() const { return bytes_; }
  /// The chunk table: where it begins, and how many entries it has.
  size_t header_bytes() const { return header_bytes_; }
  size_t chunks() const { return chunks_; }
  double norm() const { return norm_; }
  size_t nonzeros() const {
    return nonzeros_;
  }  ///< values that decode_into() hands on: all of dense chunks, the kept ones of sparse ones

 private:
  friend Result<CheckedFrame> inspect(std::span<const std::byte>, const ParameterSchema&,
                                      const DecodeLimits&, CodecScratch&);
  CheckedFrame(Codec codec, FrameMeta meta, const ParameterSchema& schema,
               std::span<const std::byte> bytes)
      : codec_(std::move(codec)), meta_(meta), schema_(&schema), bytes_(bytes) {}

  Codec codec_;
  FrameMeta meta_;
  const ParameterSchema* schema_;
  std::span<const std::byte> bytes_;
  size_t header_bytes_ = 0;
  size_t chunks_ = 0;
  double norm_ = 0;
  size_t nonzeros_ = 0;
};

/// The dry decode. Errors: kCorrupt (not a frame, damaged, malformed), kUnsupported (newer format),
/// kInvalidArgument (another schema, too long), kOutOfRange (not finite, or norm above the bound).
/// Cost: O(bytes + elements), times the rank, rows or side of lowrank, principal, sketch, dct;
/// allocates nothing in the steady state, which is frames of one chain.
Result<CheckedFrame> inspect(std::span<const std::byte> frame, const ParameterSchema& schema,
                             const DecodeLimits& limits, CodecScratch& scratch);

/// Cuts a transfer into its frames by the lengths in their headers; the frames themselves are still
/// unchecked. Errors: kCorrupt when the lengths don't fill `bytes`, or there are more than
/// `max_frames`.
Result<std::vector<std::span<const std::byte>>> split_frames(std::span<const std::byte> bytes,
                                                             size_t max_frames);

/// Walks the values of a checked frame. Cost: O(bytes + elements of chunks that aren't zero).
Status decode_into(const CheckedFrame& frame, CodecScratch& scratch, ValueSink& sink);

/// out = the decoded values; out.size() == frame.elements().
Status decode(const CheckedFrame& frame, CodecScratch& scratch, std::span<float> out);

/// target[i] += the decoded values.
Status add_decoded(const CheckedFrame& frame, CodecScratch& scratch, std::span<float> target);
/// target[i] -= the decoded values: what error feedback keeps.
Status subtract_decoded(const CheckedFrame& frame, CodecScratch& scratch, std::span<float> target);

/// Adds weight * factor * values to the accumulator without making the update dense.
/// Errors: kOutOfRange when frame.norm() or weight is beyond what the accumulator was made for;
/// kInvalidArgument when the lengths differ or factor is outside [0, 1].
Status decode_accumulate(const CheckedFrame& frame, uint32_t weight, double factor,
                         CodecScratch& scratch, FixedPointAccumulator& accumulator);

/// target[i] += decoded value rounded to a multiple of 2^-grid_bits (ties to even): how a delta
/// moves a model, on the coordinator and on every client alike. Exact while |target| < 2^(24 -
/// grid_bits).
Status apply_delta(const CheckedFrame& frame, int grid_bits, CodecScratch& scratch,
                   std::span<float> target);

}  // namespace tern
