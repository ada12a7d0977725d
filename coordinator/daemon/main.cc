#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "base/freed_memory.h"
#include "base/program.h"
#include "base/version.h"
#include "config/deployment.h"
#include "config/load.h"
#include "coordinator/daemon/coordinator_daemon.h"
#include "coordinator/daemon/open_run.h"
#include "coordinator/views/summary.h"

namespace tern::cli {
namespace {

int replay_and_print(const std::string& folder, bool json) {
  const Result<nlohmann::ordered_json> replayed = replay_run(folder);
  if (!replayed) return fail(replayed.error(), json);
  if (json) {
    fmt::print("{}\n", replayed->dump(2));
  } else {
    fmt::print("{} rounds, {} updates, {} versions: all as they were published\nmodel {} {}\n",
               (*replayed)["rounds"].get<uint32_t>(), (*replayed)["updates"].get<uint64_t>(),
               (*replayed)["versions"].get<uint64_t>(),
               (*replayed)["model"]["version"].get<uint32_t>(),
               (*replayed)["model"]["sha256"].get<std::string>());
  }
  return finish_output(kOk);
}

int run(int argc, char** argv) {
  CLI::App program{"The coordinator of a federated run: serves the clients on its list.",
                   "tern-coordinator"};
  program.set_version_flag("--version", std::string("tern-coordinator ") + kVersion);
  std::string file;
  std::vector<std::string> set;
  LogLevel level = LogLevel::kInfo;
  bool json = false, check = false;
  CoordinatorDaemonOptions options;
  CLI::Option* const scenario =
      program.add_option("FILE", file, "Scenario with a [server] table, a TOML file");
  std::string replay;
  program
      .add_option("--replay", replay,
                  "Compute all versions of the run in DIR (its server.state_dir) anew from its "
                  "journal and compare them with what was published")
      ->type_name("DIR")
      ->excludes(scenario);
  program.add_option("--set", set, "Override a key, e.g. --set rounds=20")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  program.add_option("--log", level, "Least level that is logged: debug, info or warn [info]")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, LogLevel>{
              {"debug", LogLevel::kDebug}, {"info", LogLevel::kInfo}, {"warn", LogLevel::kWarn}},
          CLI::ignore_case))
      ->type_name("LEVEL");
  program.add_flag("--check", check, "Print the resolved scenario, and stop");
  program.add_flag("--json", json, "The summary as one JSON object on stdout");
  program.add_flag("--test-without-zap-handler", options.without_zap_handler)->group("");
  program.footer(
      "The log goes to stderr. Started again on the same server.state_dir, also after a crash or a "
      "power cut, it goes on where it was. SIGTERM or Ctrl-C ends it now: clients are told, "
      "results "
      "so far are written, the round at hand goes on at the next start. SIGHUP reads the list of "
      "clients again: who is "
      "revoked there is cut off at once.\n"
      "Examples:\n"
      "  tern keys new coordinator.key\n"
      "  tern keys allow clients.list tern1-... --name edge-1\n"
      "  tern-coordinator run.toml\n"
      "  tern-coordinator --replay /var/lib/tern/run\n"
      "  tern-coordinator run.toml --set server.listen=tcp://127.0.0.1:7700 --json\n"
      "Exit status: 0 done, 1 the run failed, 2 bad input, 130 interrupted (results written).");
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    if (problem.get_exit_code() != 0 && json)
      return fail(Status(Code::kInvalidArgument, problem.what()), true);
    return program.exit(problem) == 0 ? finish_output(kOk) : kBadInput;
  }
  if (!replay.empty()) return replay_and_print(replay, json);
  if (file.empty())
    return fail(Status(Code::kInvalidArgument, "FILE is required; see --help"), json);
  options.log_level = level;
  const Result<LoadedScenario> loaded = load_with_overrides(file, set);
  if (!loaded) return fail(loaded.error(), json);
  if (check) {
    if (const Status status = check_server(loaded->scenario); !status.ok())
      return fail(loaded->locate(status), json);
    fmt::print("{}", print_scenario(loaded->scenario));
    return finish_output(kOk);
  }
  const Result<DaemonResult> result = run_coordinator(*loaded, options);
  if (!result) return fail(loaded->locate(result.error()), json);
  fmt::print("{}", json ? result->summary.dump(2) + "\n" : summary_table(result->summary));
  return finish_output(result->interrupted ? kInterrupted : kOk);
}

}  // namespace
}  // namespace tern::cli

int main(int argc, char** argv) {
  tern::keep_freed_memory();
  try {
    return tern::cli::run(argc, argv);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "%s: %s\n", argv[0], problem.what());
    return tern::cli::kRunFailed;
  }
}
