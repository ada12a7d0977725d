#include "compression/updates/accumulator.h"

#include <algorithm>
#include <cmath>

#include "compression/updates/kernels/kernels.h"

namespace tern {

Result<FixedPointAccumulator> FixedPointAccumulator::make(size_t elements,
                                                          const AccumulatorBounds& bounds) {
  const double range = bounds.norm_bound * static_cast<double>(bounds.largest_weights);
  if (!(range >= 0x1p-100 && range <= 0x1p52))
    return error(
        Code::kInvalidArgument,
        "norm bound {} times the sum of the weights {} must be at least 2^-100 and at most "
        "2^52, so that 64-bit sums can't overflow and keep 10 bits below one",
        bounds.norm_bound, bounds.largest_weights);
  FixedPointAccumulator made;
  made.sum_.assign(elements, 0);
  made.bounds_ = bounds;
  made.shift_ = 62 - static_cast<int>(std::ceil(std::log2(range)));
  return made;
}

Status FixedPointAccumulator::admit(double norm, uint32_t weight) {
  if (!(norm <= bounds_.norm_bound))
    return error(Code::kOutOfRange,
                 "the update's norm {:.6g} is above the bound {:.6g} (strategy.norm_bound)", norm,
                 bounds_.norm_bound);
  if (weight == 0 || weight > 65535)
    return error(Code::kOutOfRange, "an update's weight must be in 1..65535, not {}", weight);
  if (total_weight_ + weight > bounds_.largest_weights)
    return error(Code::kOutOfRange, "the weights add up to {}, the plan allows {}",
                 total_weight_ + weight, bounds_.largest_weights);
  total_weight_ += weight;
  return {};
}

void FixedPointAccumulator::add_dense(size_t offset, std::span<const float> values, uint32_t weight,
                                      double factor) {
  kernels().accumulate(sum_.data() + offset, values.data(), values.size(),
                       std::ldexp(factor, shift_), weight);
}

void FixedPointAccumulator::add_sparse(size_t offset, std::span<const uint16_t> index,
                                       std::span<const float> values, uint32_t weight,
                                       double factor) {
  kernels().accumulate_sparse(sum_.data() + offset, index.data(), values.data(), values.size(),
                              std::ldexp(factor, shift_), weight);
}

Status FixedPointAccumulator::merge(const FixedPointAccumulator& other) {
  if (other.sum_.size() != sum_.size() || other.shift_ != shift_)
    return error(Code::kInvalidArgument,
                 "accumulators of different length or bounds can't be merged");
  if (total_weight_ + other.total_weight_ > bounds_.largest_weights)
    return error(Code::kOutOfRange, "the weights add up to {}, the plan allows {}",
                 total_weight_ + other.total_weight_, bounds_.largest_weights);
  for (size_t i = 0; i < sum_.size(); ++i) sum_[i] += other.sum_[i];
  total_weight_ += other.total_weight_;
  return {};
}

void FixedPointAccumulator::mean(std::span<float> out) const {
  const double divisor =
      total_weight_ > 0 ? std::ldexp(static_cast<double>(total_weight_), shift_) : 1;
  for (size_t i = 0; i < sum_.size(); ++i)
    out[i] = static_cast<float>(static_cast<double>(sum_[i]) / divisor);
}

void FixedPointAccumulator::clear() {
  std::fill(sum_.begin(), sum_.end(), 0);
  total_weight_ = 0;
}

}  // namespace tern
