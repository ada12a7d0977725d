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

int run(int argc, char** argv) {
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
  // Known before the command line is parsed: an error in it is said as JSON, too.
  const bool json = std::find(argv + 1, argv + argc, std::string_view("--json")) != argv + argc;
  int exit_status = kOk;
#ifdef TERN_WITH_TORCH
  add_simulate(program, exit_status);
  add_evaluate(program, exit_status);
  add_data(program, exit_status);
  add_model(program, exit_status);
#endif
  add_bench(program, exit_status);
  add_keys(program, exit_status);
  add_update(program, exit_status);
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
}  // namespace tern::cli

int main(int argc, char** argv) {
  try {
    return tern::cli::run(argc, argv);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "%s: %s\n", argv[0], problem.what());
    return tern::cli::kRunFailed;
  }
}
