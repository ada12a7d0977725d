/// A sum of updates in 64-bit integers: the same bits in any order, on any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/status.h"

namespace tern {

/// What the plan promises of the updates to be added.
struct AccumulatorBounds {
  double norm_bound = 1024;      ///< on each update's Euclidean norm, hence on each coordinate
  uint64_t largest_weights = 1;  ///< the sum of the weights of all updates that may be added
};

/// acc[i] += m * llrint(x[i] * factor * 2^s) with weights m in 1..65535 and
/// s = 62 - ceil(log2(norm_bound * largest_weights)). Overflow is impossible while every update
/// keeps the bounds; admit() refuses one that does not. The sum is off by at most 2^-(s+1) of the
/// total weight, which is at most norm_bound * largest_weights * 2^-62 in the mean; mean() adds the
/// rounding of a double and of the float32 that it gives. A mergeable value (accumulate, merge,
/// report).
///
/// Memory: 8 bytes an element while there is a sum; an empty one's is given back where that
/// is more than 32 MiB.
///
/// Threads: admit() and the add calls are safe beside each other: there is a lock for each 65536
/// elements. So are elements() and where sums() lie. Everything else is for one thread alone.
class FixedPointAccumulator {
 public:
  FixedPointAccumulator() = default;
  /// Errors: kInvalidArgument when the bounds leave no room (norm_bound * largest_weights > 2^52)
  /// or are next to nothing (< 2^-100).
  static Result<FixedPointAccumulator> make(size_t elements, const AccumulatorBounds& bounds);

  size_t elements() const { return sum_.size(); }
  int shift() const { return shift_; }
  uint64_t total_weight() const { return total_weight_; }
  bool can_report() const { return total_weight_ > 0; }

  /// Books an update of this norm and weight. Errors: kOutOfRange, and then nothing is booked.
  Status admit(double norm, uint32_t weight);
  void add_dense(size_t offset, std::span<const float> values, uint32_t weight, double factor);
  void add_sparse(size_t offset, std::span<const uint16_t> index, std::span<const float> values,
                  uint32_t weight, double factor);

  /// Adds another accumulator of the same bounds. Errors: kInvalidArgument for others; kOutOfRange
  /// beyond the weights.
  Status merge(const FixedPointAccumulator& other);
  /// out[i] = acc[i] * 2^-s / total_weight in double, then float32; zeros when nothing was added.
  void mean(std::span<float> out) const;
  /// mean() and clear(); the mean takes up memory as the sum gives it back.
  std::vector<float> take_mean();
  /// Back to an empty sum with the same bounds.
  void clear();

  std::span<const int64_t> sums() const { return sum_; }

 private:
  /// Copies have locks of their own.
  class Locks {
   public:
    explicit Locks(size_t count = 0) : count_(count), locks_(new std::mutex[count]) {}
    Locks(const Locks& other) : Locks(other.count_) {}
    Locks& operator=(const Locks& other) { return *this = Locks(other); }
    Locks(Locks&&) = default;
    Locks& operator=(Locks&&) = default;
    std::mutex& operator[](size_t i) { return locks_[i]; }

   private:
    size_t count_;
    std::unique_ptr<std::mutex[]> locks_;
  };
  class Hold;

  double divisor() const;

  std::vector<int64_t> sum_;
  Locks locks_;  // of the weight, and of each block
  AccumulatorBounds bounds_;
  int shift_ = 0;
  uint64_t total_weight_ = 0;
};

}  // namespace tern
