#include "compression/updates/stages/zstd.h"

#include <zstd.h>

#include "base/bytes.h"
#include "compression/updates/scratch.h"

namespace tern {

namespace {

constexpr int kLevel = 1;
constexpr int kWindowLog = 18;  // a chunk of float32

}  // namespace

size_t encode_zstd(const std::byte* values, size_t k, size_t width, size_t limit,
                   CodecScratch& scratch, std::byte* out) {
  if (k == 0 || limit < 2) return 0;
  std::byte* planes = scratch.coded.data();
  for (size_t plane = 0; plane < width; ++plane)
    for (size_t i = 0; i < k; ++i) planes[plane * k + i] = values[i * width + plane];
  ZSTD_CCtx* context = scratch.zstd_encoder();
  ZSTD_CCtx_reset(context, ZSTD_reset_session_and_parameters);
  ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, kWindowLog);
  const size_t bytes = ZSTD_compress2(context, out, limit - 1, planes, k * width);
  return ZSTD_isError(bytes) != 0 ? 0 : bytes;
}

Status decode_zstd(std::span<const std::byte> in, size_t k, size_t width, CodecScratch& scratch,
                   std::byte* values) {
  // The magic first: libzstd may read formats from before RFC 8878, too, with decoders that nobody
  // looks after and that allocate. A frame is decoded straight into a buffer of its content size,
  // so its window costs nothing.
  if (in.size() < sizeof(uint32_t) || load<uint32_t>(in.data()) != ZSTD_MAGICNUMBER ||
      ZSTD_getFrameContentSize(in.data(), in.size()) != k * width ||
      ZSTD_getDictID_fromFrame(in.data(), in.size()) != 0 ||
      ZSTD_findFrameCompressedSize(in.data(), in.size()) != in.size())
    return error(Code::kCorrupt, "{} bytes aren't one zstd frame of {} bytes", in.size(),
                 k * width);
  std::byte* planes = scratch.coded.data();
  const size_t bytes =
      ZSTD_decompressDCtx(scratch.zstd_decoder(), planes, k * width, in.data(), in.size());
  if (ZSTD_isError(bytes) != 0) return error(Code::kCorrupt, "zstd: {}", ZSTD_getErrorName(bytes));
  if (bytes != k * width)
    return error(Code::kCorrupt, "zstd gave {} bytes, not {}", bytes, k * width);
  for (size_t plane = 0; plane < width; ++plane)
    for (size_t i = 0; i < k; ++i) values[i * width + plane] = planes[plane * k + i];
  return {};
}

}  // namespace tern
