#include "config/rate_rule.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace tern {

namespace {

constexpr std::string_view kDrawn = "loguniform:";
constexpr double kMost = 1e15;

std::optional<double> parse_rate(std::string_view text) {
  double value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (!(value >= 1 && value <= kMost)) return std::nullopt;
  return value;
}

}  // namespace

std::optional<RateRule> parse_rate_rule(std::string_view text) {
  if (!text.starts_with(kDrawn)) {
    const std::optional<double> rate = parse_rate(text);
    if (!rate) return std::nullopt;
    return RateRule{*rate, *rate};
  }
  text.remove_prefix(kDrawn.size());
  const size_t dots = text.find("..");
  if (dots == std::string_view::npos) return std::nullopt;
  const std::optional<double> low = parse_rate(text.substr(0, dots));
  const std::optional<double> high = parse_rate(text.substr(dots + 2));
  if (!low || !high || *low > *high) return std::nullopt;
  return RateRule{*low, *high};
}

std::string rate_text(const RateRule& rule) {
  if (rule.low == rule.high) return fmt::format("{}", rule.low);
  return fmt::format("{}{}..{}", kDrawn, rule.low, rule.high);
}

double rate_of(const RateRule& rule, Purpose purpose, uint64_t seed, uint32_t client) {
  if (rule.low == rule.high) return rule.low;
  const double share = Rng(seed, purpose, 0, client).uniform();
  return std::round(rule.low * std::exp(share * std::log(rule.high / rule.low)));
}

}  // namespace tern
