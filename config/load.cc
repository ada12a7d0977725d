#include "config/load.h"

#include <toml++/toml.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <system_error>

#include "base/durable_file.h"
#include "base/sha256.h"
#include "compression/updates/codec.h"
#include "compression/updates/ladder.h"
#include "config/downlink.h"
#include "config/model_card.h"
#include "config/vocabulary.h"

namespace tern {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 24;
constexpr std::string_view kSet = "--set";

/// Where each key that was given got its value.
using Places = std::map<std::string_view, Where>;

/// A name in the file that has a value, or a table that isn't in the vocabulary.
struct Entry {
  std::string name;
  toml::source_position position;
  const toml::node* node = nullptr;
  const Key* key = nullptr;  ///< null for an unknown name
  bool dotted = false;       ///< one quoted name with dots in it
};

Value value_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::integer:
      return node.as_integer()->get();
    case toml::node_type::floating_point:
      return node.as_floating_point()->get();
    case toml::node_type::boolean:
      return node.as_boolean()->get();
    case toml::node_type::string:
      return node.as_string()->get();
    case toml::node_type::array:
      return OtherValue{"an array"};
    case toml::node_type::table:
      return OtherValue{"a table"};
    case toml::node_type::date:
      return OtherValue{"a date"};
    case toml::node_type::time:
      return OtherValue{"a time"};
    case toml::node_type::date_time:
      return OtherValue{"a date and time"};
    default:
      return OtherValue{"empty"};
  }
}

void collect(const toml::table& table, const std::string& prefix, std::vector<Entry>& entries) {
  for (const auto& [key, node] : table) {
    // A quoted key may hold dots, but then it doesn't name what the dots suggest.
    const bool dotted = key.str().find('.') != std::string_view::npos;
    const std::string leaf = dotted ? toml_string(key.str()) : std::string(key.str());
    std::string name = prefix.empty() ? leaf : fmt::format("{}.{}", prefix, leaf);
    if (node.is_table() && !dotted && is_table(name)) {
      collect(*node.as_table(), name, entries);
      continue;
    }
    const Key* known = dotted ? nullptr : find_key(name);
    entries.push_back({std::move(name), key.source().begin, &node, known, dotted});
  }
}

/// Refuses a name that isn't a key.
Status unknown_name(std::string_view name) {
  if (is_table(name)) return error(Code::kInvalidArgument, "is a table of keys, not a value");
  return Status(Code::kInvalidArgument, unknown_name_message(name));
}

Status read_table(const toml::table& table, const std::string& file, Scenario& scenario,
                  Places& places) {
  std::vector<Entry> entries;
  collect(table, "", entries);
  // toml++ keeps keys by name; people read errors from the top of the file.
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.position.line, a.position.column) <
           std::pair(b.position.line, b.position.column);
  });
  for (const Entry& entry : entries) {
    const Where where{file, static_cast<int>(entry.position.line), entry.name};
    if (entry.dotted)
      return error(Code::kInvalidArgument, "unknown name; write table.key without quotes")
          .at(where);
    if (entry.key == nullptr) return unknown_name(entry.name).at(where);
    if (Status status = assign(*entry.key, value_of(*entry.node), scenario); !status.ok())
      return std::move(status).at(where);
    places[entry.key->name] = where;
  }
  return {};
}

/// toml++ refuses what isn't UTF-8; so does --set, since what it sets is printed as TOML.
bool is_utf8(std::string_view text) {
  try {
    (void)toml::parse("text = " + toml_string(text));
    return true;
  } catch (const toml::parse_error&) {
    return false;
  }
}

Status apply_override(const Override& override, Scenario& scenario, Places& places) {
  const Where where{std::string(kSet), 0, override.key};
  const Key* key = find_key(override.key);
  if (key == nullptr) return unknown_name(override.key).at(where);
  if (!is_utf8(override.value)) return error(Code::kInvalidArgument, "must be UTF-8").at(where);
  if (Status status = assign(*key, value_of_text(*key, override.value), scenario); !status.ok())
    return std::move(status).at(where);
  places[key->name] = where;
  return {};
}

