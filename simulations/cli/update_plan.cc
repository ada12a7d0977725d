#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/program.h"
#include "compression/updates/ladder.h"
#include "compression/updates/rate_control.h"
#include "simulations/cli/commands.h"
#include "simulations/cli/print_json.h"
#include "simulations/cli/tensor_file.h"

namespace tern::cli {

using nlohmann::ordered_json;

namespace {

struct PlanArguments {
  std::string like;
  std::string update;
  std::string budget;
  std::string link;
  std::string deadline;
  std::string ladder;
  uint32_t cohort = 10;
  bool stateless = false;
  bool json = false;
};

struct Unit {
  std::string_view name;
  double factor;
};
constexpr std::array kSizes = {Unit{"", 1},         Unit{"B", 1},    Unit{"kB", 1e3},
                               Unit{"MB", 1e6},     Unit{"GB", 1e9}, Unit{"KiB", 1024},
                               Unit{"MiB", 1048576}};
constexpr std::array kRates = {Unit{"B/s", 1},       Unit{"kB/s", 1e3},   Unit{"MB/s", 1e6},
                               Unit{"bit/s", 0.125}, Unit{"kbit/s", 125}, Unit{"Mbit/s", 125e3},
                               Unit{"Gbit/s", 125e6}};
constexpr std::array kTimes = {Unit{"ms", 1e-3}, Unit{"s", 1}, Unit{"m", 60}, Unit{"h", 3600}};

/// A positive number with one of the units, in that of factor 1. Errors name the option.
Result<double> quantity(std::string_view option, std::string_view text,
                        std::span<const Unit> units) {
  double value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string_view rest = text.substr(static_cast<size_t>(end - text.data()));
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  std::string known;
  for (const Unit& unit : units) {
    if (failure == std::errc() && rest == unit.name && value > 0 && std::isfinite(value))
      return value * unit.factor;
    if (!unit.name.empty()) known += fmt::format("{}{}", known.empty() ? "" : ", ", unit.name);
  }
  return error(Code::kInvalidArgument, "'{}'; expected a number above 0 with one of {}", text,
               known)
      .at({.key = fmt::format("--{}", option)});
}

struct Budget {
  double bytes = 0;
  std::string said;  ///< where it comes from
};

Result<Budget> budget_of(const PlanArguments& arguments) {
  const bool timed = !arguments.link.empty() || !arguments.deadline.empty();
  if (arguments.budget.empty() == !timed ||
      (timed && (arguments.link.empty() || arguments.deadline.empty())))
    return error(Code::kInvalidArgument,
                 "give either --budget SIZE, or both --link RATE and --deadline TIME");
  if (!timed) {
    TERN_TRY(const double bytes, quantity("budget", arguments.budget, kSizes));
    return Budget{bytes, fmt::format("a budget of {:.0f} bytes", bytes)};
  }
  TERN_TRY(const double rate, quantity("link", arguments.link, kRates));
  TERN_TRY(const double seconds, quantity("deadline", arguments.deadline, kTimes));
  return Budget{rate * seconds, fmt::format("{:.0f} bytes, what {} carries in {}", rate * seconds,
                                            arguments.link, arguments.deadline)};
}

std::string reason_text(RateReason reason) {
  switch (reason) {
    case RateReason::kMostAccurate:
      return "it fits, and no other chain has less error";
    case RateReason::kFits:
      return "of the chains that fit it leaves the least error in the mean";
    default:
      return "none fits: it has the fewest bytes";
  }
}

Result<ordered_json> make_plan(const PlanArguments& arguments) {
  TERN_TRY(const Budget budget, budget_of(arguments));
  if (arguments.like.empty() == arguments.update.empty())
    return error(Code::kInvalidArgument,
                 "give either --like FILE, of which only the shapes count, or --update FILE");
  const std::string_view text = !arguments.ladder.empty() ? std::string_view(arguments.ladder)
                                : arguments.stateless     ? stateless_ladder()
                                                          : stateful_ladder();
  const Result<std::vector<Codec>> chains = parse_ladder(text);
  if (!chains) return Status(chains.error()).at({.key = "--ladder"});
  const bool measured = !arguments.update.empty();
  const std::string& file = measured ? arguments.update : arguments.like;
  TERN_TRY(const TensorFile tensors, read_tensor_file(file));
  if (tensors.values.empty())
    return error(Code::kInvalidArgument, "has no elements").at({.file = file});
  CodecScratch scratch;
  LadderSample sample;
  if (measured) sample = {.update = tensors.values, .trust_update = true};
  Result<std::vector<Rung>> ladder = measure_ladder(*chains, tensors.schema, sample, scratch);
  if (!ladder) return std::move(ladder).error().at({.file = file});
  const RateChoice choice = choose_rung(*ladder, {.budget_bytes = budget.bytes,
                                                  .cohort = arguments.cohort,
                                                  .keeps_state = !arguments.stateless});
  ordered_json rungs = ordered_json::array();
  for (const Rung& rung : *ladder)
    rungs.push_back(
        {{"chain", rung.codec.spec()},
         {"bytes", std::llround(rung.bytes)},
         {"bits_per_element", 8 * rung.bytes / static_cast<double>(tensors.schema.elements())},
         {"nmse", rung.nmse},
         {"nmse_from", measured                       ? "update"
                       : closed_form_nmse(rung.codec) ? "closed form"
                                                      : "Gaussian values"},
         {"error_in_mean", error_in_mean(rung, arguments.cohort)},
         {"needs_state", rung.codec.error_feedback()},
         {"fits", rung.bytes <= budget.bytes}});
  return ordered_json{{"file", file},
                      {"elements", tensors.schema.elements()},
                      {"cohort", arguments.cohort},
                      {"budget_bytes", budget.bytes},
                      {"ladder", std::move(rungs)},
                      {"choice", (*ladder)[choice.rung].codec.spec()},
                      {"reason", std::string(name(choice.reason))},
                      {"said", fmt::format("{}: {}", budget.said, reason_text(choice.reason))}};
}

void print_plan(const ordered_json& plan) {
  fmt::print("{}, {} elements, mean of {} updates\n", plan["file"].get<std::string>(),
             plan["elements"].get<uint64_t>(), plan["cohort"].get<uint32_t>());
  fmt::print("  {:<40} {:>10} {:>9} {:>10} {:>9}  {}\n", "chain", "bytes", "bits/elem", "NMSE",
             "in mean", "fits");
  for (const ordered_json& rung : plan["ladder"]) {
    const auto figure = [&](const char* key) { return rung[key].get<double>(); };
    fmt::print("{} {:<40} {:>10.0f} {:>9.4g} {:>10.4g} {:>9.3g}  {}\n",
               rung["chain"] == plan["choice"] ? ">" : " ", rung["chain"].get<std::string>(),
               figure("bytes"), figure("bits_per_element"), figure("nmse"), figure("error_in_mean"),
               rung["fits"].get<bool>() ? "yes" : "no");
  }
  fmt::print("{}\n  ({})\n", plan["choice"].get<std::string>(), plan["said"].get<std::string>());
}

int plan_update(const PlanArguments& arguments) {
  const Result<ordered_json> plan = make_plan(arguments);
  if (!plan) {
    const bool input = plan.error().code() == Code::kOutOfRange;
    return input ? fail(plan.error(), arguments.json, kBadInput)
                 : fail(plan.error(), arguments.json);
  }
  if (arguments.json)
    print_json(*plan);
  else
    print_plan(*plan);
  return kOk;
}

}  // namespace

void add_update_plan(CLI::App& update, int& exit_status) {
  auto arguments = std::make_shared<PlanArguments>();
  CLI::App* command =
      update.add_subcommand("plan", "Say which chain fits a budget, or a link and a deadline");
  command->add_option("--like", arguments->like, "Names and shapes: a model, or any update of it")
      ->type_name("FILE");
  command
      ->add_option("--update", arguments->update,
                   "An update: bytes and errors are measured on its values")
      ->type_name("FILE");
  command->add_option("--budget", arguments->budget, "Bytes of a frame, such as 20kB")
      ->type_name("SIZE");
  command->add_option("--link", arguments->link, "What the link carries, such as 1Mbit/s")
      ->type_name("RATE");
  command->add_option("--deadline", arguments->deadline, "For the transfer, such as 2s or 500ms")
      ->type_name("TIME");
  command
      ->add_option("--ladder", arguments->ladder,
                   "Chains to choose from, with ';' between them [see docs/rate_control.md]")
      ->type_name("SPECS");
  command
      ->add_option("--cohort", arguments->cohort,
                   "Updates that are averaged: unbiased noise shrinks by as much")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_flag("--stateless", arguments->stateless,
                    "The client keeps nothing between rounds: no error feedback");
  command->add_flag("--json", arguments->json, "One JSON object on stdout and nothing else");
  command->footer(
      "'in mean' is what is left of a frame's squared error in the mean of a cohort.\n"
      "Examples:\n"
      "  tern update plan --like model.safetensors --budget 20kB --stateless\n"
      "  tern update plan --update update.npy --link 1Mbit/s --deadline 2s\n"
      "  tern update plan --update update.npy --budget 5kB --ladder \"rotate:1024 | randk:0.1 | "
      "eden:1; rotate:1024 | eden:1; float32\" --json");
  command->callback([arguments, &exit_status] { exit_status = plan_update(*arguments); });
}

}  // namespace tern::cli
