#include "compression/updates/accumulator.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "compression/updates/kernels/kernels.h"

namespace tern {

namespace {

/// Elements that one lock is for.
constexpr size_t kBlock = 65536;
/// Longer sums (32 MiB) give their pages back; a shorter one would spend more on faulting them in
/// again than on adding an update.
constexpr size_t kKeptElements = size_t{1} << 22;
/// Bytes of a large page. Given back in part, one would be split and its memory stay in use.
constexpr size_t kLargePage = size_t{2} << 20;
/// So many are cleared while they lie in the first cache.
constexpr size_t kClearedElements = size_t{1} << 11;

#ifdef __linux__
/// Those that lie in sums as a whole.
std::span<std::byte> pages_of(std::span<int64_t> sums) {
  static const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  void* at = sums.data();
  size_t left = sums.size_bytes();
  if (std::align(page, page, at, left) == nullptr) return {};
  return {static_cast<std::byte*>(at), left / page * page};
}
#endif

/// A round's first update touches all of its sum, and a fault for each 4 KiB of it takes longer
/// than adding the update. Where the system has no large pages, nothing is lost.
void ask_for_large_pages([[maybe_unused]] std::span<int64_t> sums) {
#ifdef __linux__
  const std::span<std::byte> pages = pages_of(sums);
  (void)::madvise(pages.data(), pages.size(), MADV_HUGEPAGE);
#endif
}

/// From `at` to where the next one begins.
size_t elements_to_large_page(const int64_t* at) {
  return (kLargePage - reinterpret_cast<uintptr_t>(at) % kLargePage) / sizeof(int64_t);
}

/// Pages that were given back are zeros when they are touched again; elsewhere than on Linux they
/// may not be.
void clear_and_release(std::span<int64_t> sums) {
#ifdef __linux__
  const std::span<std::byte> pages = pages_of(sums);
  if (!pages.empty() && ::madvise(pages.data(), pages.size(), MADV_DONTNEED) == 0) {
    const std::span<std::byte> bytes = std::as_writable_bytes(sums);
    std::fill(bytes.data(), pages.data(), std::byte{0});
    std::fill(pages.data() + pages.size(), bytes.data() + bytes.size(), std::byte{0});
    return;
  }
#endif
  std::ranges::fill(sums, 0);
}

}  // namespace

/// Holds the locks of the blocks that some elements lie in.
class FixedPointAccumulator::Hold {
 public:
  Hold(Locks& locks, size_t offset, size_t elements)
      : locks_(locks),
        first_(1 + offset / kBlock),
        end_(1 + (offset + elements + kBlock - 1) / kBlock) {
    for (size_t i = first_; i < end_; ++i) locks_[i].lock();
  }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  ~Hold() {
    for (size_t i = first_; i < end_; ++i) locks_[i].unlock();
  }

 private:
  Locks& locks_;
  size_t first_, end_;
};

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
  made.sum_.reserve(elements);
  if (elements > kKeptElements) ask_for_large_pages({made.sum_.data(), elements});
  made.sum_.resize(elements);
  made.locks_ = Locks(1 + (elements + kBlock - 1) / kBlock);
  made.clear();
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
  const std::lock_guard hold(locks_[0]);
  if (total_weight_ + weight > bounds_.largest_weights)
    return error(Code::kOutOfRange, "the weights add up to {}, the plan allows {}",
                 total_weight_ + weight, bounds_.largest_weights);
  total_weight_ += weight;
  return {};
}

void FixedPointAccumulator::add_dense(size_t offset, std::span<const float> values, uint32_t weight,
                                      double factor) {
  const Hold hold(locks_, offset, values.size());
  kernels().accumulate(sum_.data() + offset, values.data(), values.size(),
                       std::ldexp(factor, shift_), weight);
}

void FixedPointAccumulator::add_sparse(size_t offset, std::span<const uint16_t> index,
                                       std::span<const float> values, uint32_t weight,
                                       double factor) {
  const Hold hold(locks_, offset, std::min(kBlock, sum_.size() - offset));
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

double FixedPointAccumulator::divisor() const {
  return total_weight_ > 0 ? std::ldexp(static_cast<double>(total_weight_), shift_) : 1;
}

void FixedPointAccumulator::mean(std::span<float> out) const {
  kernels().divide(sum_.data(), sum_.size(), divisor(), out.data());
}

std::vector<float> FixedPointAccumulator::take_mean() {
  const double by = divisor();
  const bool release = sum_.size() > kKeptElements;
  std::vector<float> mean;
  mean.reserve(sum_.size());
  size_t step = kClearedElements;
  for (size_t at = 0; at < sum_.size(); at += step) {
    if (release) step = elements_to_large_page(sum_.data() + at);
    const auto sums = std::span(sum_).subspan(at, std::min(step, sum_.size() - at));
    mean.resize(at + sums.size());
    kernels().divide(sums.data(), sums.size(), by, mean.data() + at);
    if (release)
      clear_and_release(sums);
    else
      std::ranges::fill(sums, 0);
  }
  total_weight_ = 0;
  return mean;
}

void FixedPointAccumulator::clear() {
  if (sum_.size() > kKeptElements)
    clear_and_release(sum_);
  else
    std::ranges::fill(sum_, 0);
  total_weight_ = 0;
}

}  // namespace tern
