#include "simulations/benchmark.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/durable_file.h"
#include "base/rng.h"
#include "config/load.h"
#include "config/model_card.h"
#include "coordinator/versions.h"
#include "learning/torch_trainer.h"
#include "simulations/scratch_folder.h"
#include "simulations/simulation.h"
#include "tests/bench/plain_loop.h"
#include "tests/bench/stopwatch.h"

namespace tern {

using nlohmann::ordered_json;

namespace {

/// Samples that one measurement trains: about a second for each model.
size_t clients_for(std::string_view model) {
  return model == "cnn" || model == "resnet8-gn" ? 2 : predicts_characters(model) ? 10 : 40;
}
uint32_t rounds_for(std::string_view model) { return clients_for(model) < 40 ? 1 : 16; }

/// Texts to train on, whose characters are drawn: what they say doesn't change the speed.
Result<ScratchFolder> draw_texts() {
  constexpr size_t kCharacters = 80 * 4000;  // 40 examples for each of a hundred clients
  TERN_TRY(ScratchFolder folder,
           ScratchFolder::make((std::filesystem::temp_directory_path() / "tern-texts").string()));
  Rng rng(1, Purpose::kTest);
  std::string text(kCharacters, ' ');
  for (char& character : text) character = static_cast<char>(' ' + rng.below(95));
  TERN_CHECK_OK(write_durably(folder.path() + "/drawn.txt", text));
  return folder;
}

Result<double> step_rate(Trainer& trainer, const Scenario& scenario, std::span<const float> base,
                         std::span<float> update, size_t clients) {
  const auto start = std::chrono::steady_clock::now();
  uint64_t samples = 0;
  for (size_t client = 0; client < clients; ++client) {
    TERN_TRY(const TrainReport report, trainer.train({.plan = scenario.training,
                                                      .seed = scenario.seed,
                                                      .round = 1,
                                                      .client = static_cast<uint32_t>(client)},
                                                     base, update));
    samples += report.samples_trained;
  }
  return static_cast<double>(samples) /
         std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Two trainers that share nothing but the data, each on a thread: what two workers could reach.
Result<double> rate_of_two(const PreparedScenario& prepared, std::span<const float> base,
                           size_t clients) {
  std::array<Result<double>, 2> rates{0.0, 0.0};
  std::vector<std::thread> threads;
  for (Result<double>& rate : rates)
    threads.emplace_back([&] {
      rate = [&]() -> Result<double> {
        TERN_TRY(const std::unique_ptr<Trainer> trainer, make_trainer(prepared.data));
        std::vector<float> update(base.size());
        return step_rate(*trainer, prepared.scenario, base, update, clients);
      }();
    });
  for (std::thread& thread : threads) thread.join();
  for (const Result<double>& rate : rates)
    if (!rate) return rate.error();
  return *rates[0] + *rates[1];
}

Result<double> end_to_end_rate(const PreparedScenario& prepared, size_t workers,
                               const std::atomic<bool>& stop) {
  TERN_TRY(const RunResult run,
           run_scenario(prepared, {.fleet = {.workers = workers}, .show_progress = false}, stop));
  if (run.interrupted) return error(Code::kCancelled, "interrupted");
  return run.summary["samples_trained"].get<double>() /
         run.summary["seconds"]["wall"].get<double>();
}

}  // namespace

Result<ordered_json> benchmark_simulation(const SimulationBenchmark& benchmark,
                                          const std::atomic<bool>& stop) {
  for (const std::string& model : benchmark.models) TERN_CHECK_OK(has_plain_loop(model));
  ordered_json results = ordered_json::array(), workers, trainers;
  for (const std::string& model : benchmark.models) {
    const bool first = results.empty();
    std::vector<Override> overrides = {{"model.name", model},
                                       {"rounds", std::to_string(rounds_for(model))},
                                       {"evaluation.every", "1000000"}};
    std::optional<ScratchFolder> texts;
    if (predicts_characters(model)) {
      TERN_TRY(texts, draw_texts());
      for (const auto& [key, value] : {std::pair<const char*, std::string>("data.source", "text"),
                                       {"data.path", texts->path()},
                                       {"data.partition", "iid"},
                                       {"data.test_fraction", "0.01"}})
        overrides.push_back({key, value});
    }
    TERN_TRY(Scenario scenario, load_scenario(benchmark.scenario, overrides));
    TERN_TRY(const PreparedScenario prepared, prepare(scenario));
    const size_t n = prepared.data->schema.elements();
    std::vector<float> base(n), update(n);
    initialize_parameters(prepared.data->schema, scenario.seed, kGridBits, base);
    TERN_TRY(const std::unique_ptr<Trainer> trainer, make_trainer(prepared.data));
    const size_t clients = std::min<size_t>(clients_for(model), prepared.data->clients.clients());
    std::vector<double> plain, step, two_steps, one, two;
    // The first pass warms caches and allocators up and doesn't count.
    for (size_t repeat = 0; repeat <= benchmark.repeats; ++repeat) {
      const bool counts = repeat > 0;
      fmt::print(stderr, "{}: {}\n", model,
                 counts ? fmt::format("repeat {} of {}", repeat, benchmark.repeats) : "warming up");
      TERN_TRY(const PlainLoopReport loop,
               run_plain_loop(*prepared.data, scenario.training, base, clients, scenario.seed));
      TERN_TRY(const double step_now, step_rate(*trainer, scenario, base, update, clients));
      TERN_TRY(const double one_now, end_to_end_rate(prepared, 1, stop));
      double two_now = 0, two_steps_now = 0;
      if (first) {
        TERN_TRY(two_now, end_to_end_rate(prepared, 2, stop));
        TERN_TRY(two_steps_now, rate_of_two(prepared, base, clients));
      }
      if (!counts) continue;
      plain.push_back(loop.samples_per_second);
      step.push_back(step_now);
      one.push_back(one_now);
      two.push_back(two_now);
      two_steps.push_back(two_steps_now);
    }
    results.push_back({{"model", model},
                       {"batch", scenario.training.batch_size},
                       {"plain_samples_per_s", median(plain)},
                       {"step_samples_per_s", median(step)},
                       {"end_to_end_samples_per_s", median(one)}});
    if (!first) continue;
    workers = {{"1", median(one)}, {"2", median(two)}};
    trainers = {{"1", median(step)}, {"2", median(two_steps)}};
  }
  return ordered_json{{"results", std::move(results)},
                      {"workers", std::move(workers)},
                      {"trainers", std::move(trainers)}};
}

}  // namespace tern
