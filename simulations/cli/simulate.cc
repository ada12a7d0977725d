#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <thread>

#include "base/program.h"
#include "config/load.h"
#include "config/vocabulary.h"
#include "coordinator/views/progress.h"
#include "coordinator/views/run_folder.h"
#include "coordinator/views/summary.h"
#include "learning/blas.h"
#include "simulations/cli/commands.h"
#include "simulations/mpi_job.h"
#include "simulations/rate_preview.h"
#include "simulations/simulation.h"

namespace tern::cli {

using nlohmann::ordered_json;

namespace {

struct SimulateArguments {
  std::string file;
  std::string out;
  std::string resume;
  std::vector<std::string> set;
  std::vector<uint64_t> seeds;
  size_t workers = 0;
  FleetTransport transport = FleetTransport::kMemory;
  uint32_t checkpoint_every = 25;
  bool json = false;
  bool check = false;
  bool keys = false;
};

Result<LoadedScenario> load(const SimulateArguments& arguments) {
  const bool resumes = !arguments.resume.empty();
  if (resumes && (!arguments.file.empty() || !arguments.out.empty() || !arguments.set.empty() ||
                  !arguments.seeds.empty()))
    return error(Code::kInvalidArgument,
                 "--resume DIR goes on with the scenario in DIR: it takes no scenario file, --out, "
                 "--set or --seeds");
  if (resumes && arguments.transport == FleetTransport::kZmq)
    return error(Code::kInvalidArgument, "only runs in memory can be resumed");
  if (!resumes && arguments.file.empty())
    return error(Code::kInvalidArgument,
                 "a scenario file is missing (or --resume DIR); see tern simulate --help");
  return load_with_overrides(resumes ? arguments.resume + "/scenario.toml" : arguments.file,
                             arguments.set);
}

std::string seed_folder(const std::string& out, uint64_t seed) {
  return fmt::format("{}/seed-{}", out, seed);
}

/// What would stop a later one of several runs is said before the first one begins.
Status check_seeds(const SimulateArguments& arguments) {
  std::set<uint64_t> seen;
  for (const uint64_t seed : arguments.seeds) {
    if (seed > INT64_MAX)
      return error(Code::kInvalidArgument,
                   "--seeds: {} is above 2^63 - 1, the largest in a TOML file", seed);
    if (!seen.insert(seed).second)
      return error(Code::kInvalidArgument, "--seeds: {} stands there twice", seed);
    if (!arguments.out.empty())
      TERN_CHECK_OK(check_folder_is_free(seed_folder(arguments.out, seed)));
  }
  return {};
}

void print_check(const Scenario& scenario, const ordered_json& cost, bool json) {
  if (json) {
    fmt::print("{}\n", ordered_json{{"config", print_scenario(scenario)}, {"cost", cost}}.dump(2));
    return;
  }
  fmt::print(
      "{}\n# Cost, estimated: {} parameters; an update is {}, a download {};\n"
      "# in all {} up, {} down, {:.3g} samples to train, about {} of memory.\n",
      print_scenario(scenario), cost["parameters"].get<uint64_t>(),
      human_bytes(cost["update_bytes"].get<double>()),
      human_bytes(cost["download_bytes"].get<double>()),
      human_bytes(cost["bytes_up"].get<double>()), human_bytes(cost["bytes_down"].get<double>()),
      cost["samples"].get<double>(), human_bytes(cost["memory_bytes"].get<double>()));
  if (const double disk = cost["disk_bytes"].get<double>(); disk > 0)
    fmt::print("# What clients remember takes up to {} of disk, in --out or for temporary files.\n",
               human_bytes(disk));
  fmt::print("{}", preview_table(cost["rate_control"]));
}

void print_keys() {
  std::string_view table = "-";
  for (const Key& key : vocabulary()) {
    if (table_of(key.name) != table) {
      table = table_of(key.name);
      fmt::print("{}", table.empty() ? "" : fmt::format("\n[{}]\n", table));
    }
    const size_t leaf = table.empty() ? 0 : table.size() + 1;
    fmt::print("  {:<22} {}{}\n  {:<22} {}\n", key.name.substr(leaf), key.meaning,
               key.required ? " (required)" : "", "", expectation(key));
  }
}

int work_for_rank_0(MpiJob& job, size_t workers, bool json) {
  make_math_serial();
  int exit_status = kOk;
  const auto broken = [&](const Status& status) {
    exit_status = fail(status, json);
    job.end_all();
  };
  if (const Status status = job.serve(workers, broken); !status.ok()) broken(status);
  return exit_status;
}

int simulate(const SimulateArguments& arguments) {
  if (arguments.keys) {
    print_keys();
    return kOk;
  }
  const std::atomic<bool>& stop = stop_on_interrupt();
  Result<std::unique_ptr<MpiJob>> joined = MpiJob::join();
  if (!joined) return fail(joined.error(), arguments.json);
  const std::unique_ptr<MpiJob> job = *std::move(joined);
  const size_t processes = job ? job->here() : 1;
  const size_t workers = arguments.workers > 0
                             ? arguments.workers
                             : std::max<size_t>(1, std::thread::hardware_concurrency() / processes);
  if (job && !job->leads()) return work_for_rank_0(*job, workers, arguments.json);
  Result<LoadedScenario> loaded = load(arguments);
  // Whatever is wrong before a run begins is wrong with the input.
  const auto bad_input = [&](Status status) {
    if (loaded) status = loaded->locate(std::move(status));
    return fail(status, arguments.json, kBadInput);
  };
  if (!loaded) return bad_input(loaded.error());
  Scenario& scenario = loaded->scenario;
  if (Status status = check_seeds(arguments); !status.ok()) return bad_input(std::move(status));
  RunOptions options{.fleet = {.workers = workers, .transport = arguments.transport},
                     .out = arguments.resume.empty() ? arguments.out : arguments.resume,
                     .resume = !arguments.resume.empty(),
                     .checkpoint_every = arguments.checkpoint_every};
  if (!make_math_serial())
    fmt::print(stderr,
               "tern: LibTorch runs without OpenBLAS and may be 30 times slower; install "
               "libopenblas0-pthread\n");

  std::vector<ordered_json> summaries;
  const bool several = !arguments.seeds.empty();
  bool interrupted = false, resumable = false;
  for (const uint64_t seed : several ? arguments.seeds : std::vector<uint64_t>{scenario.seed}) {
    scenario.seed = seed;
    Result<PreparedScenario> prepared = prepare(scenario);
    if (!prepared) return bad_input(std::move(prepared).error());
    if (arguments.check) {
      Result<ordered_json> cost = estimate_cost(*prepared, options.fleet.workers);
      if (!cost) return bad_input(std::move(cost).error());
      print_check(prepared->scenario, *cost, arguments.json);
      return kOk;
    }
    if (several) {
      options.title = fmt::format("seed {}", seed);
      if (!arguments.out.empty()) options.out = seed_folder(arguments.out, seed);
    }
    if (job) {
      std::string warning;
      auto places = job->open(*prepared, warning);
      if (!places) return bad_input(std::move(places).error());
      if (!warning.empty()) fmt::print(stderr, "tern: {}\n", warning);
      options.fleet.elsewhere = *std::move(places);
    }
    Result<RunResult> run = run_scenario(*prepared, options, stop);
    options.fleet.elsewhere.clear();  // which frees the other processes for the next run
    if (!run) return fail(loaded->locate(std::move(run).error()), arguments.json);
    if (!run->warning.empty()) fmt::print(stderr, "tern: {}\n", run->warning);
    if (!arguments.json) fmt::print("{}", summary_table(run->summary));
    summaries.push_back(std::move(run->summary));
    interrupted = run->interrupted;
    resumable = run->resumable;
    if (interrupted) break;
  }
  if (several) {
    const ordered_json combined = combine_summaries(summaries);
    if (arguments.json)
      fmt::print("{}\n", combined.dump(2));
    else
      fmt::print("{}", combined_table(combined));
  } else if (arguments.json) {
    fmt::print("{}\n", summaries.front().dump(2));
  }
  if (!options.out.empty() && !arguments.json)
    fmt::print("results in {}{}\n", several ? arguments.out : options.out,
               several ? "/seed-*" : "/, see report.html");
  if (!interrupted) return kOk;
  if (!options.out.empty() && resumable)
    fmt::print(stderr, "interrupted; go on with: tern simulate --resume {}\n", options.out);
  else if (!options.out.empty())
    fmt::print(stderr,
               "interrupted; some clients were in the middle of a task, so the run can't be gone "
               "on with\n");
  return kInterrupted;
}

}  // namespace

void add_simulate(CLI::App& program, int& exit_status) {
  auto arguments = std::make_shared<SimulateArguments>();
  CLI::App* command = program.add_subcommand(kSimulate.name, kSimulate.meaning);
  command->add_option("FILE", arguments->file, "Scenario, a TOML file");
  command
      ->add_option("--out", arguments->out, "Folder for the results; without it none are written")
      ->type_name("DIR");
  command->add_option("--resume", arguments->resume, "Go on with the interrupted run in DIR")
      ->type_name("DIR");
  command
      ->add_option("--set", arguments->set,
                   "Override a key, e.g. --set rounds=20 --set fleet.cohort=5")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_option("--seeds", arguments->seeds, "Run once for each seed; prints mean and spread")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("N,N,...");
  command
      ->add_option("--workers", arguments->workers,
                   "Threads, of each process; the results don't depend on it [one a core]")
      ->check(CLI::Range(1, 1024));
  command
      ->add_option("--transport", arguments->transport,
                   "memory: on a virtual clock; zmq: over encrypted sockets on loopback, in real "
                   "time [memory]")
      ->transform(CLI::CheckedTransformer(std::map<std::string, FleetTransport>{
          {"memory", FleetTransport::kMemory}, {"zmq", FleetTransport::kZmq}}))
      ->type_name("KIND");
  command
      ->add_option("--checkpoint-every", arguments->checkpoint_every,
                   "Rounds between checkpoints, 0: only when interrupted")
      ->capture_default_str();
  command->add_flag("--check", arguments->check,
                    "Print the resolved scenario and what it would cost, and stop");
  command->add_flag("--keys", arguments->keys, "List every key of a scenario, and stop");
  command->add_flag("--json", arguments->json, "One JSON object on stdout and nothing else");
  command->footer(
      "Ctrl-C ends the run after the current round with the results so far; --resume goes on from "
      "there, unless clients are in the middle of tasks (devices that take time, with "
      "over-selection "
      "or a deadline).\n"
      "DIR gets summary.json, metrics.jsonl, evaluation.json, model.safetensors, scenario.toml, "
      "report.html.\n"
      "Examples:\n"
      "  tern simulate simulations/scenarios/fashion-mnist.toml --out out/first\n"
      "  tern simulate simulations/scenarios/fashion-mnist.toml --set rounds=20 --json\n"
      "  tern simulate simulations/scenarios/fashion-mnist.toml --seeds 1,2,3 --out out/three\n"
      "  tern simulate simulations/scenarios/fashion-mnist.toml --set rounds=20 --transport zmq\n"
      "  tern simulate simulations/scenarios/fashion-mnist.toml --check\n"
      "  tern simulate --resume out/first\n"
      "  mpirun -np 4 tern simulate simulations/scenarios/fashion-mnist.toml --out out/cluster");
  command->callback([arguments, &exit_status] { exit_status = simulate(*arguments); });
}

}  // namespace tern::cli
