#include "compression/updates/frame.h"

#include <algorithm>
#include <cmath>

#include "compression/updates/chain.h"
#include "compression/updates/chunk_coder.h"
#include "compression/updates/crc32c.h"
#include "compression/updates/frame_header.h"
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/factor_code.h"

namespace tern {

namespace {

/// From a stream's coordinates to the update's.
class PiecesSink : public ValueSink {
 public:
  PiecesSink(std::span<const Piece> pieces, ValueSink& out) : pieces_(pieces), out_(out) {}

  void dense(size_t offset, std::span<const float> values) override {
    while (!values.empty()) {
      const Piece& piece = find(offset);
      const size_t here = std::min(values.size(), piece.at + piece.size() - offset);
      out_.dense(piece.update_at + (offset - piece.at), values.first(here));
      values = values.subspan(here);
      offset += here;
    }
  }

  void sparse(size_t offset, std::span<const uint16_t> index,
              std::span<const float> values) override {
    while (!values.empty()) {
      const Piece& piece = find(offset + index[0]);
      size_t here = 1;
      while (here < index.size() && offset + index[here] < piece.at + piece.size()) ++here;
      // Pieces keep their order, so an element's place in the update is never before that in the
      // stream.
      out_.sparse(offset + (piece.update_at - piece.at), index.first(here), values.first(here));
      index = index.subspan(here);
      values = values.subspan(here);
    }
  }

 private:
  /// Elements come in order.
  const Piece& find(size_t element) {
    while (element >= pieces_[piece_].at + pieces_[piece_].size()) ++piece_;
    return pieces_[piece_];
  }

  std::span<const Piece> pieces_;
  ValueSink& out_;
  size_t piece_ = 0;
};

/// Keeps a whole stream.
class StreamSink : public ValueSink {
 public:
  explicit StreamSink(std::span<float> stream) : stream_(stream) {
    std::ranges::fill(stream_, 0.0f);
  }
  void dense(size_t offset, std::span<const float> values) override {
    std::ranges::copy(values, stream_.begin() + static_cast<ptrdiff_t>(offset));
  }
  void sparse(size_t offset, std::span<const uint16_t> index,
              std::span<const float> values) override {
    for (size_t i = 0; i < values.size(); ++i) stream_[offset + index[i]] = values[i];
  }

 private:
  std::span<float> stream_;
};

/// Reads the chunks of a frame one after another. Errors: as decode_chunk, and kCorrupt for a wrong
/// length or checksum of a chunk.
class ChunkReader {
 public:
  ChunkReader(std::span<const std::byte> frame, size_t header_bytes, size_t chunks, bool verify)
      : table_(frame.data() + header_bytes),
        rest_(frame.subspan(header_bytes + chunks * kChunkEntryBytes)),
        verify_(verify) {}

  /// Calls decode(entry, body, chunk of the stream, elements) for a stream's chunks.
  template <typename F>
  Status read_stream(size_t elements, F decode) {
    for (size_t at = 0; at < elements; at += kChunkElements) {
      TERN_TRY(const ChunkEntry entry, read_chunk_entry(table_));
      table_ += kChunkEntryBytes;
      if (entry.bytes > rest_.size())
        return error(Code::kCorrupt, "chunk {} claims {} bytes, {} are left", chunk_, entry.bytes,
                     rest_.size());
      const auto body = rest_.first(entry.bytes);
      rest_ = rest_.subspan(entry.bytes);
      if (verify_ && crc32c(body) != entry.crc)
        return error(Code::kCorrupt, "the checksum of chunk {} is wrong", chunk_);
      TERN_CHECK_OK(decode(entry, body, static_cast<uint32_t>(at / kChunkElements),
                           std::min(kChunkElements, elements - at)));
      ++chunk_;
    }
    return {};
  }

  Status check_end() const {
    if (!rest_.empty())
      return error(Code::kCorrupt, "{} bytes follow the last chunk", rest_.size());
    return {};
  }

