#include "compression/updates/codec.h"

#include <algorithm>
#include <bit>

#include "base/bytes.h"
#include "compression/updates/chunk_coder.h"
#include "compression/updates/crc32c.h"
#include "compression/updates/frame_header.h"
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/scratch.h"
#include "compression/updates/stages/stage.h"

namespace tern {

namespace {

constexpr float kLargestMagnitude = 0x1p100f;

Status refuse(const std::vector<Stage>& stages, std::string_view why) {
  return error(Code::kInvalidArgument, "codec '{}': {}", print_spec(stages), why);
}

std::string_view family_name(Family family) {
  switch (family) {
    case Family::kState:
      return "state";
    case Family::kTransform:
      return "transform";
    case Family::kSelect:
      return "select";
    case Family::kQuantize:
      return "quantize";
    case Family::kCode:
      return "code";
  }
  return "";
}

}  // namespace

Result<Codec> Codec::parse(std::string_view spec) {
  TERN_TRY(std::vector<Stage> stages, parse_spec(spec));
  return make(std::move(stages));
}

Result<Codec> Codec::make(std::vector<Stage> stages) {
  if (stages.empty())
    return error(Code::kInvalidArgument, "a codec needs at least one stage, such as float32");
  Codec codec;
  codec.stages_ = std::move(stages);
  const auto& all = codec.stages_;
  size_t block = 0;  // of the rotation
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].info->family == Family::kState && i > 0)
      return refuse(all, "'ef' covers the whole chain and stands first");
    if (i > 0 && all[i].info->family <= all[i - 1].info->family)
      return refuse(
          all,
          fmt::format(
              "'{}' ({}) can't follow '{}' ({}); the order is ef, transform, select, quantize, "
              "code, with one of each at most",
              all[i].info->name, family_name(all[i].info->family), all[i - 1].info->name,
              family_name(all[i - 1].info->family)));
    const uint32_t argument = all[i].argument;
    const std::string_view stage = all[i].info->name;
    if (stage == "ef") codec.error_feedback_ = true;
    if (stage == "rotate") {
      codec.transform_ = make_rotate(argument);
      block = argument;
    }
    if (stage == "topk") codec.selector_ = make_topk(argument);
    if (stage == "randk") codec.selector_ = make_randk(argument);
    if (stage == "float32") codec.quantizer_ = make_float32();
    if (stage == "float16") codec.quantizer_ = make_float16();
    if (stage == "bfloat16") codec.quantizer_ = make_bfloat16();
    if (stage == "int") codec.quantizer_ = make_int(argument);
    if (stage == "ternary") codec.quantizer_ = make_ternary();
    if (stage == "sign") codec.quantizer_ = make_sign();
    if (stage == "eden") codec.quantizer_ = make_eden(argument);
    if (stage == "rice") codec.index_code_ = make_rice();
  }
  const bool rotated = codec.transform_ != nullptr;
  const bool coded = codec.index_code_ != nullptr;
  if (coded && !codec.selector_)
    return refuse(all, "'rice' codes the indices of a selection, and there is none");
  if (coded && codec.seeded())
    return refuse(all, "'rice' has nothing to code: randk's positions don't travel");
  if (rotated && codec.indexed())
    return refuse(all,
                  "after a rotation all magnitudes are alike: use randk instead of topk, or leave "
                  "out rotate");
  if (rotated && !codec.selector_ && !codec.quantizer_)
    return refuse(all, "a rotation alone saves nothing: add a select or quantize stage");
  for (const Stage& stage : all)
    if (stage.info->name == "eden" && block < kGroupElements)
      return refuse(all, fmt::format("eden's levels are those of a rotated block and its scale is "
                                     "for {} values: put 'rotate:{}' or more before it",
                                     kGroupElements, kGroupElements));
  for (const Stage& stage : all)
    if (codec.error_feedback_ && !codec.indexed() &&
        (stage.info->name == "ternary" || (stage.info->name == "int" && stage.argument == 2)))
      return refuse(all,
                    "three levels at random lose more than they keep, and 'ef' would pile that up "
                    "without end: use sign, eden or more bits");
  if (codec.error_feedback_ && !codec.lossy())
    return refuse(all, "'ef' keeps what a chain loses, and this chain loses nothing");
  if (!codec.quantizer_) codec.quantizer_ = make_float32();
  if (codec.indexed() && !coded) codec.index_code_ = make_plain_indices();
  return codec;
}

