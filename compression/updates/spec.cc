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
  if (kind == Argument::kRate) return fmt::format("{}", value / double{kRateOne});
  return fmt::format("{}", value);
}

Status bad_argument(const StageInfo& info, std::string_view text) {
  const char* what = info.argument == Argument::kRate    ? "a rate"
                     : info.argument == Argument::kBlock ? "a power of two"
                                                         : "a number of bits";
  return error(Code::kInvalidArgument, "stage '{}' takes {} from {} to {}, not '{}'", info.name,
               what, print_argument(info.argument, info.smallest),
               print_argument(info.argument, info.largest), text);
}

Result<uint32_t> parse_argument(const StageInfo& info, std::string_view text) {
  const char* end = text.data() + text.size();
  uint32_t value = 0;
  if (info.argument == Argument::kRate) {
    double rate = 0;
    const auto [stop, failed] = std::from_chars(text.data(), end, rate);
    if (failed != std::errc() || stop != end || !(rate > 0) || rate > 1)
      return bad_argument(info, text);
    value = static_cast<uint32_t>(std::llround(rate * kRateOne));
    if (value / double{kRateOne} != rate)
      return error(Code::kInvalidArgument,
                   "stage '{}': a rate has at most 9 decimal places, '{}' has more", info.name,
                   text);
  } else {
    const auto [stop, failed] = std::from_chars(text.data(), end, value);
    if (failed != std::errc() || stop != end) return bad_argument(info, text);
    if (info.argument == Argument::kBlock && !std::has_single_bit(value))
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
                   info->argument == Argument::kRate ? "0.01" : "4");
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
