#include "compression/updates/scratch.h"

#include <zstd.h>

#include <new>

namespace tern {

struct CodecScratch::Zstd {
  struct Free {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  std::unique_ptr<ZSTD_CCtx, Free> encoder;
  std::unique_ptr<ZSTD_DCtx, Free> decoder;
};

CodecScratch::CodecScratch()
    : chunk(kChunkElements),
      values(kChunkElements),
      index(kChunkElements),
      symbols(kChunkElements),
      groups(kChunkElements / kGroupElements),
      counts(kChunkElements / kGroupElements),
      signs(kChunkElements / 32),
      plain(kChunkElements),
      coded(kChunkElements * sizeof(float)),
      histogram(size_t{1} << 14),
      rans(size_t{1} << 12),
      places(kChunkElements),
      zstd_(std::make_unique<Zstd>()) {}
CodecScratch::~CodecScratch() = default;
CodecScratch::CodecScratch(CodecScratch&&) noexcept = default;
CodecScratch& CodecScratch::operator=(CodecScratch&&) noexcept = default;

void CodecScratch::use(ThreadPool& pool) {
  pool_ = &pool;
  helpers_.resize(pool.size());
}

void CodecScratch::make_room(std::vector<float>& stream, size_t n) {
  if (stream.capacity() < n) {
    stream = std::vector<float>();  // first, so that old and new memory are never held at once
    stream.reserve(n);
  }
  stream.resize(n);
}

ZSTD_CCtx* CodecScratch::zstd_encoder() {
  if (!zstd_->encoder) zstd_->encoder.reset(ZSTD_createCCtx());
  if (!zstd_->encoder) throw std::bad_alloc();
  return zstd_->encoder.get();
}

ZSTD_DCtx* CodecScratch::zstd_decoder() {
  if (!zstd_->decoder) zstd_->decoder.reset(ZSTD_createDCtx());
  if (!zstd_->decoder) throw std::bad_alloc();
  return zstd_->decoder.get();
}

}  // namespace tern
