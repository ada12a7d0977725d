#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string_view>

#include "base/program.h"
#include "base/version.h"
#include "simulations/cli/commands.h"

namespace tern::cli {
namespace {

int parse_and_run(int argc, char** argv, void (*add)(CLI::App&, int&)) {
  CLI::App program{"Tern: federated learning with compressed updates.", "tern"};
  program.set_version_flag("--version", std::string("tern ") + kVersion);
  program.require_subcommand(1);
  program.footer(
      "Examples:\n"
#ifdef TERN_WITH_TORCH
      "  tern simulate simulations/scenarios/fashion-mnist.toml --out out/first\n"
      "  tern simulate --help\n"
#endif
      "  tern bench codecs --help\n"
      "  tern update inspect --help\n"
      "Exit status: 0 done, 1 the run failed, 2 bad input, 130 interrupted (results written).");
  const bool json = wants_json(argc, argv);
  int exit_status = kOk;
  add(program, exit_status);
  // CLI11 would say that one is required.
  const auto is_meant = [&](const CLI::App* command) { return command->check_name(argv[1]); };
  if (argc > 1 && argv[1][0] != '-' && program.get_subcommands(is_meant).empty())
    return fail(
        error(Code::kInvalidArgument, "there is no command '{}'; tern --help lists them", argv[1]),
        json);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    if (json && problem.get_exit_code() != 0)
      return fail(Status(Code::kInvalidArgument, problem.what()), true);
    return program.exit(problem) == 0 ? finish_output(kOk) : kBadInput;
  } catch (const std::bad_alloc&) {
    return fail(Status(Code::kInternal, "out of memory"), json);
  } catch (const std::exception& problem) {
    return fail(Status(Code::kInternal, problem.what()), json);
  }
  return finish_output(exit_status);
}

}  // namespace

bool wants_json(int argc, char** argv) {
  return std::find(argv + 1, argv + argc, std::string_view("--json")) != argv + argc;
}

int run_command(int argc, char** argv, void (*add)(CLI::App&, int&)) {
  try {
    return parse_and_run(argc, argv, add);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "%s: %s\n", argv[0], problem.what());
    return kRunFailed;
  }
}

}  // namespace tern::cli
