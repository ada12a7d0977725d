/// What users have without Tern's codecs: the same reductions by tensor operations of LibTorch and
/// by a general compressor, on one core. They share no code with the codecs.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace tern {

struct CodecPeer {
  std::string name;
  std::vector<std::string> beside;  ///< the chains of the same purpose
  /// Encodes the update; gives the bytes that would travel.
  std::function<Result<size_t>()> encode;
  /// What a receiver would make of the last one; not for timing.
  std::function<Result<std::vector<float>>()> decode;
};

/// - topk: the largest hundredth by abs().topk(), their values by index_select, indices as int32;
/// - qsgd: norm of each 1024 values, abs, mul, floor, rand, comparison, sign, to int8, 4 levels;
/// - zstd: ZSTD_compress level 1 of the float32 bytes, with context and buffers that are reused.
///
/// Keeps a view: the update must outlive them. Calls make_math_serial(). Errors of the calls:
/// kInternal for what LibTorch or zstd say. Errors: kInvalidArgument for a length that is no
/// multiple of 1024, or 0.
Result<std::vector<CodecPeer>> make_codec_peers(std::span<const float> update);

}  // namespace tern
