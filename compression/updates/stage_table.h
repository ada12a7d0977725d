/// The visible table of all stages: names, wire ids, arguments and traits. Parsing, printing,
/// composition checks, frames, tests and docs/codecs.md are driven by it. There is no
/// self-registration: what is not in this table does not exist.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tern {

/// Where a stage may stand in a chain; at most one of each, in this order.
enum class Family : uint8_t { kState, kTransform, kSelect, kQuantize, kCode };

/// The argument after the colon. It is kept as one integer: a block length, a number of bits, or a
/// rate in parts per billion, so that printing and counting are exact.
enum class Argument : uint8_t { kNone, kBlock, kBits, kRate };

/// What a decoded value is worth on average. kRounding: off by 2^-8 of the coordinate or by 2^-25
/// at most, which no training run notices; kBiased chains need error feedback.
enum class Bias : uint8_t { kNone, kRounding, kBiased };

struct Traits {
  bool lossy = false;
  Bias bias = Bias::kNone;
  bool summable =
      false;  ///< encoded integers of several clients may be added (with a shared scale)
  bool shared_randomness = false;  ///< the decoder draws the same numbers from the frame's seed
  bool stateful = false;           ///< needs memory between rounds
};

struct StageInfo {
  std::string_view name;
  uint8_t id;  ///< on the wire; never reused
  Family family;
  Argument argument = Argument::kNone;
  uint32_t smallest = 0;  ///< of the argument
  uint32_t largest = 0;
  uint32_t fallback = 0;  ///< the argument when none is written; 0: it must be written
  Traits traits{};
  std::string_view summary;
};

inline constexpr uint32_t kRateOne = 1'000'000'000;  ///< a rate of 1

inline constexpr std::array kStages{
    StageInfo{.name = "ef",
              .id = 0x01,
              .family = Family::kState,
              .traits = {.stateful = true},
              .summary = "error feedback: what the chain loses is added to the next round's input"},
    StageInfo{.name = "rotate",
              .id = 0x10,
              .family = Family::kTransform,
              .argument = Argument::kBlock,
              .smallest = 16,
              .largest = 65536,
              .fallback = 1024,
              .traits = {.summable = true, .shared_randomness = true},
              .summary = "random signs and a Hadamard transform of each block"},
    StageInfo{.name = "topk",
              .id = 0x20,
              .family = Family::kSelect,
              .argument = Argument::kRate,
              .smallest = 1,
              .largest = kRateOne,
              .traits = {.lossy = true, .bias = Bias::kBiased},
              .summary = "keeps the largest magnitudes of the whole update"},
    StageInfo{.name = "randk",
              .id = 0x22,
              .family = Family::kSelect,
              .argument = Argument::kRate,
              .smallest = 1,
              .largest = kRateOne,
              .traits = {.lossy = true, .summable = true, .shared_randomness = true},
              .summary = "keeps positions drawn from the seed, scaled by n/k unless under ef"},
    StageInfo{.name = "float32",
              .id = 0x30,
              .family = Family::kQuantize,
              .summary = "values as they are"},
    StageInfo{.name = "float16",
              .id = 0x31,
              .family = Family::kQuantize,
              .traits = {.lossy = true, .bias = Bias::kRounding},
              .summary = "IEEE half precision, saturating at 65504"},
    StageInfo{.name = "bfloat16",
              .id = 0x32,
              .family = Family::kQuantize,
              .traits = {.lossy = true, .bias = Bias::kRounding},
              .summary = "the upper half of a float32, rounded to nearest"},
    StageInfo{.name = "int",
              .id = 0x33,
              .family = Family::kQuantize,
              .argument = Argument::kBits,
              .smallest = 2,
              .largest = 16,
              .traits = {.lossy = true, .summable = true},
              .summary = "signed integers with stochastic rounding and a scale for each block"},
    StageInfo{.name = "ternary",
              .id = 0x34,
              .family = Family::kQuantize,
              .traits = {.lossy = true},
              .summary = "after topk one magnitude and a sign each; else 0 or +-max at random"},
    StageInfo{.name = "sign",
              .id = 0x35,
              .family = Family::kQuantize,
              .traits = {.lossy = true, .bias = Bias::kBiased},
              .summary = "the sign, and the mean magnitude of each block"},
    StageInfo{.name = "eden",
              .id = 0x38,
              .family = Family::kQuantize,
              .argument = Argument::kBits,
              .smallest = 1,
              .largest = 8,
              .traits = {.lossy = true},
              .summary = "Lloyd-Max levels of a normal, with an unbiased scale for each block"},
    StageInfo{.name = "rice",
              .id = 0x50,
              .family = Family::kCode,
              .summary = "Golomb-Rice gaps for the indices of a selection"},
};

constexpr bool stage_table_is_sound() {
  for (size_t i = 0; i < kStages.size(); ++i) {
    if ((kStages[i].argument == Argument::kNone) != (kStages[i].largest == 0)) return false;
    for (size_t j = i + 1; j < kStages.size(); ++j)
      if (kStages[i].id == kStages[j].id || kStages[i].name == kStages[j].name) return false;
  }
  return true;
}
static_assert(stage_table_is_sound(), "ids and names are unique, arguments have a range");

const StageInfo* find_stage(std::string_view name);
const StageInfo* find_stage(uint8_t id);

}  // namespace tern
