// Encodes an update with an installed Tern, decodes the frame and looks at size and error.
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <span>
#include <vector>

#include "base/rng.h"
#include "compression/updates/codec.h"
#include "compression/updates/frame.h"
#include "compression/updates/scratch.h"

static int fail(const tern::Status& status) {
  std::fprintf(stderr, "%s\n", status.describe().c_str());
  return 1;
}

int main() {
  constexpr size_t kElements = 199'210;
  tern::Rng rng(1, tern::Purpose::kTest);
  std::vector<float> update(kElements);
  for (float& x : update) x = static_cast<float>(rng.normal());
  std::vector<float> decoded(kElements);

  const auto codec = tern::Codec::parse("rotate:1024 | eden:4");
  if (!codec) return fail(codec.error());
  tern::CodecScratch scratch;
  std::vector<std::byte> out(codec->max_encoded_bytes(kElements));
  const auto bytes = codec->encode({.schema_hash = 7, .seed = 1}, update, scratch, out);
  if (!bytes) return fail(bytes.error());
  const auto frame = tern::inspect(std::span(out).first(*bytes),
                                   {.schema_hash = 7, .elements = kElements}, scratch);
  if (!frame) return fail(frame.error());
  if (auto status = tern::decode(*frame, scratch, decoded); !status.ok()) return fail(status);

  double error = 0;
  double power = 0;
  for (size_t i = 0; i < kElements; ++i) {
    error += std::pow(decoded[i] - update[i], 2);
    power += std::pow(update[i], 2);
  }
  const double bits = 8.0 * static_cast<double>(*bytes) / kElements;
  std::printf("%s: %.3f bits a coordinate, error %.4f of the power\n", codec->spec().c_str(), bits,
              error / power);
  return bits < 4.1 && error / power < 0.02 ? 0 : 1;
}
