#include "compression/updates/ladder.h"

#include <algorithm>
#include <array>
#include <numbers>
#include <string>
#include <utility>

#include "base/rng.h"
#include "compression/updates/chain.h"
#include "compression/updates/frame.h"

namespace tern {

namespace {

/// A tensor of this many elements is measured once; shorter ones are repeated up to it.
constexpr size_t kElementsMeasured = size_t{1} << 18;
constexpr size_t kMostRepetitions = 32;

/// Of eden at 1 to 4 bits on a rotated block: docs/codecs.md.
constexpr std::array kEdenNmse = {0.571, 0.133, 0.0358, 0.0096};

const Stage* find(const Codec& codec, Family family) {
  const auto found = std::ranges::find_if(
      codec.stages(), [&](const Stage& stage) { return stage.info->family == family; });
  return found == codec.stages().end() ? nullptr : &*found;
}

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\n") - first + 1);
}

struct Squares {
  double errors = 0, values = 0;
};

/// Encodes and decodes once; adds to `squares` and gives the frame's length.
Result<size_t> measure_once(const Codec& codec, const ParameterSchema& schema,
                            std::span<const float> update, uint32_t repetition,
                            CodecScratch& scratch, std::vector<std::byte>& frame,
                            std::vector<float>& decoded, Squares& squares) {
  const FrameMeta meta{.round = repetition, .seed = Rng(1, Purpose::kTest, repetition, 1).next64()};
  frame.resize(codec.max_encoded_bytes(schema));
  TERN_TRY(const size_t bytes, codec.encode(meta, schema, update, scratch, frame));
  frame.resize(bytes);
  TERN_TRY(const CheckedFrame checked, inspect(frame, schema, {}, scratch));
  TERN_CHECK_OK(decode(checked, scratch, decoded));
  for (size_t i = 0; i < update.size(); ++i) {
    const double x = update[i], lost = static_cast<double>(decoded[i]) - x;
    squares.values += x * x;
    squares.errors += lost * lost;
  }
  return bytes;
}

}  // namespace

// Steps of 1.1 to 1.4 in bytes where links are slow: what lies between two rungs is wasted, a tenth
// of a round's time with steps twice as wide. Below 0.0025 a frame is all scales, 2 bytes for 1,024
// elements.
std::string_view stateless_ladder() {
  return "rotate:1024 | randk:0.0025 | eden:1; rotate:1024 | randk:0.005 | eden:1; "
         "rotate:1024 | randk:0.0075 | eden:1; rotate:1024 | randk:0.01 | eden:1; "
         "rotate:1024 | randk:0.0125 | eden:1; rotate:1024 | randk:0.015 | eden:1; "
         "rotate:1024 | randk:0.02 | eden:1; rotate:1024 | randk:0.025 | eden:1; "
         "rotate:1024 | randk:0.03 | eden:1; rotate:1024 | randk:0.04 | eden:1; "
         "rotate:1024 | randk:0.05 | eden:1; rotate:1024 | randk:0.06 | eden:1; "
         "rotate:1024 | randk:0.08 | eden:1; rotate:1024 | randk:0.1 | eden:1; "
         "rotate:1024 | randk:0.13 | eden:1; rotate:1024 | randk:0.17 | eden:1; "
         "rotate:1024 | randk:0.22 | eden:1; rotate:1024 | randk:0.3 | eden:1; "
         "rotate:1024 | randk:0.4 | eden:1; rotate:1024 | randk:0.6 | eden:1; "
         "rotate:1024 | eden:1; rotate:1024 | eden:2; rotate:1024 | eden:4; int:8; float32";
}

std::string_view stateful_ladder() {
  return "ef | topk:0.002 | ternary | rice; ef | topk:0.005 | ternary | rice; "
         "ef | topk:0.01 | ternary | rice; ef | topk:0.02 | ternary | rice; "
         "ef | topk:0.05 | ternary | rice; rotate:1024 | randk:0.25 | eden:1; "
         "rotate:1024 | randk:0.5 | eden:1; rotate:1024 | eden:1; rotate:1024 | eden:2; "
         "rotate:1024 | eden:4; int:8; float32";
}

bool same_band(const Codec& a, const Codec& b) {
  // A share is of the basis that stands before it; components aren't kept to it.
  const auto band = [](const Codec& codec) {
    const auto argument = [&](Family family) {
      const Stage* const stage = find(codec, family);
      return stage == nullptr ? 0u : stage->argument;
    };
    const uint32_t share = argument(Family::kBand);
    return share == 0 ? std::array{0u, 0u, 0u}
                      : std::array{share, argument(Family::kBasis), argument(Family::kPrincipal)};
  };
  return band(a) == band(b);
}

