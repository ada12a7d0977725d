/// The vocabulary of scenarios as data: one table lists every key, and reading, `--set`, messages
/// and printing follow it. To add a key: a field in scenario.h and a row in vocabulary.cc.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"
#include "config/scenario.h"

namespace tern {

enum class KeyType {
  kInteger,
  kNumber,  ///< an integer is taken too; always finite
  kBoolean,
  kChoice,  ///< a string out of a list
  kText,
  kPath,       ///< made absolute when a scenario is loaded
  kPartition,  ///< only the spelling is checked here
  kCodec,      ///< becomes canonical
  kDownlink,   ///< likewise, or "auto"; see downlink.h
  kShape,      ///< "1x28x28" or "784"
  kDuration,   ///< "500ms", "60s", "5m", "1h"; held in seconds
  kSchedule,   ///< "0.25:3 0.06:3"; an empty string is an empty schedule
  kSelection,  ///< see selection_rule.h; becomes canonical
  kRate,       ///< "125000" or "loguniform:1e4..1e6"; becomes canonical
  kLadder,     ///< chains with ";" between them, for rate control; becomes canonical
  kChains,     ///< likewise, for each level of keyframes
  kPeriods,    ///< 10 or "10 100"
};

/// The numbers that a key takes.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool open_low = false;   ///< `low` itself is refused
  bool open_high = false;  ///< `high` itself is refused

  bool contains(double value) const;
};

/// Finds a key's field in a scenario.
template <typename T>
using FieldOf = T& (*)(Scenario&);
using Field = std::variant<FieldOf<uint32_t>, FieldOf<uint64_t>, FieldOf<double>, FieldOf<bool>,
                           FieldOf<std::string>, FieldOf<std::optional<double>>,
                           FieldOf<std::vector<WarmUpStep>>, FieldOf<std::vector<uint32_t>>>;

/// When a key means anything; without a test, always.
struct Condition {
  bool (*holds)(const Scenario&) = nullptr;
  std::string_view text = {};  ///< goes on after "applies only "
};

struct Key {
  std::string_view name;  ///< "table.key"; "key" at the top level
  KeyType type;
  Field field;
  std::string_view meaning;  ///< one line
  Range range = {};
  std::span<const std::string_view> choices = {};
  bool required = false;
  bool zero_is_none = false;  ///< a 0 in the field stands for "not given" and is not printed
  Condition applies = {};
};

/// Every key: first the top level, then table by table.
std::span<const Key> vocabulary();
/// Null when there is none of that name.
const Key* find_key(std::string_view name);
/// "fleet.cohort" -> "fleet"; "" for the top level.
std::string_view table_of(std::string_view name);
/// Is there a table of this name, such as "compression.error_feedback"?
bool is_table(std::string_view name);
/// Does the table only say how one of the daemons runs, and not what is trained?
bool is_deployment_table(std::string_view name);

/// What a key takes, to go on after "must be": "an integer, at least 1".
std::string expectation(const Key& key);
/// Why a name isn't in the vocabulary, with the nearest spelling and the names of its table.
std::string unknown_name_message(std::string_view name);

/// A value as it was written, before it meets its key.
struct OtherValue {
  std::string_view kind;  ///< "an array", "a date": never right for any key
};
using Value = std::variant<int64_t, double, bool, std::string, OtherValue>;
/// Reads a value written without quotes by the key's type; text that doesn't fit stays text, for
/// `assign` to refuse.
Value value_of_text(const Key& key, std::string_view text);

/// Checks a value by itself and puts it into the scenario. Errors: kInvalidArgument, without a
/// place.
Status assign(const Key& key, const Value& value, Scenario& scenario);
/// The field's value as TOML; nothing when it has none or the key doesn't apply.
std::optional<std::string> print_value(const Key& key, const Scenario& scenario);

/// A TOML basic string with everything escaped that has to be.
std::string toml_string(std::string_view text);

}  // namespace tern
