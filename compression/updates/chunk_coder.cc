#include "compression/updates/chunk_coder.h"

#include <algorithm>
#include <bit>

#include "base/bytes.h"
#include "compression/updates/chain.h"
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/positions.h"
#include "compression/updates/stages/rans.h"
#include "compression/updates/stages/scale.h"
#include "compression/updates/stages/zstd.h"
#include "compression/updates/symbols.h"

namespace tern {

namespace {

constexpr size_t kRawBytes = sizeof(float);
constexpr size_t kHalfBytes = 2;

bool all_zero(std::span<const float> x) {
  // By bits: a lossless chain must bring back -0.0. In parts, since most chunks show at once.
  constexpr size_t kPart = 1024;
  for (size_t at = 0; at < x.size(); at += kPart) {
    uint32_t any = 0;
    for (const float v : x.subspan(at, std::min(kPart, x.size() - at)))
      any |= std::bit_cast<uint32_t>(v);
    if (any != 0) return false;
  }
  return true;
}

size_t group_count(size_t n) { return (n + kGroupElements - 1) / kGroupElements; }

/// Where every position travels, each 1,024 values share a scale.
Groups dense_groups(size_t n, CodecScratch& scratch) {
  const size_t count = group_count(n);
  for (size_t g = 0; g < count; ++g)
    scratch.groups[g] = static_cast<uint32_t>(std::min((g + 1) * kGroupElements, n));
  return {scratch.groups.data(), count};
}

/// Kept values share a scale with those of the same 1,024 positions; where positions travel, with
/// the whole chunk.
Groups make_groups(const Chain& chain, size_t n, std::span<const uint16_t> index, size_t k,
                   CodecScratch& scratch) {
  if (!chain.selector) return dense_groups(n, scratch);
  uint32_t* end = scratch.groups.data();
  if (chain.indexed()) {
    end[0] = static_cast<uint32_t>(k);
    return {end, 1};
  }
  const size_t count = group_count(n);
  auto from = index.begin();
  for (size_t g = 0; g < count; ++g) {
    from = std::lower_bound(from, index.end(), (g + 1) * kGroupElements);
    end[g] = static_cast<uint32_t>(from - index.begin());
  }
  return {end, count};
}

size_t scale_bytes(const Chain& chain, size_t groups) {
  return chain.quantizer && chain.quantizer->scaled() ? groups * kScaleBytes : 0;
}

/// Bytes of k values without their scales, before a value code.
size_t fixed_bytes(const Chain& chain, size_t k) {
  return chain.format ? k * chain.format->width()
                      : symbol_bytes(chain.quantizer->alphabet(chain.indexed()), k);
}

/// The elements as float32; what a selection by magnitude dropped stays zero.
ChunkEntry write_raw_chunk(const Chain& chain, std::span<const float> x,
                           std::span<const uint16_t> index, const float* values, std::byte* out) {
  if (!chain.indexed()) {
    std::memcpy(out, x.data(), x.size_bytes());
  } else {
    std::memset(out, 0, x.size_bytes());
    for (size_t i = 0; i < index.size(); ++i) store(out + kRawBytes * index[i], values[i]);
  }
  return {.bytes = static_cast<uint32_t>(x.size_bytes()), .mode = ChunkMode::kRaw};
}

/// Writes scales and values, the shorter of fixed and coded ones; returns the bytes.
size_t write_values(const Chain& chain, const float* values, Groups groups,
                    const ChunkContext& context, CodecScratch& scratch, std::byte* out,
                    bool& coded) {
  const size_t k = groups.empty() ? 0 : groups.back();
  const size_t fixed = fixed_bytes(chain, k);
  const size_t scales = scale_bytes(chain, groups.size());
  std::byte* const to = out + scales;
  size_t bytes = 0;
  if (chain.format) {
    if (chain.value_code == ValueCode::kZstd) {
      auto* plain = reinterpret_cast<std::byte*>(scratch.plain.data());
      chain.format->write(values, k, plain);
      bytes = encode_zstd(plain, k, chain.format->width(), fixed, scratch, to);
    }
    coded = bytes > 0;
    if (!coded) chain.format->write(values, k, to);
  } else {
    uint16_t* symbols = scratch.symbols.data();
    chain.quantizer->quantize(values, groups, chain.indexed(), context, symbols, out);
    if (chain.value_code == ValueCode::kRans) bytes = encode_rans(symbols, k, fixed, scratch, to);
    coded = bytes > 0;
    if (!coded) write_symbols(symbols, k, chain.quantizer->alphabet(chain.indexed()), to);
  }
  return scales + (coded ? bytes : fixed);
}

/// Whether all of a chunk's values become symbols, group by group.
bool in_parts(const Chain& chain) { return chain.quantizer && !chain.selector; }

/// Elements that go through all steps together, so that they stay in the first cache: whole blocks
/// and whole groups, whose symbols fill whole bytes.
constexpr size_t kPart = 2048;
size_t part_elements(const Chain& chain) {
  return chain.transform ? std::max(kPart, chain.transform->block()) : kPart;
}

/// Symbols that are coded together, or five to a byte, wait for those of the whole chunk.
bool symbols_wait(const Chain& chain) {
  return chain.value_code == ValueCode::kRans || chain.quantizer->alphabet(false) == 3;
}

/// write_values for a chunk of which every value becomes a symbol; fetches and transforms it
/// before.
Result<size_t> write_parts(const Chain& chain, const ChunkInput& input, ChunkContext context,
                           CodecScratch& scratch, std::byte* out, bool& coded) {
  const size_t m = chain.transform ? chain.transform->padded(input.size) : input.size;
  const size_t scales = scale_bytes(chain, group_count(m));
  const uint32_t alphabet = chain.quantizer->alphabet(false);
  const bool wait = symbols_wait(chain);
  if (chain.transform) chain.transform->draw(input.size, context, scratch.signs.data());
  const size_t part = part_elements(chain);
  for (size_t at = 0; at < input.size; at += part) {
    size_t k = std::min(part, input.size - at);
    TERN_TRY(const std::span<const float> x, input.fetch(at, k));
    const float* values = x.data();
    const std::span ahead(input.stream.ahead(k), k);
    context.ahead = ahead;
    if (chain.transform) {
      const uint32_t* signs = scratch.signs.data() + at / 32;
      const size_t own = chain.quantizer->shares_ahead() ? k / 2 : k;
      chain.transform->forward(values, k, signs, ahead.first(own), scratch.chunk.data());
      values = scratch.chunk.data();
      context.ahead = ahead.subspan(own);
      k = chain.transform->padded(k);
    }
    uint16_t* symbols = scratch.symbols.data() + (wait ? at : 0);
    context.group = static_cast<uint32_t>(at / kGroupElements);
    context.maxima = chain.transform ? nullptr : input.stream.maxima(input.begin + at);
    std::byte* const own_scales = out + scale_bytes(chain, context.group);
    const Groups groups = dense_groups(k, scratch);
    if (wait)
      chain.quantizer->quantize(values, groups, false, context, symbols, own_scales);
    else
      chain.quantizer->quantize_packed(values, groups, context, symbols,
                                       out + scales + symbol_bytes(alphabet, at), own_scales);
  }
  const size_t fixed = fixed_bytes(chain, m);
  if (!wait) return scales + fixed;
  size_t bytes = 0;
  if (chain.value_code == ValueCode::kRans)
    bytes = encode_rans(scratch.symbols.data(), m, fixed, scratch, out + scales);
  coded = bytes > 0;
  if (!coded) write_symbols(scratch.symbols.data(), m, alphabet, out + scales);
  return scales + (coded ? bytes : fixed);
}

/// The inverse, from `in` of the right length: to scratch.chunk, or part by part to a sink, as
/// elements from `begin` on. Errors: kCorrupt.
Status read_parts(const Chain& chain, std::span<const std::byte> in, bool coded, size_t n,
                  const ChunkContext& context, CodecScratch& scratch, ValueSink* sink,
                  size_t begin) {
  const size_t m = chain.transform ? chain.transform->padded(n) : n;
  const auto values = in.subspan(scale_bytes(chain, group_count(m)));
  const uint32_t alphabet = chain.quantizer->alphabet(false);
  const bool wait = symbols_wait(chain);
  uint16_t* symbols = scratch.symbols.data();
  if (coded) {
    TERN_CHECK_OK(decode_rans(values, m, alphabet, scratch, symbols));
  } else if (wait) {
    TERN_CHECK_OK(read_symbols(values.data(), m, alphabet, symbols));
  }
  if (chain.transform) chain.transform->draw(n, context, scratch.signs.data());
  const size_t part = part_elements(chain);
  for (size_t at = 0; at < n; at += part) {
    const size_t length = std::min(part, n - at);
    const size_t k = chain.transform ? chain.transform->padded(length) : length;
    float* to = scratch.chunk.data() + (sink == nullptr ? at : 0);
    const std::byte* const scales = in.data() + scale_bytes(chain, at / kGroupElements);
    const Groups groups = dense_groups(k, scratch);
    TERN_CHECK_OK(wait ? chain.quantizer->restore(symbols + at, scales, groups, false, to)
                       : chain.quantizer->restore_packed(values.data() + symbol_bytes(alphabet, at),
                                                         symbols, scales, groups, to));
    if (chain.transform)
      chain.transform->inverse(
          to, length, scratch.signs.data() + at / 32,
          sink == nullptr ? std::span<const int64_t>() : sink->target(begin + at, length));
    if (sink != nullptr) sink->dense(begin + at, {to, length});
  }
  return {};
}

/// The length of scales and values. Errors: kCorrupt.
Status check_length(const Chain& chain, size_t bytes, bool coded, size_t groups, size_t k) {
  const size_t fixed = fixed_bytes(chain, k);
  const size_t scales = scale_bytes(chain, groups);
  if (bytes < scales || (!coded && bytes != scales + fixed))
    return error(Code::kCorrupt, "{} bytes for {} values, which need {}", bytes, k, scales + fixed);
  // A writer codes only what gets shorter, so nothing needs more than that.
  if (coded && bytes - scales >= fixed)
    return error(Code::kCorrupt, "{} coded bytes for {} values of {} bytes", bytes - scales, k,
                 fixed);
  return {};
}

/// Reads the scales and values that fill `in`. Errors: kCorrupt.
Status read_values(const Chain& chain, std::span<const std::byte> in, bool coded, Groups groups,
                   CodecScratch& scratch, float* values) {
  const size_t k = groups.empty() ? 0 : groups.back();
  TERN_CHECK_OK(check_length(chain, in.size(), coded, groups.size(), k));
  const auto rest = in.subspan(scale_bytes(chain, groups.size()));
  if (chain.format) {
    const std::byte* plain = rest.data();
    if (coded) {
      auto* decoded = reinterpret_cast<std::byte*>(scratch.plain.data());
      TERN_CHECK_OK(decode_zstd(rest, k, chain.format->width(), scratch, decoded));
      plain = decoded;
    }
    chain.format->read(plain, k, values);
    return {};
  }
  const uint32_t alphabet = chain.quantizer->alphabet(chain.indexed());
  uint16_t* symbols = scratch.symbols.data();
  if (coded)
    TERN_CHECK_OK(decode_rans(rest, k, alphabet, scratch, symbols));
  else
    TERN_CHECK_OK(read_symbols(rest.data(), k, alphabet, symbols));
  return chain.quantizer->restore(symbols, in.data(), groups, chain.indexed(), values);
}

/// The modes, flags and parameters that this chain's writers use.
Status check_entry(const Chain& chain, const ChunkEntry& entry) {
  const bool indexed = chain.indexed();
  bool known = false;
  switch (entry.mode) {
    case ChunkMode::kEmpty:
    case ChunkMode::kDense:
    case ChunkMode::kRaw:
      known = true;
      break;
    case ChunkMode::kPlain:
      known = indexed && chain.index_code == IndexCode::kNone;
      break;
    case ChunkMode::kRice:
      known = indexed && chain.index_code == IndexCode::kRice;
      break;
    case ChunkMode::kCabac:
      known = indexed && chain.index_code == IndexCode::kCabac;
      break;
    case ChunkMode::kBitmap:
      known = indexed;
      break;
    case ChunkMode::kHalf:
      break;
  }
  const bool values = entry.mode != ChunkMode::kEmpty && entry.mode != ChunkMode::kRaw;
  if (!known || (entry.coded && (!values || chain.value_code == ValueCode::kNone)) ||
      (entry.parameter != 0 && entry.mode != ChunkMode::kRice))
    return error(Code::kCorrupt, "chunk mode {}{} with parameter {} doesn't go with this chain",
                 static_cast<int>(entry.mode), entry.coded ? " (coded)" : "", entry.parameter);
  return {};
}

}  // namespace

size_t most_chunk_bytes(const Chain& chain, size_t n) {
  if (chain.indexed()) return most_position_bytes(n) + scale_bytes(chain, 1) + 1;
  const size_t m = chain.transform ? chain.transform->padded(n) : n;
  if (chain.spreads())
    return chain.selector->count_bytes(m) + scale_bytes(chain, group_count(m)) + 1;
  const size_t k = chain.selector ? chain.selector->kept(m) : m;
  return scale_bytes(chain, group_count(m)) + fixed_bytes(chain, k);
}

size_t most_value_bytes(const Chain& chain, size_t k) { return fixed_bytes(chain, k); }

/// Most chunks show in their first part that they aren't empty.
Result<bool> is_empty(const ChunkInput& input) {
  TERN_TRY(std::span<const float> x, input.fetch(0, std::min(kPart, input.size)));
  if (!all_zero(x)) return false;
  TERN_TRY(x, input.fetch(0, input.size));
  return all_zero(x);
}

Result<ChunkEntry> encode_chunk(const Chain& chain, const ChunkInput& input,
                                const ChunkContext& context, CodecScratch& scratch,
                                std::byte* out) {
  if (!chain.indexed()) {  // nothing is selected of zeros
    TERN_TRY(const bool empty, is_empty(input));
    if (empty) return ChunkEntry{};
  }
  const bool parts = in_parts(chain);
  if (parts) {
    const size_t m = chain.transform ? chain.transform->padded(input.size) : input.size;
    if (scale_bytes(chain, group_count(m)) + fixed_bytes(chain, m) <= input.size * kRawBytes) {
      ChunkEntry entry{.mode = ChunkMode::kDense};
      TERN_TRY(const size_t bytes, write_parts(chain, input, context, scratch, out, entry.coded));
      entry.bytes = static_cast<uint32_t>(bytes);
      return entry;
    }
  }
  TERN_TRY(const std::span<const float> x, input.fetch(0, input.size));
  if (parts) return write_raw_chunk(chain, x, {}, nullptr, out);
  const float* values = x.data();
  size_t m = x.size();
  if (chain.transform) {
    chain.transform->draw(m, context, scratch.signs.data());
    chain.transform->forward(values, m, scratch.signs.data(), {input.stream.ahead(m), m},
                             scratch.chunk.data());
    m = chain.transform->padded(m);
    values = scratch.chunk.data();
  }
  size_t k = m, before = 0;
  if (chain.selector) {
    before = chain.selector->count_bytes(m);
    k = chain.selector->select(values, m, input.at, context, scratch, scratch.index.data(),
                               scratch.values.data(), scratch.counts.data());
    values = scratch.values.data();
    if (k == 0) return {};
  }
  const std::span<const uint16_t> index(scratch.index.data(), chain.selector ? k : 0);
  const Groups groups = make_groups(chain, m, index, k, scratch);
  PositionsPlan plan;
  if (chain.indexed()) {
    plan = plan_positions(index.data(), k, m, chain.index_code, scratch.symbols.data());
    before = plan.bytes;
  }
  if (before + scale_bytes(chain, groups.size()) + fixed_bytes(chain, k) > x.size_bytes())
    return write_raw_chunk(chain, x, index, values, out);
  ChunkEntry entry{.mode = plan.mode};
  if (plan.mode == ChunkMode::kRice) entry.parameter = plan.rice.parameter;
  if (chain.indexed())
    write_positions(plan, index.data(), k, m, scratch.symbols.data(), out);
  else if (before > 0)
    std::memcpy(out, scratch.counts.data(), before);
  entry.bytes = static_cast<uint32_t>(
      before + write_values(chain, values, groups, context, scratch, out + before, entry.coded));
  return entry;
}

ChunkEntry encode_half_chunk(std::span<const float> x, std::byte* out) {
  if (all_zero(x)) return {};
  kernels().to_bfloat16(x.data(), x.size(), reinterpret_cast<uint8_t*>(out));
  return {.bytes = static_cast<uint32_t>(kHalfBytes * x.size()), .mode = ChunkMode::kHalf};
}

Result<DecodedChunk> decode_chunk(const Chain& chain, const ChunkEntry& entry,
                                  std::span<const std::byte> body, size_t n,
                                  const ChunkContext& context, CodecScratch& scratch) {
  TERN_CHECK_OK(check_entry(chain, entry));
  if (entry.mode == ChunkMode::kEmpty) return DecodedChunk{{}, {}, true};
  if (entry.mode == ChunkMode::kRaw) {
    if (body.size() != n * kRawBytes)
      return error(Code::kCorrupt, "{} bytes for {} raw elements", body.size(), n);
    std::memcpy(scratch.chunk.data(), body.data(), body.size());
    return DecodedChunk{{scratch.chunk.data(), n}, {}, false};
  }
  const size_t m = chain.transform ? chain.transform->padded(n) : n;
  if (in_parts(chain)) {
    TERN_CHECK_OK(check_length(chain, body.size(), entry.coded, group_count(m), m));
    TERN_CHECK_OK(read_parts(chain, body, entry.coded, n, context, scratch, nullptr, 0));
    return DecodedChunk{{scratch.chunk.data(), n}, {}, false};
  }
  size_t k = m;
  bool sparse = false;
  if (chain.indexed()) {
    sparse = entry.mode != ChunkMode::kDense;
    TERN_TRY(const ReadPositions read,
             read_positions(entry.mode, body, entry.parameter, m, scratch.symbols.data(),
                            scratch.index.data()));
    k = read.count;
    body = body.subspan(read.used);
  } else if (chain.selector) {
    sparse = true;
    const size_t counts = chain.selector->count_bytes(m);
    if (body.size() < counts)
      return error(Code::kCorrupt, "{} bytes where {} groups have counts", body.size(), counts);
    TERN_TRY(k, chain.selector->positions(m, context, body.data(), scratch.index.data()));
    body = body.subspan(counts);
  }
  const std::span<const uint16_t> index(scratch.index.data(), sparse ? k : 0);
  const Groups groups = make_groups(chain, m, index, k, scratch);
  // Values go straight to where the next step wants them.
  float* values = chain.selector ? scratch.values.data() : scratch.chunk.data();
  TERN_CHECK_OK(read_values(chain, body, entry.coded, groups, scratch, values));
  if (!chain.transform) return DecodedChunk{{values, k}, index, sparse};
  if (chain.selector) {
    std::fill_n(scratch.chunk.begin(), m, 0.0f);
    for (size_t i = 0; i < k; ++i) scratch.chunk[index[i]] = values[i];
  }
  chain.transform->draw(n, context, scratch.signs.data());
  chain.transform->inverse(scratch.chunk.data(), n, scratch.signs.data(), {});
  return DecodedChunk{{scratch.chunk.data(), n}, {}, false};
}

Status decode_chunk_to(ValueSink& sink, size_t at, const Chain& chain, const ChunkEntry& entry,
                       std::span<const std::byte> body, size_t n, const ChunkContext& context,
                       CodecScratch& scratch) {
  if (in_parts(chain) && entry.mode == ChunkMode::kDense) {
    TERN_CHECK_OK(check_entry(chain, entry));
    const size_t m = chain.transform ? chain.transform->padded(n) : n;
    TERN_CHECK_OK(check_length(chain, body.size(), entry.coded, group_count(m), m));
    return read_parts(chain, body, entry.coded, n, context, scratch, &sink, at);
  }
  TERN_TRY(const DecodedChunk chunk, decode_chunk(chain, entry, body, n, context, scratch));
  hand_on(chunk, at, sink);
  return {};
}

void hand_on(const DecodedChunk& chunk, size_t at, ValueSink& sink) {
  if (!chunk.sparse)
    sink.dense(at, chunk.values);
  else if (!chunk.values.empty())
    sink.sparse(at, chunk.index, chunk.values);
}

Result<DecodedChunk> decode_half_chunk(const ChunkEntry& entry, std::span<const std::byte> body,
                                       size_t n, CodecScratch& scratch) {
  if ((entry.mode != ChunkMode::kEmpty && entry.mode != ChunkMode::kHalf) || entry.coded ||
      entry.parameter != 0)
    return error(Code::kCorrupt, "chunk mode {} among the small tensors",
                 static_cast<int>(entry.mode));
  if (entry.mode == ChunkMode::kEmpty) return DecodedChunk{{}, {}, true};
  if (body.size() != kHalfBytes * n)
    return error(Code::kCorrupt, "{} bytes for {} elements of small tensors", body.size(), n);
  kernels().from_bfloat16(reinterpret_cast<const uint8_t*>(body.data()), n, scratch.chunk.data());
  return DecodedChunk{{scratch.chunk.data(), n}, {}, false};
}

}  // namespace tern
