#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "base/log_view.h"
#include "base/program.h"
#include "base/version.h"
#include "client/daemon/client_daemon.h"
#include "config/deployment.h"
#include "config/load.h"

namespace tern::cli {
namespace {

int run(int argc, char** argv) {
  CLI::App program{"A client of a federated run: trains on this device, dials out only.",
                   "tern-client"};
  program.set_version_flag("--version", std::string("tern-client ") + kVersion);
  std::string file;
  std::vector<std::string> set;
  LogLevel level = LogLevel::kInfo;
  bool check = false;
  program.add_option("FILE", file, "Scenario with a [client] table, a TOML file")->required();
  program.add_option("--set", set, "Override a key, e.g. --set client.connect=tcp://host:7700")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  program.add_option("--log", level, "Least level that is logged: debug, info or warn [info]")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, LogLevel>{
              {"debug", LogLevel::kDebug}, {"info", LogLevel::kInfo}, {"warn", LogLevel::kWarn}},
          CLI::ignore_case))
      ->type_name("LEVEL");
  program.add_flag("--check", check, "Print the resolved scenario, and stop");
  program.footer(
      "The log goes to stderr. When the connection breaks the client dials again, with growing "
      "pauses, for client.give_up_after or for ever. What it owes of earlier updates and its copy "
      "of the model are in client.state_dir.\n"
      "Examples:\n"
      "  tern keys new edge-1.key\n"
      "  tern-client run.toml\n"
      "  tern-client run.toml --set client.connect=tcp://10.0.0.1:7700 --log debug\n"
      "Exit status: 0 the run is finished, 1 failed, 2 bad input or refused by the "
      "coordinator, 130 interrupted.");
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return program.exit(problem) == 0 ? finish_output(kOk) : kBadInput;
  }
  const Result<LoadedScenario> loaded = load_with_overrides(file, set);
  if (!loaded) return fail(loaded.error(), false);
  if (check) {
    if (const Status status = check_client(loaded->scenario); !status.ok())
      return fail(loaded->locate(status), false);
    fmt::print("{}", print_scenario(loaded->scenario));
    return finish_output(kOk);
  }
  LogView log(stderr, "", {.least = level});
  const Result<bool> interrupted =
      run_client(*loaded, {.end_now = [] { std::_Exit(kInterrupted); }}, log);
  if (!interrupted) return fail(loaded->locate(interrupted.error()), false);
  return finish_output(*interrupted ? kInterrupted : kOk);
}

}  // namespace
}  // namespace tern::cli

int main(int argc, char** argv) {
  try {
    return tern::cli::run(argc, argv);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "%s: %s\n", argv[0], problem.what());
    return tern::cli::kRunFailed;
  }
}
