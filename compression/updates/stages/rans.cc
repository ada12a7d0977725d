#include "compression/updates/stages/rans.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "compression/updates/bit_reader.h"
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/scratch.h"

namespace tern {

namespace {

constexpr int kScaleBits = 12;
constexpr uint32_t kScale = 1u << kScaleBits;
constexpr uint32_t kLowest = 1u << 16;  // of a state between symbols
constexpr size_t kStates = 4;
constexpr size_t kRangeBytes = 4;

/// Turns counts (k in all) into frequencies that add up to 2^12, at least 1 where the count is
/// above 0. Rounded to nearest; what is then too much or missing is taken from or given to the
/// symbol where it costs least or gains most.
void normalize(std::span<uint32_t> counts, size_t k, std::span<uint32_t> frequencies) {
  uint32_t sum = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const uint64_t scaled = (uint64_t{counts[i]} * kScale + k / 2) / k;
    frequencies[i] = counts[i] == 0 ? 0 : std::max<uint32_t>(1, static_cast<uint32_t>(scaled));
    sum += frequencies[i];
  }
  while (sum != kScale) {
    const bool grow = sum < kScale;
    // One more for the symbol with the largest count/frequency, one less for that with the
    // smallest.
    size_t best = counts.size();
    for (size_t i = 0; i < counts.size(); ++i) {
      if (counts[i] == 0 || (!grow && frequencies[i] == 1)) continue;
      if (best == counts.size()) {
        best = i;
        continue;
      }
      const uint64_t here = uint64_t{counts[i]} * frequencies[best],
                     there = uint64_t{counts[best]} * frequencies[i];
      if (grow ? here > there : here < there) best = i;
    }
    frequencies[best] += grow ? 1 : uint32_t(-1);
    sum += grow ? 1 : uint32_t(-1);
  }
}

}  // namespace

size_t encode_rans(const uint16_t* symbols, size_t k, size_t limit, CodecScratch& scratch,
                   std::byte* out) {
  if (k == 0 || limit <= kRangeBytes) return 0;
  const auto [low_at, high_at] = std::minmax_element(symbols, symbols + k);
  const uint16_t low = *low_at, high = *high_at;
  store(out, low);
  store(out + 2, high);
  if (low == high) return kRangeBytes;
  const size_t range = size_t{high} - low + 1;
  const size_t table_bytes = bytes_of_bits(range * kScaleBits);
  const size_t head = kRangeBytes + table_bytes + kStates * 4;
  if (head >= limit) return 0;

  const std::span counts(scratch.histogram.data(), range);
  const std::span frequencies(scratch.histogram.data() + kScale, range);
  const std::span starts(scratch.histogram.data() + 2 * size_t{kScale}, range);
  std::ranges::fill(counts, 0);
  for (size_t i = 0; i < k; ++i) ++counts[symbols[i] - low];
  normalize(counts, k, frequencies);
  uint32_t start = 0;
  std::array<uint16_t, kScale> table;
  for (size_t i = 0; i < range; ++i) {
    starts[i] = start;
    start += frequencies[i];
    table[i] = static_cast<uint16_t>(frequencies[i]);
  }
  kernels().pack(table.data(), range, kScaleBits, reinterpret_cast<uint8_t*>(out + kRangeBytes));

  // From the last symbol to the first; words are written from the end of the buffer to its front.
  std::byte* const end = scratch.coded.data() + scratch.coded.size();
  std::byte* at = end;
  std::array<uint32_t, kStates> states;
  states.fill(kLowest);
  for (size_t i = k; i-- > 0;) {
    uint32_t& state = states[i % kStates];
    const size_t symbol = size_t{symbols[i]} - low;
    const uint32_t frequency = frequencies[symbol];
    if (state >= uint64_t{frequency} << (32 - kScaleBits)) {
      if (static_cast<size_t>(end - at) + head + 2 >= limit) return 0;
      at -= 2;
      store(at, static_cast<uint16_t>(state));
      state >>= 16;
    }
    state = (state / frequency << kScaleBits) + state % frequency + starts[symbol];
  }
  std::byte* to = out + kRangeBytes + table_bytes;
  for (const uint32_t state : states) {
    store(to, state);
    to += 4;
  }
  const auto words = static_cast<size_t>(end - at);
  std::memcpy(to, at, words);
  return head + words;
}

Status decode_rans(std::span<const std::byte> in, size_t k, uint32_t alphabet,
                   CodecScratch& scratch, uint16_t* symbols) {
  ByteReader reader(in);
  const auto low = reader.take<uint16_t>(), high = reader.take<uint16_t>();
  if (!reader.ok() || low > high || high >= alphabet || high >= kScale)
    return error(Code::kCorrupt, "rans symbols from {} to {} of an alphabet of {}", low, high,
                 alphabet);
  if (low == high) {
    if (reader.left() != 0)
      return error(Code::kCorrupt, "{} bytes follow a single rans symbol", reader.left());
    std::fill_n(symbols, k, low);
    return {};
  }
  const size_t range = size_t{high} - low + 1;
  const auto table_bytes = reader.take_bytes(bytes_of_bits(range * kScaleBits));
  std::array<uint32_t, kStates> states;
  for (uint32_t& state : states) state = reader.take<uint32_t>();
  if (!reader.ok()) return error(Code::kCorrupt, "{} bytes are too few for rans", in.size());
  std::array<uint16_t, kScale> table;
  kernels().unpack(reinterpret_cast<const uint8_t*>(table_bytes.data()), range, kScaleBits,
                   table.data());
  uint32_t sum = 0;
  for (size_t i = 0; i < range; ++i) {
    if (sum + table[i] > kScale) return error(Code::kCorrupt, "rans frequencies above 4096");
    for (uint16_t offset = 0; offset < table[i]; ++offset)
      scratch.rans[sum++] = {
          .symbol = static_cast<uint16_t>(low + i), .frequency = table[i], .offset = offset};
  }
  if (sum != kScale || table[0] == 0 || table[range - 1] == 0 ||
      !padding_is_zero(table_bytes.data(), range * kScaleBits))
    return error(Code::kCorrupt, "rans frequencies add up to {}, not 4096", sum);
  for (const uint32_t state : states)
    if (state < kLowest) return error(Code::kCorrupt, "a rans state of {}", state);
  auto words = in.last(reader.left());
  for (size_t i = 0; i < k; ++i) {
    uint32_t& state = states[i % kStates];
    const RansSlot slot = scratch.rans[state & (kScale - 1)];
    symbols[i] = slot.symbol;
    state = slot.frequency * (state >> kScaleBits) + slot.offset;
    if (state < kLowest) {
      if (words.size() < 2) return error(Code::kCorrupt, "rans ends at symbol {} of {}", i, k);
      state = state << 16 | load<uint16_t>(words.data());
      words = words.subspan(2);
    }
  }
  if (!words.empty()) return error(Code::kCorrupt, "{} bytes follow rans", words.size());
  for (const uint32_t state : states)
    if (state != kLowest) return error(Code::kCorrupt, "rans doesn't end where it began");
  return {};
}

}  // namespace tern
