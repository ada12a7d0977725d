/// CRC-32C (Castagnoli) as in iSCSI and ext4. It finds accidents; authenticity is the transport's
/// business.
#pragma once

#include <isa-l/crc.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace tern {

/// Continues a checksum: crc32c_more(crc32c(a), b) = crc32c(a followed by b). `bytes` shorter than
/// 2 GiB.
inline uint32_t crc32c_more(uint32_t before, std::span<const std::byte> bytes) {
  // ISA-L takes a mutable pointer for historical reasons and doesn't write through it; it leaves
  // both inversions to us.
  auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
  return ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~before);
}

/// crc32c("123456789") = 0xE3069283.
inline uint32_t crc32c(std::span<const std::byte> bytes) { return crc32c_more(0, bytes); }

}  // namespace tern
