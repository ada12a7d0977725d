#include "client/client_state_bytes.h"

#include <utility>

#include "base/append_bytes.h"

namespace tern {

namespace {

/// Of an update's frame: more than twice what any chain makes of a model.
size_t most_frame_bytes(size_t elements) { return 16 * elements + 4096; }

void append_update(std::vector<std::byte>& to, const StoredUpdate& update) {
  append(to, update.message.task);
  append(to, update.message.client);
  append(to, update.message.report.examples);
  append(to, update.message.report.samples_trained);
  append(to, update.message.report.steps);
  append(to, update.message.report.mean_loss);
  append(to, update.round);
  append_array<std::byte>(to, *update.frame);
  append_memory(to, update.next);
}

bool take_update(ByteReader& reader, size_t elements, StoredUpdate& update) {
  update.message.task = reader.take<TaskId>();
  update.message.client = reader.take<uint32_t>();
  update.message.report.examples = reader.take<uint32_t>();
  update.message.report.samples_trained = reader.take<uint64_t>();
  update.message.report.steps = reader.take<uint32_t>();
  update.message.report.mean_loss = reader.take<double>();
  update.round = reader.take<uint32_t>();
  Bytes frame;
  if (!take_array(reader, most_frame_bytes(elements), frame) || frame.empty()) return false;
  update.frame = std::make_shared<const Bytes>(std::move(frame));
  return take_memory(reader, elements, update.next);
}

}  // namespace

void append_memory(std::vector<std::byte>& to, const SenderMemory& memory) {
  append_array<float>(to, memory.residual);
  append_array<uint16_t>(to, memory.residual16);
  append_array<float>(to, memory.momentum);
  append_array<float>(to, memory.factors);
}

bool take_memory(ByteReader& reader, size_t elements, SenderMemory& memory) {
  const auto fits = [&](size_t size) { return size == 0 || size == elements; };
  return take_array(reader, elements, memory.residual) &&
         take_array(reader, elements, memory.residual16) &&
         take_array(reader, elements, memory.momentum) &&
         take_array(reader, elements, memory.factors) && fits(memory.residual.size()) &&
         fits(memory.residual16.size()) && fits(memory.momentum.size()) &&
         (memory.residual.empty() || memory.residual16.empty());
}

size_t most_client_state_bytes(size_t elements) {
  // Two memories of three arrays, the frame, and the rest.
  return 6 * elements * sizeof(float) + most_frame_bytes(elements) + 2048;
}

void append_client_state(std::vector<std::byte>& to, const ClientState& state) {
  append(to, state.run_id);
  append(to, state.held_version);
  append(to, state.last_task_round);
  append(to, state.residual_round);
  append_memory(to, state.memory);
  append(to, static_cast<uint8_t>(state.pending.has_value()));
  if (state.pending) append_update(to, *state.pending);
}

bool take_client_state(ByteReader& reader, size_t elements, ClientState& state) {
  state.run_id = reader.take<uint64_t>();
  state.held_version = reader.take<uint32_t>();
  state.last_task_round = reader.take<uint32_t>();
  state.residual_round = reader.take<uint32_t>();
  if (!take_memory(reader, elements, state.memory)) return false;
  const auto pending = reader.take<uint8_t>();
  if (pending > 1) return false;
  return (pending == 0 || take_update(reader, elements, state.pending.emplace())) && reader.ok();
}

}  // namespace tern
