#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <new>
#include <string_view>

#include "base/program.h"
#include "base/version.h"
#include "simulations/cli/commands.h"

int main(int argc, char** argv) {
  CLI::App program{"Tern: federated learning with compressed updates.", "tern"};
  program.set_version_flag("--version", std::string("tern ") + tern::kVersion);
  program.require_subcommand(1);
  program.footer(
      "Examples:\n"
      "  tern simulate simulations/scenarios/fashion-mnist.toml --out out/first\n"
      "  tern simulate --help\n"
      "Exit status: 0 done, 1 the run failed, 2 bad input, 130 interrupted (results written).");
  using tern::Code;
  namespace cli = tern::cli;
  // Known before the command line is parsed: an error in it is said as JSON, too.
  const bool json = std::find(argv + 1, argv + argc, std::string_view("--json")) != argv + argc;
  int exit_status = cli::kOk;
  cli::add_simulate(program, exit_status);
  cli::add_evaluate(program, exit_status);
  cli::add_bench(program, exit_status);
  cli::add_keys(program, exit_status);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    if (json && problem.get_exit_code() != 0)
      return cli::fail(tern::Status(Code::kInvalidArgument, problem.what()), true);
    return program.exit(problem) == 0 ? cli::finish_output(cli::kOk) : cli::kBadInput;
  } catch (const std::bad_alloc&) {
    return cli::fail(tern::Status(Code::kInternal, "out of memory"), json);
  } catch (const std::exception& problem) {
    return cli::fail(tern::Status(Code::kInternal, problem.what()), json);
  }
  return cli::finish_output(exit_status);
}
