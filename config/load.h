/// Reading, checking and printing scenarios. Errors carry file, line and key and list what was
/// expected.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "config/scenario.h"

namespace tern {

/// A `--set table.key=value`; the value is parsed by the key's type, strings need no quotes.
struct Override {
  std::string key;
  std::string value;
};
/// Splits "key=value" and trims both. Errors: kInvalidArgument without "=" or with an empty key.
Result<Override> parse_override(std::string_view text);

/// Reads and checks a scenario. Paths become absolute, relative to the file; codec specs become
/// canonical; min_updates and other defaults are filled in. The first error of the file is
/// reported: its message neither repeats the place nor the key. A key that is missing has line 0.
/// Of overrides of one key the last wins; they report file "--set", line 0. Paths in overrides are
/// relative to the file too.
/// Errors: kNotFound, kIo, kOutOfRange (more than 16 MiB), kInvalidArgument with Where{file, line,
/// key}.
Result<Scenario> load_scenario(const std::string& file,
                               const std::vector<Override>& overrides = {});
/// The same from text; `file` is used for messages and for relative paths.
Result<Scenario> parse_scenario(std::string_view text, const std::string& file,
                                const std::vector<Override>& overrides = {});

/// Where a key got its value, for errors found after loading: its line in the file, "--set", or the
/// file alone when it has its default. Reads the file again.
Where locate_key(const std::string& file, const std::vector<Override>& overrides,
                 const std::string& key);

/// A scenario, and where each of its values came from.
struct LoadedScenario {
  Scenario scenario;
  std::string file;
  std::vector<Override> overrides;

  /// Errors found after loading know their key alone: gives them file and line.
  Status locate(Status status) const;
};
/// Reads a scenario and the texts of --set, as every program does. Errors: as above.
Result<LoadedScenario> load_with_overrides(const std::string& file,
                                           const std::vector<std::string>& overrides);

/// Which tables are printed.
enum class Tables {
  kAll,
  kRun,  ///< without those of a deployment, [server] and [client]
};

/// The resolved scenario as TOML: every key that has a value, in the order of the vocabulary;
/// load_scenario of it gives the same scenario. A table of a deployment is left out when all its
/// keys have their defaults.
std::string print_scenario(const Scenario& scenario, Tables tables = Tables::kAll);

/// SHA-256, in hexadecimal, of print_scenario with Tables::kRun: identifies what is run, whether it
/// is simulated or deployed. Paths are part of it, and they are absolute.
std::string config_sha256(const Scenario& scenario);

}  // namespace tern
