#include "compression/updates/stages/cut.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "compression/updates/kernels/kernels.h"

namespace tern {

namespace {

constexpr uint32_t kMagnitude = 0x7fffffff;
constexpr int kDigitBits = 11;  // of a pass; the histogram has room for them

constexpr size_t kSampleRun = 16;  // neighbours, a cache line
constexpr size_t kRunsAhead = 8;   // that are on their way from memory
constexpr size_t kLeastSample = 1024, kMostSample = 16384;

uint32_t magnitude(float x) { return std::bit_cast<uint32_t>(x) & kMagnitude; }

/// Walks a histogram from the top until `k` values are above or in a bin; takes those above it off
/// k.
uint32_t bin_of_kth(std::span<const uint32_t> histogram, size_t& k) {
  size_t bin = histogram.size() - 1;
  while (bin > 0 && histogram[bin] < k) k -= histogram[bin--];
  return static_cast<uint32_t>(bin);
}

/// Appends the candidates among the next n elements, which begin at `first` of their chunk; false
/// when there are too many.
bool collect_tile(InputStream& stream, size_t n, size_t first, uint32_t least, size_t most,
                  Candidates& found) {
  if (found.index.size() < most + n) {
    found.index.resize(most + InputStream::kTile);
    found.values.resize(found.index.size());
  }
  found.count += stream.collect(n, least, first, found.index.data() + found.count,
                                found.values.data() + found.count);
  return found.count <= most;
}

/// The magnitude that a few more than k values of the stream reach, by a sample; 0 if it can't
/// tell.
uint32_t guess_cut(const InputStream& stream, size_t k, std::vector<uint32_t>& sample) {
  const size_t n = stream.size();
  const size_t runs = std::clamp(n / 128, kLeastSample, kMostSample) / kSampleRun;
  if (n < 8 * kLeastSample || k > n / 8) return 0;
  sample.clear();
  for (size_t run = 0; run < runs; ++run) {
    const auto begin = [&](size_t number) { return number * (n - kSampleRun) / (runs - 1); };
    const size_t at = begin(run);
    stream.prefetch(begin(std::min(run + kRunsAhead, runs - 1)));
    for (size_t i = at; i < at + kSampleRun; ++i) sample.push_back(magnitude(stream.peek(i)));
  }
  // Four standard deviations to the safe side: values of a run resemble each other.
  const double expected =
      static_cast<double>(k) * static_cast<double>(sample.size()) / static_cast<double>(n);
  const auto rank = static_cast<size_t>(expected + 4 * std::sqrt(expected) + 8);
  if (rank >= sample.size()) return 0;
  const auto at = sample.begin() + static_cast<ptrdiff_t>(rank);
  std::ranges::nth_element(sample, at, std::greater());
  return *at;
}

}  // namespace

Cut find_cut(std::span<const float> values, size_t k, std::vector<uint32_t>& histogram,
             Magnitudes range) {
  if (k == 0) return {};
  // Where the k-th lies: `width` bits from `low` on.
  uint32_t low = range.least;
  int width = std::bit_width(range.most - range.least);
  while (width > 0) {
    const int shift = std::max(width - kDigitBits, 0);
    const std::span bins(histogram.data(), size_t{1} << (width - shift));
    std::ranges::fill(bins, 0);
    for (const float x : values) {
      const uint32_t above = magnitude(x) - low;
      if (above >> width == 0) ++bins[above >> shift];
    }
    low += bin_of_kth(bins, k) << shift;
    width = shift;
  }
  return {.end = 0, .magnitude = low, .ties = low == 0 ? 0 : k};
}

void cut_stream(InputStream& stream, size_t k, CodecScratch& scratch) {
  Candidates& found = scratch.found;
  found.clear();
  const uint32_t least = guess_cut(stream, k, scratch.sample);
  if (least > 0) {
    // So many more than the sample promises mean that it was not like the rest.
    const size_t most = 2 * k + stream.size() / 32;
    bool fits = true;
    for (size_t at = 0; at < stream.size() && fits; at += InputStream::kTile) {
      if (at % kChunkElements == 0 && at > 0) found.ends.push_back(found.count);
      const size_t n = std::min(InputStream::kTile, stream.size() - at);
      fits = collect_tile(stream, n, at % kChunkElements, least, most, found);
    }
    found.ends.push_back(found.count);
    if (!fits || found.count < k) found.clear();
  }
  const std::span<const float> all = stream.fetch_all();
  const auto candidates = std::span<const float>(found.values).first(found.count);
  // Digits from the least candidate on: their own would put most of them into a few bins.
  Cut cut = found.active() ? find_cut(candidates, k, scratch.histogram,
                                      {.least = least, .most = magnitude(stream.largest())})
                           : find_cut(all, k, scratch.histogram);
  cut.end = stream.size();
  scratch.cuts.assign(1, cut);
  scratch.cut = 0;
}

size_t select_above(const float* x, size_t n, size_t at, CodecScratch& scratch, uint16_t* index,
                    float* values) {
  Candidates& found = scratch.found;
  size_t count = 0;
  const auto keep = [&](Cut& cut, const uint32_t* at_index, const float* candidates, size_t k) {
    for (size_t i = 0; i < k; ++i) {
      const uint32_t m = magnitude(candidates[i]);
      // Written in any case, since a branch would be wrong too often.
      index[count] = static_cast<uint16_t>(at_index[i]);
      values[count] = candidates[i];
      count += m > cut.magnitude ? 1 : 0;
      if (m != cut.magnitude || cut.ties == 0) continue;
      --cut.ties;
      ++count;
    }
  };
  if (found.active()) {
    const size_t chunk = at / kChunkElements;
    const size_t begin = chunk == 0 ? 0 : found.ends[chunk - 1];
    keep(scratch.cuts[0], found.index.data() + begin, found.values.data() + begin,
         found.ends[chunk] - begin);
    return count;
  }
  for (size_t i = 0; i < n;) {
    while (scratch.cuts[scratch.cut].end <= at + i) ++scratch.cut;
    Cut& cut = scratch.cuts[scratch.cut];
    const size_t end = std::min(n, cut.end - at);
    // Zeros never travel.
    float largest = 0;
    const size_t k =
        kernels().collect(x + i, end - i, std::max(cut.magnitude, 1u), static_cast<uint32_t>(i),
                          scratch.places.data(), scratch.plain.data(), &largest);
    keep(cut, scratch.places.data(), scratch.plain.data(), k);
    i = end;
  }
  return count;
}

}  // namespace tern
