/// Writing plain values and arrays behind one another, and taking arrays off again, for files and
/// messages that this program alone reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/bytes.h"

namespace tern {

/// A plain value as it lies in memory; an array behind its length.
template <typename T>
void append(std::vector<std::byte>& to, const T& value) {
  const size_t end = to.size();
  to.resize(end + sizeof value);
  store(to.data() + end, value);
}

template <typename T>
void append_array(std::vector<std::byte>& to, std::span<const T> values) {
  append(to, static_cast<uint64_t>(values.size()));
  if (values.empty()) return;
  const size_t end = to.size();
  to.resize(end + values.size_bytes());
  std::memcpy(to.data() + end, values.data(), values.size_bytes());
}

/// Takes such an array. False when the bytes end before the values do, or there are more than
/// `most`.
template <typename T>
bool take_array(ByteReader& reader, size_t most, std::vector<T>& values) {
  const auto count = reader.take<uint64_t>();
  if (count > most) return false;
  const auto bytes = reader.take_bytes(count * sizeof(T));
  if (!reader.ok()) return false;
  values.resize(count);
  if (count > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
  return true;
}

}  // namespace tern
