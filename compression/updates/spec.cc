#include "compression/updates/spec.h"

#include <bit>
#include <charconv>
#include <cmath>

namespace tern {

const StageInfo* find_stage(std::string_view name) {
  for (const StageInfo& stage : kStages)
    if (stage.name == name) return &stage;
  return nullptr;
}

const StageInfo* find_stage(uint8_t id) {
  for (const StageInfo& stage : kStages)
    if (stage.id == id) return &stage;
  return nullptr;
}

namespace {

std::string known_names() {
  std::string names;
  for (const StageInfo& stage : kStages) {
    if (!names.empty()) names += ", ";
    names += stage.name;
  }
  return names;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string print_argument(Argument kind, uint32_t value) {
  switch (kind) {
    case Argument::kRate:
      return fmt::format("{}", value / double{kRateOne});
    case Argument::kPercent:
      return fmt::format("{}", value / 100.0);
    case Argument::kThreshold:
      return fmt::format("{}", std::bit_cast<float>(value));
    case Argument::kTable:
      return fmt::format("{}x{}", table_rows(value), table_columns(value));
    case Argument::kComponents:
      return fmt::format("{}x{}", components_rank(value), components_step(value) / 100.0);
    default:
      return fmt::format("{}", value);
  }
}

std::string_view describe(Argument kind) {
  switch (kind) {
    case Argument::kNone:
      return "nothing";
    case Argument::kPowerOfTwo:
      return "a power of two";
    case Argument::kBits:
      return "a number of bits";
    case Argument::kSide:
      return "a side";
    case Argument::kRank:
      return "a rank";
    case Argument::kLevels:
      return "a number of levels";
    case Argument::kPercent:
      return "a fraction";
    case Argument::kRate:
      return "a rate";
    case Argument::kThreshold:
      return "a magnitude";
    case Argument::kTable:
      return "ROWSxCOLS";
    case Argument::kComponents:
      return "RANK or RANKxSTEP";
  }
  return "";
}

Status bad_argument(const StageInfo& info, std::string_view text) {
  return error(Code::kInvalidArgument, "stage '{}' takes {} from {} to {}, not '{}'", info.name,
               describe(info.argument), print_argument(info.argument, info.smallest),
               print_argument(info.argument, info.largest), text);
}

/// All of `text`, as a number. Errors: none is given; false.
template <typename T>
bool parse_number(std::string_view text, T& value) {
  const char* end = text.data() + text.size();
  const auto [stop, failed] = std::from_chars(text.data(), end, value);
  return failed == std::errc() && stop == end;
}

/// A fraction in (0, 1] in units of 1/one.
Result<uint32_t> parse_fraction(const StageInfo& info, std::string_view text, uint32_t one,
                                int places) {
  double fraction = 0;
  if (!parse_number(text, fraction) || !(fraction > 0) || fraction > 1)
    return bad_argument(info, text);
  const auto value = static_cast<uint32_t>(std::llround(fraction * one));
  if (value / static_cast<double>(one) != fraction)
    return error(Code::kInvalidArgument,
                 "stage '{}': {} has at most {} decimal places, '{}' has more", info.name,
                 describe(info.argument), places, text);
  return value;
}

Result<uint32_t> parse_argument(const StageInfo& info, std::string_view text) {
  uint32_t value = 0;
  if (info.argument == Argument::kRate) {
    TERN_TRY(value, parse_fraction(info, text, kRateOne, 9));
  } else if (info.argument == Argument::kPercent) {
    TERN_TRY(value, parse_fraction(info, text, 100, 2));
  } else if (info.argument == Argument::kThreshold) {
    float magnitude = 0;
    if (!parse_number(text, magnitude) || !(magnitude > 0)) return bad_argument(info, text);
    value = std::bit_cast<uint32_t>(magnitude);
  } else if (info.argument == Argument::kTable) {
    const size_t cross = text.find('x');
    uint32_t rows = 0, columns = 0;
    if (cross == std::string_view::npos || !parse_number(text.substr(0, cross), rows) ||
        !parse_number(text.substr(cross + 1), columns) || rows < 1 || rows > 15 || columns < 1 ||
        columns >= 1u << kTableColumnBits)
      return bad_argument(info, text);
    value = table_argument(rows, columns);
  } else if (info.argument == Argument::kComponents) {
    const size_t cross = std::min(text.find('x'), text.size());
    uint32_t rank = 0;
    double step = kUsualStep / 100.0;
    if (!parse_number(text.substr(0, cross), rank) ||
        (cross < text.size() && !parse_number(text.substr(cross + 1), step)) ||
        rank < components_rank(info.smallest) || rank > components_rank(info.largest) ||
        !(step >= components_step(info.smallest) / 100.0) ||
        step > components_step(info.largest) / 100.0)
      return bad_argument(info, text);
    value = components_argument(rank, static_cast<uint32_t>(std::lround(step * 100)));
    if (components_step(value) / 100.0 != step)
      return error(Code::kInvalidArgument,
                   "stage '{}': a step has at most 2 decimal places, '{}' has more", info.name,
                   text);
  } else if (!parse_number(text, value) ||
             (info.argument == Argument::kPowerOfTwo && !std::has_single_bit(value))) {
    return bad_argument(info, text);
  }
  if (value < info.smallest || value > info.largest) return bad_argument(info, text);
  return value;
}

}  // namespace

Result<std::vector<Stage>> parse_spec(std::string_view text) {
  std::vector<Stage> stages;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('|', begin), text.size());
    const std::string_view item = trim(text.substr(begin, end - begin));
    const auto column = static_cast<size_t>(item.data() - text.data()) + 1;
    begin = end + 1;
    if (item.empty())
      return error(Code::kInvalidArgument,
                   "codec '{}', column {}: a stage is missing; known stages: {}", text, column,
                   known_names());
    const size_t colon = item.find(':');
    const std::string_view stage_name = trim(item.substr(0, colon));
    const StageInfo* info = find_stage(stage_name);
    if (info == nullptr)
      return error(Code::kInvalidArgument,
                   "codec '{}', column {}: unknown stage '{}'; known stages: {}", text, column,
                   stage_name, known_names());
    Stage stage{.info = info, .argument = info->fallback};
    if (colon != std::string_view::npos) {
      if (info->argument == Argument::kNone)
        return error(Code::kInvalidArgument, "codec '{}', column {}: stage '{}' takes no argument",
                     text, column, stage_name);
      Result<uint32_t> argument = parse_argument(*info, trim(item.substr(colon + 1)));
      if (!argument)
        return std::move(argument).error().within(
            fmt::format("codec '{}', column {}", text, column));
      stage.argument = *argument;
    } else if (info->argument != Argument::kNone && info->fallback == 0) {
      return error(Code::kInvalidArgument,
                   "codec '{}', column {}: stage '{}' needs an argument, such as '{}:{}'", text,
                   column, stage_name, stage_name,
                   info->argument == Argument::kRate        ? "0.01"
                   : info->argument == Argument::kThreshold ? "0.001"
                   : info->argument == Argument::kTable     ? "5x10000"
                   : info->argument == Argument::kPercent   ? "0.4"
                                                            : "4");
    }
    stages.push_back(stage);
  }
  return stages;
}

std::string print_spec(const std::vector<Stage>& stages) {
  std::string text;
  for (const Stage& stage : stages) {
    if (!text.empty()) text += " | ";
    text += stage.info->name;
    if (stage.info->argument != Argument::kNone)
      text += ":" + print_argument(stage.info->argument, stage.argument);
  }
  return text;
}

}  // namespace tern
