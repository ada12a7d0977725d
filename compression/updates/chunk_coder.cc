#include "compression/updates/chunk_coder.h"

#include <algorithm>

#include "base/bytes.h"

namespace tern {

namespace {

constexpr size_t kCountBytes = 2;  // of a chunk whose positions travel: k - 1

bool all_zero(std::span<const float> x) {
  // By bits: a lossless chain must bring back -0.0.
  uint32_t any = 0;
  for (const float v : x) any |= std::bit_cast<uint32_t>(v);
  return any == 0;
}

size_t group_count(size_t n) { return (n + kGroupElements - 1) / kGroupElements; }

/// Values share a scale with those of the same 1,024 positions; where positions travel, with the
/// whole chunk.
Groups make_groups(const Codec& codec, size_t n, std::span<const uint16_t> index, size_t k,
                   CodecScratch& scratch) {
  uint32_t* end = scratch.groups.data();
  if (codec.indexed()) {
    end[0] = static_cast<uint32_t>(k);
    return {end, 1};
  }
  const size_t count = group_count(n);
  if (codec.selector() == nullptr) {
    for (size_t g = 0; g < count; ++g)
      end[g] = static_cast<uint32_t>(std::min((g + 1) * kGroupElements, n));
  } else {
    size_t i = 0;
    for (size_t g = 0; g < count; ++g) {
      while (i < k && index[i] < (g + 1) * kGroupElements) ++i;
      end[g] = static_cast<uint32_t>(i);
    }
  }
  return {end, count};
}

}  // namespace

size_t max_chunk_bytes(const Codec& codec, size_t n, size_t k) {
  const size_t m = codec.transform() ? codec.transform()->padded(n) : n;
  if (codec.indexed()) {
    k = std::min(k, m);
    return kCountBytes + codec.quantizer().bytes(k, 1, true) + codec.index_code()->max_bytes(k, m);
  }
  const size_t kept = codec.selector() ? codec.selector()->kept(m) : m;
  return codec.quantizer().bytes(kept, group_count(m), false);
}

EncodedChunk encode_chunk(const Codec& codec, std::span<const float> x, const ChunkContext& context,
                          Selector::Cut& cut, CodecScratch& scratch, std::byte* out) {
  if (all_zero(x)) return {};
  const float* values = x.data();
  size_t m = x.size();
  if (codec.transform()) {
    std::copy(x.begin(), x.end(), scratch.chunk.begin());
    codec.transform()->forward(scratch.chunk.data(), m, context);
    m = codec.transform()->padded(m);
    values = scratch.chunk.data();
  }
  size_t k = m;
  if (codec.selector()) {
    k = codec.selector()->select(values, m, context, cut, scratch.index.data(),
                                 scratch.values.data());
    values = scratch.values.data();
    if (k == 0) return {};
  }
  const std::span<const uint16_t> index(scratch.index.data(), codec.selector() ? k : 0);
  const Groups groups = make_groups(codec, m, index, k, scratch);
  EncodedChunk encoded{.mode = ChunkMode::kCoded};
  std::byte* to = out;
  if (codec.indexed()) {
    store(to, static_cast<uint16_t>(k - 1));
    to += kCountBytes;
  }
  codec.quantizer().encode(values, groups, codec.indexed(), context, scratch.symbols.data(), to);
  to += codec.quantizer().bytes(k, groups.size(), codec.indexed());
  if (codec.indexed())
    to += codec.index_code()->encode(index.data(), k, m, scratch.symbols.data(), encoded.parameter,
                                     to);
  encoded.bytes = static_cast<size_t>(to - out);
  return encoded;
}

Result<DecodedChunk> decode_chunk(const Codec& codec, std::span<const std::byte> body,
                                  uint8_t parameter, size_t n, const ChunkContext& context,
                                  CodecScratch& scratch) {
  const size_t m = codec.transform() ? codec.transform()->padded(n) : n;
  const std::span<const std::byte> whole = body;
  size_t k = m;
  if (codec.indexed()) {
    if (body.size() < kCountBytes)
      return error(Code::kCorrupt, "a chunk of {} bytes has no count", whole.size());
    k = size_t{load<uint16_t>(body.data())} + 1;
    body = body.subspan(kCountBytes);
    if (k > m) return error(Code::kCorrupt, "a chunk of {} elements claims {} values", m, k);
  } else if (codec.selector()) {
    k = codec.selector()->positions(m, context, scratch.index.data());
  }
  const std::span<const uint16_t> index(scratch.index.data(), codec.selector() ? k : 0);
  const Groups groups = make_groups(codec, m, index, k, scratch);
  const size_t quantized = codec.quantizer().bytes(k, groups.size(), codec.indexed());
  if (codec.indexed() ? body.size() < quantized : body.size() != quantized)
    return error(Code::kCorrupt, "a chunk has {} bytes, its {} values need {}{}", whole.size(), k,
                 quantized, codec.indexed() ? " and indices" : "");
  if (codec.indexed())
    TERN_CHECK_OK(codec.index_code()->decode(body.subspan(quantized), k, m, parameter,
                                             scratch.symbols.data(), scratch.index.data()));
  else if (parameter != 0)
    return error(Code::kCorrupt, "a chunk without indices has an index parameter");
  // Values go straight to where the next step wants them.
  float* values = codec.selector() ? scratch.values.data() : scratch.chunk.data();
  TERN_CHECK_OK(codec.quantizer().decode(body.data(), groups, codec.indexed(), context,
                                         scratch.symbols.data(), values));
  if (!codec.transform()) return DecodedChunk{{values, k}, index, codec.selector() != nullptr};
  if (codec.selector()) {
    std::fill_n(scratch.chunk.begin(), m, 0.0f);
    for (size_t i = 0; i < k; ++i) scratch.chunk[index[i]] = values[i];
  }
  codec.transform()->inverse(scratch.chunk.data(), n, context);
  return DecodedChunk{{scratch.chunk.data(), n}, {}, false};
}

}  // namespace tern
