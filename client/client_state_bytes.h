/// What a client remembers, as bytes in a file of its own machine: FileClientStore keeps one
/// client's, a simulation those of its fleet. Whoever writes them adds a checksum and a version.
#pragma once

#include <cstddef>
#include <vector>

#include "base/bytes.h"
#include "client/client_store.h"

namespace tern {

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
