// tern-torch: what `tern` becomes for the commands that need LibTorch.
#include "simulations/cli/commands.h"

int main(int argc, char** argv) {
  using namespace tern::cli;
  return run_command(argc, argv, [](CLI::App& program, int& exit_status) {
    add_simulate(program, exit_status);
    add_evaluate(program, exit_status);
    add_data(program, exit_status);
    add_model(program, exit_status);
    add_bench(program, exit_status);
  });
}
