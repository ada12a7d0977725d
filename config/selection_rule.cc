#include "config/selection_rule.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <utility>

namespace tern {

namespace {

using Kind = SelectionRule::Kind;
constexpr std::string_view kPowerOfChoice = "power-of-choice:";
constexpr std::array<std::pair<std::string_view, Kind>, 4> kNames = {
    {{"uniform", Kind::kUniform},
     {"weighted", Kind::kWeighted},
     {"round-robin", Kind::kRoundRobin},
     {"oort", Kind::kOort}}};

}  // namespace

std::optional<SelectionRule> parse_selection_rule(std::string_view text) {
  for (const auto& [name, kind] : kNames)
    if (text == name) return SelectionRule{.kind = kind};
  if (!text.starts_with(kPowerOfChoice)) return std::nullopt;
  text.remove_prefix(kPowerOfChoice.size());
  SelectionRule rule{.kind = Kind::kPowerOfChoice};
  const auto [end, failure] =
      std::from_chars(text.data(), text.data() + text.size(), rule.candidates);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (!(rule.candidates >= 1 && rule.candidates <= 1e6)) return std::nullopt;
  return rule;
}

std::string selection_text(const SelectionRule& rule) {
  for (const auto& [name, kind] : kNames)
    if (rule.kind == kind) return std::string(name);
  return fmt::format("{}{}", kPowerOfChoice, rule.candidates);
}

}  // namespace tern
