/// Bytes as the hexadecimal digits that published test vectors have.
#pragma once

#include <string_view>

#include "base/bytes.h"

namespace tern {

/// Digits in lower case, two a byte.
inline Bytes from_hex(std::string_view hex) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  Bytes bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(digit(hex[i]) * 16 + digit(hex[i + 1])));
  return bytes;
}

}  // namespace tern
