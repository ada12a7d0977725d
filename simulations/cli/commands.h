/// The sub-commands of `tern`. Each adds itself to the program and runs when chosen, setting the
/// exit status; those of `tern bench` add themselves to it.
#pragma once

#include <CLI/CLI.hpp>

namespace tern::cli {

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

}  // namespace tern::cli
