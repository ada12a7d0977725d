#include "compression/updates/crc32c.h"

#include <isa-l/crc.h>

namespace tern {

// Not inline: ISA-L takes the length as an int, but its code for 64-bit ARM reads the whole
// register, whose upper half a caller may leave as it is (AAPCS64). Behind this call it comes from
// a size_t, so that it is zero.
uint32_t crc32c_more(uint32_t before, std::span<const std::byte> bytes) {
  // ISA-L takes a mutable pointer for historical reasons and doesn't write through it; it leaves
  // both inversions to us.
  auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
  return ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~before);
}

}  // namespace tern
