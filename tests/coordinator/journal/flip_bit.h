/// One bit of a file becomes the other one, as a failing disk leaves it.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>

namespace tern {

inline void flip_bit(const std::string& path, uint32_t bit) {
  std::fstream stream(path, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(bit / 8);
  const char changed = static_cast<char>(stream.get() ^ (1 << bit % 8));
  stream.seekp(bit / 8);
  stream.put(changed);
}

}  // namespace tern
