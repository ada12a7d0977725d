#include "compression/updates/error_feedback.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "compression/updates/chain.h"
#include "compression/updates/frame.h"
#include "compression/updates/kernels/kernels.h"

namespace tern {

namespace {

float from_bfloat16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

std::vector<uint16_t> to_bfloat16(std::span<const float> values) {
  std::vector<uint16_t> halves(values.size());
  kernels().to_bfloat16(values.data(), values.size(), reinterpret_cast<uint8_t*>(halves.data()));
  return halves;
}

/// Whether momentum is masked: not where every value is sent.
bool drops_values(const Codec& codec) {
  for (const Stage& stage : codec.stages())
    if (stage.info->family == Family::kSelect)
      return stage.info->argument != Argument::kRate || stage.argument != kRateOne ||
             stage.info->name == "randk-by-norm";  // counts are rounded down
  return false;
}

/// target[i] = 0 where a value was sent.
class MaskSink : public ValueSink {
 public:
  explicit MaskSink(std::span<float> target) : target_(target) {}
  void dense(size_t offset, std::span<const float> values) override {
    std::fill_n(target_.begin() + static_cast<ptrdiff_t>(offset), values.size(), 0.0f);
  }
  void sparse(size_t offset, std::span<const uint16_t> index, std::span<const float>) override {
    for (const uint16_t i : index) target_[offset + i] = 0;
  }

 private:
  std::span<float> target_;
};

/// momentum = m * momentum + update
std::vector<float> advance(const std::vector<float>& momentum, float m,
                           std::span<const float> update) {
  std::vector<float> next(update.begin(), update.end());
  for (size_t i = 0; i < momentum.size(); ++i) next[i] += m * momentum[i];
  return next;
}

}  // namespace

void SenderMemory::add_residual(std::span<float> out, float sign) const {
  for (size_t i = 0; i < residual.size(); ++i) out[i] += sign * residual[i];
  for (size_t i = 0; i < residual16.size(); ++i) out[i] += sign * from_bfloat16(residual16[i]);
}

void SenderMemory::age(Feedback feedback, uint32_t rounds_without_task, uint32_t stale_after) {
  if (feedback == Feedback::kEf21 || stale_after == 0 || rounds_without_task <= stale_after) return;
  const uint32_t halvings = (rounds_without_task - stale_after) / stale_after;
  const float factor = std::ldexp(1.0f, -static_cast<int>(std::min<uint32_t>(halvings, 200)));
  for (float& value : residual) value *= factor;
  for (float& value : momentum) value *= factor;
  if (residual16.empty()) return;
  std::vector<float> values(residual16.size());
  for (size_t i = 0; i < values.size(); ++i) values[i] = from_bfloat16(residual16[i]) * factor;
  residual16 = to_bfloat16(values);
}

Result<PendingUpdate> encode_update(const Codec& codec, const FrameMeta& meta,
                                    const ParameterSchema& schema, std::span<const float> update,
                                    const SenderMemory& memory, CodecScratch& scratch,
                                    ResidualStore store, PendingUpdate reuse) {
  const Feedback feedback = codec.feedback();
  const bool remembers = feedback != Feedback::kNone;
  if (remembers && memory.size() != 0 && memory.size() != update.size())
    return error(Code::kInvalidArgument, "a residual of {} elements for an update of {}",
                 memory.size(), update.size());
  if (feedback == Feedback::kDgc && memory.momentum.size() != memory.size())
    return error(Code::kInvalidArgument, "a momentum of {} elements beside a residual of {}",
                 memory.momentum.size(), memory.size());
  PendingUpdate pending = std::move(reuse);
  SenderMemory& next = pending.next;
  EncodeInput input{.update = update};
  // What the chain is given, and then what it loses of that.
  std::vector<float> rest = std::move(next.residual);
  if (remembers) {
    next = {};
    rest.resize(update.size());
    if (feedback == Feedback::kDgc) {
      next.momentum = advance(memory.momentum, codec.chain().momentum, update);
      input.update = next.momentum;
    }
    input.rest = rest;
    input.sign = feedback == Feedback::kEf21 ? -1.0f : 1.0f;
    input.residual = memory.residual;
    if (!memory.residual16.empty()) {
      std::ranges::copy(input.update, rest.begin());
      memory.add_residual(rest, input.sign);
      input.update = rest;
    }
  } else {
    next = memory;  // what another chain has left is still owed
  }

  // A frame whose length is known is written where it stays.
  std::vector<std::byte>& out = codec.chain().fixed_length() ? pending.frame : scratch.frame;
  out.resize(std::max(codec.max_encoded_bytes(schema), out.size()));
  TERN_TRY(const size_t bytes,
           encode_input(codec.chain(), meta, schema, input, memory.factors, scratch, out));
  if (&out == &pending.frame)
    pending.frame.resize(bytes);
  else
    pending.frame.assign(out.begin(), out.begin() + static_cast<ptrdiff_t>(bytes));
  if (const Projection* projection = codec.chain().projection.get();
      projection != nullptr && projection->stateful())
    next.factors = scratch.factors;
  if (!remembers) return pending;

  if (feedback == Feedback::kEf21) {
    TERN_TRY(const CheckedFrame frame, inspect(pending.frame, schema, {}, scratch));
    std::ranges::fill(rest, 0.0f);
    memory.add_residual(rest);
    TERN_CHECK_OK(add_decoded(frame, scratch, rest));
  }
  if (feedback == Feedback::kDgc && drops_values(codec)) {
    TERN_TRY(const CheckedFrame frame, inspect(pending.frame, schema, {}, scratch));
    MaskSink mask(next.momentum);
    TERN_CHECK_OK(decode_into(frame, scratch, mask));
  }
  if (store == ResidualStore::kBfloat16)
    next.residual16 = to_bfloat16(rest);
  else
    next.residual = std::move(rest);
  return pending;
}

}  // namespace tern
