#include "compression/updates/stages/rice.h"

#include <algorithm>
#include <bit>

#include "compression/updates/bit_reader.h"
#include "compression/updates/kernels/kernels.h"

namespace tern {

namespace {

size_t quotient_sum(const uint16_t* gaps, size_t k, int b) {
  uint32_t sum = 0;  // at most 65,536: the gaps of one chunk
  for (size_t i = 0; i < k; ++i) sum += static_cast<uint32_t>(gaps[i] >> b);
  return sum;
}

}  // namespace

RicePlan plan_rice(const uint16_t* index, size_t k, uint16_t* gaps) {
  gaps[0] = index[0];
  for (size_t i = 1; i < k; ++i) gaps[i] = static_cast<uint16_t>(index[i] - index[i - 1] - 1);
  // The best b lies near log2 of the mean gap.
  const size_t mean = std::max<size_t>(1, index[k - 1] / k);
  const int middle = static_cast<int>(std::bit_width(mean)) - 1;
  RicePlan best;
  for (int b = std::max(1, middle - 1); b <= std::clamp(middle + 1, 1, kLargestRice); ++b) {
    const size_t bytes = bytes_of_bits(k * (static_cast<size_t>(b) + 1) + quotient_sum(gaps, k, b));
    if (best.bytes == 0 || bytes < best.bytes)
      best = {.parameter = static_cast<uint8_t>(b), .bytes = bytes};
  }
  return best;
}

void encode_rice(uint16_t* gaps, size_t k, const RicePlan& plan, std::byte* out) {
  const int b = plan.parameter;
  auto* bytes = reinterpret_cast<uint8_t*>(out);
  size_t bit = k * static_cast<size_t>(b);
  std::fill(bytes + bit / 8, bytes + plan.bytes, uint8_t{0});
  for (size_t i = 0; i < k; ++i) {
    bit += static_cast<size_t>(gaps[i] >> b);
    bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] | 1u << (bit % 8));
    ++bit;
  }
  // The low bits end in a byte that the quotients may have begun to fill.
  const auto shared = bytes[k * static_cast<size_t>(b) / 8];
  const auto mask = static_cast<uint16_t>((1u << b) - 1);
  for (size_t i = 0; i < k; ++i) gaps[i] &= mask;
  kernels().pack(gaps, k, b, bytes);
  if (k * static_cast<size_t>(b) % 8 != 0) bytes[k * static_cast<size_t>(b) / 8] |= shared;
}

Status decode_rice(std::span<const std::byte> in, size_t k, size_t n, int b, uint16_t* gaps,
                   uint16_t* index, size_t& used) {
  if (b < 1 || b > kLargestRice) return error(Code::kCorrupt, "Rice parameter {}", b);
  const size_t low_bits = k * static_cast<size_t>(b);
  if (in.size() < bytes_of_bits(low_bits + k))
    return error(Code::kCorrupt, "{} bytes are too few for {} gaps", in.size(), k);
  kernels().unpack(reinterpret_cast<const uint8_t*>(in.data()), k, b, gaps);
  size_t count = 0, next = 0;  // gaps read, and the smallest position that the next may have
  size_t after = low_bits;     // the first bit after the last quotient
  const size_t end = in.size() * 8;
  for (size_t at = low_bits; at < end && count < k; at += 56) {
    uint64_t word = bits_at(in, at) & ((uint64_t{1} << 56) - 1);
    for (; word != 0 && count < k; word &= word - 1) {
      const size_t bit = at + static_cast<size_t>(std::countr_zero(word));
      const size_t position = next + ((bit - after) << b) + gaps[count];
      if (position >= n) return error(Code::kCorrupt, "index {} in a chunk of {}", position, n);
      index[count++] = static_cast<uint16_t>(position);
      next = position + 1;
      after = bit + 1;
    }
  }
  if (count != k) return error(Code::kCorrupt, "{} of {} indices in {} bytes", count, k, in.size());
  if (!padding_is_zero(in.data(), after))
    return error(Code::kCorrupt, "the padding after the indices isn't zero");
  used = bytes_of_bits(after);
  return {};
}

}  // namespace tern
