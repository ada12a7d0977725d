/// Codec chains as text, from a configuration or a plan. What parses has one canonical text; what
/// composes codes a small update.
#include <string_view>
#include <vector>

#include "compression/updates/frame.h"
#include "tests/fuzz/fuzz_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tern;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Result<std::vector<Stage>> stages = parse_spec(text);
  if (!stages) {
    TERN_FUZZ_CHECK(stages.error().code() == Code::kInvalidArgument);
    TERN_FUZZ_CHECK(!Codec::parse(text));
    return 0;
  }
  const std::string canonical = print_spec(*stages);
  const Result<std::vector<Stage>> again = parse_spec(canonical);
  TERN_FUZZ_CHECK(again && *again == *stages);
  TERN_FUZZ_CHECK(print_spec(*again) == canonical);

  const Result<Codec> codec = Codec::parse(text);
  if (!codec) {
    TERN_FUZZ_CHECK(codec.error().code() == Code::kInvalidArgument);
    return 0;
  }
  TERN_FUZZ_CHECK(codec->spec() == canonical);
  static CodecScratch scratch;
  const std::vector<float> x = {1, -2, 0, 3.5f, -0.0f, 1e-20f, 1e20f, -7, 8, 9};
  static const ParameterSchema schema = ParameterSchema::flat(x.size());
  const FrameMeta meta{.seed = 2};
  std::vector<std::byte> frame(codec->max_encoded_bytes(schema));
  const Result<size_t> bytes = codec->encode(meta, schema, x, scratch, frame);
  TERN_FUZZ_CHECK(bytes);
  frame.resize(*bytes);
  const Result<CheckedFrame> checked = inspect(frame, schema, {}, scratch);
  TERN_FUZZ_CHECK(checked);
  TERN_FUZZ_CHECK(checked->codec().spec() == canonical);
  return 0;
}
