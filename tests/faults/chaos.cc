// Many seeds of chaos_world.h, each in a process of its own, as many at a time as there are cores.
//
// What must hold, for every seed:
//   - the model is that of a run in which nothing went wrong, to the bit. Every fourth seed has
//     keyframes on the way down. Every third seed asks 70 of the 100 clients for 50 updates, by a
//     deadline, in one schedule after the other: who is counted is a matter of luck there, late
//     updates are refused or counted later, rounds may be void, and the model is what the journal
//     says;
//   - each update that a client was told is counted is in the journal, and none is there twice;
//   - --replay of the journal leads to the same model;
//   - (each tenth seed) the seed again gives the same events in the same order.
//
// docs/testing.md says what this does not cover.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include <CLI/CLI.hpp>
#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/clock.h"
#include "base/freed_memory.h"
#include "base/program.h"
#include "tests/faults/chaos_world.h"

namespace tern {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Outcome, hash, served_hash, trace, lost, doubled, replays,
                                   partial, keyframes, virtual_seconds, coordinator_kills,
                                   client_kills, disk_faults, late, void_rounds)

namespace {

/// What one seed's process has to say, in one line.
struct Report {
  Outcome outcome;
  double virtual_seconds = 0;  ///< of both runs where there were two
  bool again = false;
  std::string wrong;  ///< empty: nothing
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Report, outcome, virtual_seconds, again, wrong)

/// The models of runs in which nothing goes wrong.
struct Expected {
  std::string plain, keyframed;
};

Report examine(uint64_t seed, const Expected& expected, const std::string& folder) {
  Report report{.outcome = run_seed(seed, folder)};
  const Outcome& outcome = report.outcome;
  report.virtual_seconds = outcome.virtual_seconds;
  const std::string& hash = outcome.partial     ? outcome.served_hash
                            : outcome.keyframes ? expected.keyframed
                                                : expected.plain;
  std::string& wrong = report.wrong;
  if (outcome.hash != hash) wrong += " another model;";
  if (!outcome.replays) wrong += " its journal isn't the whole run;";
  if (outcome.lost > 0) wrong += fmt::format(" {} acknowledged updates lost;", outcome.lost);
  if (outcome.doubled > 0) wrong += fmt::format(" {} counted twice;", outcome.doubled);
  if (seed % 10 == 0) {
    report.again = true;
    const Outcome second = run_seed(seed, folder);
    if (second.trace != outcome.trace) wrong += " the seed again goes otherwise;";
    report.virtual_seconds += second.virtual_seconds;
  }
  return report;
}

/// As at the end of a program, which a seed's process doesn't get to.
void look_for_leaks() {
#ifdef __SANITIZE_ADDRESS__
  __lsan_do_leak_check();
#endif
}

/// The processes at work, each with a seed.
class Processes {
 public:
  explicit Processes(Expected expected, std::string folder)
      : expected_(std::move(expected)), folder_(std::move(folder)) {}

  size_t count() const { return running_.size(); }

  void start(uint64_t seed) {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) throw std::runtime_error("there is no pipe left");
    const pid_t parent = ::getpid(), child = ::fork();
    if (child < 0) throw std::runtime_error("there is no process left");
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // not without the one that waits for it
      if (::getppid() != parent) std::_Exit(1);
      ::close(ends[0]);
      work(seed, ends[1]);
    }
    ::close(ends[1]);
    running_.emplace(child, Running{seed, ends[0]});
  }

  /// The seed whose process ended next, with what it said.
  std::pair<uint64_t, Report> wait() {
    int status = 0;
    const pid_t child = ::waitpid(-1, &status, 0);
    const auto found = running_.find(child);
    if (found == running_.end()) throw std::runtime_error("a process that nobody started ended");
    const auto [seed, from] = found->second;
    running_.erase(found);
    std::string said;
    std::array<char, 4096> part{};
    for (ssize_t n = 0; (n = ::read(from, part.data(), part.size())) > 0;)
      said.append(part.data(), static_cast<size_t>(n));
    ::close(from);
    std::error_code ignored;
    std::filesystem::remove_all(folder_of(seed), ignored);
    const auto json = nlohmann::json::parse(said, nullptr, false);
    if (!json.is_discarded()) return {seed, json.get<Report>()};
    return {seed, Report{.wrong = WIFSIGNALED(status)
                                      ? fmt::format(" killed by signal {};", WTERMSIG(status))
                                      : " its process ended without a word;"}};
  }

 private:
  struct Running {
    uint64_t seed = 0;
    int from = -1;
  };

  std::string folder_of(uint64_t seed) const { return fmt::format("{}/{}", folder_, seed); }

  /// In the seed's process. What it says is less than what a pipe holds, so nobody has to read
  /// before it ends.
  [[noreturn]] void work(uint64_t seed, int to) {
    const auto say = [to](const Report& report) {
      using nlohmann::json;
      const std::string line = json(report).dump(-1, ' ', false, json::error_handler_t::replace);
      const ssize_t written = ::write(to, line.data(), line.size());
      std::_Exit(written == static_cast<ssize_t>(line.size()) ? 0 : 1);
    };
    when_a_seed_cannot_go_on = [&](const Status& status) {
      say({.wrong = fmt::format(" {};", status.describe())});
    };
    try {
      const Report report = examine(seed, expected_, folder_of(seed));
      look_for_leaks();
      say(report);
    } catch (const std::exception& problem) {
      say({.wrong = fmt::format(" {};", problem.what())});
    }
    std::_Exit(1);
  }

  const Expected expected_;
  const std::string folder_;
  std::map<pid_t, Running> running_;
};

