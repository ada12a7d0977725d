/// CRC-32C (Castagnoli) as in iSCSI and ext4. It finds accidents; authenticity is the transport's
/// business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tern {

/// Continues a checksum: crc32c_more(crc32c(a), b) = crc32c(a followed by b). `bytes` shorter than
/// 2 GiB.
uint32_t crc32c_more(uint32_t before, std::span<const std::byte> bytes);

/// crc32c("123456789") = 0xE3069283.
inline uint32_t crc32c(std::span<const std::byte> bytes) { return crc32c_more(0, bytes); }

}  // namespace tern
