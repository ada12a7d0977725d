#include <CLI/CLI.hpp>

#include "base/version.h"
#include "simulations/cli/commands.h"
#include "simulations/cli/output.h"

int main(int argc, char** argv) {
  CLI::App program{"Tern: federated learning with compressed updates.", "tern"};
  program.set_version_flag("--version", std::string("tern ") + tern::kVersion);
  program.require_subcommand(1);
  program.footer(
      "Examples:\n"
      "  tern simulate simulations/scenarios/fashion-mnist.toml --out out/first\n"
      "  tern simulate --help\n"
      "Exit status: 0 done, 1 the run failed, 2 bad input, 130 interrupted (results written).");
  int exit_status = tern::cli::kOk;
  tern::cli::add_simulate(program, exit_status);
  tern::cli::add_bench(program, exit_status);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return program.exit(problem) == 0 ? tern::cli::kOk : tern::cli::kBadInput;
  }
  return exit_status;
}
