/// Little-endian reading and writing of plain numbers in byte buffers, unaligned-safe. Tern runs on
/// little-endian machines.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace tern {

static_assert(std::endian::native == std::endian::little,
              "frames and files are little-endian and are copied as they are");

template <typename T>
T load(const std::byte* from) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename T>
void store(std::byte* to, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(to, &value, sizeof value);
}

/// The low `bytes` bytes of value, little-endian; 0 < bytes <= 8.
inline void store_low(std::byte* to, uint64_t value, size_t bytes) {
  std::memcpy(to, &value, bytes);
}
inline uint64_t load_low(const std::byte* from, size_t bytes) {
  uint64_t value = 0;
  std::memcpy(&value, from, bytes);
  return value;
}

/// Takes numbers off the front of hostile bytes. After the first read past the end, ok() is false
/// and every value is 0.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  T take() {
    if (bytes_.size() < sizeof(T)) {
      ok_ = false;
      bytes_ = {};
      return T{};
    }
    const T value = load<T>(bytes_.data());
    bytes_ = bytes_.subspan(sizeof(T));
    return value;
  }
  uint64_t take_low(size_t count) {
    if (bytes_.size() < count) {
      ok_ = false;
      bytes_ = {};
      return 0;
    }
    const uint64_t value = load_low(bytes_.data(), count);
    bytes_ = bytes_.subspan(count);
    return value;
  }
  std::span<const std::byte> take_bytes(size_t count) {
    if (bytes_.size() < count) {
      ok_ = false;
      bytes_ = {};
      return {};
    }
    const auto taken = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return taken;
  }
  bool ok() const { return ok_; }
  size_t left() const { return bytes_.size(); }

 private:
  std::span<const std::byte> bytes_;
  bool ok_ = true;
};

}  // namespace tern
