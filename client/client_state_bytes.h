/// What a client remembers, as bytes in a file of its own machine: FileClientStore keeps one
/// client's, a simulation those of its fleet. Whoever writes them adds a checksum and a version.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "client/client_store.h"

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

/// False when the bytes end before the values do, or there are more than `most`.
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

/// The arrays of a sender's memory. False unless they are as long as the model (`elements`) or
/// empty; factors are shorter.
void append_memory(std::vector<std::byte>& to, const SenderMemory& memory);
bool take_memory(ByteReader& reader, size_t elements, SenderMemory& memory);

/// The most that a client's state of a model with so many parameters takes.
size_t most_client_state_bytes(size_t elements);

void append_client_state(std::vector<std::byte>& to, const ClientState& state);
/// False when the bytes are not a state of such a model; `state` is anything then.
bool take_client_state(ByteReader& reader, size_t elements, ClientState& state);

}  // namespace tern
