#include "base/rng.h"

#include <cmath>

namespace tern {

PhiloxBlock philox(PhiloxBlock c, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * c[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ key[0], static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return c;
}

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t z = a + 0x9E3779B97F4A7C15 * (b + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

std::array<uint32_t, 2> rng_key(uint64_t seed, Purpose purpose) {
  const uint64_t key = mix(seed, static_cast<uint64_t>(purpose));
  return {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)};
}

Rng::Rng(uint64_t seed, Purpose purpose, uint32_t round, uint32_t client, uint32_t index) {
  key_ = rng_key(seed, purpose);
  counter_ = {0, round, client, index};
}

uint32_t Rng::next() {
  if (used_ == 4) {
    block_ = philox(counter_, key_);
    // 2^34 numbers a stream; a stream that long would be a fault of its user, and the key takes the
    // carry.
    if (++counter_[0] == 0) ++key_[1];
    used_ = 0;
  }
  return block_[used_++];
}

uint32_t Rng::below(uint32_t bound) {
  uint64_t product = uint64_t{next()} * bound;
  if (static_cast<uint32_t>(product) < bound) {
    const uint32_t reject_below = -bound % bound;
    while (static_cast<uint32_t>(product) < reject_below) product = uint64_t{next()} * bound;
  }
  return static_cast<uint32_t>(product >> 32);
}

double Rng::normal() {
  for (;;) {
    const double u = 2 * uniform() - 1;
    const double v = 2 * uniform() - 1;
    const double s = u * u + v * v;
    if (s > 0 && s < 1) return u * std::sqrt(-2 * std::log(s) / s);
  }
}

}  // namespace tern