/// The checks that concern more than one key.
class Checker {
 public:
  Checker(const std::string& file, const Places& places, Scenario& scenario)
      : file_(file), places_(places), s_(scenario) {}

  Status run() {
    TERN_CHECK_OK(required());
    TERN_CHECK_OK(applicable());
    TERN_CHECK_OK(data());
    TERN_CHECK_OK(model());
    TERN_CHECK_OK(fleet());
    TERN_CHECK_OK(server());
    TERN_CHECK_OK(training());
    const ErrorFeedbackConfig& feedback = s_.compression.error_feedback;
    TERN_CHECK_OK(rate_control());
    TERN_CHECK_OK(chain("compression.up", s_.compression.up, "compression.error_feedback.warmup",
                        feedback.warmup));
    TERN_CHECK_OK(automatic_downlink());
    TERN_CHECK_OK(chain("compression.down", s_.compression.down,
                        "compression.error_feedback.warmup_down", feedback.warmup_down));
    return downlink();
  }

 private:
  bool given(std::string_view key) const { return places_.contains(key); }

  /// Where a key got its value; without a line when it has its default.
  Where where(std::string_view key) const {
    const auto found = places_.find(key);
    return found == places_.end() ? Where{file_, 0, std::string(key)} : found->second;
  }

  template <typename... Args>
  Status refuse(std::string_view key, fmt::format_string<Args...> format, Args&&... args) const {
    return error(Code::kInvalidArgument, format, std::forward<Args>(args)...).at(where(key));
  }

  Status required() const {
    for (const Key& key : vocabulary())
      if (key.required && !given(key.name))
        return refuse(key.name, "is required: {}", expectation(key));
    return {};
  }

  Status applicable() const {
    for (const Key& key : vocabulary())
      if (given(key.name) && key.applies.holds != nullptr && !key.applies.holds(s_))
        return refuse(key.name, "applies only {}", key.applies.text);
    return {};
  }

  Status data() const {
    const std::string& source = s_.data.source;
    const bool csv = source == "csv", natural = source == "leaf" || source == "text";
    if (s_.data.path.empty() && source != "fashion-mnist")
      return refuse("data.path", "is required with data.source = \"{}\": {}", s_.data.source,
                    csv ? "a file" : "a folder");
    if (csv && s_.data.label.empty())
      return refuse("data.label",
                    "is required with data.source = \"csv\": the column that holds the class");
    if (s_.data.partition == "natural" && !natural && s_.data.client.empty())
      return refuse("data.partition", "\"natural\" needs {}",
                    csv ? "data.client, the column that holds the client"
                        : "data.source = \"leaf\", \"text\", or \"csv\" with data.client");
    return {};
  }

  Status model() const {
    if (s_.model.name == kScriptModel && s_.model.script.empty() && s_.model.initial.empty())
      return refuse("model.script", "is required with model.name = \"torchscript\": {}",
                    find_key("model.script")->meaning);
    return {};
  }

  Status fleet() {
    FleetConfig& fleet = s_.fleet;
    if (fleet.clients == 0 && s_.data.partition != "natural")
      return refuse("fleet.clients", "is required unless data.partition is \"natural\": {}",
                    expectation(*find_key("fleet.clients")));
    if (fleet.clients != 0 && fleet.cohort > fleet.clients)
      return refuse("fleet.cohort", "is {}, but fleet.clients is only {}", fleet.cohort,
                    fleet.clients);
    if (fleet.clients != 0 && clients_asked(fleet) > fleet.clients)
      return refuse("fleet.over_select",
                    "{} x the cohort of {} asks {} clients, but fleet.clients is only {}",
                    fleet.over_select, fleet.cohort, clients_asked(fleet), fleet.clients);
    if (fleet.min_updates == 0) fleet.min_updates = fleet.cohort;
    if (fleet.min_updates > fleet.cohort)
      return refuse("fleet.min_updates", "is {}, but fleet.cohort is only {}", fleet.min_updates,
                    fleet.cohort);
    return schedule();
  }

