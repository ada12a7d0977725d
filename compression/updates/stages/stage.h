/// What a stage of each family does to one chunk. A chunk is at most 65,536 elements of the update;
/// the families hand it on as: dense floats -> (transform) dense floats -> (select) kept positions
/// and values -> (quantize) bytes. Threads: stages are immutable; all memory comes from the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/bytes.h"
#include "base/status.h"
#include "compression/updates/codec.h"

namespace tern {

/// The chunk at hand.
struct ChunkContext {
  uint64_t seed = 0;   ///< the frame's
  uint32_t chunk = 0;  ///< number in the frame
  bool error_feedback = false;
};

/// Which values share a scale: group g is values[end[g-1], end[g]).
using Groups = std::span<const uint32_t>;

class Transform {
 public:
  virtual ~Transform() = default;
  /// Length after the transform of n elements: n rounded up to whole blocks, at most
  /// kChunkElements.
  virtual size_t padded(size_t n) const = 0;
  /// In place on x, which holds n values and room for padded(n).
  virtual void forward(float* x, size_t n, const ChunkContext& context) const = 0;
  virtual void inverse(float* x, size_t n, const ChunkContext& context) const = 0;
};

class Selector {
 public:
  /// What a selector found out about the whole update before the first chunk.
  struct Cut {
    uint32_t magnitude = 0;  ///< bits of |x|: larger ones are kept
    size_t ties = 0;  ///< so many of exactly this magnitude are kept, lowest index first; consumed
                      ///< by select()
  };

  virtual ~Selector() = default;
  /// True when positions follow from the seed and don't travel.
  virtual bool seeded() const = 0;
  /// The largest number kept of n elements.
  virtual size_t kept(size_t n) const = 0;
  virtual Cut prepare(std::span<const float> update, CodecScratch& scratch) const = 0;
  /// Writes kept positions (increasing) and values of one chunk; returns how many. Chunks in order:
  /// `cut` is consumed.
  virtual size_t select(const float* x, size_t n, const ChunkContext& context, Cut& cut,
                        uint16_t* index, float* values) const = 0;
  /// Seeded only: the positions that select() keeps.
  virtual size_t positions(size_t n, const ChunkContext& context, uint16_t* index) const = 0;
};

class Quantizer {
 public:
  virtual ~Quantizer() = default;
  /// Bytes for k values in g groups, exactly; `indexed` when the positions travel.
  virtual size_t bytes(size_t k, size_t g, bool indexed) const = 0;
  /// Writes bytes(...) bytes. `symbols` has room for k.
  virtual void encode(const float* values, Groups groups, bool indexed, const ChunkContext& context,
                      uint16_t* symbols, std::byte* out) const = 0;
  /// Reads hostile bytes, exactly bytes(...) long. Errors: kCorrupt.
  virtual Status decode(const std::byte* in, Groups groups, bool indexed,
                        const ChunkContext& context, uint16_t* symbols, float* values) const = 0;
};

class IndexCode {
 public:
  virtual ~IndexCode() = default;
  /// Never more than this for k positions below n.
  virtual size_t max_bytes(size_t k, size_t n) const = 0;
  /// Writes k > 0 increasing positions below n; sets `parameter` (0..31), which travels in the
  /// chunk table.
  virtual size_t encode(const uint16_t* index, size_t k, size_t n, uint16_t* symbols,
                        uint8_t& parameter, std::byte* out) const = 0;
  /// Reads hostile bytes. Errors: kCorrupt unless they hold exactly k increasing positions below n.
  virtual Status decode(std::span<const std::byte> in, size_t k, size_t n, uint8_t parameter,
                        uint16_t* symbols, uint16_t* index) const = 0;
};

std::shared_ptr<const Transform> make_rotate(uint32_t block);
std::shared_ptr<const Selector> make_topk(uint32_t rate);
std::shared_ptr<const Selector> make_randk(uint32_t rate);
std::shared_ptr<const Quantizer> make_float32();
std::shared_ptr<const Quantizer> make_float16();
std::shared_ptr<const Quantizer> make_bfloat16();
std::shared_ptr<const Quantizer> make_int(uint32_t bits);
std::shared_ptr<const Quantizer> make_ternary();
std::shared_ptr<const Quantizer> make_sign();
std::shared_ptr<const Quantizer> make_eden(uint32_t bits);
std::shared_ptr<const IndexCode> make_rice();
/// 16 bits a position: what a selection without a code stage uses.
std::shared_ptr<const IndexCode> make_plain_indices();

/// k = round(rate * n), at least 1 unless n is 0; integers only, so the same everywhere.
size_t kept_of(uint32_t rate, size_t n);

}  // namespace tern
