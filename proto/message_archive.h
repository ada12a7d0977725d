/// The cereal archives of control messages. Stock cereal archives trust the counts that they read:
/// nine bytes make them allocate gigabytes. These don't:
///
/// - containers are only byte strings, text and short lists of plain numbers; their length is held
///   against the bytes that are left before anything is allocated, so one message allocates at most
///   4 times its bytes + 4 KiB;
/// - booleans are 0 or 1, enums one of their values, floating-point numbers finite;
/// - no pointers, no polymorphism, and none of cereal's own container headers.
///
/// Layout: fields in order, little-endian, lengths as uint32; nothing between them. Included only
/// by proto/messages.cc and tests. Threads: one at a time.
#pragma once

#include <algorithm>
#include <array>
#include <cereal/cereal.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"

namespace tern {

/// Longest text or byte string in a message.
inline constexpr size_t kMaxFieldBytes = 8 * 1024;

/// The largest value of an enum that travels; each such enum has a specialization.
template <typename Enum>
struct LastOf;

template <typename T>
concept TravellingNumber = std::is_arithmetic_v<T>;
/// Element of a list: as long in memory as on the wire, so that a list costs what it weighs.
template <typename T>
concept ListElement = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;

class MessageWriter : public cereal::OutputArchive<MessageWriter, cereal::AllowEmptyClassElision> {
 public:
  MessageWriter() : OutputArchive(this) {}

  void put(const void* data, size_t bytes) {
    if (bytes == 0) return;
    const size_t at = bytes_.size();
    bytes_.resize(at + bytes);
    std::memcpy(bytes_.data() + at, data, bytes);
  }
  std::vector<std::byte> take() && { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

class MessageReader : public cereal::InputArchive<MessageReader, cereal::AllowEmptyClassElision> {
 public:
  explicit MessageReader(std::span<const std::byte> bytes) : InputArchive(this), bytes_(bytes) {}

  /// After the first field that can't be right every further one reads as zero or empty.
  bool ok() const { return bytes_.ok() && !refused_; }
  size_t left() const { return bytes_.left(); }
  void refuse() { refused_ = true; }

  template <typename T>
  T number() {
    return ok() ? bytes_.take<T>() : T{};
  }
  std::span<const std::byte> raw(size_t count) {
    return ok() ? bytes_.take_bytes(count) : std::span<const std::byte>();
  }
  /// The length of a container whose elements take `element_bytes` each.
  size_t length(size_t element_bytes) {
    const size_t count = number<uint32_t>();
    if (count * element_bytes > kMaxFieldBytes || count * element_bytes > left()) refuse();
    return ok() ? count : 0;
  }

 private:
  ByteReader bytes_;
  bool refused_ = false;
};

template <TravellingNumber T>
void CEREAL_SAVE_FUNCTION_NAME(MessageWriter& archive, const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    const auto byte = static_cast<uint8_t>(value);
    archive.put(&byte, 1);
  } else {
    archive.put(&value, sizeof value);
  }
}
template <TravellingNumber T>
void CEREAL_LOAD_FUNCTION_NAME(MessageReader& archive, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    const auto byte = archive.number<uint8_t>();
    if (byte > 1) archive.refuse();
    value = byte == 1;
  } else {
    value = archive.number<T>();
    if constexpr (std::is_floating_point_v<T>)
      if (!std::isfinite(value)) {
        archive.refuse();
        value = 0;
      }
  }
}

/// An enum within a message: archive(one_of(plan.kind)). cereal's own handling of enums takes any
/// number.
template <typename T>
struct OneOf {
  T& value;
};
template <typename T>
OneOf<T> one_of(T& value) {
  return {value};
}
template <typename T>
void CEREAL_SAVE_FUNCTION_NAME(MessageWriter& archive, const OneOf<T>& field) {
  archive.put(&field.value, sizeof field.value);
}
template <typename T>
void CEREAL_LOAD_FUNCTION_NAME(MessageReader& archive, OneOf<T>& field) {
  using Number = std::underlying_type_t<T>;
  static_assert(std::is_unsigned_v<Number>);
  const auto number = archive.number<Number>();
  if (number > static_cast<Number>(LastOf<T>::kValue)) archive.refuse();
  field.value = archive.ok() ? static_cast<T>(number) : T{};
}

/// Cut, so that a reader takes it.
inline void CEREAL_SAVE_FUNCTION_NAME(MessageWriter& archive, const std::string& text) {
  const size_t length = std::min(text.size(), kMaxFieldBytes);
  archive(static_cast<uint32_t>(length));
  archive.put(text.data(), length);
}
inline void CEREAL_LOAD_FUNCTION_NAME(MessageReader& archive, std::string& text) {
  const auto bytes = archive.raw(archive.length(1));
  text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

inline void CEREAL_SAVE_FUNCTION_NAME(MessageWriter& archive, const std::vector<std::byte>& data) {
  archive(static_cast<uint32_t>(data.size()));
  archive.put(data.data(), data.size());
}
inline void CEREAL_LOAD_FUNCTION_NAME(MessageReader& archive, std::vector<std::byte>& data) {
  const auto bytes = archive.raw(archive.length(1));
  data.assign(bytes.begin(), bytes.end());
}

template <ListElement T>
void CEREAL_SAVE_FUNCTION_NAME(MessageWriter& archive, const std::vector<T>& list) {
  archive(static_cast<uint32_t>(list.size()));
  for (const T& value : list) archive(value);
}
template <ListElement T>
void CEREAL_LOAD_FUNCTION_NAME(MessageReader& archive, std::vector<T>& list) {
  const size_t count = archive.length(sizeof(T));
  list.clear();
  list.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    T value{};
    archive(value);
    list.push_back(value);
  }
}

template <size_t N>
void CEREAL_SAVE_FUNCTION_NAME(MessageWriter& archive, const std::array<std::byte, N>& data) {
  archive.put(data.data(), N);
}
template <size_t N>
void CEREAL_LOAD_FUNCTION_NAME(MessageReader& archive, std::array<std::byte, N>& data) {
  data = {};
  const auto bytes = archive.raw(N);
  if (bytes.size() == N) std::copy(bytes.begin(), bytes.end(), data.begin());
}

}  // namespace tern
