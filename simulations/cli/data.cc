#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "base/durable_file.h"
#include "base/program.h"
#include "config/load.h"
#include "learning/dataset.h"
#include "learning/deal.h"
#include "simulations/cli/commands.h"
#include "simulations/cli/print_json.h"
#include "simulations/data_sets.h"

extern char** environ;

namespace tern::cli {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

struct FetchArguments {
  std::string name;
  std::string into;
  std::string from;
  bool yes = false;
};

/// Runs a program and waits for it. Errors: kIo when it can't be started or fails, kCancelled when
/// a signal ends it.
Status run_program(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_t child = 0;
  if (const int failed = ::posix_spawnp(&child, argv[0], nullptr, nullptr, argv.data(), environ))
    return error(Code::kIo, "{} can't be started: {}", words[0], std::strerror(failed));
  int status = 0;
  pid_t ended = 0;
  do ended = ::waitpid(child, &status, 0);
  while (ended < 0 && errno == EINTR);
  if (ended < 0)
    return error(Code::kIo, "{} can't be waited for: {}", words[0], std::strerror(errno));
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (WIFSIGNALED(status))
    return error(Code::kCancelled, "{} was ended by signal {}", words[0], WTERMSIG(status));
  return error(Code::kIo, "{} failed with exit status {}", words[0], WEXITSTATUS(status));
}

bool agreed() {
  fmt::print(stderr, "Download it? [y/N] ");
  char answer[16] = {};
  return std::fgets(answer, sizeof answer, stdin) != nullptr &&
         (answer[0] == 'y' || answer[0] == 'Y');
}

/// To FOLDER.download, where an earlier try may have left the beginning.
Status download(const DataSet& set, const std::string& archive) {
  Status done = run_program({"curl", "--fail", "--location", "--proto", "=https", "--retry", "3",
                             "--continue-at", "-", "--max-filesize", std::to_string(set.bytes),
                             "--output", archive, std::string(set.url)});
  if (done.ok()) return {};
  return std::move(done).within(fmt::format(
      "what there is of the download is in {}; the same command goes on with it, and begins anew "
      "once that is removed. --from FILE takes an archive that came another way",
      archive));
}

Status fetch_set(const FetchArguments& arguments) {
  TERN_TRY(const DataSet* set, find_data_set(arguments.name));
  fs::path path =
      fs::absolute(arguments.into.empty() ? "datasets/" + std::string(set->name) : arguments.into)
          .lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  const std::string folder = path.string();
  if (fs::exists(folder))
    return Status(Code::kInUse, "is there already; remove it, or name another folder with --into",
                  {.file = folder});
  fmt::print(stderr,
             "{}: {}\n  from     {}\n  {:.1f} MB, SHA-256 {}\n  licence  {}\n  into     {}\n",
             set->name, set->description, set->url, static_cast<double>(set->bytes) / 1e6,
             set->sha256, set->license, folder);
  const bool here = !arguments.from.empty();
  if (!here && !arguments.yes && ::isatty(STDIN_FILENO) == 0)
    return error(Code::kInvalidArgument, "nobody is there to be asked: give --yes to download it");
  if (!here && !arguments.yes && !agreed())
    return error(Code::kCancelled, "nothing was downloaded");
  TERN_CHECK_OK(make_folder_durably(path.parent_path().string()));
  const std::string archive = here ? arguments.from : folder + ".download";
  if (!here) TERN_CHECK_OK(download(*set, archive));
  if (Status status = check_archive(*set, archive); !status.ok()) {
    if (!here) fs::remove(archive);
    return status;
  }
  TERN_TRY(const ScratchFolder unpacked, ScratchFolder::make(folder));
  TERN_CHECK_OK(run_program({"tar", "--extract", "--gzip", "--force-local", "--no-same-owner",
                             "--file", archive, "--directory", unpacked.path()}));
  TERN_CHECK_OK(arrange(*set, unpacked, folder));
  if (!here) fs::remove(archive);
  fmt::print("{0} is in {1}: data.source = \"{2}\", data.path = \"{1}\"\n", set->name, folder,
             set->source);
  return {};
}

struct InspectArguments {
  std::string file;
  std::vector<std::string> set;
  bool json = false;
};

/// Least, median and most.
ordered_json spread(std::vector<uint32_t> counts) {
  if (counts.empty()) return nullptr;
  std::ranges::sort(counts);
  return {
      {"least", counts.front()}, {"median", counts[counts.size() / 2]}, {"most", counts.back()}};
}

ordered_json part_json(const Dataset& part) {
  return {{"examples", part.examples()}, {"labels", part.labels.size()}};
}

ordered_json class_counts(const DataBundle& data, const Dataset& part,
                          const std::vector<uint32_t>& examples) {
  std::vector<uint32_t> counts(static_cast<size_t>(data.shape.classes));
  for (const uint32_t example : examples)
    for (size_t i = 0; i < part.labels_each; ++i)
      ++counts[part.labels[size_t{example} * part.labels_each + i]];
  return counts;
}

Result<ordered_json> inspect(const Scenario& scenario) {
  TERN_TRY(const DataBundle data, load_data(scenario.data, scenario.seed));
  std::vector<uint32_t> all(data.train.examples());
  std::iota(all.begin(), all.end(), 0u);
  ordered_json classes = ordered_json::array();
  const ordered_json counts = class_counts(data, data.train, all);
  for (size_t c = 0; c < counts.size(); ++c)
    classes.push_back({{"name", data.class_names[c]}, {"labels", counts[c]}});
  ordered_json result{{"source", scenario.data.source},        {"shape", data.shape.input},
                      {"train", part_json(data.train)},        {"test", part_json(data.test)},
                      {"labels_each", data.train.labels_each}, {"classes", std::move(classes)}};
  if (!data.client_names.empty()) result["natural_clients"] = data.client_names.size();
  return result;
}

/// Of more clients only how much they hold is said.
constexpr uint32_t kMostListed = 10'000;

Result<ordered_json> deal_out(const Scenario& scenario) {
  TERN_TRY(const DataBundle data, load_data(scenario.data, scenario.seed));
  TERN_TRY(const Deal deal, deal_examples(scenario, data));
  ordered_json clients = ordered_json::array();
  std::vector<uint32_t> sizes;
  const bool each = deal.train.clients() <= kMostListed;
  for (uint32_t client = 0; client < deal.train.clients(); ++client) {
    sizes.push_back(deal.train.examples(client));
    if (!each) continue;
    const std::vector<uint32_t> train = deal.train.of(client);
    const bool tests = client < deal.test.clients();
    ordered_json row{{"client", client}};
    if (client < data.client_names.size()) row["name"] = data.client_names[client];
    row["train"] = train.size();
    row["test"] = tests ? deal.test.examples(client) : 0;
    row["labels_by_class"] = class_counts(data, data.train, train);
    clients.push_back(std::move(row));
  }
  return ordered_json{
      {"partition", scenario.data.partition}, {"seed", scenario.seed},
      {"clients", deal.train.clients()},      {"examples", spread(std::move(sizes))},
      {"classes", data.class_names},          {"of", std::move(clients)}};
}

void print_inspection(const ordered_json& found) {
  fmt::print("{}: {} training and {} test examples of shape [{}]\n",
             found["source"].get<std::string>(), found["train"]["examples"].get<size_t>(),
             found["test"]["examples"].get<size_t>(),
             fmt::join(found["shape"].get<std::vector<int64_t>>(), ", "));
  if (found["labels_each"] != 1)
    fmt::print("each with {} labels, {} to train on\n", found["labels_each"].get<uint32_t>(),
               found["train"]["labels"].get<size_t>());
  if (found.contains("natural_clients"))
    fmt::print("{} natural clients (data.partition = \"natural\")\n",
               found["natural_clients"].get<size_t>());
  fmt::print("{} classes\n", found["classes"].size());
  for (const auto& one : found["classes"])
    fmt::print("  {:<20} {:>10}\n", one["name"].get<std::string>(), one["labels"].get<uint32_t>());
}

void print_deal(const ordered_json& dealt) {
  const auto& sizes = dealt["examples"];
  fmt::print("{}: {} clients with {} to {} training examples, median {}\n",
             dealt["partition"].get<std::string>(), dealt["clients"].get<uint32_t>(),
             sizes["least"].get<uint32_t>(), sizes["most"].get<uint32_t>(),
             sizes["median"].get<uint32_t>());
  if (dealt["of"].empty()) return;
  fmt::print("  {:<24} {:>8} {:>8} {:>8}  {}\n", "client", "train", "test", "classes",
             "most frequent class");
  for (const auto& row : dealt["of"]) {
    const auto counts = row["labels_by_class"].get<std::vector<uint32_t>>();
    const auto total = std::accumulate(counts.begin(), counts.end(), uint64_t{0});
    const auto most = std::ranges::max_element(counts);
    const std::string name = row.contains("name") ? row["name"].get<std::string>()
                                                  : std::to_string(row["client"].get<uint32_t>());
    fmt::print("  {:<24} {:>8} {:>8} {:>8}  {} ({:.0f} %)\n", name, row["train"].get<uint32_t>(),
               row["test"].get<uint32_t>(),
               counts.size() - static_cast<size_t>(std::ranges::count(counts, 0u)),
               dealt["classes"][static_cast<size_t>(most - counts.begin())].get<std::string>(),
               total > 0 ? 100.0 * *most / static_cast<double>(total) : 0.0);
  }
}

template <typename Make, typename Print>
int show(const InspectArguments& arguments, Make make, Print print) {
  const Result<LoadedScenario> loaded = load_with_overrides(arguments.file, arguments.set);
  if (!loaded) return fail(loaded.error(), arguments.json);
  const Result<ordered_json> result = make(loaded->scenario);
  if (!result) return fail(loaded->locate(result.error()), arguments.json, kBadInput);
  if (arguments.json)
    print_json(*result);
  else
    print(*result);
  return kOk;
}

void add_scenario(CLI::App& command, InspectArguments& arguments) {
  command.add_option("FILE", arguments.file, "Scenario, a TOML file")->required();
  command.add_option("--set", arguments.set, "Override a key")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command.add_flag("--json", arguments.json, "One JSON object on stdout and nothing else");
}

}  // namespace

