#include "compression/updates/stages/factor_code.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "compression/updates/stages/range_coder.h"
#include "compression/updates/stages/scale.h"

namespace tern {

namespace {

constexpr uint32_t kUnary = 15;   // larger magnitudes have an Exp-Golomb code of the rest
constexpr int kMostPrefix = 9;    // of that code: magnitudes up to 15 + 2^10 - 2
constexpr size_t kContexts = 12;  // by the magnitudes around
constexpr size_t kQuestions = 4;  // above 0, above 1, above 2, above more
constexpr size_t kMemory =
    kChunkElements;  // columns are rarely longer; where they are, places share

/// What the encoder and the decoder of a chunk know before each of its integers.
class Contexts {
 public:
  /// `memory`: kMemory numbers.
  Contexts(size_t at, ColumnEnds ends, uint16_t* memory)
      : ends_(ends), memory_(memory), end_(std::ranges::upper_bound(ends, at) - ends.begin()) {
    begin_ = end_ == 0 ? 0 : ends_[end_ - 1];
    length_ = ends_[end_] - begin_;
    at_ = at;
    forget();
  }

  /// The questions about the next integer.
  std::array<AdaptiveBit, kQuestions>& next() {
    const uint32_t around = memory_[(at_ - begin_) % kMemory] + 4 * before_ + 2 * before2_;
    return bits_[std::min<size_t>(around / 5, kContexts - 1)];
  }
  /// After it.
  void was(uint32_t magnitude) {
    uint16_t& memory = memory_[(at_ - begin_) % kMemory];
    const uint32_t seen = std::min(magnitude, kUnary);
    // Sixteen times the mean of the columns before, an eighth of which is the last one.
    memory = static_cast<uint16_t>(memory + 2 * seen - memory / 8);
    before2_ = before_;
    before_ = seen;
    if (++at_ == ends_[end_] && end_ + 1 < ends_.size()) {
      begin_ = ends_[end_++];
      before_ = before2_ = 0;
      const size_t length = ends_[end_] - begin_;
      if (length != length_) {
        length_ = length;
        forget();
      }
    }
  }

 private:
  void forget() { std::fill_n(memory_, std::min(length_, kMemory), uint16_t{0}); }

  ColumnEnds ends_;
  uint16_t* memory_;
  size_t end_, begin_ = 0, length_ = 0, at_ = 0;
  uint32_t before_ = 0, before2_ = 0;
  std::array<std::array<AdaptiveBit, kQuestions>, kContexts> bits_;
};

void put_magnitude(uint32_t magnitude, std::array<AdaptiveBit, kQuestions>& bits,
                   RangeEncoder& encoder) {
  for (uint32_t level = 0; level < kUnary; ++level) {
    const bool above = magnitude > level;
    encoder.put(above, bits[std::min<size_t>(level, kQuestions - 1)]);
    if (!above) return;
  }
  const uint32_t rest = magnitude - kUnary + 1;
  const int prefix = std::bit_width(rest) - 1;
  encoder.put_even(0, prefix);
  encoder.put_even(rest, prefix + 1);
}

/// Errors: none is given; above kLargestFactor.
uint32_t get_magnitude(std::array<AdaptiveBit, kQuestions>& bits, RangeDecoder& decoder) {
  for (uint32_t level = 0; level < kUnary; ++level)
    if (!decoder.get(bits[std::min<size_t>(level, kQuestions - 1)])) return level;
  int prefix = 0;
  while (prefix <= kMostPrefix && decoder.get_even(1) == 0) ++prefix;
  if (prefix > kMostPrefix) return kLargestFactor + 1;
  return kUnary + (1u << prefix | decoder.get_even(prefix)) - 1;
}

}  // namespace

ChunkEntry encode_factors(std::span<const float> x, size_t at, ColumnEnds ends, float step,
                          CodecScratch& scratch, std::byte* out) {
  if (std::ranges::all_of(x, [](float v) { return v == 0; })) return {};
  store(out, scale_nearest(step));
  RangeEncoder encoder(out + kScaleBytes, x.size_bytes() - kScaleBytes - 1);
  Contexts contexts(at, ends, scratch.symbols.data());
  for (size_t i = 0; i < x.size() && !encoder.full(); ++i) {
    const auto magnitude = static_cast<uint32_t>(std::lround(std::fabs(x[i]) / step));
    put_magnitude(magnitude, contexts.next(), encoder);
    if (magnitude > 0) encoder.put_even(x[i] < 0 ? 1 : 0, 1);
    contexts.was(magnitude);
  }
  if (const size_t coded = encoder.finish(); coded > 0)
    return {.bytes = static_cast<uint32_t>(kScaleBytes + coded),
            .mode = ChunkMode::kDense,
            .coded = true};
  std::memcpy(out, x.data(), x.size_bytes());
  return {.bytes = static_cast<uint32_t>(x.size_bytes()), .mode = ChunkMode::kRaw};
}

Result<DecodedChunk> decode_factors(const ChunkEntry& entry, std::span<const std::byte> body,
                                    size_t at, size_t n, ColumnEnds ends, CodecScratch& scratch) {
  const bool coded = entry.mode == ChunkMode::kDense && entry.coded;
  if (entry.parameter != 0 || !(coded || (!entry.coded && (entry.mode == ChunkMode::kEmpty ||
                                                           entry.mode == ChunkMode::kRaw))))
    return error(Code::kCorrupt, "chunk mode {}{} among factors on a grid",
                 static_cast<int>(entry.mode), entry.coded ? " (coded)" : "");
  if (entry.mode == ChunkMode::kEmpty) return DecodedChunk{{}, {}, true};
  float* const x = scratch.chunk.data();
  if (entry.mode == ChunkMode::kRaw) {
    if (body.size() != n * sizeof(float))
      return error(Code::kCorrupt, "{} bytes for {} raw elements", body.size(), n);
    std::memcpy(x, body.data(), body.size());
    return DecodedChunk{{x, n}, {}, false};
  }
  if (body.size() < kScaleBytes || body.size() >= n * sizeof(float))
    return error(Code::kCorrupt, "{} coded bytes for {} factors", body.size(), n);
  TERN_TRY(const float step, read_scale(body.data()));
  if (step == 0) return error(Code::kCorrupt, "a grid of steps of 0");
  body = body.subspan(kScaleBytes);
  uint32_t largest = 0;
  TERN_TRY(RangeDecoder decoder, RangeDecoder::begin(body));
  Contexts contexts(at, ends, scratch.symbols.data());
  for (size_t i = 0; i < n && !decoder.too_short(); ++i) {
    const uint32_t magnitude = get_magnitude(contexts.next(), decoder);
    if (magnitude > kLargestFactor)
      return error(Code::kCorrupt, "a factor of more than {} steps", kLargestFactor);
    const bool negative = magnitude > 0 && decoder.get_even(1) != 0;
    x[i] = (negative ? -step : step) * static_cast<float>(magnitude);
    largest = std::max(largest, magnitude);
    contexts.was(magnitude);
  }
  if (!decoder.at_end() || decoder.used() != body.size())
    return error(Code::kCorrupt, "{} bytes for {} factors don't end as a writer ends", body.size(),
                 n);
  if (largest == 0) return error(Code::kCorrupt, "{} coded factors that are all zero", n);
  return DecodedChunk{{x, n}, {}, false};
}

}  // namespace tern