std::string ladder_around(const Codec& chain) {
  const Stage* const select = find(chain, Family::kSelect);
  if (select == nullptr || select->info->argument != Argument::kRate) return {};
  std::vector<Codec> chains;
  double rate = select->argument / double{kRateOne} / 8;
  for (int step = 0; step < 13; ++step, rate *= std::numbers::sqrt2) {
    // Two digits: whoever reads a log compares them.
    const double rounded = std::stod(fmt::format("{:.2g}", std::min(rate, 1.0)));
    const Result<Codec> rung = chain.with_rate(rounded);
    if (rung && (chains.empty() || chains.back().spec() != rung->spec())) chains.push_back(*rung);
  }
  return print_chains(chains);
}

Result<std::vector<Codec>> parse_ladder(std::string_view text) {
  std::vector<Codec> chains;
  while (!trimmed(text).empty()) {
    const std::string_view spec = trimmed(text.substr(0, text.find(';')));
    text.remove_prefix(std::min(text.find(';'), text.size() - 1) + 1);
    const auto refused = [&](Status status) {
      return std::move(status).within(fmt::format("chain {} of the ladder", chains.size() + 1));
    };
    Result<Codec> codec = Codec::parse(spec);
    if (!codec) return refused(std::move(codec).error());
    if (codec->bias() == Bias::kBiased && !codec->error_feedback())
      return refused(error(Code::kInvalidArgument,
                           "'{}' is biased, and clients with different chains are averaged: put "
                           "'ef' first, or take an unbiased chain",
                           codec->spec()));
    if (codec->error_feedback() && codec->feedback() != Feedback::kEf14)
      return refused(error(Code::kInvalidArgument,
                           "'{}' remembers what means nothing to another chain: of the stages with "
                           "memory a ladder takes 'ef'",
                           codec->stages()[0].info->name));
    if (!chains.empty() && !same_band(chains[0], *codec))
      return refused(
          error(Code::kInvalidArgument,
                "'{}' sends other frequencies than '{}': outside of what all send a mean "
                "would be that of some clients",
                codec->spec(), chains[0].spec()));
    if (std::ranges::find(chains, codec->spec(), &Codec::spec) != chains.end())
      return refused(error(Code::kInvalidArgument, "'{}' stands there twice", codec->spec()));
    chains.push_back(*std::move(codec));
  }
  if (chains.empty())
    return error(Code::kInvalidArgument,
                 "a ladder is one or more chains with ';' between them, such as \"rotate:1024 | "
                 "randk:0.1 | eden:1; rotate:1024 | eden:1; float32\"");
  return chains;
}

std::optional<double> closed_form_nmse(const Codec& codec) {
  if (codec.error_feedback() || find(codec, Family::kExempt) || find(codec, Family::kPrincipal) ||
      find(codec, Family::kBand))
    return std::nullopt;
  const Stage* const transform = find(codec, Family::kTransform);
  if (transform && transform->info->name != "rotate") return std::nullopt;
  double kept = 1, rounding = 0;
  if (const Stage* select = find(codec, Family::kSelect)) {
    if (select->info->name != "randk") return std::nullopt;
    kept = static_cast<double>(select->argument) / kRateOne;
  }
  if (const Stage* quantize = find(codec, Family::kQuantize)) {
    if (quantize->info->name == "eden" && quantize->argument <= kEdenNmse.size())
      rounding = kEdenNmse[quantize->argument - 1];
    else if (quantize->info->name != "float32")
      return std::nullopt;
  }
  return (1 + rounding) / kept - 1;
}

bool has_fixed_length(const Codec& codec) { return codec.chain().fixed_length(); }

Result<std::vector<Rung>> measure_ladder(std::span<const Codec> chains,
                                         const ParameterSchema& schema, const LadderSample& sample,
                                         CodecScratch& scratch) {
  const size_t n = schema.elements();
  if (!sample.update.empty() && sample.update.size() != n)
    return error(Code::kInvalidArgument, "a sample of {} elements for a schema of {}",
                 sample.update.size(), n);
  std::vector<float> update(sample.update.begin(), sample.update.end());
  if (update.empty()) {
    update.resize(n);
    Rng rng(1, Purpose::kTest);
    for (float& value : update) value = static_cast<float>(rng.normal());
  }
  const size_t repetitions =
      std::clamp<size_t>(kElementsMeasured / std::max<size_t>(n, 1), 1, kMostRepetitions);
  std::vector<Rung> rungs;
  std::vector<std::byte> frame;
  std::vector<float> decoded(n);
  for (const Codec& codec : chains) {
    Rung rung{.codec = codec, .exact = has_fixed_length(codec)};
    Squares squares;
    for (size_t i = 0; i < repetitions; ++i) {
      TERN_TRY(const size_t bytes, measure_once(codec, schema, update, static_cast<uint32_t>(i),
                                                scratch, frame, decoded, squares));
      rung.bytes += static_cast<double>(bytes) / static_cast<double>(repetitions);
    }
    const std::optional<double> known =
        sample.trust_update ? std::nullopt : closed_form_nmse(codec);
    rung.nmse = known ? *known : squares.values > 0 ? squares.errors / squares.values : 0;
    rungs.push_back(std::move(rung));
  }
  return rungs;
}

}  // namespace tern
