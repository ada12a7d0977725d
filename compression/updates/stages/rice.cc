/// Positions as Golomb-Rice coded gaps, in two planes: the low b bits of all gaps, packed; then the
/// quotients in unary, each as so many zeros and a one. Same size as the usual interleaved code,
/// and both planes are read by whole words. b is chosen for each chunk by exact cost.
///
/// - Bits: k(b+1) + sum(gap >> b), within 1.5 % of the entropy of random positions; with b = 0 it
///   is a bitmap cut after the last position, so never more than n bits.
/// - Paper: Rice & Plaunt 1971; Golomb 1966. Sattler et al. 2019, arXiv:1903.02891, for gradients,
///   with one parameter for all.
#include <algorithm>
#include <bit>

#include "compression/updates/kernels/kernels.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

constexpr int kLargestParameter = 15;

size_t plane_bytes(size_t bits) { return (bits + 7) / 8; }

class Rice : public IndexCode {
 public:
  size_t max_bytes(size_t, size_t n) const override { return plane_bytes(n); }

  size_t encode(const uint16_t* index, size_t k, size_t, uint16_t* symbols, uint8_t& parameter,
                std::byte* out) const override {
    uint16_t* gaps = symbols;
    gaps[0] = index[0];
    for (size_t i = 1; i < k; ++i) gaps[i] = static_cast<uint16_t>(index[i] - index[i - 1] - 1);
    const int b = best_parameter(gaps, k, index[k - 1]);
    parameter = static_cast<uint8_t>(b);
    const size_t quotients = quotient_sum(gaps, k, b);
    const size_t low_bytes = plane_bytes(k * static_cast<size_t>(b)),
                 high_bytes = plane_bytes(k + quotients);
    auto* high = reinterpret_cast<uint8_t*>(out + low_bytes);
    std::fill_n(high, high_bytes, uint8_t{0});
    size_t bit = 0;
    for (size_t i = 0; i < k; ++i) {
      bit += static_cast<size_t>(gaps[i] >> b);
      high[bit / 8] = static_cast<uint8_t>(high[bit / 8] | 1u << (bit % 8));
      ++bit;
    }
    if (b > 0) {
      const auto mask = static_cast<uint16_t>((1u << b) - 1);
      for (size_t i = 0; i < k; ++i) gaps[i] &= mask;
      kernels().pack(gaps, k, b, reinterpret_cast<uint8_t*>(out));
    }
    return low_bytes + high_bytes;
  }

  Status decode(std::span<const std::byte> in, size_t k, size_t n, uint8_t parameter,
                uint16_t* symbols, uint16_t* index) const override {
    const int b = parameter;
    if (b > kLargestParameter) return error(Code::kCorrupt, "Rice parameter {}", b);
    const size_t low_bytes = plane_bytes(k * static_cast<size_t>(b));
    if (in.size() < low_bytes)
      return error(Code::kCorrupt, "{} bytes are too few for {} gaps", in.size(), k);
    if (b > 0)
      kernels().unpack(reinterpret_cast<const uint8_t*>(in.data()), k, b, symbols);
    else
      std::fill_n(symbols, k, uint16_t{0});
    const auto high = in.subspan(low_bytes);
    size_t count = 0,
           next = 0;   // gaps read, and the smallest position that the next index may have
    size_t after = 0;  // the first bit after the last one
    for (size_t at = 0; at < high.size(); at += 8) {
      uint64_t word = load_low(high.data() + at, std::min<size_t>(8, high.size() - at));
      for (; word != 0; word &= word - 1) {
        const size_t bit = at * 8 + static_cast<size_t>(std::countr_zero(word));
        if (count == k) return error(Code::kCorrupt, "more than {} indices", k);
        const size_t position = next + ((bit - after) << b) + symbols[count];
        if (position >= n) return error(Code::kCorrupt, "index {} in a chunk of {}", position, n);
        index[count++] = static_cast<uint16_t>(position);
        next = position + 1;
        after = bit + 1;
      }
    }
    if (count != k || plane_bytes(after) != high.size())
      return error(Code::kCorrupt, "{} of {} indices in {} bytes", count, k, in.size());
    return {};
  }

 private:
  static size_t quotient_sum(const uint16_t* gaps, size_t k, int b) {
    uint32_t sum = 0;  // at most 65,536: the gaps of one chunk
    for (size_t i = 0; i < k; ++i) sum += static_cast<uint32_t>(gaps[i] >> b);
    return sum;
  }

  static int best_parameter(const uint16_t* gaps, size_t k, size_t last) {
    // The best b lies near log2 of the mean gap; b = 0 bounds the size.
    const size_t mean = std::max<size_t>(1, last / k);
    const int middle = static_cast<int>(std::bit_width(mean)) - 1;
    int best = 0;
    size_t least = plane_bytes(last + 1);
    for (int b = std::max(1, middle - 1); b <= std::min(kLargestParameter, middle + 1); ++b) {
      const size_t cost =
          plane_bytes(k * static_cast<size_t>(b)) + plane_bytes(k + quotient_sum(gaps, k, b));
      if (cost < least) {
        least = cost;
        best = b;
      }
    }
    return best;
  }
};

class PlainIndices : public IndexCode {
 public:
  size_t max_bytes(size_t k, size_t) const override { return 2 * k; }

  size_t encode(const uint16_t* index, size_t k, size_t, uint16_t*, uint8_t& parameter,
                std::byte* out) const override {
    parameter = 0;
    std::memcpy(out, index, 2 * k);
    return 2 * k;
  }

  Status decode(std::span<const std::byte> in, size_t k, size_t n, uint8_t parameter, uint16_t*,
                uint16_t* index) const override {
    if (in.size() != 2 * k || parameter != 0)
      return error(Code::kCorrupt, "{} bytes for {} indices", in.size(), k);
    std::memcpy(index, in.data(), 2 * k);
    for (size_t i = 0; i < k; ++i)
      if (index[i] >= n || (i > 0 && index[i] <= index[i - 1]))
        return error(Code::kCorrupt, "indices don't rise below {}", n);
    return {};
  }
};

}  // namespace

std::shared_ptr<const IndexCode> make_rice() { return std::make_shared<Rice>(); }
std::shared_ptr<const IndexCode> make_plain_indices() { return std::make_shared<PlainIndices>(); }

}  // namespace tern