bool Codec::lossy() const {
  return std::ranges::any_of(stages_, [](const Stage& stage) { return stage.info->traits.lossy; });
}

Bias Codec::bias() const {
  Bias worst = Bias::kNone;
  for (const Stage& stage : stages_) worst = std::max(worst, stage.info->traits.bias);
  return worst;
}

bool Codec::seeded() const { return selector_ != nullptr && selector_->seeded(); }
bool Codec::indexed() const { return selector_ != nullptr && !selector_->seeded(); }

Result<Codec> Codec::with_rate(double rate) const {
  std::vector<Stage> stages = stages_;
  for (Stage& stage : stages) {
    if (stage.info->argument != Argument::kRate) continue;
    TERN_TRY(const std::vector<Stage> parsed,
             parse_spec(fmt::format("{}:{}", stage.info->name, rate)));
    stage.argument = parsed[0].argument;
    return make(std::move(stages));
  }
  return refuse(stages_, "a warm-up needs a stage with a rate, topk or randk");
}

Status Codec::check_composition(const ChainUse& use) const {
  if (bias() == Bias::kBiased && !error_feedback_ && !use.allow_biased) {
    const auto biased = std::ranges::find_if(
        stages_, [](const Stage& stage) { return stage.info->traits.bias == Bias::kBiased; });
    return refuse(
        stages_,
        fmt::format("'{}' is biased: put 'ef' first so that what it loses comes back, or set "
                    "compression.allow_biased = true to accept the loss",
                    biased->info->name));
  }
  return {};
}

size_t Codec::max_encoded_bytes(size_t n) const {
  // A selection may spread its k values over the chunks in any way. What a chunk costs is linear in
  // its share but for rounding up to whole bytes, so one way of spreading and a byte a chunk bound
  // them all.
  const size_t chunks = (n + kChunkElements - 1) / kChunkElements;
  const size_t k = selector_ ? selector_->kept(n) : n;
  size_t bytes = kMaxFrameHeader + chunks * kChunkEntryBytes;
  for (size_t chunk = 0, left = k; chunk < chunks; ++chunk) {
    const size_t length = std::min(kChunkElements, n - chunk * kChunkElements);
    const size_t here = std::min(left, length);
    bytes += max_chunk_bytes(*this, length, std::max<size_t>(here, 1)) + 1;
    left -= here;
  }
  return bytes;
}

Result<size_t> Codec::encode(const FrameMeta& meta, std::span<const float> x, CodecScratch& scratch,
                             std::span<std::byte> out) const {
  if (x.size() > kMaxFrameElements)
    return error(Code::kInvalidArgument, "an update of {} elements is too long", x.size());
  if (out.size() < max_encoded_bytes(x.size()))
    return error(Code::kInvalidArgument,
                 "a frame of {} elements may take {} bytes, the buffer has {}", x.size(),
                 max_encoded_bytes(x.size()), out.size());
  if (!(kernels().max_abs(x.data(), x.size()) <= kLargestMagnitude))
    return error(Code::kInvalidArgument,
                 "the update holds NaN, infinity or a magnitude beyond 2^100");
  const size_t chunks = (x.size() + kChunkElements - 1) / kChunkElements;
  const size_t header_bytes = frame_header_bytes(stages_);
  std::byte* const table = out.data() + header_bytes;
  std::byte* body = table + chunks * kChunkEntryBytes;
  Selector::Cut cut;
  if (selector_) cut = selector_->prepare(x, scratch);
  for (size_t chunk = 0; chunk < chunks; ++chunk) {
    const size_t offset = chunk * kChunkElements;
    const size_t length = std::min(kChunkElements, x.size() - offset);
    const ChunkContext context{meta.seed, static_cast<uint32_t>(chunk), error_feedback_};
    const EncodedChunk encoded =
        encode_chunk(*this, x.subspan(offset, length), context, cut, scratch, body);
    write_chunk_entry(table + chunk * kChunkEntryBytes,
                      {.bytes = static_cast<uint32_t>(encoded.bytes),
                       .mode = encoded.mode,
                       .parameter = encoded.parameter,
                       .crc = crc32c({body, encoded.bytes})});
    body += encoded.bytes;
  }
  const size_t total = static_cast<size_t>(body - out.data());
  write_frame_header(out.data(), stages_, meta, x.size(), chunks, total);
  return total;
}

}  // namespace tern
