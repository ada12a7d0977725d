/// The sub-commands of `tern`. Each adds itself to the program and runs when chosen, setting the
/// exit status; those of `tern bench` add themselves to it. LibTorch takes half a second to load,
/// so the commands that need it are another program, tern-torch, which `tern` becomes for them.
#pragma once

#include <CLI/CLI.hpp>

namespace tern::cli {

struct CommandName {
  const char* name;
  const char* meaning;
};
inline constexpr CommandName kSimulate{"simulate", "Run a scenario's fleet in this process"};
inline constexpr CommandName kEvaluate{
    "evaluate", "Evaluate a model on a scenario's test data, or serve a coordinator as evaluator"};
inline constexpr CommandName kData{"data", "Data sets: fetch, look at, deal to clients"};
inline constexpr CommandName kModel{"model", "Models of your own"};
inline constexpr CommandName kBench{"bench", "Measure this machine"};
/// In a build with LibTorch.
inline constexpr CommandName kTorchCommands[] = {kSimulate, kEvaluate, kData, kModel, kBench};

void add_simulate(CLI::App& program, int& exit_status);
void add_bench(CLI::App& program, int& exit_status);
void add_bench_codecs(CLI::App& bench, int& exit_status);
void add_bench_simulation(CLI::App& bench, int& exit_status);
void add_data(CLI::App& program, int& exit_status);
void add_evaluate(CLI::App& program, int& exit_status);
void add_model(CLI::App& program, int& exit_status);
void add_keys(CLI::App& program, int& exit_status);
void add_update(CLI::App& program, int& exit_status);
/// `tern update plan`, for add_update.
void add_update_plan(CLI::App& update, int& exit_status);

/// Known before the command line is parsed: an error in it is said as JSON, too.
bool wants_json(int argc, char** argv);
/// The program: adds the commands by `add`, parses the command line and runs the one that it names.
/// Gives the exit status.
int run_command(int argc, char** argv, void (*add)(CLI::App& program, int& exit_status));

}  // namespace tern::cli
