#include "proto/version_tree.h"

#include <algorithm>

namespace tern {

Status VersionTree::check() const {
  if (periods.size() > kMostLevels)
    return error(Code::kInvalidArgument, "{} levels of keyframes, at most {}", periods.size(),
                 kMostLevels);
  uint32_t below = 1;
  for (const uint32_t period : periods) {
    if (period <= below || period % below != 0)
      return error(Code::kInvalidArgument,
                   "keyframes every {} versions on top of every {}: a multiple is needed", period,
                   below);
    below = period;
  }
  if (!chain && periods.empty())
    return error(Code::kInvalidArgument, "versions without keyframes follow each other");
  if (root > 1) return error(Code::kInvalidArgument, "a run's root is version {}", root);
  return {};
}

size_t VersionTree::level(uint32_t version) const {
  size_t level = 0;
  while (level < periods.size() && version % periods[level] == 0) ++level;
  return level;
}

uint32_t VersionTree::parent(uint32_t version) const {
  if (version <= root) return version == 0 ? 0 : version - 1;
  const size_t its = level(version);
  if (its < periods.size()) return std::max(version - version % periods[its], root);
  if (!chain) return root;
  const uint32_t step = periods.empty() ? 1 : periods.back();
  return std::max(version - std::min(step, version), root);
}

uint32_t VersionTree::anchor(uint32_t version) const {
  if (periods.empty()) return version;
  const uint32_t lowest = std::min(version, root);
  return chain ? std::max(version - version % periods.back(), lowest) : lowest;
}

bool VersionTree::holds(uint32_t held, uint32_t version) const {
  if (version == 0 || version == held) return true;
  if (version > held || periods.empty()) return false;
  if (version == root) return anchor(held) == root;
  return std::ranges::any_of(periods,
                             [&](uint32_t period) { return version == held - held % period; });
}

std::vector<uint32_t> VersionTree::kept(uint32_t held) const {
  std::vector<uint32_t> versions{held};
  if (!periods.empty() && holds(held, root)) versions.push_back(root);
  for (const uint32_t period : periods) versions.push_back(held - held % period);
  std::erase_if(versions, [&](uint32_t version) { return version < std::max(root, 1u); });
  std::ranges::sort(versions);
  const auto repeated = std::ranges::unique(versions);
  versions.erase(repeated.begin(), repeated.end());
  return versions;
}

}  // namespace tern
