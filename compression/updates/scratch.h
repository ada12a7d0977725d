/// Memory that encoding and decoding need: about 1.6 MB; for a selection by magnitude up to 16
/// bytes for each value kept and an eighth of the update; for chains that rearrange the whole
/// update (small16, principal, components, dct, lowrank, sketch) one to three times its size.
/// Reused, so that the steady state allocates nothing. Threads: one for each thread.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "compression/updates/codec.h"
#include "compression/updates/layout.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace tern {

/// The magnitudes that a selection keeps, up to the element `end` of the stream.
struct Cut {
  size_t end = 0;
  uint32_t magnitude = 0;  ///< bits of |x|: larger ones are kept
  size_t ties = 0;  ///< so many of exactly this magnitude are kept, lowest index first; consumed
};

/// What decoding a symbol takes; see stages/rans.cc.
struct RansSlot {
  uint16_t symbol = 0;
  uint16_t frequency = 0;
  uint16_t offset = 0;
};

/// Values of a stream that may be kept, in order: their places in their chunk, chunk after chunk.
struct Candidates {
  std::vector<uint32_t> index;
  std::vector<float> values;
  std::vector<size_t> ends;  ///< of each chunk's candidates; empty where there are none
  size_t count = 0;

  bool active() const { return !ends.empty(); }
  void clear() {
    ends.clear();
    count = 0;
  }
};

/// Leaves new elements as they are, where std::vector would write zeros: a scratch of 1.6 MB is
/// made whenever a client starts, and most chains need little of it.
template <typename T>
struct UninitializedAllocator : std::allocator<T> {
  template <typename U>
  void construct(U* at) noexcept {
    ::new (static_cast<void*>(at)) U;
  }
  template <typename U, typename... Args>
  void construct(U* at, Args&&... args) {
    ::new (static_cast<void*>(at)) U(std::forward<Args>(args)...);
  }
};
template <typename T>
using Buffer = std::vector<T, UninitializedAllocator<T>>;

class CodecScratch {
 public:
  CodecScratch();
  ~CodecScratch();
  CodecScratch(CodecScratch&&) noexcept;
  CodecScratch& operator=(CodecScratch&&) noexcept;

  // Of one chunk.
  Buffer<float> chunk;     ///< the chunk, transformed
  Buffer<float> values;    ///< its kept values
  Buffer<uint16_t> index;  ///< their positions
  Buffer<uint16_t> symbols;
  std::vector<uint32_t> groups;
  std::vector<std::byte> counts;    ///< of values kept in each group
  std::vector<uint32_t> signs;      ///< of a transform, a bit each
  Buffer<float> plain;              ///< floats as they travel, before or after zstd; see `places`
  Buffer<std::byte> coded;          ///< words of rans from the end, or byte planes for zstd
  std::vector<uint32_t> histogram;  ///< of magnitudes for a selection, of symbols for rans
  std::vector<RansSlot> rans;
  Buffer<uint32_t> places;  ///< of values that a selection may keep; those lie in `plain`

  // Of the whole update.
  Layout layout;
  std::vector<Cut> cuts;
  size_t cut = 0;  ///< the one that the next element falls under
  Candidates found;
  std::vector<uint32_t> sample;  ///< magnitudes
  std::vector<double> norms;     ///< of randk-by-norm's groups
  double kept_per_norm = 0;      ///< what randk-by-norm keeps of a group for each unit of them
  size_t kept_left = 0;          ///< what it may still keep, besides one value of each group
  std::vector<std::byte> frame;  ///< one whose length isn't known beforehand
  std::vector<float> main;       ///< the main stream, where it isn't the update itself
  std::vector<float> small;      ///< the small stream
  std::vector<float> stream;     ///< a projection of the main stream
  std::vector<float> estimates;  ///< of sketch, one for each element
  std::vector<float> factors;    ///< after encoding with lowrank: what it starts from next time
  // Of principal and components.
  std::vector<float> component_factors;
  std::vector<size_t> component_ends;  ///< of the columns of factors, in their stream
  Buffer<std::byte> component_chunks;  ///< their chunks: entries, then bodies
  std::vector<float> directions;       ///< that a step of the power iteration starts from

  /// The chain of the last frame that was read: most frames have that of the one before.
  std::unique_ptr<Codec> last_codec;

  /// Makes one of the streams n long, whatever it held: without the slack that growing leaves,
  /// which frames of different chains would add up to several updates.
  static void make_room(std::vector<float>& stream, size_t n);

  /// Lets encoding with this scratch use the pool's threads beside the caller's, for updates of a
  /// million elements and more whose positions don't travel; the bytes stay the same. The pool
  /// outlives the scratch, and the caller is none of its threads.
  void use(ThreadPool& pool);
  ThreadPool* pool() const { return pool_; }
  std::span<CodecScratch> helpers() { return helpers_; }

  ZSTD_CCtx_s* zstd_encoder();
  ZSTD_DCtx_s* zstd_decoder();

 private:
  struct Zstd;
  std::unique_ptr<Zstd> zstd_;
  ThreadPool* pool_ = nullptr;
  std::vector<CodecScratch> helpers_;
};

}  // namespace tern
