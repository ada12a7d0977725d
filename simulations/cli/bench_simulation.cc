#include <fmt/format.h>

#include <memory>

#include "base/program.h"
#include "simulations/benchmark.h"
#include "simulations/cli/commands.h"

namespace tern::cli {

namespace {

struct SimulationBenchArguments {
  SimulationBenchmark benchmark{
      .scenario = "simulations/scenarios/fashion-mnist.toml",
      .models = {"mlp-2nn", "logistic", "char-lstm", "cnn", "resnet8-gn"}};
  bool json = false;
};

int bench(const SimulationBenchArguments& arguments) {
  const auto results = benchmark_simulation(arguments.benchmark, stop_on_interrupt());
  if (!results) return fail(results.error(), arguments.json);
  if (arguments.json) {
    fmt::print("{}\n", results->dump(2));
    return kOk;
  }
  fmt::print("{:<10} {:>5} {:>12} {:>12} {:>7} {:>12}\n", "model", "batch", "plain/s", "step/s",
             "ratio", "end to end/s");
  for (const auto& row : (*results)["results"]) {
    const double plain = row["plain_samples_per_s"], step = row["step_samples_per_s"];
    fmt::print("{:<10} {:>5} {:>12.0f} {:>12.0f} {:>7.2f} {:>12.0f}\n",
               row["model"].get<std::string>(), row["batch"].get<int>(), plain, step, step / plain,
               row["end_to_end_samples_per_s"].get<double>());
  }
  const double one = (*results)["workers"]["1"], two = (*results)["workers"]["2"];
  fmt::print("whole rounds of {}: {:.0f} samples/s with one worker, {:.0f} with two ({:.2f}x)\n",
             arguments.benchmark.models.front(), one, two, two / one);
  const double alone = (*results)["trainers"]["1"], both = (*results)["trainers"]["2"];
  fmt::print("training alone: {:.0f} on one thread, {:.0f} on two ({:.2f}x)\n", alone, both,
             both / alone);
  return kOk;
}

}  // namespace

void add_bench_simulation(CLI::App& command, int& exit_status) {
  auto arguments = std::make_shared<SimulationBenchArguments>();
  CLI::App* simulation = command.add_subcommand(
      "simulation", "Training in the simulator beside a plain LibTorch loop");
  simulation->add_option("FILE", arguments->benchmark.scenario, "Scenario")->capture_default_str();
  simulation
      ->add_option("--models", arguments->benchmark.models,
                   "Built-in models; the first one also with two workers")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  simulation
      ->add_option("--repeats", arguments->benchmark.repeats,
                   "Interleaved repeats, whose medians count")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  simulation->add_flag("--json", arguments->json, "One JSON object on stdout and nothing else");
  simulation->footer("Example:\n  tern bench simulation --models mlp-2nn,cnn --json");
  simulation->callback([arguments, &exit_status] { exit_status = bench(*arguments); });
}

}  // namespace tern::cli
