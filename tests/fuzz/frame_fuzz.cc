/// Frames from a hostile sender. The first byte of an input chooses the receiver's schema, the rest
/// is the frame. Mutations start from real frames of every chain, and checksums are repaired after
/// most of them, so that what lies behind the checksums is reached.
#include <bit>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "compression/updates/chunk_coder.h"
#include "compression/updates/frame_header.h"
#include "tests/compression/updates/forged_frame.h"
#include "tests/fuzz/fuzz_frames.h"

namespace {

using namespace tern;

uint32_t random_argument(const StageInfo& info, Rng& rng) {
  switch (info.argument) {
    case Argument::kNone:
      return 0;
    case Argument::kPowerOfTwo: {
      uint32_t argument = info.smallest;
      while (argument < info.largest && rng.below(4) != 0) argument *= 2;
      return argument;
    }
    case Argument::kTable:
      return table_argument(1 + rng.below(15), 1 + rng.below(rng.below(2) == 0 ? 20 : 400));
    case Argument::kThreshold:
      return std::bit_cast<uint32_t>(static_cast<float>(rng.uniform()) + 0x1p-9f);
    default:
      return info.smallest + rng.below(info.largest - info.smallest + 1);
  }
}

/// One of kFuzzChains, or whatever composes.
Codec random_codec(Rng& rng) {
  for (int attempt = 0; attempt < 16 && rng.below(8) != 0; ++attempt) {
    std::vector<Stage> stages;
    for (int family = 0; family <= static_cast<int>(Family::kValueCode); ++family) {
      if (rng.below(2) == 0) continue;
      std::vector<const StageInfo*> choice;
      for (const StageInfo& info : kStages)
        if (static_cast<int>(info.family) == family) choice.push_back(&info);
      const StageInfo* info = choice[rng.below(static_cast<uint32_t>(choice.size()))];
      stages.push_back({info, random_argument(*info, rng)});
    }
    if (Result<Codec> codec = Codec::make(std::move(stages))) return *std::move(codec);
  }
  return fuzz_codecs()[rng.below(static_cast<uint32_t>(fuzz_codecs().size()))];
}

/// The input of a real frame.
std::vector<uint8_t> fresh_input(uint8_t choice, uint32_t seed) {
  Rng rng(seed, Purpose::kTest);
  const Codec codec = random_codec(rng);
  std::vector<std::byte> frame = real_frame(codec, receiver_of(choice).schema(), rng.next64(), rng);
  if (rng.below(16) == 0) {  // a field that readers pass over
    const size_t header = load<uint16_t>(frame.data() + 6);
    frame.insert(frame.begin() + static_cast<ptrdiff_t>(header), {std::byte{1}, std::byte{0}});
    store(frame.data() + 6, static_cast<uint16_t>(header + 2));
  }
  std::vector<uint8_t> input = {choice};
  for (const std::byte byte : frame) input.push_back(static_cast<uint8_t>(byte));
  return input;
}

/// Where the bodies begin, or the table, or the stages: what is mutated as a whole.
size_t mutable_from(std::span<const uint8_t> input, uint32_t seed) {
  if (input.size() < 50 || seed % 4 == 0) return 1;
  const size_t header = 1 + load<uint16_t>(std::as_bytes(input).data() + 7);
  const size_t from = seed % 4 == 1 ? 49 : seed % 4 == 2 ? header : header + 8;
  return from < input.size() ? from : 1;
}

/// Repairs what a receiver of the schema would refuse at once. Without a chain that composes, only
/// what comes before the stages.
void repair(std::span<std::byte> frame, const ParameterSchema& schema) {
  repair_frame(frame, schema, 0);
  const Result<FrameHeader> header = read_frame_header(frame);
  if (!header) return;
  const auto chain = make_chain({header->chain().begin(), header->chain().end()});
  if (!chain) return;
  Layout layout;
  lay_out(**chain, schema, layout);
  repair_frame(frame, schema, frame_chunks(**chain, layout));
}

}  // namespace

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most,
                                          unsigned int seed) {
  const uint8_t choice = mutated_choice(size > 0 ? data[0] : 0, seed / 64);
  if (size < 50 || seed % 64 == 0) {
    // Not only of the schema that the input has.
    const std::vector<uint8_t> fresh =
        fresh_input(mutated_choice(static_cast<uint8_t>(seed >> 24), seed / 64), seed);
    if (fresh.size() <= most) {
      std::memcpy(data, fresh.data(), fresh.size());
      size = fresh.size();
    }
  } else {
    data[0] = choice;
  }
  const size_t from = size > 1 ? mutable_from({data, size}, seed / 256) : 0;
  size = from + LLVMFuzzerMutate(data + from, size - from, most - from);
  if (size > 1 && seed % 16 != 1)
    repair(std::as_writable_bytes(std::span(data + 1, size - 1)), receiver_of(data[0]).schema());
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  Receiver& receiver = receiver_of(data[0]);
  const auto frame = std::as_bytes(std::span(data + 1, size - 1));
  if (!receiver.receive(frame)) return 0;
  // The chain is one that text can say, and the transfer is this frame.
  const Codec& codec = *receiver.scratch().last_codec;
  const Result<Codec> again = Codec::parse(codec.spec());
  TERN_FUZZ_CHECK(again && again->stages() == codec.stages());
  const auto frames = split_frames(frame, 1);
  TERN_FUZZ_CHECK(frames && frames->size() == 1 && frames->front().size() == frame.size());
  return 0;
}