  Status schedule() const {
    if (!s_.fleet.asynchronous()) return {};
    const Result<Codec> up = Codec::parse(s_.compression.up);
    if (up && up->feedback() == Feedback::kEf21)
      return refuse(
          "fleet.schedule",
          "is \"{}\", where updates are scaled by their age, but '{}' of compression.up "
          "adds them up to an estimate of each client: use 'ef', or a synchronous schedule",
          s_.fleet.schedule, up->stages()[0].info->name);
    if (s_.compression.rate_control.on())
      return refuse("fleet.schedule",
                    "is \"{}\", but compression.rate_control plans for all clients of a round "
                    "together: it needs the synchronous schedule",
                    s_.fleet.schedule);
    return {};
  }

  Status server() {
    const bool table = std::any_of(places_.begin(), places_.end(), [](const auto& place) {
      return table_of(place.first) == "server";
    });
    uint32_t& start_when = s_.server.start_when;
    if (table && start_when == 0) {
      constexpr uint64_t kMost = std::numeric_limits<uint32_t>::max();
      start_when = static_cast<uint32_t>(std::min(clients_asked(s_.fleet), kMost));
    }
    if (s_.fleet.clients != 0 && start_when > s_.fleet.clients)
      return refuse("server.start_when", "is {}, but fleet.clients is only {}", start_when,
                    s_.fleet.clients);
    return {};
  }

  Status training() {
    TrainingPlan& plan = s_.training;
    if (plan.local_steps != 0 && !given("training.local_epochs")) plan.local_epochs = 0;
    if (plan.local_steps != 0 && plan.local_epochs != 0)
      return refuse("training.local_steps",
                    "does not go together with training.local_epochs: give one of the two");
    if (plan.local_steps == 0 && plan.local_epochs == 0)
      return refuse("training.local_epochs",
                    "is 0, and so is training.local_steps: one of the two has to be at least 1");
    return {};
  }

  Status rate_control() {
    RateControlConfig& control = s_.compression.rate_control;
    if (!control.on()) return {};
    constexpr std::string_view kWays[] = {
        "compression.rate_control.budget_bytes", "compression.rate_control.mean_bytes",
        "compression.rate_control.deadline", "compression.rate_control.mean_error"};
    std::string_view first;
    for (const std::string_view way : kWays) {
      if (!given(way)) continue;
      if (!first.empty())
        return refuse(way, "does not go together with {}: give one of the two", first);
      first = way;
    }
    const Result<Codec> up = Codec::parse(s_.compression.up);
    if (up && up->error_feedback() && up->feedback() != Feedback::kEf14)
      return refuse("compression.up",
                    "starts with '{}', which remembers what means nothing to the other chains of "
                    "compression.rate_control.ladder",
                    up->stages()[0].info->name);
    if (control.ladder.empty() && control.mean_bytes > 0 && up) control.ladder = ladder_around(*up);
    if (control.ladder.empty()) control.ladder = stateless_ladder();
    const Result<std::vector<Codec>> chains = parse_ladder(control.ladder);
    if (!chains) return Status(chains.error()).at(where("compression.up"));
    if (up && control.needs_links() && !same_band(*up, chains->front()))
      return refuse("compression.up",
                    "is for clients of unknown links, and sends other frequencies than the chains "
                    "of compression.rate_control.ladder");
    return {};
  }

  /// What is chosen stands in the scenario as if it had been given.
  Status automatic_downlink() {
    CompressionConfig& compression = s_.compression;
    if (compression.down != kAuto) return {};
    for (const char* key : {"compression.keyframe", "compression.keyframe_every"})
      if (given(key))
        return refuse(key, "is given, but compression.down = \"auto\" chooses it: leave one out");
    const FleetConfig& fleet = s_.fleet;
    if (fleet.clients == 0)
      return refuse("compression.down",
                    "is \"auto\", which goes by fleet.clients: give their number");
    const double a_version =
        fleet.schedule == "fedbuff" ? fleet.cohort : static_cast<double>(clients_asked(fleet));
    choose_downlink(fleet.clients / a_version, compression);
    return {};
  }