 private:
  const std::byte* table_;
  std::span<const std::byte> rest_;
  bool verify_;
  size_t chunk_ = 0;
};

/// Decodes the chunks of the main stream and takes it back to the update's coordinates.
Status read_main(const Codec& codec, uint64_t seed, ChunkReader& chunks, CodecScratch& scratch,
                 ValueSink& main) {
  const Chain& chain = codec.chain();
  const Layout& layout = scratch.layout;
  const auto read_to = [&](ValueSink& sink, size_t elements) {
    return chunks.read_stream(elements, [&](const ChunkEntry& entry,
                                            std::span<const std::byte> body, uint32_t chunk,
                                            size_t n) {
      const ChunkContext context{seed, chunk, codec.error_feedback()};
      return decode_chunk_to(sink, chunk * kChunkElements, chain, entry, body, n, context, scratch);
    });
  };
  if (!chain.projection) return read_to(main, layout.main_elements);
  CodecScratch::make_room(scratch.stream, chain.projection->projected(layout));
  StreamSink stream(scratch.stream);
  TERN_CHECK_OK(read_to(stream, scratch.stream.size()));
  // Sorting and comparing need numbers.
  if (!std::isfinite(kernels().sum_squares(scratch.stream.data(), scratch.stream.size())))
    return error(Code::kOutOfRange, "the update holds NaN or infinity");
  chain.projection->inverse(scratch.stream, layout, seed, scratch, main);
  return {};
}

Status read_small(ChunkReader& chunks, CodecScratch& scratch, ValueSink& sink) {
  PiecesSink small(scratch.layout.small, sink);
  return chunks.read_stream(scratch.layout.small_elements,
                            [&](const ChunkEntry& entry, std::span<const std::byte> body,
                                uint32_t chunk, size_t n) -> Status {
                              TERN_TRY(const DecodedChunk decoded,
                                       decode_half_chunk(entry, body, n, scratch));
                              hand_on(decoded, chunk * kChunkElements, small);
                              return {};
                            });
}

/// To scratch.component_factors.
Status read_components(const Chain& chain, uint64_t seed, ChunkReader& chunks,
                       CodecScratch& scratch) {
  CodecScratch::make_room(scratch.component_factors, component_elements(chain, scratch.layout));
  StreamSink components(scratch.component_factors);
  const bool on_grid = chain.principal->on_grid();
  if (on_grid) chain.principal->column_ends(scratch.layout, scratch.component_ends);
  return chunks.read_stream(
      scratch.component_factors.size(),
      [&](const ChunkEntry& entry, std::span<const std::byte> body, uint32_t chunk,
          size_t n) -> Status {
        const size_t at = chunk * kChunkElements;
        if (on_grid) {
          TERN_TRY(const DecodedChunk decoded,
                   decode_factors(entry, body, at, n, scratch.component_ends, scratch));
          hand_on(decoded, at, components);
          return {};
        }
        const ChunkContext context{.seed = seed, .chunk = component_chunk(chunk)};
        return decode_chunk_to(components, at, *chain.component_chain, entry, body, n, context,
                               scratch);
      });
}

/// Decodes every chunk of hostile bytes whose header was read, for the schema that scratch.layout
/// is of.
Status walk(const Codec& codec, uint64_t seed, ChunkReader chunks, CodecScratch& scratch,
            ValueSink& sink) {
  const Chain& chain = codec.chain();
  const Layout& layout = scratch.layout;
  PiecesSink placed(layout.main, sink);
  if (!chain.principal) {
    ValueSink& main = chain.small_below > 0 ? static_cast<ValueSink&>(placed) : sink;
    TERN_CHECK_OK(read_main(codec, seed, chunks, scratch, main));
    TERN_CHECK_OK(read_small(chunks, scratch, sink));
    return chunks.check_end();
  }
  // An element comes once: the rest waits for the components.
  CodecScratch::make_room(scratch.main, layout.main_elements);
  StreamSink rest(scratch.main);
  TERN_CHECK_OK(read_main(codec, seed, chunks, scratch, rest));
  TERN_CHECK_OK(read_small(chunks, scratch, sink));
  TERN_CHECK_OK(read_components(chain, seed, chunks, scratch));
  chain.principal->add(scratch.component_factors, layout, 1, scratch.main);
  const std::span<const float> main = scratch.main;
  for (size_t at = 0; at < main.size(); at += kChunkElements)
    placed.dense(at, main.subspan(at, std::min(kChunkElements, main.size() - at)));
  return chunks.check_end();
}

/// The codec of a header's stages, which is mostly that of the frame before.
Result<Codec> codec_of(const FrameHeader& header, CodecScratch& scratch) {
  if (!scratch.last_codec || !std::ranges::equal(scratch.last_codec->stages(), header.chain())) {
    Result<Codec> codec = Codec::make({header.chain().begin(), header.chain().end()});
    if (!codec) return error(Code::kCorrupt, "{}", codec.error().message());
    scratch.last_codec = std::make_unique<Codec>(*std::move(codec));
  }
  return *scratch.last_codec;
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
  std::span<const int64_t> target(size_t offset, size_t elements) const override {
    return accumulator_.sums().subspan(offset, elements);
  }
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

Result<CheckedFrame> inspect(std::span<const std::byte> frame, const ParameterSchema& schema,
                             const DecodeLimits& limits, CodecScratch& scratch) {
  if (frame.size() > limits.max_bytes)
    return error(Code::kInvalidArgument, "a frame of {} bytes, at most {} are allowed",
                 frame.size(), limits.max_bytes);
  TERN_TRY(const FrameHeader header, read_frame_header(frame));
  if (header.schema_hash != schema.hash() || header.elements != schema.elements())
    return error(Code::kInvalidArgument,
                 "the frame is for schema {:016x} with {} elements, expected {:016x} with {}",
                 header.schema_hash, header.elements, schema.hash(), schema.elements());
  if (limits.codec != nullptr && !std::ranges::equal(limits.codec->stages(), header.chain()))
    return error(Code::kInvalidArgument, "the update is coded as '{}', the plan says '{}'",
                 print_spec({header.chain().begin(), header.chain().end()}), limits.codec->spec());
  TERN_TRY(Codec codec, codec_of(header, scratch));
  CheckedFrame checked(std::move(codec), header.meta, schema, frame);
  const Chain& chain = checked.codec_.chain();
  if (chain.shapes && schema.tensors().empty() && schema.elements() > 0)
    return error(Code::kInvalidArgument,
                 "codec '{}' looks at the shapes of tensors, and the schema has none",
                 checked.codec_.spec());
  lay_out(chain, schema, scratch.layout);
  const size_t chunks = frame_chunks(chain, scratch.layout);
  TERN_CHECK_OK(check_frame_table(frame, header, chunks));
  NormSink norm;
  TERN_CHECK_OK(walk(checked.codec_, header.meta.seed,
                     ChunkReader(frame, header.header_bytes, chunks, true), scratch, norm));
  checked.header_bytes_ = header.header_bytes;
  checked.chunks_ = chunks;
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
  const Chain& chain = frame.codec().chain();
  lay_out(chain, frame.schema(), scratch.layout);
  const ChunkReader chunks(frame.bytes(), frame.header_bytes(), frame.chunks(), false);
  const Status walked = walk(frame.codec(), frame.meta().seed, chunks, scratch, sink);
  if (walked.ok()) return {};
  return error(Code::kInternal, "a frame was changed after its check: {}", walked.message());
}

Status decode(const CheckedFrame& frame, CodecScratch& scratch, std::span<float> out) {
  std::fill(out.begin(), out.end(), 0.0f);
  EachValue sink([out](size_t i, float value) { out[i] = value; });
  return decode_into(frame, scratch, sink);
}

Status add_decoded(const CheckedFrame& frame, CodecScratch& scratch, std::span<float> target) {
  EachValue sink([target](size_t i, float value) { target[i] += value; });
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
