#include "compression/updates/stages/cabac.h"

#include <algorithm>
#include <array>

#include "compression/updates/stages/range_coder.h"

namespace tern {

namespace {

/// Whether a position is kept, after one that was dropped (or none) and after one that was kept.
std::array<AdaptiveBit, 2> start(size_t k, size_t n) {
  constexpr uint32_t kOne = AdaptiveBit::kOne;
  const auto share = static_cast<uint32_t>(k * kOne / n);
  const AdaptiveBit both(std::clamp(share, kOne >> 10, kOne - (kOne >> 10)));
  return {both, both};
}

}  // namespace

size_t encode_cabac(const uint16_t* index, size_t k, size_t n, std::byte* out, size_t most) {
  auto [after_dropped, after_kept] = start(k, n);
  RangeEncoder encoder(out, most);
  size_t next = 0;
  for (size_t i = 0; i < k && !encoder.full(); ++i) {
    if (next > 0 && next == index[i]) {
      encoder.put(true, after_kept);
    } else {
      if (next > 0) {
        encoder.put(false, after_kept);
        ++next;
      }
      for (; next < index[i]; ++next) encoder.put(false, after_dropped);
      encoder.put(true, after_dropped);
    }
    ++next;
  }
  return encoder.finish();
}

Status decode_cabac(std::span<const std::byte> in, size_t k, size_t n, uint16_t* index,
                    size_t& used) {
  auto [after_dropped, after_kept] = start(k, n);
  TERN_TRY(RangeDecoder decoder, RangeDecoder::begin(in));
  size_t count = 0, position = 0;
  while (count < k && position < n && !decoder.too_short()) {
    if (count > 0 && decoder.get(after_kept)) {
      index[count++] = static_cast<uint16_t>(position++);
      continue;
    }
    if (count > 0) ++position;
    for (; position < n && !decoder.too_short(); ++position)
      if (decoder.get(after_dropped)) break;
    if (position < n) index[count++] = static_cast<uint16_t>(position++);
  }
  if (count < k || decoder.too_short())
    return error(Code::kCorrupt, "{} of {} coded positions below {} in {} bytes", count, k, n,
                 in.size());
  if (!decoder.at_end())
    return error(Code::kCorrupt, "the end of the coded positions isn't that of a writer");
  used = decoder.used();
  return {};
}

}  // namespace tern