  Status downlink() const {
    const CompressionConfig& compression = s_.compression;
    if (compression.keyframe.empty() != compression.keyframe_every.empty())
      return refuse(
          compression.keyframe.empty() ? "compression.keyframe" : "compression.keyframe_every",
          "is required as well: how keyframes are coded and when belong together");
    const Codec down = Codec::parse(compression.down).value();
    if (down.error_feedback() && down.feedback() != Feedback::kEf14)
      return refuse("compression.down",
                    "starts with '{}', which is for clients: what is published is followed by all "
                    "of them, so 'ef' is all that it needs",
                    down.stages()[0].info->name);
    if (compression.keyframe.empty()) return {};
    const size_t chains = parse_chains(compression.keyframe).value().size();
    if (chains != compression.keyframe_every.size())
      return refuse("compression.keyframe_every", "has {} levels, compression.keyframe has {}",
                    compression.keyframe_every.size(), chains);
    if (Status status = version_tree(compression).check(); !status.ok())
      return std::move(status).at(where("compression.keyframe_every"));
    if (Result<std::vector<Codec>> codecs = downlink_codecs(compression); !codecs) {
      const std::string key = codecs.error().where().key;
      return std::move(codecs).error().at(where(key));
    }
    return {};
  }

  /// Whether a warm-up can change a chain of the ladder.
  bool ladder_warms_up() const {
    const Result<std::vector<Codec>> chains = parse_ladder(s_.compression.rate_control.ladder);
    return s_.compression.rate_control.on() && chains &&
           std::ranges::any_of(*chains, [](const Codec& codec) {
             return codec.error_feedback() && codec.selects();
           });
  }

  Status chain(std::string_view key, const std::string& spec, std::string_view warmup_key,
               const std::vector<WarmUpStep>& warmup) const {
    Result<Codec> codec = Codec::parse(spec);
    if (!codec) return std::move(codec).error().at(where(key));
    // With keyframes the coordinator keeps what a frame has lost.
    const bool kept = key == "compression.down" && !s_.compression.keyframe.empty();
    if (Status status =
            codec->check_composition({.allow_biased = s_.compression.allow_biased || kept});
        !status.ok())
      return std::move(status).at(where(key));
    if (warmup.empty()) return {};
    const bool warms_up = codec->error_feedback() && codec->selects();
    if (!warms_up && key == "compression.up" && ladder_warms_up()) return {};
    if (!warms_up)
      return refuse(warmup_key,
                    "needs a chain that starts with ef and keeps a share of the values (topk, "
                    "randk), but {} is \"{}\"",
                    key, spec);
    for (const WarmUpStep& step : warmup) {
      Result<Codec> warm = codec->with_rate(step.rate);
      if (!warm)
        return std::move(warm)
            .error()
            .within(fmt::format("rate {}", step.rate))
            .at(where(warmup_key));
    }
    return {};
  }

  const std::string& file_;
  const Places& places_;
  Scenario& s_;
};

/// Makes every path of the scenario absolute, relative to the folder of `file`.
Status resolve_paths(const std::string& file, const Places& places, Scenario& scenario) {
  namespace fs = std::filesystem;
  std::error_code failure;
  const fs::path folder = fs::absolute(file, failure).parent_path();
  if (failure)
    return error(Code::kIo, "cannot tell the working folder: {}", failure.message())
        .at({file, 0, ""});
  for (const Key& key : vocabulary()) {
    if (key.type != KeyType::kPath || !places.contains(key.name)) continue;
    std::string& text = std::get<FieldOf<std::string>>(key.field)(scenario);
    fs::path path = (folder / text).lexically_normal();
    if (!path.has_filename() && path.has_relative_path()) path = path.parent_path();
    text = path.string();
  }
  return {};
}

}  // namespace

