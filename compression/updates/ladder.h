/// A ladder: chains for the same update, from few bytes to little error, with what a frame of each
/// is expected to cost and to lose. Rate control (rate_control.h) picks one of them for each client
/// of a round. As text: chains with ";" between them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/parameter_schema.h"
#include "base/status.h"
#include "compression/updates/codec.h"
#include "compression/updates/scratch.h"

namespace tern {

/// A frame of one chain for one schema, by expectation.
struct Rung {
  Codec codec;
  double bytes = 0;   ///< of the frame
  double nmse = 0;    ///< squared error over squared norm
  bool exact = true;  ///< every frame of this chain has these bytes, unless a chunk is all zeros
};

/// Unbiased chains only: for clients without memory, or asked too rarely to make use of it.
std::string_view stateless_ladder();
/// With error feedback at the cheap end: for clients that are asked every few rounds.
std::string_view stateful_ladder();

/// As text: the chain at 13 rates of its select stage, from an eighth of its own to eight times it,
/// none above 1. Empty for a chain without a rate.
std::string ladder_around(const Codec& chain);

/// Errors: kInvalidArgument; it names the chain and says what is wrong with it. Frames of all rungs
/// are averaged with each other, so each has to be unbiased or to keep what it loses (`ef`), or all
/// leave out the same frequencies. `ef21` and `dgc` are refused: what they remember means nothing
/// to another chain.
Result<std::vector<Codec>> parse_ladder(std::string_view text);
/// Whether what these two leave out by `lowpass`, if anything, is the same.
bool same_band(const Codec& a, const Codec& b);

/// Squared error over squared norm where it follows from the chain alone, whatever the update: no
/// selection or randk, then floats, or eden of up to 4 bits behind a rotation. The constants are
/// those of docs/codecs.md.
std::optional<double> closed_form_nmse(const Codec& codec);
/// Whether a frame's length follows from chain and schema alone.
bool has_fixed_length(const Codec& codec);

struct LadderSample {
  /// As long as the schema; empty: Gaussian values.
  std::span<const float> update;
  /// What is measured on `update` goes before a closed form.
  bool trust_update = false;
};
/// Measures each chain on the sample by encoding and decoding it; short samples several times with
/// different seeds. The same arguments give the same numbers. Errors: those of encode and inspect;
/// kInvalidArgument for a sample of another length. Cost: for each chain that of a few encodings.
Result<std::vector<Rung>> measure_ladder(std::span<const Codec> chains,
                                         const ParameterSchema& schema, const LadderSample& sample,
                                         CodecScratch& scratch);

}  // namespace tern
