/// An update on its way into a chain, piece by piece while it is in the cache: added to what its
/// sender still owes, and checked.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"
#include "compression/updates/codec.h"
#include "compression/updates/kernels/kernels.h"

namespace tern {

/// What a chain is given.
struct EncodeInput {
  std::span<const float> update;
  std::span<const float> residual = {};  ///< added to the update; empty: none
  float sign = 1;                        ///< of the residual, 1 or -1
  /// Takes update + sign * residual, and in the end what the frame loses of it; empty without
  /// error feedback. May be the update itself.
  std::span<float> rest = {};
};

class InputStream {
 public:
  static constexpr float kLargestMagnitude = 0x1p100f;
  /// Elements that are added and checked together: they and their sum stay in the first cache.
  static constexpr size_t kTile = 2048;

  explicit InputStream(const EncodeInput& input) : input_(input) {}

  size_t size() const { return input_.update.size(); }
  /// The elements from `at` on; the first `ready` of them were asked for before or in order.
  std::span<const float> fetch(size_t at, size_t n) {
    while (ready_ < at + n) fetch_more(std::min(kTile, at + n - ready_));
    return values().subspan(at, n);
  }
  std::span<const float> fetch_all() { return fetch(0, size()); }
  /// The largest magnitude of each kGroupElements of the tile that was fetched last, if it begins
  /// at `at`; otherwise null.
  const float* maxima(size_t at) const { return at == tile_ ? maxima_.data() : nullptr; }
  /// Fetches the next n and appends those whose magnitude's bits reach `least` as Kernels::collect
  /// does, counted from `first`; returns how many.
  size_t collect(size_t n, uint32_t least, size_t first, uint32_t* index, float* values) {
    const float* x = input_.update.data() + ready_;
    const auto start = static_cast<uint32_t>(first);
    // One value of each page that comes, so that its address is known by then: a quarter of the
    // time was waiting for that.
    for (size_t at = 0; at < n; at += kPage) __builtin_prefetch(ahead(kTile) + at);
    float largest = 0;
    size_t count = 0;
    if (input_.residual.empty()) {
      count = kernels().collect(x, n, least, start, index, values, &largest);
      copy_to_rest(n);
    } else {
      count = kernels().add_collect(x, input_.residual.data() + ready_, n, input_.sign,
                                    input_.rest.data() + ready_, size() >= kBeyondCaches, least,
                                    start, index, values, &largest);
    }
    advance(n, largest);
    return count;
  }
  /// An element ahead of those fetched, for a sample.
  float peek(size_t i) const {
    const float x = input_.update[i];
    return i < ready_                ? values()[i]
           : input_.residual.empty() ? x
                                     : x + input_.sign * input_.residual[i];
  }
  /// Brings what peek(i) and its neighbours need into the caches.
  void prefetch(size_t i) const {
    __builtin_prefetch(input_.update.data() + i);
    if (!input_.residual.empty()) __builtin_prefetch(input_.residual.data() + i);
  }
  /// n elements of the update that come some time after those fetched, to be brought into a cache;
  /// near the end some that are there already.
  const float* ahead(size_t n) const {
    const size_t next = ready_ + kAhead + n <= size() ? ready_ + kAhead : std::max(ready_, n) - n;
    return input_.update.data() + next;
  }
  /// Errors: kInvalidArgument for values that no frame may hold, among those fetched.
  Status check() const {
    if (largest_ <= kLargestMagnitude) return {};
    return error(Code::kInvalidArgument,
                 "the update holds NaN, infinity or a magnitude beyond 2^100, or adds up to one");
  }
  /// The largest magnitude fetched so far; NaN where there is one.
  float largest() const { return largest_; }

 private:
  std::span<const float> values() const {
    return input_.rest.empty() ? input_.update : std::span<const float>(input_.rest);
  }

  static constexpr size_t kPage = 4096 / sizeof(float);
  /// Elements of which an update, its residual and the rest are beyond any cache.
  static constexpr size_t kBeyondCaches = size_t{1} << 22;
  /// How far ahead() reaches: farther gained nothing, nearer came too late (docs/performance.md).
  static constexpr size_t kAhead = 8 * kTile;

  void fetch_more(size_t n) {
    tile_ = ready_;
    for (float& largest : maxima_) {
      const size_t part = std::min(kGroupElements, tile_ + n - ready_);
      largest = fetch_part(part);
      advance(part, largest);
    }
  }

  float fetch_part(size_t n) {
    const float* x = input_.update.data() + ready_;
    if (!input_.residual.empty())
      return kernels().add_max(x, input_.residual.data() + ready_, n, input_.sign,
                               input_.rest.data() + ready_);
    copy_to_rest(n);
    return kernels().max_abs(x, n);
  }

  void copy_to_rest(size_t n) {
    const float* x = input_.update.data();
    if (!input_.rest.empty() && input_.rest.data() != x)
      std::copy_n(x + ready_, n, input_.rest.data() + ready_);
  }

  void advance(size_t n, float largest) {
    if (!(largest <= largest_)) largest_ = std::isnan(largest_) ? largest_ : largest;
    ready_ += n;
  }

  EncodeInput input_;
  size_t ready_ = 0;
  float largest_ = 0;
  size_t tile_ = SIZE_MAX;  // where the one in maxima_ begins
  std::array<float, kTile / kGroupElements> maxima_ = {};
};

}  // namespace tern
