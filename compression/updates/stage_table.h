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
enum class Family : uint8_t {
  kState,      ///< error feedback: what the sender remembers between rounds
  kExempt,     ///< tensors that the rest of the chain leaves alone
  kPrincipal,  ///< the largest components, which travel apart
  kBasis,      ///< other coordinates for what is smooth
  kBand,       ///< which of them travel at all
  kTransform,  ///< other coordinates
  kSelect,     ///< fewer values
  kQuantize,   ///< fewer bits a value
  kIndexCode,  ///< how positions travel
  kValueCode,  ///< how quantized values travel, without loss
};

/// The argument after the colon, kept as one integer so that printing, counting and comparing are
/// exact.
enum class Argument : uint8_t {
  kNone,
  kPowerOfTwo,  ///< travels as its logarithm
  kBits,
  kSide,
  kRank,
  kLevels,
  kPercent,     ///< written as a fraction, kept as hundredths
  kRate,        ///< in parts per billion
  kThreshold,   ///< the bits of a positive float32
  kTable,       ///< ROWSxCOLS, see table_argument()
  kComponents,  ///< RANK or RANKxSTEP, see components_argument()
};

/// What a decoded value is worth on average. kRounding: off by 2^-8 of the coordinate or by 2^-25
/// at most, which no training run notices; kBand: that of the element's projection on the band,
/// outside of which nothing moves but what `principal` has sent; kBiased chains need error
/// feedback.
enum class Bias : uint8_t { kNone, kRounding, kBand, kBiased };

/// How a selection's positions reach the receiver.
enum class Positions : uint8_t { kAll, kTravel, kSeeded };

