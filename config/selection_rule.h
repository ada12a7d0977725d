/// How the clients of a round are chosen (fleet.selection).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tern {

struct SelectionRule {
  enum class Kind { kUniform, kWeighted, kRoundRobin, kPowerOfChoice, kOort };
  Kind kind = Kind::kUniform;
  double candidates = 0;  ///< power of choice: looked at for each client asked; 1 to 1e6

  /// It goes by what counted updates have shown of a client.
  bool learns() const { return kind == Kind::kPowerOfChoice || kind == Kind::kOort; }
};

/// "uniform", "weighted", "round-robin", "power-of-choice:2", "oort".
std::optional<SelectionRule> parse_selection_rule(std::string_view text);
/// parse_selection_rule of it gives the same rule.
std::string selection_text(const SelectionRule& rule);

}  // namespace tern
