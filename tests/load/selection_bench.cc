// What choosing a cohort of a thousand takes, for each rule and size of the fleet.
#include <benchmark/benchmark.h>

#include "coordinator/cohort_selector.h"

namespace tern {
namespace {

constexpr uint32_t kCohort = 1000;

void choose(benchmark::State& state, const char* rule) {
  Scenario scenario;
  scenario.fleet.selection = rule;
  scenario.fleet.cohort = kCohort;
  const auto clients = static_cast<uint32_t>(state.range(0));
  CohortSelector selector(scenario, clients);
  // What twenty rounds have shown of some.
  for (uint32_t client = 0; client < std::min(clients, 20 * kCohort); ++client) {
    selector.announced(client, 60);
    selector.counted(client, 1 + client % 20, {.examples = 60, .mean_loss = 0.1 * (client % 17)},
                     1.0);
  }
  uint32_t round = 20;
  for (auto _ : state) benchmark::DoNotOptimize(selector.select(std::nullopt, kCohort, ++round, 0));
}

}  // namespace
}  // namespace tern

int main(int argc, char** argv) {
  for (const char* rule : {"uniform", "weighted", "round-robin", "power-of-choice:2", "oort"})
    benchmark::RegisterBenchmark(rule,
                                 [rule](benchmark::State& state) { tern::choose(state, rule); })
        ->Arg(1000)
        ->Arg(1'000'000)
        ->Unit(benchmark::kMillisecond);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
