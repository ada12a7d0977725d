#include "simulations/cli/commands.h"

namespace tern::cli {

void add_bench(CLI::App& program, int& exit_status) {
  CLI::App* command = program.add_subcommand(kBench.name, kBench.meaning);
  command->require_subcommand(1);
  add_bench_codecs(*command, exit_status);
#ifdef TERN_WITH_TORCH
  add_bench_simulation(*command, exit_status);
#endif
}

}  // namespace tern::cli
