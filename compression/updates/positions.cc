#include "compression/updates/positions.h"

#include <bit>
#include <numeric>

#include "base/bytes.h"
#include "compression/updates/bit_reader.h"
#include "compression/updates/stages/cabac.h"

namespace tern {

namespace {

constexpr size_t kCountBytes = 2;  // k - 1

void write_bitmap(const uint16_t* index, size_t k, size_t n, std::byte* out) {
  std::memset(out, 0, bytes_of_bits(n));
  for (size_t i = 0; i < k; ++i) out[index[i] / 8] |= std::byte{1} << (index[i] % 8);
}

Status read_bitmap(std::span<const std::byte> in, size_t k, size_t n, uint16_t* index) {
  if (!padding_is_zero(in.data(), n))
    return error(Code::kCorrupt, "the padding after the bitmap isn't zero");
  size_t count = 0;
  for (size_t at = 0; at < in.size(); at += 8)
    for (uint64_t word = load_low(in.data() + at, std::min<size_t>(8, in.size() - at)); word != 0;
         word &= word - 1) {
      if (count == k) return error(Code::kCorrupt, "a bitmap of more than {} values", k);
      index[count++] = static_cast<uint16_t>(at * 8 + static_cast<size_t>(std::countr_zero(word)));
    }
  if (count != k) return error(Code::kCorrupt, "a bitmap of {} values, not {}", count, k);
  return {};
}

}  // namespace

PositionsPlan plan_positions(const uint16_t* index, size_t k, size_t n, IndexCode code,
                             uint16_t* gaps) {
  if (k == n) return {};
  PositionsPlan plan{.mode = ChunkMode::kBitmap, .rice = {}, .bytes = bytes_of_bits(n)};
  if (code == IndexCode::kRice) {
    plan.rice = plan_rice(index, k, gaps);
    if (plan.rice.bytes < plan.bytes) {
      plan.mode = ChunkMode::kRice;
      plan.bytes = plan.rice.bytes;
    }
  } else if (code == IndexCode::kCabac) {
    const size_t bytes =
        encode_cabac(index, k, n, reinterpret_cast<std::byte*>(gaps), plan.bytes - 1);
    if (bytes > 0) {
      plan.mode = ChunkMode::kCabac;
      plan.bytes = bytes;
    }
  } else if (2 * k < plan.bytes) {
    plan.mode = ChunkMode::kPlain;
    plan.bytes = 2 * k;
  }
  plan.bytes += kCountBytes;
  return plan;
}

void write_positions(const PositionsPlan& plan, const uint16_t* index, size_t k, size_t n,
                     uint16_t* gaps, std::byte* out) {
  if (plan.mode == ChunkMode::kDense) return;
  store(out, static_cast<uint16_t>(k - 1));
  out += kCountBytes;
  if (plan.mode == ChunkMode::kRice) encode_rice(gaps, k, plan.rice, out);
  if (plan.mode == ChunkMode::kCabac) std::memcpy(out, gaps, plan.bytes - kCountBytes);
  if (plan.mode == ChunkMode::kPlain) std::memcpy(out, index, 2 * k);
  if (plan.mode == ChunkMode::kBitmap) write_bitmap(index, k, n, out);
}

size_t most_position_bytes(size_t n) { return kCountBytes + bytes_of_bits(n); }

Result<ReadPositions> read_positions(ChunkMode mode, std::span<const std::byte> body,
                                     uint8_t parameter, size_t n, uint16_t* gaps, uint16_t* index) {
  if (mode == ChunkMode::kDense) {
    std::iota(index, index + n, uint16_t{0});
    return ReadPositions{.count = n, .used = 0};
  }
  if (body.size() < kCountBytes)
    return error(Code::kCorrupt, "a chunk of {} bytes has no count", body.size());
  const size_t k = size_t{load<uint16_t>(body.data())} + 1;
  if (k > n) return error(Code::kCorrupt, "a chunk of {} elements claims {} values", n, k);
  body = body.subspan(kCountBytes);
  size_t used = 0;
  if (mode == ChunkMode::kRice) {
    TERN_CHECK_OK(decode_rice(body, k, n, parameter, gaps, index, used));
  } else if (mode == ChunkMode::kCabac) {
    TERN_CHECK_OK(decode_cabac(body, k, n, index, used));
  } else {
    used = mode == ChunkMode::kPlain ? 2 * k : bytes_of_bits(n);
    if (body.size() < used)
      return error(Code::kCorrupt, "{} bytes are too few for {} positions below {}", body.size(), k,
                   n);
    if (mode == ChunkMode::kBitmap) {
      TERN_CHECK_OK(read_bitmap(body.first(used), k, n, index));
    } else {
      std::memcpy(index, body.data(), used);
      for (size_t i = 0; i < k; ++i)
        if (index[i] >= n || (i > 0 && index[i] <= index[i - 1]))
          return error(Code::kCorrupt, "indices don't rise below {}", n);
    }
  }
  return ReadPositions{.count = k, .used = kCountBytes + used};
}

}  // namespace tern