void add_data(CLI::App& program, int& exit_status) {
  CLI::App* data = program.add_subcommand(kData.name, kData.meaning);
  data->require_subcommand(1);

  auto fetch_arguments = std::make_shared<FetchArguments>();
  CLI::App* fetch = data->add_subcommand("fetch", "Download a public data set, after asking");
  std::string known;
  for (const DataSet& set : data_sets())
    known += fmt::format("  {:<10} {}\n", set.name, set.description);
  fetch->add_option("NAME", fetch_arguments->name, "Which one, see below")->required();
  fetch->add_option("--into", fetch_arguments->into, "Folder to make [datasets/NAME]")
      ->type_name("FOLDER");
  fetch->add_option("--from", fetch_arguments->from, "The archive, already downloaded")
      ->type_name("FILE");
  fetch->add_flag("--yes", fetch_arguments->yes, "Don't ask");
  fetch->footer(
      "Says where the archive comes from and what it must hash to, and asks. An interrupted "
      "download goes on when the command is given again.\n" +
      known + "Example:\n  tern data fetch sotu --into datasets/sotu");
  fetch->callback([fetch_arguments, &exit_status] {
    const Status done = fetch_set(*fetch_arguments);
    exit_status = done.ok() ? kOk : fail(done, false);
  });

  auto inspect_arguments = std::make_shared<InspectArguments>();
  CLI::App* look = data->add_subcommand("inspect", "What a scenario's data hold");
  add_scenario(*look, *inspect_arguments);
  look->footer("Example:\n  tern data inspect simulations/scenarios/fashion-mnist.toml");
  look->callback([inspect_arguments, &exit_status] {
    exit_status = show(*inspect_arguments, inspect, print_inspection);
  });

  auto deal_arguments = std::make_shared<InspectArguments>();
  CLI::App* deal = data->add_subcommand("partition", "Which client of a scenario holds what");
  add_scenario(*deal, *deal_arguments);
  deal->footer(
      "Example:\n  tern data partition simulations/scenarios/fashion-mnist.toml --set "
      "data.partition=dirichlet:0.3");
  deal->callback([deal_arguments, &exit_status] {
    exit_status = show(*deal_arguments, deal_out, print_deal);
  });
}

}  // namespace tern::cli