Result<Override> parse_override(std::string_view text) {
  const auto trimmed = [](std::string_view part) {
    const size_t first = part.find_first_not_of(" \t");
    if (first == std::string_view::npos) return std::string();
    return std::string(part.substr(first, part.find_last_not_of(" \t") - first + 1));
  };
  const size_t equals = text.find('=');
  if (equals != std::string_view::npos) {
    Override override{trimmed(text.substr(0, equals)), trimmed(text.substr(equals + 1))};
    if (!override.key.empty()) return override;
  }
  return error(Code::kInvalidArgument, "must be table.key=value, not {}", toml_string(text))
      .at({std::string(kSet), 0, ""});
}

Result<Scenario> load_scenario(const std::string& file, const std::vector<Override>& overrides) {
  Result<std::vector<std::byte>> content = read_file(file, kMaxFileBytes);
  if (!content) {
    if (content.error().code() == Code::kNotFound)
      return Status(Code::kNotFound, "does not exist", {file, 0, ""});
    return std::move(content).error().at({file, 0, ""});
  }
  return parse_scenario({reinterpret_cast<const char*>(content->data()), content->size()}, file,
                        overrides);
}

Result<Scenario> parse_scenario(std::string_view text, const std::string& file,
                                const std::vector<Override>& overrides) {
  Scenario scenario;
  Places places;
  try {
    TERN_CHECK_OK(read_table(toml::parse(text, file), file, scenario, places));
  } catch (const toml::parse_error& failure) {
    return error(Code::kInvalidArgument, "{}", failure.description())
        .at({file, static_cast<int>(failure.source().begin.line), ""});
  }
  for (const Override& override : overrides)
    TERN_CHECK_OK(apply_override(override, scenario, places));
  TERN_CHECK_OK(Checker(file, places, scenario).run());
  TERN_CHECK_OK(resolve_paths(file, places, scenario));
  return scenario;
}

Where locate_key(const std::string& file, const std::vector<Override>& overrides,
                 const std::string& key) {
  for (const Override& override : overrides)
    if (override.key == key) return {std::string(kSet), 0, key};
  try {
    const toml::table table = toml::parse_file(file);
    if (const auto node = table.at_path(key))
      return {file, static_cast<int>(node.node()->source().begin.line), key};
    return {file, 0, key};
  } catch (const toml::parse_error&) {
    // It was loaded before; if it changed since, there is no line.
    return {file, 0, key};
  }
}

std::string print_scenario(const Scenario& scenario, Tables tables) {
  const auto given = [&](std::string_view table) {
    static const Scenario nothing;
    return std::ranges::any_of(vocabulary(), [&](const Key& key) {
      return table_of(key.name) == table && print_value(key, scenario) != print_value(key, nothing);
    });
  };
  std::string text;
  std::string_view table;
  for (const Key& key : vocabulary()) {
    if (is_deployment_table(table_of(key.name)) &&
        (tables == Tables::kRun || !given(table_of(key.name))))
      continue;
    const std::optional<std::string> value = print_value(key, scenario);
    if (!value) continue;
    if (table_of(key.name) != table) {
      table = table_of(key.name);
      text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", table);
    }
    std::string_view leaf = key.name;
    if (!table.empty()) leaf.remove_prefix(table.size() + 1);
    text += fmt::format("{} = {}\n", leaf, *value);
  }
  return text;
}

std::string config_sha256(const Scenario& scenario) {
  return to_hex(sha256(std::string_view(print_scenario(scenario, Tables::kRun))));
}

Status LoadedScenario::locate(Status status) const {
  if (!status.where().file.empty() || status.where().key.empty()) return status;
  Where where = locate_key(file, overrides, status.where().key);
  return std::move(status).at(std::move(where));
}

Result<LoadedScenario> load_with_overrides(const std::string& file,
                                           const std::vector<std::string>& overrides) {
  LoadedScenario loaded{.scenario = {}, .file = file, .overrides = {}};
  for (const std::string& text : overrides) {
    TERN_TRY(Override parsed, parse_override(text));
    loaded.overrides.push_back(std::move(parsed));
  }
  TERN_TRY(loaded.scenario, load_scenario(file, loaded.overrides));
  return loaded;
}

}  // namespace tern
