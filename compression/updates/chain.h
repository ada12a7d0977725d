/// A chain of stages ready for work: what is behind a Codec. For the encoder and the decoder alone.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "compression/updates/codec.h"
#include "compression/updates/stages/principal.h"
#include "compression/updates/stages/stage.h"

namespace tern {

enum class IndexCode : uint8_t { kNone, kRice, kCabac };
enum class ValueCode : uint8_t { kNone, kRans, kZstd };

struct Chain {
  std::vector<Stage> stages;
  Feedback feedback = Feedback::kNone;
  float momentum = 0;      ///< of dgc
  size_t small_below = 0;  ///< of small16; 0 without it
  bool shapes = false;     ///< a stage looks at the tensors' shapes
  std::unique_ptr<const Principal> principal;
  /// What its factors are coded by; null where they lie on a grid.
  std::shared_ptr<const Chain> component_chain;
  std::unique_ptr<const Transform> transform;
  std::unique_ptr<const Projection> projection;
  std::unique_ptr<const Selector> selector;
  std::unique_ptr<const Quantizer> quantizer;  ///< or
  std::unique_ptr<const FloatFormat> format;   ///< one of the two
  IndexCode index_code = IndexCode::kNone;
  ValueCode value_code = ValueCode::kNone;

  /// Positions travel.
  bool indexed() const { return selector && !selector->seeded(); }
  /// What is kept is spread over the whole stream, as its values want it.
  bool spreads() const { return selector && selector->spreads(); }
  /// All frames of a schema are about as long.
  bool fixed_length() const {
    return !spreads() && value_code == ValueCode::kNone && !(principal && principal->on_grid());
  }
  /// The main stream is the update itself.
  bool in_place() const { return small_below == 0 && !principal && !projection; }
};

/// kInvalidArgument, with the chain before the reason.
Status refuse_chain(const std::vector<Stage>& stages, std::string_view why);

/// Errors: kInvalidArgument; the message says which stages don't go together and why.
Result<std::shared_ptr<const Chain>> make_chain(std::vector<Stage> stages);

/// The streams that the chain codes, for an update of this schema: sets scratch.layout.
void lay_out(const Chain& chain, const ParameterSchema& schema, Layout& layout);
/// Elements of the stream that is cut into chunks.
size_t coded_elements(const Chain& chain, const Layout& layout);
/// Numbers of principal's factors, which are a stream of their own; 0 without it.
size_t component_elements(const Chain& chain, const Layout& layout);
/// Chunks of all streams.
size_t frame_chunks(const Chain& chain, const Layout& layout);

/// Codec::encode for any input. With `rest`, what the receivers of the frame decode is taken off it
/// in the end. Errors: those of Codec::encode; `rest` and `out` then hold anything.
Result<size_t> encode_input(const Chain& chain, const FrameMeta& meta,
                            const ParameterSchema& schema, const EncodeInput& input,
                            std::span<const float> factors, CodecScratch& scratch,
                            std::span<std::byte> out);

}  // namespace tern