/// What the composition check and the laws in tests/compression/updates know of a stage.
struct Traits {
  bool lossy = false;
  Bias bias = Bias::kNone;
  /// Encoded numbers of several clients may be added (with shared seed and scale).
  bool summable = false;
  bool shared_randomness = false;  ///< the decoder draws the same numbers from the frame's seed
  bool stateful = false;           ///< needs memory between rounds
  Positions positions = Positions::kAll;  ///< of a selection
  bool shapes = false;   ///< looks at the tensors' shapes, so the receiver's schema must have them
  bool symbols = false;  ///< quantizes to few different symbols: what `rans` can code
  bool floats = false;   ///< values travel as floating-point numbers: what `zstd` can code
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

/// The argument of `sketch`: rows in the top 4 bits, columns below.
inline constexpr int kTableColumnBits = 28;
constexpr uint32_t table_argument(uint32_t rows, uint32_t columns) {
  return rows << kTableColumnBits | columns;
}
constexpr uint32_t table_rows(uint32_t argument) { return argument >> kTableColumnBits; }
constexpr uint32_t table_columns(uint32_t argument) {
  return argument & ((1u << kTableColumnBits) - 1);
}

/// The argument of `components`: the rank below, in the upper byte the step in hundredths.
inline constexpr uint32_t kUsualStep = 40;
constexpr uint32_t components_argument(uint32_t rank, uint32_t step) { return step << 8 | rank; }
constexpr uint32_t components_rank(uint32_t argument) { return argument & 0xff; }
constexpr uint32_t components_step(uint32_t argument) { return argument >> 8; }

inline constexpr std::array kStages{
    StageInfo{.name = "ef",
              .id = 0x01,
              .family = Family::kState,
              .traits = {.stateful = true},
              .summary = "error feedback: what the chain loses is added to the next round's input"},
    StageInfo{.name = "ef21",
              .id = 0x02,
              .family = Family::kState,
              .traits = {.stateful = true},
              .summary = "sends the change of an estimate that both sides keep"},
    StageInfo{.name = "dgc",
              .id = 0x03,
              .family = Family::kState,
              .argument = Argument::kPercent,
              .smallest = 1,
              .largest = 99,
              .fallback = 90,
              .traits = {.stateful = true},
              .summary = "error feedback with momentum correction and masking"},
    StageInfo{.name = "small16",
              .id = 0x08,
              .family = Family::kExempt,
              .argument = Argument::kPowerOfTwo,
              .smallest = 2,
              .largest = 1u << 24,
              .fallback = 1024,
              .traits = {.lossy = true, .bias = Bias::kRounding, .shapes = true},
              .summary = "biases, norms and tensors of fewer elements travel as bfloat16"},
    StageInfo{.name = "principal",
              .id = 0x0A,
              .family = Family::kPrincipal,
              .argument = Argument::kRank,
              .smallest = 1,
              .largest = 32,
              .traits = {.lossy = true, .shared_randomness = true, .shapes = true},
              .summary = "this many components of each matrix apart, the chain codes the rest"},
    StageInfo{.name = "components",
              .id = 0x0B,
              .family = Family::kPrincipal,
              .argument = Argument::kComponents,
              .smallest = components_argument(1, 5),
              .largest = components_argument(64, 200),
              .traits = {.lossy = true, .shapes = true},
              .summary = "as principal, but on a grid, fitted to each other and entropy coded"},
    StageInfo{.name = "dct",
              .id = 0x0C,
              .family = Family::kBasis,
              .argument = Argument::kSide,
              .smallest = 2,
              .largest = 32,
              .traits = {.summable = true, .shapes = true},
              .summary = "weights of images of this side by frequency instead of by pixel"},
    StageInfo{.name = "lowpass",
              .id = 0x0D,
              .family = Family::kBand,
              .argument = Argument::kPercent,
              .smallest = 1,
              .largest = 99,
              .traits = {.lossy = true, .bias = Bias::kBand, .summable = true, .shapes = true},
              .summary = "of dct's frequencies only this share, the lowest ones"},
    StageInfo{.name = "rotate",
              .id = 0x10,
              .family = Family::kTransform,
              .argument = Argument::kPowerOfTwo,
              .smallest = 16,
              .largest = 65536,
              .fallback = 1024,
              .traits = {.summable = true, .shared_randomness = true},
              .summary = "random signs and a Hadamard transform of each block"},
    StageInfo{.name = "lowrank",
              .id = 0x12,
              .family = Family::kTransform,
              .argument = Argument::kRank,
              .smallest = 1,
              .largest = 32,
              .traits = {.lossy = true, .bias = Bias::kBiased, .stateful = true, .shapes = true},
              .summary = "two factors of this rank in place of each matrix"},
    StageInfo{.name = "sketch",
              .id = 0x13,
              .family = Family::kTransform,
              .argument = Argument::kTable,
              .smallest = table_argument(1, 1),
              .largest = table_argument(15, (1u << kTableColumnBits) - 1),
              .traits = {.lossy = true,
                         .bias = Bias::kBiased,
                         .summable = true,
                         .shared_randomness = true},
              .summary = "a count sketch, of which the heaviest tenth of a row is recovered"},
    StageInfo{.name = "topk",
              .id = 0x20,
              .family = Family::kSelect,
              .argument = Argument::kRate,
              .smallest = 1,
              .largest = kRateOne,
              .traits = {.lossy = true, .bias = Bias::kBiased, .positions = Positions::kTravel},
              .summary = "keeps the largest magnitudes of the whole update"},
    StageInfo{.name = "topk-per-tensor",
              .id = 0x21,
              .family = Family::kSelect,
              .argument = Argument::kRate,
              .smallest = 1,
              .largest = kRateOne,
              .traits = {.lossy = true,
                         .bias = Bias::kBiased,
                         .positions = Positions::kTravel,
                         .shapes = true},
              .summary = "keeps the largest magnitudes of each tensor"},
    StageInfo{.name = "randk",
              .id = 0x22,
              .family = Family::kSelect,
              .argument = Argument::kRate,
              .smallest = 1,
              .largest = kRateOne,
              .traits = {.lossy = true,
                         .summable = true,
                         .shared_randomness = true,
                         .positions = Positions::kSeeded},
              .summary = "keeps positions drawn from the seed, scaled by n/k unless under ef"},
    StageInfo{.name = "randk-by-norm",
              .id = 0x24,
              .family = Family::kSelect,
              .argument = Argument::kRate,
              .smallest = 1,
              .largest = kRateOne,
              .traits = {.lossy = true, .shared_randomness = true, .positions = Positions::kSeeded},
              .summary = "as randk, but more values where their group's norm is larger"},
    StageInfo{.name = "threshold",
              .id = 0x23,
              .family = Family::kSelect,
              .argument = Argument::kThreshold,
              .smallest = 0x0D800000,  // 2^-100
              .largest = 0x71800000,   // 2^100
              .traits = {.lossy = true, .bias = Bias::kBiased, .positions = Positions::kTravel},
              .summary = "keeps the magnitudes that are at least this"},
    StageInfo{.name = "float32",
              .id = 0x30,
              .family = Family::kQuantize,
              .traits = {.floats = true},
              .summary = "values as they are; written only where no stage stands before it"},
    StageInfo{.name = "float16",
              .id = 0x31,
              .family = Family::kQuantize,
              .traits = {.lossy = true, .bias = Bias::kRounding, .floats = true},
              .summary = "IEEE half precision, saturating at 65504"},
    StageInfo{.name = "bfloat16",
              .id = 0x32,
              .family = Family::kQuantize,
              .traits = {.lossy = true, .bias = Bias::kRounding, .floats = true},
              .summary = "the upper half of a float32, rounded to nearest"},
    StageInfo{.name = "int",
              .id = 0x33,
              .family = Family::kQuantize,
              .argument = Argument::kBits,
              .smallest = 2,
              .largest = 16,
              .traits = {.lossy = true, .summable = true, .symbols = true},
              .summary = "signed integers with stochastic rounding and a scale for each block"},
    StageInfo{.name = "ternary",
              .id = 0x34,
              .family = Family::kQuantize,
              .traits = {.lossy = true, .symbols = true},
              .summary = "after topk one magnitude and a sign each; else 0 or +-max at random"},
    StageInfo{.name = "sign",
              .id = 0x35,
              .family = Family::kQuantize,
              .traits = {.lossy = true, .bias = Bias::kBiased},
              .summary = "the sign, and the mean magnitude of each block"},
    StageInfo{.name = "qsgd",
              .id = 0x36,
              .family = Family::kQuantize,
              .argument = Argument::kLevels,
              .smallest = 1,
              .largest = 32767,
              .traits = {.lossy = true, .summable = true, .symbols = true},
              .summary = "this many levels of the norm of each block, with stochastic rounding"},
    StageInfo{.name = "natural",
              .id = 0x37,
              .family = Family::kQuantize,
              .traits = {.lossy = true, .symbols = true},
              .summary = "stochastic rounding to a power of two"},
    StageInfo{.name = "eden",
              .id = 0x38,
              .family = Family::kQuantize,
              .argument = Argument::kBits,
              .smallest = 1,
              .largest = 8,
              .traits = {.lossy = true, .symbols = true},
              .summary = "Lloyd-Max levels of a normal, with an unbiased scale for each block"},
    StageInfo{.name = "rice",
              .id = 0x50,
              .family = Family::kIndexCode,
              .summary = "Golomb-Rice gaps for the indices of a selection"},
    StageInfo{.name = "cabac",
              .id = 0x51,
              .family = Family::kIndexCode,
              .summary = "adaptive arithmetic coding of them: shorter where they gather"},
    StageInfo{.name = "rans",
              .id = 0x60,
              .family = Family::kValueCode,
              .summary = "entropy coding of symbols by their frequencies in the chunk"},
    StageInfo{.name = "zstd",
              .id = 0x61,
              .family = Family::kValueCode,
              .summary = "Zstandard over the byte planes of floating-point values"},
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
