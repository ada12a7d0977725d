// Encodes an update with an installed Tern, decodes the frame, and prints size and error.
#include <cstdio>
#include <vector>

#include "compression/updates/codec.h"
#include "compression/updates/frame.h"

int main() {
  std::vector<float> update(199'210), decoded(update.size());
  for (size_t i = 0; i < update.size(); ++i) update[i] = (i * 2654435761 % 1000 - 499.5f) / 1000;

  const auto codec = tern::Codec::parse("rotate:1024 | eden:4").value();
  const auto schema = tern::ParameterSchema::flat(update.size());
  tern::CodecScratch scratch;
  std::vector<std::byte> bytes(codec.max_encoded_bytes(schema));
  bytes.resize(codec.encode({.seed = 1}, schema, update, scratch, bytes).value());
  const auto frame = tern::inspect(bytes, schema, {}, scratch).value();
  if (!tern::decode(frame, scratch, decoded).ok()) return 1;

  double error = 0, power = 0;
  for (size_t i = 0; i < update.size(); ++i)
    error += (decoded[i] - update[i]) * (decoded[i] - update[i]), power += update[i] * update[i];
  std::printf("%zu bytes, error %.4f of the power\n", bytes.size(), error / power);
  return error / power < 0.02 ? 0 : 1;
}
