/// An update on its way into a chain, piece by piece while it is in the cache: added to what its
/// sender still owes, and checked.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

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
  /// Elements that are added and checked together: they and their sum stay in the first cache.
  static constexpr size_t kTile = 2048;

  explicit InputStream(const EncodeInput& input) : input_(input) {}

  size_t size() const { return input_.update.size(); }
  /// The elements from `at` on; the first `ready` of them were asked for before or in order.
  std::span<const float> fetch(size_t at, size_t n) {
    while (ready_ < at + n) advance(std::min(kTile, at + n - ready_));
    return values().subspan(at, n);
  }
  std::span<const float> fetch_all() { return fetch(0, size()); }
  /// An element ahead of those fetched, for a sample.
  float peek(size_t i) const {
    const float x = input_.update[i];
    return i < ready_                ? values()[i]
           : input_.residual.empty() ? x
                                     : x + input_.sign * input_.residual[i];
  }
  /// The largest magnitude fetched so far; NaN where there is one.
  float largest() const { return largest_; }

 private:
  std::span<const float> values() const {
    return input_.rest.empty() ? input_.update : std::span<const float>(input_.rest);
  }

  void advance(size_t n) {
    const float* x = input_.update.data() + ready_;
    float largest = 0;
    if (input_.residual.empty()) {
      largest = kernels().max_abs(x, n);
      if (!input_.rest.empty() && input_.rest.data() != input_.update.data())
        std::copy_n(x, n, input_.rest.data() + ready_);
    } else {
      largest = kernels().add_max(x, input_.residual.data() + ready_, n, input_.sign,
                                  input_.rest.data() + ready_);
    }
    if (!(largest <= largest_)) largest_ = std::isnan(largest_) ? largest_ : largest;
    ready_ += n;
  }

  EncodeInput input_;
  size_t ready_ = 0;
  float largest_ = 0;
};

}  // namespace tern
