/// What a stage of each family does. An update is one stream of floats, of which
/// small16 and principal send parts apart; a projection turns the rest into a shorter stream. The
/// stream is cut into chunks of at most 65,536 elements, and a chunk goes on as: dense floats ->
/// (transform) dense floats -> (select) kept positions and values
/// -> (quantize) symbols and scales, or floats -> bytes. Threads: stages are immutable; all memory
/// comes from the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/bytes.h"
#include "base/status.h"
#include "compression/updates/codec.h"
#include "compression/updates/frame.h"
#include "compression/updates/input_stream.h"
#include "compression/updates/layout.h"
#include "compression/updates/symbols.h"

namespace tern {

/// The chunk at hand.
struct ChunkContext {
  uint64_t seed = 0;   ///< the frame's
  uint32_t chunk = 0;  ///< number in its stream; see component_chunk()
  bool error_feedback = false;
  uint32_t group = 0;  ///< number in the chunk of the first group of values at hand
  /// Values that will be wanted soon: as many as those at hand, half as many (shares_ahead()), or
  /// none.
  std::span<const float> ahead = {};
  /// The largest magnitude of each group at hand where it is known, or null.
  const float* maxima = nullptr;
};

/// Which values share a scale: group g is values[end[g-1], end[g]).
using Groups = std::span<const uint32_t>;

/// Other coordinates of a chunk, of the same number but for padding, by blocks that don't mix. All
/// of it or any whole blocks of it: `signs` are then those from the first block on.
class Transform {
 public:
  virtual ~Transform() = default;
  /// Elements of a block: a power of two, at most kChunkElements.
  virtual size_t block() const = 0;
  /// Length after the transform of n elements: n rounded up to whole blocks, at most
  /// kChunkElements.
  virtual size_t padded(size_t n) const = 0;
  /// Writes a bit for each of padded(n) elements of a chunk.
  virtual void draw(size_t n, const ChunkContext& context, uint32_t* signs) const = 0;
  /// Writes padded(n) values. `ahead`: n or n / 2 values that will be wanted soon, and come nearer
  /// meanwhile.
  virtual void forward(const float* x, size_t n, const uint32_t* signs,
                       std::span<const float> ahead, float* out) const = 0;
  /// In place on x, which holds padded(n) values. `target`: see ValueSink.
  virtual void inverse(float* x, size_t n, const uint32_t* signs,
                       std::span<const int64_t> target) const = 0;
};

/// Another stream, never a longer one, in place of the main one.
class Projection {
 public:
  virtual ~Projection() = default;
  /// True when forward() sets scratch.factors, which the sender remembers.
  virtual bool stateful() const { return false; }
  /// Length of the projected stream, never longer than the main one.
  virtual size_t projected(const Layout& layout) const = 0;
  /// Why the stage would change nothing of such an update; empty when it would.
  virtual std::string idle(const Layout&) const { return {}; }
  /// Writes projected() floats to scratch.stream. `before`: what scratch.factors held after the
  /// sender's last committed frame, or empty.
  virtual void forward(std::span<const float> x, const Layout& layout, uint64_t seed,
                       bool error_feedback, std::span<const float> before,
                       CodecScratch& scratch) const = 0;
  /// Hands on the elements of the main stream; `stream` may be scratch.stream.
  virtual void inverse(std::span<const float> stream, const Layout& layout, uint64_t seed,
                       CodecScratch& scratch, ValueSink& sink) const = 0;
};

class Selector {
 public:
  virtual ~Selector() = default;
  /// True when positions follow from the seed, and from the counts if there are any, and don't
  /// travel.
  virtual bool seeded() const = 0;
  /// True when prepare() looks at the whole stream, to spread what is kept over it: then chunks are
  /// coded in order by one thread, and differ in length.
  virtual bool spreads() const { return !seeded(); }
  /// Where it spreads: the largest number of values kept of a whole stream.
  virtual size_t most_kept(const Layout& layout) const = 0;
  /// Where it doesn't: the number kept in a chunk of n elements.
  virtual size_t kept(size_t n) const = 0;
  /// Seeded only: bytes of a chunk of n elements that say how many values each group keeps.
  virtual size_t count_bytes(size_t) const { return 0; }
  /// Before the first chunk. Sets scratch.cuts, or scratch.kept_per_norm.
  virtual void prepare(InputStream& stream, const Layout& layout, CodecScratch& scratch) const = 0;
  /// Writes kept positions (increasing), values and counts of the chunk that begins at element
  /// `at`; returns how many are kept. Chunks come in order: cuts are consumed.
  virtual size_t select(const float* x, size_t n, size_t at, const ChunkContext& context,
                        CodecScratch& scratch, uint16_t* index, float* values,
                        std::byte* counts) const = 0;
  /// Seeded only: the positions that select() keeps, for hostile counts. Errors: kCorrupt.
  virtual Result<size_t> positions(size_t n, const ChunkContext& context, const std::byte* counts,
                                   uint16_t* index) const = 0;
};

/// Values as symbols of a small alphabet, most of them with a scale for each group.
class Quantizer {
 public:
  virtual ~Quantizer() = default;
  /// Symbols are 0 to alphabet - 1; `indexed` when the positions travel.
  virtual uint32_t alphabet(bool indexed) const = 0;
  virtual bool scaled() const { return true; }
  /// True when it brings half of what is ahead nearer, so that a transform before it asks for the
  /// other half alone: all of it in one short pass is more than can be on its way.
  virtual bool shares_ahead() const { return false; }
  /// Writes a symbol for each value, and 2 bytes for each group to `scales` if scaled().
  virtual void quantize(const float* values, Groups groups, bool indexed,
                        const ChunkContext& context, uint16_t* symbols,
                        std::byte* scales) const = 0;
  /// The same for values of which all travel, and write_symbols() to `packed`: in one pass where
  /// there is a kernel for it. `symbols` has room for them. Groups but the last fill whole bytes.
  virtual void quantize_packed(const float* values, Groups groups, const ChunkContext& context,
                               uint16_t* symbols, std::byte* packed, std::byte* scales) const {
    quantize(values, groups, false, context, symbols, scales);
    write_symbols(symbols, groups.back(), alphabet(false), packed);
  }
  /// The inverse, for hostile scales and symbols below the alphabet. Errors: kCorrupt.
  virtual Status restore(const uint16_t* symbols, const std::byte* scales, Groups groups,
                         bool indexed, float* values) const = 0;
  /// read_symbols() of hostile bytes and restore(), as quantize_packed(). Errors: kCorrupt.
  virtual Status restore_packed(const std::byte* packed, uint16_t* symbols, const std::byte* scales,
                                Groups groups, float* values) const {
    TERN_CHECK_OK(read_symbols(packed, groups.back(), alphabet(false), symbols));
    return restore(symbols, scales, groups, false, values);
  }
};

/// Values as floating-point numbers of `width` bytes.
class FloatFormat {
 public:
  virtual ~FloatFormat() = default;
  virtual size_t width() const = 0;
  virtual void write(const float* values, size_t k, std::byte* out) const = 0;
  virtual void read(const std::byte* in, size_t k, float* values) const = 0;
};

std::unique_ptr<const Transform> make_rotate(uint32_t block);
std::unique_ptr<const Projection> make_dct(uint32_t side, uint32_t percent_of_band);
std::unique_ptr<const Projection> make_lowrank(uint32_t rank);
std::unique_ptr<const Projection> make_sketch(uint32_t table);
std::unique_ptr<const Selector> make_topk(uint32_t rate);
std::unique_ptr<const Selector> make_topk_per_tensor(uint32_t rate);
std::unique_ptr<const Selector> make_threshold(uint32_t magnitude_bits);
std::unique_ptr<const Selector> make_randk(uint32_t rate);
std::unique_ptr<const Selector> make_randk_by_norm(uint32_t rate);
std::unique_ptr<const FloatFormat> make_float32();
std::unique_ptr<const FloatFormat> make_float16();
std::unique_ptr<const FloatFormat> make_bfloat16();
std::unique_ptr<const Quantizer> make_int(uint32_t bits);
std::unique_ptr<const Quantizer> make_ternary();
std::unique_ptr<const Quantizer> make_sign();
std::unique_ptr<const Quantizer> make_qsgd(uint32_t levels);
std::unique_ptr<const Quantizer> make_natural();
std::unique_ptr<const Quantizer> make_eden(uint32_t bits);

/// k = round(rate * n), at least 1 unless n is 0; integers only, so the same everywhere.
size_t kept_of(uint32_t rate, size_t n);

}  // namespace tern