int run(int argc, char** argv) {
  CLI::App program{
      "Whole fleets, each in one thread, with everything going wrong that a seed draws.", "chaos"};
  uint64_t seeds = 200, first = 1;
  unsigned jobs = std::max(1u, std::thread::hardware_concurrency());
  bool json = false, all = false;
  std::string folder = std::filesystem::exists("/dev/shm")
                           ? "/dev/shm"
                           : std::filesystem::temp_directory_path().string();
  program.add_option("--seeds", seeds, "Number of seeds [200]");
  program.add_option("--first", first, "The first of them [1]");
  program.add_option("--jobs", jobs, fmt::format("Seeds at a time [{}, the cores]", jobs))
      ->check(CLI::Range(1, 1024));
  program.add_option("--folder", folder, "Where journals are written [" + folder + "]");
  program.add_flag("--all", all, "Don't stop at the first seed that fails");
  program.add_flag("--json", json, "One JSON object on stdout");
  program.footer(
      "Example: tools/chaos --seeds 1 --first 17\nExit status: 0 when nothing failed, else 1.");
  CLI11_PARSE(program, argc, argv);
  std::signal(SIGXFSZ, SIG_IGN);  // a write that finds no room fails, as on a full disk
  folder += fmt::format("/tern-chaos-{}", ::getpid());
  const SteadyClock clock;
  when_a_seed_cannot_go_on = [&](const Status& status) {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
    if (json)
      fmt::print("{}\n", nlohmann::ordered_json{{"seeds", 0}, {"error", status.describe()}}.dump());
    std::fflush(stdout);
  };
  const Expected expected{.plain = run_undisturbed(false, folder + "/0").hash,
                          .keyframed = run_undisturbed(true, folder + "/0").hash};
  Processes processes(expected, folder);
  std::map<uint64_t, std::string> failed;
  Outcome sum;
  uint64_t started = 0, done = 0, again = 0;
  TimePoint said = clock.now();
  for (;;) {
    while (processes.count() < jobs && started < seeds && (all || failed.empty()))
      processes.start(first + started++);
    if (processes.count() == 0) break;
    const auto [seed, report] = processes.wait();
    ++done;
    if (!report.wrong.empty()) {
      std::fprintf(stderr, "seed %lu:%s\n", seed, report.wrong.c_str());
      failed.emplace(seed, report.wrong);
    }
    again += report.again;
    sum.virtual_seconds += report.virtual_seconds;
    sum.coordinator_kills += report.outcome.coordinator_kills;
    sum.client_kills += report.outcome.client_kills;
    sum.disk_faults += report.outcome.disk_faults;
    sum.late += report.outcome.late;
    sum.void_rounds += report.outcome.void_rounds;
    sum.lost += report.outcome.lost;
    sum.doubled += report.outcome.doubled;
    if (clock.now() - said > std::chrono::seconds(5)) {
      said = clock.now();
      const double spent = seconds(said);
      std::fprintf(stderr, "%lu of %lu seeds, %.0f s, %.0f s left\n", done, seeds, spent,
                   spent / static_cast<double>(done) * static_cast<double>(seeds - done));
    }
  }
  const double spent = seconds(clock.now());
  std::filesystem::remove_all(folder);
  if (json) {
    auto failures = nlohmann::json::array();
    for (const auto& [seed, wrong] : failed) failures.push_back(seed);
    fmt::print("{}\n", nlohmann::ordered_json{{"seeds", done},
                                              {"failed", failures},
                                              {"lost", sum.lost},
                                              {"doubled", sum.doubled},
                                              {"replayed_seeds", again},
                                              {"coordinator_kills", sum.coordinator_kills},
                                              {"client_kills", sum.client_kills},
                                              {"disk_faults", sum.disk_faults},
                                              {"updates_refused", sum.late},
                                              {"void_rounds", sum.void_rounds},
                                              {"jobs", jobs},
                                              {"virtual_seconds", sum.virtual_seconds},
                                              {"seconds", spent},
                                              {"virtual_to_real", sum.virtual_seconds / spent}}
                           .dump());
  } else {
    fmt::print(
        "{} seeds in {:.0f} s ({:.0f} times as fast as time, {} at a time): {} coordinators and {} "
        "clients killed, {} writes refused; {} seeds failed\n",
        done, spent, sum.virtual_seconds / spent, jobs, sum.coordinator_kills, sum.client_kills,
        sum.disk_faults, failed.size());
  }
  return failed.empty() ? 0 : 1;
}

}  // namespace
}  // namespace tern

int main(int argc, char** argv) {
  tern::keep_freed_memory();  // each restart takes megabytes anew
  try {
    return tern::run(argc, argv);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "chaos: %s\n", problem.what());
    return 1;
  }
}
