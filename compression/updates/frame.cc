#include "compression/updates/frame.h"

#include <algorithm>
#include <cmath>

#include "compression/updates/chunk_coder.h"
#include "compression/updates/crc32c.h"
#include "compression/updates/frame_header.h"
#include "compression/updates/kernels/kernels.h"

namespace tern {

namespace {

/// Decodes every chunk of hostile bytes whose header was read. Errors: as decode_chunk, and
/// kCorrupt for a wrong length or checksum of a chunk.
Status walk(const Codec& codec, uint64_t seed, size_t elements, std::span<const std::byte> frame,
            bool verify, CodecScratch& scratch, ValueSink& sink) {
  const size_t chunks = (elements + kChunkElements - 1) / kChunkElements;
  std::span<const std::byte> rest = frame.subspan(frame_header_bytes(codec.stages()));
  const std::byte* table = rest.data();
  rest = rest.subspan(chunks * kChunkEntryBytes);
  for (size_t chunk = 0; chunk < chunks; ++chunk) {
    TERN_TRY(const ChunkEntry entry, read_chunk_entry(table + chunk * kChunkEntryBytes));
    if (entry.bytes > rest.size())
      return error(Code::kCorrupt, "chunk {} claims {} bytes, {} are left", chunk, entry.bytes,
                   rest.size());
    const auto body = rest.first(entry.bytes);
    rest = rest.subspan(entry.bytes);
    if (verify && crc32c(body) != entry.crc)
      return error(Code::kCorrupt, "the checksum of chunk {} is wrong", chunk);
    if (entry.mode == ChunkMode::kZero) continue;
    const size_t offset = chunk * kChunkElements;
    const size_t length = std::min(kChunkElements, elements - offset);
    const ChunkContext context{seed, static_cast<uint32_t>(chunk), codec.error_feedback()};
    TERN_TRY(const DecodedChunk decoded,
             decode_chunk(codec, body, entry.parameter, length, context, scratch));
    if (decoded.sparse)
      sink.sparse(offset, decoded.index, decoded.values);
    else
      sink.dense(offset, decoded.values);
  }
  if (!rest.empty()) return error(Code::kCorrupt, "{} bytes follow the last chunk", rest.size());
  return {};
}

class NormSink : public ValueSink {
 public:
  void dense(size_t, std::span<const float> values) override { add(values); }
  void sparse(size_t, std::span<const uint16_t>, std::span<const float> values) override {
    add(values);
  }
  double norm() const { return std::sqrt(squares_); }
  size_t count() const { return count_; }

 private:
  void add(std::span<const float> values) {
    squares_ += kernels().sum_squares(values.data(), values.size());
    count_ += values.size();
  }
  double squares_ = 0;
  size_t count_ = 0;
};

/// Calls f(element index, value) for each value that travels.
template <typename F>
class EachValue : public ValueSink {
 public:
  explicit EachValue(F f) : f_(std::move(f)) {}
  void dense(size_t offset, std::span<const float> values) override {
    for (size_t i = 0; i < values.size(); ++i) f_(offset + i, values[i]);
  }
  void sparse(size_t offset, std::span<const uint16_t> index,
              std::span<const float> values) override {
    for (size_t i = 0; i < values.size(); ++i) f_(offset + index[i], values[i]);
  }

 private:
  F f_;
};

class AccumulateSink : public ValueSink {
 public:
  AccumulateSink(FixedPointAccumulator& accumulator, uint32_t weight, double factor)
      : accumulator_(accumulator), weight_(weight), factor_(factor) {}
  void dense(size_t offset, std::span<const float> values) override {
    accumulator_.add_dense(offset, values, weight_, factor_);
  }
  void sparse(size_t offset, std::span<const uint16_t> index,
              std::span<const float> values) override {
    accumulator_.add_sparse(offset, index, values, weight_, factor_);
  }

