/// How published models travel to the clients: the tree of their versions and the chain of each of
/// its levels, from the keys compression.down, keyframe and keyframe_every.
#pragma once

#include <string_view>
#include <vector>

#include "base/status.h"
#include "compression/updates/codec.h"
#include "config/scenario.h"
#include "proto/version_tree.h"

namespace tern {

/// In compression.down: choose_downlink chooses.
inline constexpr std::string_view kAuto = "auto";

/// Chains and keyframes for a fleet of which a client comes every `gap` versions, by what
/// docs/downlink.md has measured; sets down, keyframe and keyframe_every.
void choose_downlink(double gap, CompressionConfig& compression);

/// Its root is 0.
VersionTree version_tree(const CompressionConfig& compression);

/// From level 0 on. With keyframes the server owes the clients whatever a frame has lost, and the
/// next one is coded from what it is ahead of them: so all chains are error-fed, said or not, and
/// their decoded values have the smallest error and not the right mean. Errors: those of the
/// chains; kInvalidArgument with the key that is wrong.
Result<std::vector<Codec>> downlink_codecs(const CompressionConfig& compression);

/// Frames of a level in a download, on average, for a client that comes every `gap` versions.
double expected_frames(const VersionTree& tree, size_t level, double gap);

}  // namespace tern
