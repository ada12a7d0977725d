#include "simulations/client_states.h"

#include <optional>
#include <utility>

#include "client/client_state_bytes.h"

namespace tern {

namespace {

uint64_t bytes_of(const SenderMemory& memory) {
  return 4 * memory.residual.size() + 2 * memory.residual16.size() + 4 * memory.momentum.size() +
         4 * memory.factors.size();
}

/// Of an entry for a client that remembers nothing of the model, about.
constexpr uint64_t kEntryBytes = 512;

uint64_t bytes_of(const ClientState& state) {
  return kEntryBytes + bytes_of(state.memory) +
         (state.pending ? bytes_of(state.pending->next) + state.pending->frame->size() : 0);
}

}  // namespace

ClientStates::Entry& ClientStates::newest(uint32_t client) {
  const auto [found, is_new] = entries_.try_emplace(client);
  Entry& entry = found->second;
  if (is_new)
    entry.place = order_.insert(order_.begin(), client);
  else
    order_.splice(order_.begin(), order_, entry.place);
  return entry;
}

Result<ClientState> ClientStates::load(uint32_t client) {
  if (!entries_.contains(client)) {
    TERN_TRY(const std::vector<std::byte> bytes, file_.client(client));
    if (bytes.empty()) return ClientState{};
    ByteReader reader(bytes);
    ClientState state;
    if (!take_client_state(reader, elements_, state) || reader.left() > 0)
      return error(Code::kCorrupt, "what client {} remembers is of another model", client);
    Entry& entry = newest(client);
    entry.state = state;
    entry.bytes = bytes_of(state);
    entry.in_file = true;
    bytes_ += entry.bytes;
    TERN_CHECK_OK(make_room());
    return state;
  }
  Entry& entry = newest(client);
  // For a task a copy, so that a save in the middle of it has the state before. With an update on
  // its way the task is over, and what is saved next is what comes of it.
  if (!entry.state.pending) return entry.state;
  bytes_ -= std::exchange(entry.bytes, 0);
  entry.taken = true;
  ClientState state = std::move(entry.state);
  entry.state.pending.reset();  // a moved-from one would have no frame
  return state;
}

Status ClientStates::save(uint32_t client, ClientState state) {
  Entry& entry = newest(client);
  bytes_ -= entry.bytes;
  entry.state = std::move(state);
  entry.bytes = bytes_of(entry.state);
  bytes_ += entry.bytes;
  entry.taken = entry.in_file = false;
  return make_room();
}

Status ClientStates::make_room() {
  for (auto it = order_.end(); bytes_ > memory_bytes_ && it != order_.begin();) {
    --it;
    const auto found = entries_.find(*it);
    Entry& entry = found->second;
    if (entry.taken || entry.state.pending) continue;
    if (!entry.in_file) TERN_CHECK_OK(put(found->first, entry));
    bytes_ -= entry.bytes;
    entries_.erase(found);
    it = order_.erase(it);
  }
  return {};
}

Status ClientStates::put(uint32_t client, Entry& entry) {
  std::optional<StoredUpdate> pending = std::exchange(entry.state.pending, std::nullopt);
  std::vector<std::byte> bytes;
  bytes.reserve(bytes_of(entry.state) + 256);
  append_client_state(bytes, entry.state);
  entry.in_file = !pending;
  entry.state.pending = std::move(pending);
  return file_.put_client(client, bytes);
}

Status ClientStates::put_all() {
  for (auto& [client, entry] : entries_)
    if (!entry.taken && !entry.in_file) TERN_CHECK_OK(put(client, entry));
  return {};
}

}  // namespace tern
