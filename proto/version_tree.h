/// Which version each published version is coded against. Without keyframes each follows the one
/// before. With them, as in video: every `periods[0]` versions there is a keyframe, every
/// `periods[1]` one of the next level, and so on; what lies between is a refinement, coded fresh
/// from the newest keyframe of the level above. So each version has one frame, and a client needs
/// those of the keyframes that it missed and the last refinement, however many versions it missed.
///
/// Keyframes of the highest level follow each other (`chain`), or are each coded from the root:
/// then a client that was never there before needs no more than one frame of each level.
///
///     periods {3}, chain:   0 <- 3 <- 6 <- 9        periods {3}, no chain:   0 <- 3, 0 <- 6, 0 <-
///     9
///                           0 <- 1, 0 <- 2, 3 <- 4, 3 <- 5, 6 <- 7, ...
///
/// Version 0 follows from the seed, everybody has it. A run that starts from a given model
/// publishes it as version 1, and that is the root.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/status.h"

namespace tern {

/// Threads: pure.
struct VersionTree {
  static constexpr size_t kMostLevels = 4;

  std::vector<uint32_t> periods;  ///< of the keyframes, each a multiple of the one before
  bool chain = true;
  uint32_t root = 0;  ///< 0 or 1

  /// Errors: kInvalidArgument for periods that are none.
  Status check() const;

  /// Of keyframes from 1; 0 for what lies between them. Without keyframes all are of level 0.
  size_t level(uint32_t version) const;
  /// The version that the frame of `version` (not 0) is coded against.
  uint32_t parent(uint32_t version) const;
  /// What takes a snapshot to begin with: the keyframe of the highest level that `version` stands
  /// on or is; the root where those stand on it; without keyframes the version itself.
  uint32_t anchor(uint32_t version) const;
  /// Does a client that was brought to version `held` have the model of `version`, to decode from?
  bool holds(uint32_t held, uint32_t version) const;
  /// What a client that was brought to `held` has to keep, in increasing order; version 0, which it
  /// can compute, is not among it.
  std::vector<uint32_t> kept(uint32_t held) const;
};

}  // namespace tern