 private:
  FixedPointAccumulator& accumulator_;
  uint32_t weight_;
  double factor_;
};

}  // namespace

Result<CheckedFrame> inspect(std::span<const std::byte> frame, const DecodeLimits& limits,
                             CodecScratch& scratch) {
  if (frame.size() > limits.max_bytes)
    return error(Code::kInvalidArgument, "a frame of {} bytes, at most {} are allowed",
                 frame.size(), limits.max_bytes);
  TERN_TRY(FrameHeader header, read_frame_header(frame));
  if (header.meta.schema_hash != limits.schema_hash || header.elements != limits.elements)
    return error(Code::kInvalidArgument,
                 "the frame is for schema {:016x} with {} elements, expected {:016x} with {}",
                 header.meta.schema_hash, header.elements, limits.schema_hash, limits.elements);
  Result<Codec> codec = Codec::make(std::move(header.stages));
  if (!codec) return error(Code::kCorrupt, "{}", codec.error().message());
  CheckedFrame checked(*std::move(codec), header.meta);
  NormSink norm;
  TERN_CHECK_OK(
      walk(checked.codec_, header.meta.seed, header.elements, frame, true, scratch, norm));
  checked.elements_ = header.elements;
  checked.bytes_ = frame;
  checked.norm_ = norm.norm();
  checked.nonzeros_ = norm.count();
  if (!std::isfinite(checked.norm_))
    return error(Code::kOutOfRange, "the update holds NaN or infinity");
  if (checked.norm_ > limits.norm_bound)
    return error(Code::kOutOfRange,
                 "the update's norm {:.6g} is above the bound {:.6g} (strategy.norm_bound)",
                 checked.norm_, limits.norm_bound);
  return checked;
}

Result<std::vector<std::span<const std::byte>>> split_frames(std::span<const std::byte> bytes,
                                                             size_t max_frames) {
  std::vector<std::span<const std::byte>> frames;
  while (!bytes.empty()) {
    const size_t length = frame_length(bytes);
    if (length == 0 || length > bytes.size())
      return error(Code::kCorrupt, "a frame of {} bytes where {} are left", length, bytes.size());
    if (frames.size() == max_frames)
      return error(Code::kCorrupt, "more than {} frames", max_frames);
    frames.push_back(bytes.first(length));
    bytes = bytes.subspan(length);
  }
  return frames;
}

Status decode_into(const CheckedFrame& frame, CodecScratch& scratch, ValueSink& sink) {
  const Status walked =
      walk(frame.codec(), frame.meta().seed, frame.elements(), frame.bytes(), false, scratch, sink);
  if (walked.ok()) return {};
  return error(Code::kInternal, "a frame was changed after its check: {}", walked.message());
}

Status decode(const CheckedFrame& frame, CodecScratch& scratch, std::span<float> out) {
  std::fill(out.begin(), out.end(), 0.0f);
  EachValue sink([out](size_t i, float value) { out[i] = value; });
  return decode_into(frame, scratch, sink);
}

Status subtract_decoded(const CheckedFrame& frame, CodecScratch& scratch, std::span<float> target) {
  EachValue sink([target](size_t i, float value) { target[i] -= value; });
  return decode_into(frame, scratch, sink);
}

Status decode_accumulate(const CheckedFrame& frame, uint32_t weight, double factor,
                         CodecScratch& scratch, FixedPointAccumulator& accumulator) {
  if (frame.elements() != accumulator.elements())
    return error(Code::kInvalidArgument, "an update of {} elements for an accumulator of {}",
                 frame.elements(), accumulator.elements());
  if (!(factor >= 0 && factor <= 1))
    return error(Code::kInvalidArgument, "a factor of {} is outside [0, 1]", factor);
  TERN_CHECK_OK(accumulator.admit(frame.norm(), weight));
  AccumulateSink sink(accumulator, weight, factor);
  return decode_into(frame, scratch, sink);
}

Status apply_delta(const CheckedFrame& frame, int grid_bits, CodecScratch& scratch,
                   std::span<float> target) {
  const double to_grid = std::ldexp(1.0, grid_bits), from_grid = std::ldexp(1.0, -grid_bits);
  EachValue sink([=](size_t i, float value) {
    target[i] +=
        static_cast<float>(std::nearbyint(static_cast<double>(value) * to_grid) * from_grid);
  });
  return decode_into(frame, scratch, sink);
}

}  // namespace tern
